//! swanctl's notation of proposals.

use thiserror::Error;

use super::{Encryption, Esn, Group, Integrity, Prf, Proposal, Purpose};

/// Why a proposal can't be read or must not be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum NotationError {
    /// A word that names no algorithm.
    #[error("{word:?} is no algorithm")]
    Unknown {
        /// The word.
        word: String,
    },
    /// An algorithm that needs `allowLegacy`.
    #[error("{word:?} is too weak (RFC 8247)")]
    Legacy {
        /// The word.
        word: String,
        /// What to write in its place.
        instead: &'static str,
    },
    /// An algorithm that no setting allows.
    #[error("{word:?} protects nothing any more and is never used; write {instead}")]
    Forbidden {
        /// The word.
        word: String,
        /// What to write in its place.
        instead: &'static str,
    },
    /// Parts that can't stand together, or one that is missing.
    #[error("{reason}")]
    Unfit {
        /// What is wrong and what to write.
        reason: String,
    },
}

impl NotationError {
    /// What to write instead, where that is plain.
    pub fn instead(&self) -> Option<&'static str> {
        match self {
            Self::Legacy { instead, .. } | Self::Forbidden { instead, .. } => Some(instead),
            Self::Unknown { .. } | Self::Unfit { .. } => None,
        }
    }
}

impl Proposal {
    /// Reads swanctl's notation of one proposal.
    ///
    /// What is left out of an IKE proposal follows: PRFs from the integrity algorithms, and with
    /// ciphers that authenticate by themselves all of SHA-2 (strongSwan refuses that, but there is
    /// no harm in it). An ESP proposal without `esn` or `noesn` allows both. `default` is the
    /// first of the defaults; [`parse_list`] knows all of them.
    ///
    /// # Errors
    /// [`NotationError`]
    pub fn parse(text: &str, purpose: Purpose, allow_legacy: bool) -> Result<Self, NotationError> {
        let text = text.trim();
        if text.eq_ignore_ascii_case("default") {
            let defaults = defaults(purpose);
            return defaults.into_iter().next().ok_or_else(|| unfit("no default".to_owned()));
        }
        let mut proposal = Self::default();
        for word in text.split('-') {
            match Word::read(word, allow_legacy)? {
                Word::Encryption(one) => push(&mut proposal.encryption, one),
                Word::Integrity(one) => push(&mut proposal.integrity, one),
                Word::Prf(one) => push(&mut proposal.prf, one),
                Word::Group(Group::MlKem768) => {
                    return Err(unfit(format!(
                        "{word:?} is an additional key exchange only; write x25519-ke1_mlkem768"
                    )));
                }
                Word::Group(one) => push(&mut proposal.groups, one),
                Word::Additional(index, one) => {
                    if proposal.additional.len() <= index {
                        proposal.additional.resize(index + 1, Vec::new());
                    }
                    if let Some(choice) = proposal.additional.get_mut(index) {
                        push(choice, one);
                    }
                }
                Word::Esn(one) => push(&mut proposal.esn, one),
            }
        }
        proposal.complete(purpose)?;
        Ok(proposal)
    }

    /// Checks that the parts fit, and adds those that follow from others.
    fn complete(&mut self, purpose: Purpose) -> Result<(), NotationError> {
        let aead = self.encryption.iter().filter(|one| one.is_aead()).count();
        if self.encryption.is_empty() {
            return Err(unfit("a cipher is missing; add aes256gcm16".to_owned()));
        }
        if aead > 0 && aead < self.encryption.len() {
            return Err(unfit(
                "ciphers with and without authentication of their own can't stand in one \
                 proposal; write two, like aes256gcm16-… and aes256-sha256-…"
                    .to_owned(),
            ));
        }
        if let (true, Some(integrity)) = (aead > 0, self.integrity.first()) {
            let cipher = self.encryption.first().map_or("", |one| one.name());
            let instead = match purpose {
                Purpose::Ike => format!("write prf{integrity} if the PRF is meant"),
                Purpose::Esp => format!("leave {integrity} out"),
            };
            return Err(unfit(format!(
                "{cipher} authenticates by itself and takes no {integrity}; {instead}"
            )));
        }
        if aead == 0 && self.integrity.is_empty() {
            return Err(unfit("an integrity algorithm is missing; add sha256".to_owned()));
        }
        match purpose {
            Purpose::Ike => {
                if self.groups.is_empty() {
                    return Err(unfit("a key exchange is missing; add x25519".to_owned()));
                }
                if !self.esn.is_empty() {
                    return Err(unfit(
                        "esn and noesn belong into ESP proposals only; leave them out".to_owned(),
                    ));
                }
                if self.prf.is_empty() && aead > 0 {
                    self.prf = vec![Prf::HmacSha256, Prf::HmacSha384, Prf::HmacSha512];
                }
                if self.prf.is_empty() {
                    self.prf = self.integrity.iter().map(|one| one.prf()).collect();
                }
            }
            Purpose::Esp => {
                if let Some(prf) = self.prf.first() {
                    return Err(unfit(format!(
                        "{prf} belongs into IKE proposals only; leave it out"
                    )));
                }
                if self.groups.is_empty() && !self.additional.is_empty() {
                    return Err(unfit(
                        "an additional key exchange needs one to add to; add x25519".to_owned(),
                    ));
                }
                if self.esn.is_empty() {
                    self.esn = vec![Esn::Yes, Esn::No];
                }
            }
        }
        Ok(())
    }
}

