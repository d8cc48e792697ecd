//! prf and prf+ (RFC 7296, 2.13; RFC 4868).

use aws_lc_rs::hmac;
use model::suite::Prf;
use zeroize::Zeroizing;

/// Blocks that prf+ can make: the counter is one octet.
const MOST_BLOCKS: usize = 255;

fn algorithm(prf: Prf) -> hmac::Algorithm {
    match prf {
        Prf::HmacSha256 => hmac::HMAC_SHA256,
        Prf::HmacSha384 => hmac::HMAC_SHA384,
        Prf::HmacSha512 => hmac::HMAC_SHA512,
        Prf::HmacSha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
    }
}

/// Octets that it delivers, and of the keys that it prefers.
pub fn length(prf: Prf) -> usize {
    match prf {
        Prf::HmacSha256 => 32,
        Prf::HmacSha384 => 48,
        Prf::HmacSha512 => 64,
        Prf::HmacSha1 => 20,
    }
}

fn mac(key: &hmac::Key, data: &[&[u8]]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    data.iter().for_each(|part| context.update(part));
    context.sign()
}

/// prf(key, data), the parts of `data` put together.
pub fn prf(prf: Prf, key: &[u8], data: &[&[u8]]) -> Zeroizing<Vec<u8>> {
    let key = hmac::Key::new(algorithm(prf), key);
    Zeroizing::new(mac(&key, data).as_ref().to_vec())
}

/// prf+(key, seed), `length` octets of it; fewer if that were over 255 blocks (no key of ours is:
/// the longest are a few hundred octets).
pub fn prf_plus(prf: Prf, key: &[u8], seed: &[&[u8]], length: usize) -> Zeroizing<Vec<u8>> {
    let length = length.min(MOST_BLOCKS * self::length(prf));
    let key = hmac::Key::new(algorithm(prf), key);
    // Of the final size from the start: growing would leave copies behind.
    let mut out = Zeroizing::new(Vec::with_capacity(length));
    let mut block: Option<hmac::Tag> = None;
    for counter in 1..=u8::MAX {
        let missing = length - out.len();
        if missing == 0 {
            break;
        }
        let mut context = hmac::Context::with_key(&key);
        if let Some(block) = &block {
            context.update(block.as_ref());
        }
        seed.iter().for_each(|part| context.update(part));
        context.update(&[counter]);
        let next = context.sign();
        out.extend(next.as_ref().iter().take(missing));
        block = Some(next);
    }
    out
}

#[cfg(test)]
mod tests;
