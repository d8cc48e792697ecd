//! Cookies (RFC 7296, 2.6): a proof that the other end gets what is sent to its address, without
//! any state.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use model::suite::Prf;

use super::limits::RateLimit;
use crate::crypto::prf::prf;
use crate::crypto::rng::Rng;

/// How long a secret makes cookies. They are good for as long again.
const LIFETIME: Duration = Duration::from_secs(60);

/// Secrets for cookies.
pub(super) struct Cookies {
    /// The number of the secret in use: the cookie's first octet.
    version: u8,
    secret: [u8; 32],
    previous: Option<[u8; 32]>,
    since: Instant,
    /// Requests that were worked on for nothing, and until when each one needs a cookie for that.
    waste: RateLimit,
    wanted_until: Option<Instant>,
}

/// So many requests for nothing in a second, and cookies are wanted for a while.
const WASTE: u32 = 10;
const WASTE_PAUSE: Duration = Duration::from_secs(10);

impl Cookies {
    pub(super) fn new(rng: &mut dyn Rng, now: Instant) -> Self {
        let mut secret = [0; 32];
        rng.fill(&mut secret);
        let waste = RateLimit::new(WASTE, now);
        Self { version: 0, secret, previous: None, since: now, waste, wanted_until: None }
    }

    /// A request has cost a search or a key exchange, and left nothing that counts as half open.
    pub(super) fn note_waste(&mut self, now: Instant) {
        if !self.waste.allows(now) {
            self.wanted_until = Some(now + WASTE_PAUSE);
        }
    }

    /// Whether each request needs a cookie, half-open ones or not.
    pub(super) fn are_wanted(&self, now: Instant) -> bool {
        self.wanted_until.is_some_and(|until| now < until)
    }

    /// Takes a new secret if it is time to.
    pub(super) fn rotate(&mut self, rng: &mut dyn Rng, now: Instant) {
        let age = now.saturating_duration_since(self.since);
        if age < LIFETIME {
            return;
        }
        self.previous = (age < LIFETIME * 2).then_some(self.secret);
        rng.fill(&mut self.secret);
        self.version = self.version.wrapping_add(1);
        self.since = now;
    }

    /// The cookie for a request.
    pub(super) fn make(&self, source: IpAddr, spi: u64, nonce: &[u8]) -> Vec<u8> {
        cookie(self.version, &self.secret, source, spi, nonce)
    }

    /// Whether a cookie is the one for this request.
    pub(super) fn is_good(
        &self,
        cookie_got: &[u8],
        source: IpAddr,
        spi: u64,
        nonce: &[u8],
    ) -> bool {
        let secret = match cookie_got.first() {
            Some(version) if *version == self.version => Some(&self.secret),
            Some(version) if *version == self.version.wrapping_sub(1) => self.previous.as_ref(),
            _ => None,
        };
        secret.is_some_and(|secret| {
            let version = cookie_got.first().copied().unwrap_or_default();
            is_equal(cookie_got, &cookie(version, secret, source, spi, nonce))
        })
    }
}

fn cookie(version: u8, secret: &[u8; 32], source: IpAddr, spi: u64, nonce: &[u8]) -> Vec<u8> {
    let address = match source {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
        IpAddr::V6(v6) => v6.octets(),
    };
    let mac = prf(Prf::HmacSha256, secret, &[&address, &spi.to_be_bytes(), nonce]);
    let mut cookie = vec![version];
    cookie.extend_from_slice(&mac);
    cookie
}

/// In constant time for equal lengths.
pub(super) fn is_equal(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len()
        && one.iter().zip(other).fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::rng::SeededRng;

    #[test]
    fn a_cookie_is_good_for_its_request_alone_and_for_a_while() {
        let now = Instant::now();
        let mut rng = SeededRng::new(1);
        let mut cookies = Cookies::new(&mut rng, now);
        let source = IpAddr::from([192, 0, 2, 1]);
        let cookie = cookies.make(source, 7, b"nonce");
        assert!(cookie.len() <= 64);
        assert!(cookies.is_good(&cookie, source, 7, b"nonce"));
        assert!(!cookies.is_good(&cookie, source, 8, b"nonce"));
        assert!(!cookies.is_good(&cookie, source, 7, b"other"));
        assert!(!cookies.is_good(&cookie, IpAddr::from([192, 0, 2, 2]), 7, b"nonce"));
        assert!(!cookies.is_good(&[], source, 7, b"nonce"));
        cookies.rotate(&mut rng, now + LIFETIME);
        assert!(cookies.is_good(&cookie, source, 7, b"nonce"));
        cookies.rotate(&mut rng, now + LIFETIME * 2);
        assert!(!cookies.is_good(&cookie, source, 7, b"nonce"));
    }

    #[test]
    fn after_a_long_pause_old_cookies_are_not_good() {
        let now = Instant::now();
        let mut rng = SeededRng::new(1);
        let mut cookies = Cookies::new(&mut rng, now);
        let source = IpAddr::from([192, 0, 2, 1]);
        let cookie = cookies.make(source, 7, b"nonce");
        cookies.rotate(&mut rng, now + LIFETIME * 5);
        assert!(!cookies.is_good(&cookie, source, 7, b"nonce"));
    }
}