/// Reads proposals separated by commas; `default` among them stands for all of the defaults.
///
/// # Errors
/// [`NotationError`]
pub fn parse_list(
    text: &str,
    purpose: Purpose,
    allow_legacy: bool,
) -> Result<Vec<Proposal>, NotationError> {
    let mut proposals = Vec::new();
    for item in text.split(',').map(str::trim) {
        if item.eq_ignore_ascii_case("default") {
            defaults(purpose).into_iter().for_each(|one| push(&mut proposals, one));
        } else {
            push(&mut proposals, Proposal::parse(item, purpose, allow_legacy)?);
        }
    }
    Ok(proposals)
}

fn defaults(purpose: Purpose) -> Vec<Proposal> {
    match purpose {
        Purpose::Ike => default_ike(),
        Purpose::Esp => default_esp(),
    }
}

/// What is proposed for IKE SAs if nothing is written (RFC 8247).
pub fn default_ike() -> Vec<Proposal> {
    let prf = vec![Prf::HmacSha256, Prf::HmacSha384, Prf::HmacSha512];
    let all = |[aead, other]: [Proposal; 2]| {
        [aead, other].map(|one| Proposal { prf: prf.clone(), groups: default_groups(), ..one })
    };
    all(default_ciphers()).to_vec()
}

/// The same for ESP (RFC 8221): with forward secrecy first, but also with peers that rekey
/// without.
pub fn default_esp() -> Vec<Proposal> {
    let esn = vec![Esn::Yes, Esn::No];
    let plain = default_ciphers().map(|one| Proposal { esn: esn.clone(), ..one });
    let secret = plain.clone().map(|one| Proposal { groups: default_groups(), ..one });
    secret.into_iter().chain(plain).collect()
}

/// Every proposal with ML-KEM-768 as an additional key exchange (RFC 9370), and after them the
/// same as they are, for peers that don't know it. One without a key exchange gets none.
pub fn with_ml_kem(proposals: &[Proposal]) -> Vec<Proposal> {
    let hybrid = proposals.iter().filter(|one| !one.groups.is_empty() && one.additional.is_empty());
    let hybrid =
        hybrid.map(|one| Proposal { additional: vec![vec![Group::MlKem768]], ..one.clone() });
    hybrid.chain(proposals.iter().cloned()).collect()
}

fn default_ciphers() -> [Proposal; 2] {
    let aead = Proposal {
        encryption: vec![
            Encryption::Aes256Gcm16,
            Encryption::Aes128Gcm16,
            Encryption::ChaCha20Poly1305,
        ],
        ..Proposal::default()
    };
    let other = Proposal {
        encryption: vec![Encryption::Aes256Cbc, Encryption::Aes192Cbc, Encryption::Aes128Cbc],
        integrity: vec![Integrity::HmacSha256, Integrity::HmacSha384, Integrity::HmacSha512],
        ..Proposal::default()
    };
    [aead, other]
}

fn default_groups() -> Vec<Group> {
    vec![
        Group::X25519,
        Group::P256,
        Group::P384,
        Group::P521,
        Group::Modp2048,
        Group::Modp3072,
        Group::Modp4096,
    ]
}

impl Integrity {
    /// The PRF with the same hash.
    pub fn prf(self) -> Prf {
        match self {
            Self::HmacSha256 => Prf::HmacSha256,
            Self::HmacSha384 => Prf::HmacSha384,
            Self::HmacSha512 => Prf::HmacSha512,
            Self::HmacSha1 => Prf::HmacSha1,
        }
    }
}

fn push<T: PartialEq>(list: &mut Vec<T>, one: T) {
    if !list.contains(&one) {
        list.push(one);
    }
}

fn unfit(reason: String) -> NotationError {
    NotationError::Unfit { reason }
}

/// What a word of the notation means.
enum Word {
    Encryption(Encryption),
    Integrity(Integrity),
    Prf(Prf),
    Group(Group),
    /// Which one, from 0 on.
    Additional(usize, Group),
    Esn(Esn),
}

