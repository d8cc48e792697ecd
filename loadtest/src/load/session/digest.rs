//! The SHA-256 of content that comes in pieces, if somebody asked for it.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA256};

/// Content so far.
#[derive(Default)]
pub(crate) struct Digest(Option<Box<Context>>);

impl Digest {
    /// Begins; does nothing from here on unless it is wanted.
    pub(crate) fn new(wanted: bool) -> Self {
        Self(wanted.then(|| Box::new(Context::new(&SHA256))))
    }

    /// Takes the next piece.
    pub(crate) fn update(&mut self, piece: &[u8]) {
        if let Some(context) = &mut self.0 {
            context.update(piece);
        }
    }

    /// The digest of all pieces, if it was wanted.
    pub(crate) fn finish(self) -> Option<[u8; 32]> {
        self.0.and_then(|context| context.finish().as_ref().try_into().ok())
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Digest").field(&self.0.is_some()).finish()
    }
}
