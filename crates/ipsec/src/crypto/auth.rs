//! Proofs of identity.

/// This end's certificate chain and private key.
#[derive(Debug)]
pub struct Signer(());

/// Whom of the other side is believed.
#[derive(Debug)]
pub struct Verifier(());
