//! IANA's numbers of the algorithms, and sizes.

use super::{Encryption, Esn, Group, Integrity, Prf};

impl Encryption {
    /// All of them, in order of preference.
    pub const ALL: [Self; 7] = [
        Self::Aes256Gcm16,
        Self::Aes128Gcm16,
        Self::ChaCha20Poly1305,
        Self::Aes256Cbc,
        Self::Aes192Cbc,
        Self::Aes128Cbc,
        Self::TripleDesCbc,
    ];

    /// IANA's number (transform type 1).
    pub fn number(self) -> u16 {
        match self {
            Self::Aes128Gcm16 | Self::Aes256Gcm16 => 20,
            Self::ChaCha20Poly1305 => 28,
            Self::Aes128Cbc | Self::Aes192Cbc | Self::Aes256Cbc => 12,
            Self::TripleDesCbc => 3,
        }
    }

    /// The key length attribute in bits, where the number says nothing of it.
    pub fn key_bits(self) -> Option<u16> {
        match self {
            Self::Aes128Gcm16 | Self::Aes128Cbc => Some(128),
            Self::Aes192Cbc => Some(192),
            Self::Aes256Gcm16 | Self::Aes256Cbc => Some(256),
            Self::ChaCha20Poly1305 | Self::TripleDesCbc => None,
        }
    }

    /// The key's octets, without salt.
    pub fn key_len(self) -> usize {
        match self {
            Self::Aes128Gcm16 | Self::Aes128Cbc => 16,
            Self::Aes192Cbc | Self::TripleDesCbc => 24,
            Self::Aes256Gcm16 | Self::Aes256Cbc | Self::ChaCha20Poly1305 => 32,
        }
    }

    /// The salt's octets.
    pub fn salt_len(self) -> usize {
        if self.is_aead() { 4 } else { 0 }
    }

    /// What a number and a key length attribute mean. Some peers write the attribute where the
    /// length is fixed; it does no harm if it is right.
    pub fn from_number(number: u16, key_bits: Option<u16>) -> Option<Self> {
        Self::ALL.into_iter().find(|one| {
            let fixed = one.key_bits().is_none();
            one.number() == number
                && match key_bits {
                    None => fixed,
                    Some(bits) => usize::from(bits) == one.key_len() * 8,
                }
        })
    }
}

impl Integrity {
    /// All of them, in order of preference.
    pub const ALL: [Self; 4] =
        [Self::HmacSha256, Self::HmacSha384, Self::HmacSha512, Self::HmacSha1];

    /// IANA's number (transform type 3).
    pub fn number(self) -> u16 {
        match self {
            Self::HmacSha256 => 12,
            Self::HmacSha384 => 13,
            Self::HmacSha512 => 14,
            Self::HmacSha1 => 2,
        }
    }

    /// What a number means.
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.number() == number)
    }

    /// The key's octets.
    pub fn key_len(self) -> usize {
        match self {
            Self::HmacSha256 => 32,
            Self::HmacSha384 => 48,
            Self::HmacSha512 => 64,
            Self::HmacSha1 => 20,
        }
    }

    /// The checksum's octets.
    pub fn icv_len(self) -> usize {
        match self {
            Self::HmacSha256 => 16,
            Self::HmacSha384 => 24,
            Self::HmacSha512 => 32,
            Self::HmacSha1 => 12,
        }
    }
}

impl Prf {
    /// All of them, in order of preference.
    pub const ALL: [Self; 4] =
        [Self::HmacSha256, Self::HmacSha384, Self::HmacSha512, Self::HmacSha1];

    /// IANA's number (transform type 2).
    pub fn number(self) -> u16 {
        match self {
            Self::HmacSha256 => 5,
            Self::HmacSha384 => 6,
            Self::HmacSha512 => 7,
            Self::HmacSha1 => 2,
        }
    }

    /// What a number means.
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.number() == number)
    }

    /// Octets of its output, and of the key that suits it.
    pub fn output_len(self) -> usize {
        match self {
            Self::HmacSha256 => 32,
            Self::HmacSha384 => 48,
            Self::HmacSha512 => 64,
            Self::HmacSha1 => 20,
        }
    }
}

impl Group {
    /// All of them, in order of preference.
    pub const ALL: [Self; 10] = [
        Self::X25519,
        Self::P256,
        Self::P384,
        Self::P521,
        Self::Modp3072,
        Self::Modp4096,
        Self::Modp2048,
        Self::Modp1536,
        Self::Modp1024,
        Self::MlKem768,
    ];

    /// IANA's number (transform types 4 and 6 to 12).
    pub fn number(self) -> u16 {
        match self {
            Self::Modp1024 => 2,
            Self::Modp1536 => 5,
            Self::Modp2048 => 14,
            Self::Modp3072 => 15,
            Self::Modp4096 => 16,
            Self::P256 => 19,
            Self::P384 => 20,
            Self::P521 => 21,
            Self::X25519 => 31,
            Self::MlKem768 => 36,
        }
    }

    /// What a number means.
    pub fn from_number(number: u16) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.number() == number)
    }
}

impl Esn {
    /// IANA's number (transform type 5).
    pub fn number(self) -> u16 {
        match self {
            Self::No => 0,
            Self::Yes => 1,
        }
    }

    /// What a number means.
    pub fn from_number(number: u16) -> Option<Self> {
        [Self::No, Self::Yes].into_iter().find(|one| one.number() == number)
    }
}
