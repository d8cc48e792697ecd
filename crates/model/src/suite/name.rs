//! The algorithms' names in swanctl's notation.

use std::fmt;

use super::{Encryption, Esn, Group, Integrity, Prf, Proposal};

impl Encryption {
    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::Aes128Gcm16 => "aes128gcm16",
            Self::Aes256Gcm16 => "aes256gcm16",
            Self::ChaCha20Poly1305 => "chacha20poly1305",
            Self::Aes128Cbc => "aes128",
            Self::Aes192Cbc => "aes192",
            Self::Aes256Cbc => "aes256",
            Self::TripleDesCbc => "3des",
        }
    }
}

impl Integrity {
    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::HmacSha256 => "sha256",
            Self::HmacSha384 => "sha384",
            Self::HmacSha512 => "sha512",
            Self::HmacSha1 => "sha1",
        }
    }
}

impl Prf {
    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::HmacSha256 => "prfsha256",
            Self::HmacSha384 => "prfsha384",
            Self::HmacSha512 => "prfsha512",
            Self::HmacSha1 => "prfsha1",
        }
    }
}

impl Group {
    /// Its word; of an additional key exchange `ke1_` to `ke7_` stand before it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Modp1024 => "modp1024",
            Self::Modp1536 => "modp1536",
            Self::Modp2048 => "modp2048",
            Self::Modp3072 => "modp3072",
            Self::Modp4096 => "modp4096",
            Self::P256 => "ecp256",
            Self::P384 => "ecp384",
            Self::P521 => "ecp521",
            Self::X25519 => "x25519",
            Self::MlKem768 => "mlkem768",
        }
    }
}

impl Esn {
    /// Its word.
    pub fn name(self) -> &'static str {
        match self {
            Self::No => "noesn",
            Self::Yes => "esn",
        }
    }
}

impl fmt::Display for Encryption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Integrity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Prf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// In swanctl's notation, nothing left out but `esn-noesn`, which is what no word means.
impl fmt::Display for Proposal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut words: Vec<String> = Vec::new();
        words.extend(self.encryption.iter().map(ToString::to_string));
        words.extend(self.integrity.iter().map(ToString::to_string));
        words.extend(self.prf.iter().map(ToString::to_string));
        words.extend(self.groups.iter().map(ToString::to_string));
        for (index, groups) in self.additional.iter().enumerate() {
            words.extend(groups.iter().map(|group| format!("ke{}_{group}", index + 1)));
        }
        if self.esn != [Esn::Yes, Esn::No] {
            words.extend(self.esn.iter().map(|esn| esn.name().to_owned()));
        }
        f.write_str(&words.join("-"))
    }
}