impl Word {
    fn read(written: &str, allow_legacy: bool) -> Result<Self, NotationError> {
        let word = written.trim().to_ascii_lowercase();
        let legacy = |found: Self, instead| match allow_legacy {
            true => Ok(found),
            false => Err(NotationError::Legacy { word: written.to_owned(), instead }),
        };
        let forbidden =
            |instead| Err(NotationError::Forbidden { word: written.to_owned(), instead });
        let unsupported =
            |instead: &str| Err(unfit(format!("{written:?} is not supported; write {instead}")));
        Ok(match word.as_str() {
            "aes128gcm16" | "aes128gcm128" | "aes128gcm" => {
                Self::Encryption(Encryption::Aes128Gcm16)
            }
            "aes256gcm16" | "aes256gcm128" | "aes256gcm" => {
                Self::Encryption(Encryption::Aes256Gcm16)
            }
            "chacha20poly1305" => Self::Encryption(Encryption::ChaCha20Poly1305),
            "aes" | "aes128" | "aes128cbc" => Self::Encryption(Encryption::Aes128Cbc),
            "aes192" | "aes192cbc" => Self::Encryption(Encryption::Aes192Cbc),
            "aes256" | "aes256cbc" => Self::Encryption(Encryption::Aes256Cbc),
            "3des" => {
                return legacy(Self::Encryption(Encryption::TripleDesCbc), "aes256");
            }
            "sha256" | "sha2_256" | "sha256_128" => Self::Integrity(Integrity::HmacSha256),
            "sha384" | "sha2_384" | "sha384_192" => Self::Integrity(Integrity::HmacSha384),
            "sha512" | "sha2_512" | "sha512_256" => Self::Integrity(Integrity::HmacSha512),
            "sha1" | "sha" => return legacy(Self::Integrity(Integrity::HmacSha1), "sha256"),
            "prfsha256" | "prfsha2_256" => Self::Prf(Prf::HmacSha256),
            "prfsha384" | "prfsha2_384" => Self::Prf(Prf::HmacSha384),
            "prfsha512" | "prfsha2_512" => Self::Prf(Prf::HmacSha512),
            "prfsha1" | "prfsha" => return legacy(Self::Prf(Prf::HmacSha1), "prfsha256"),
            "modp1024" => return legacy(Self::Group(Group::Modp1024), "x25519 or modp2048"),
            "modp1536" => return legacy(Self::Group(Group::Modp1536), "x25519 or modp2048"),
            "modp2048" => Self::Group(Group::Modp2048),
            "modp3072" => Self::Group(Group::Modp3072),
            "modp4096" => Self::Group(Group::Modp4096),
            "ecp256" => Self::Group(Group::P256),
            "ecp384" => Self::Group(Group::P384),
            "ecp521" => Self::Group(Group::P521),
            "x25519" | "curve25519" => Self::Group(Group::X25519),
            "mlkem768" => Self::Group(Group::MlKem768),
            "esn" => Self::Esn(Esn::Yes),
            "noesn" => Self::Esn(Esn::No),
            "null" => return forbidden("aes128gcm16"),
            "des" | "blowfish" | "blowfish128" | "cast128" => return forbidden("aes256"),
            "md5" | "md5_128" => return forbidden("sha256"),
            "prfmd5" => return forbidden("prfsha256"),
            "modp768" | "modp1024s160" | "modp2048s224" | "modp2048s256" | "ecp192" => {
                return forbidden("x25519 or modp2048");
            }
            "aes192gcm16" | "aes192gcm128" | "aes192gcm" => return unsupported("aes256gcm16"),
            "modp6144" | "modp8192" => return unsupported("modp4096 or ecp521"),
            "curve448" | "x448" => return unsupported("ecp521 or x25519"),
            "mlkem512" | "mlkem1024" => return unsupported("ke1_mlkem768"),
            "sha256_96" => return unsupported("sha256"),
            "aesxcbc" | "aescmac" => return unsupported("sha256"),
            "prfaesxcbc" | "prfaescmac" => return unsupported("prfsha256"),
            "modpnone" | "none" => {
                return Err(unfit(format!(
                    "{written:?}: a proposal without a key exchange has simply none; leave it out"
                )));
            }
            other => return Self::additional(other, written, allow_legacy),
        })
    }

    /// `ke1_…` to `ke7_…`.
    fn additional(word: &str, written: &str, allow_legacy: bool) -> Result<Self, NotationError> {
        let unknown = || NotationError::Unknown { word: written.to_owned() };
        let (number, method) =
            word.strip_prefix("ke").and_then(|rest| rest.split_once('_')).ok_or_else(unknown)?;
        let index = match number {
            "1" => 0,
            "2" => 1,
            "3" => 2,
            "4" => 3,
            "5" => 4,
            "6" => 5,
            "7" => 6,
            _ => return Err(unknown()),
        };
        if method == "none" {
            return Err(unfit(format!(
                "{written:?}: to do without, write a second proposal that has no ke{number}_"
            )));
        }
        // Not itself again: `ke1_ke2_…` is nothing.
        if method.starts_with("ke") {
            return Err(unknown());
        }
        match Self::read(method, allow_legacy) {
            Ok(Self::Group(group)) => Ok(Self::Additional(index, group)),
            Err(NotationError::Legacy { instead, .. }) => {
                Err(NotationError::Legacy { word: written.to_owned(), instead })
            }
            Err(NotationError::Forbidden { instead, .. }) => {
                Err(NotationError::Forbidden { word: written.to_owned(), instead })
            }
            Err(unfit @ NotationError::Unfit { .. }) => Err(unfit),
            Ok(_) | Err(NotationError::Unknown { .. }) => Err(unknown()),
        }
    }
}

#[cfg(test)]
mod tests;
