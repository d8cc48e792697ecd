//! Why somebody is not believed.

/// Why the other end's proof is refused, in words for people.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// It has sent none, and none that was configured itself has its identity.
    #[error("no certificate was sent; have the other end send its certificate")]
    NoCertificate,
    /// It can't be read.
    #[error("certificate is malformed: {0}")]
    Malformed(String),
    /// Too old.
    #[error("certificate of {subject} expired at {at}; renew it")]
    Expired {
        /// Whose.
        subject: String,
        /// When.
        at: String,
    },
    /// Too new.
    #[error("certificate of {subject} is not yet valid, but from {from} on; check both clocks")]
    NotYetValid {
        /// Whose.
        subject: String,
        /// From when on it is.
        from: String,
    },
    /// No authority that is trusted has signed it.
    #[error(
        "unknown authority: no trusted certificate is the issuer \"{issuer}\"; add that \
         authority's certificate"
    )]
    UnknownAuthority {
        /// The last issuer whose certificate is missing.
        issuer: String,
    },
    /// A CRL lists it.
    #[error("certificate of {subject} is revoked")]
    Revoked {
        /// Whose (or an authority's between it and the trusted one).
        subject: String,
    },
    /// Its extended key usages are others.
    #[error(
        "certificate of {subject} is not for IKE; leave out extended key usages, or use \
         serverAuth, clientAuth or 1.3.6.1.5.5.7.3.17"
    )]
    Usage {
        /// Whose.
        subject: String,
    },
    /// The chain is not one, for another reason.
    #[error("certificate of {subject} is refused: {why}")]
    Chain {
        /// Whose.
        subject: String,
        /// Why, as webpki names it.
        why: String,
    },
    /// The certificate is somebody else's.
    #[error("ID \"{id}\" is not in the certificate, which has {has}")]
    WrongId {
        /// The ID.
        id: String,
        /// The identities that are in it.
        has: String,
    },
    /// It doesn't have the certificate's key, or signed something else.
    #[error("the signature is wrong")]
    Signature,
    /// An algorithm that is not believed.
    #[error("the signature's algorithm is refused: {0}")]
    Algorithm(String),
    /// A method that certificates have nothing to do with.
    #[error("authentication method {0} where a signature is expected")]
    Method(u8),
}
