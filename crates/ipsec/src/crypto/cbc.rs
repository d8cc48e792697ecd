//! CBC over whole blocks, without padding of its own (RFC 3602, RFC 2451).

use aes::{Aes128, Aes192, Aes256};
use cbc::cipher::array::Array;
use cbc::cipher::{BlockCipherDecrypt, BlockCipherEncrypt, BlockModeDecrypt, BlockModeEncrypt};
use cbc::cipher::{Iv, Key, KeyInit, KeyIvInit};
use cbc::{Decryptor, Encryptor};
use des::TdesEde3;
use model::suite::Encryption;

use super::CryptoError;

/// The size of a block and of an IV; 0 for ciphers that are not CBC.
pub(super) fn block(encryption: Encryption) -> usize {
    match encryption {
        Encryption::Aes128Cbc | Encryption::Aes192Cbc | Encryption::Aes256Cbc => 16,
        Encryption::TripleDesCbc => 8,
        _ => 0,
    }
}

/// Encrypts whole blocks in place.
///
/// # Errors
/// The cipher is not CBC, or the key, the IV or the data have another length than it takes.
pub(super) fn encrypt(
    encryption: Encryption,
    key: &[u8],
    iv: &[u8],
    data: &mut [u8],
) -> Result<(), CryptoError> {
    match encryption {
        Encryption::Aes128Cbc => encrypt_with::<Aes128>(key, iv, data),
        Encryption::Aes192Cbc => encrypt_with::<Aes192>(key, iv, data),
        Encryption::Aes256Cbc => encrypt_with::<Aes256>(key, iv, data),
        Encryption::TripleDesCbc => encrypt_with::<TdesEde3>(key, iv, data),
        _ => Err(CryptoError::Suite("CBC cipher")),
    }
}

/// Decrypts whole blocks in place.
///
/// # Errors
/// See [`encrypt`].
pub(super) fn decrypt(
    encryption: Encryption,
    key: &[u8],
    iv: &[u8],
    data: &mut [u8],
) -> Result<(), CryptoError> {
    match encryption {
        Encryption::Aes128Cbc => decrypt_with::<Aes128>(key, iv, data),
        Encryption::Aes192Cbc => decrypt_with::<Aes192>(key, iv, data),
        Encryption::Aes256Cbc => decrypt_with::<Aes256>(key, iv, data),
        Encryption::TripleDesCbc => decrypt_with::<TdesEde3>(key, iv, data),
        _ => Err(CryptoError::Suite("CBC cipher")),
    }
}

const HALF_A_BLOCK: CryptoError = CryptoError::Failed("CBC over part of a block");

fn encrypt_with<C: BlockCipherEncrypt + KeyInit>(
    key: &[u8],
    iv: &[u8],
    data: &mut [u8],
) -> Result<(), CryptoError> {
    let length = CryptoError::KeyLength { algorithm: "CBC", length: key.len() };
    let key: &Key<C> = key.try_into().map_err(|_| length)?;
    let iv: &Iv<Encryptor<C>> = iv.try_into().map_err(|_| HALF_A_BLOCK)?;
    let (blocks, []) = Array::slice_as_chunks_mut(data) else { return Err(HALF_A_BLOCK) };
    Encryptor::<C>::new(key, iv).encrypt_blocks(blocks);
    Ok(())
}

fn decrypt_with<C: BlockCipherDecrypt + KeyInit>(
    key: &[u8],
    iv: &[u8],
    data: &mut [u8],
) -> Result<(), CryptoError> {
    let length = CryptoError::KeyLength { algorithm: "CBC", length: key.len() };
    let key: &Key<C> = key.try_into().map_err(|_| length)?;
    let iv: &Iv<Decryptor<C>> = iv.try_into().map_err(|_| HALF_A_BLOCK)?;
    let (blocks, []) = Array::slice_as_chunks_mut(data) else { return Err(HALF_A_BLOCK) };
    Decryptor::<C>::new(key, iv).decrypt_blocks(blocks);
    Ok(())
}
