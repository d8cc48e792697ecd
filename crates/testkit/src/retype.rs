//! TLS records of a type that rustls would not give them.
//!
//! rustls sends handshake messages whole and only when it has a reason to. A test that wants to
//! send half a one marks it as such in the application data; the cipher here finds the mark, takes
//! it off and encrypts the rest as a handshake record.

use std::sync::LazyLock;

use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls::crypto::cipher::{
    AeadKey, Iv, MessageDecrypter, MessageEncrypter, OutboundChunks, OutboundOpaqueMessage,
    OutboundPlainMessage, Tls13AeadAlgorithm, UnsupportedOperationError,
};
use rustls::{
    ConnectionTrafficSecrets, ContentType, Error, SupportedCipherSuite, Tls13CipherSuite,
};

/// No test sends it otherwise.
const MARK: &[u8] = b"\0handshake record\0";

/// As application data, what the cipher sends as a handshake record.
pub(crate) fn marked(handshake: &[u8]) -> Vec<u8> {
    [MARK, handshake].concat()
}

/// TLS_AES_128_GCM_SHA256 that heeds the mark.
pub(crate) fn suite() -> SupportedCipherSuite {
    static SUITE: LazyLock<Tls13CipherSuite> = LazyLock::new(|| {
        let plain = TLS13_AES_128_GCM_SHA256.tls13().unwrap();
        let common = rustls::crypto::CipherSuiteCommon { ..plain.common };
        Tls13CipherSuite { common, aead_alg: &Retyping, quic: None, ..*plain }
    });
    SupportedCipherSuite::Tls13(&SUITE)
}

/// The algorithm that does the work.
fn inner() -> &'static dyn Tls13AeadAlgorithm {
    TLS13_AES_128_GCM_SHA256.tls13().unwrap().aead_alg
}

struct Retyping;

impl Tls13AeadAlgorithm for Retyping {
    fn encrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageEncrypter> {
        Box::new(RetypingEncrypter(inner().encrypter(key, iv)))
    }

    fn decrypter(&self, key: AeadKey, iv: Iv) -> Box<dyn MessageDecrypter> {
        inner().decrypter(key, iv)
    }

    fn key_len(&self) -> usize {
        inner().key_len()
    }

    fn extract_keys(
        &self,
        key: AeadKey,
        iv: Iv,
    ) -> Result<ConnectionTrafficSecrets, UnsupportedOperationError> {
        inner().extract_keys(key, iv)
    }
}

struct RetypingEncrypter(Box<dyn MessageEncrypter>);

impl MessageEncrypter for RetypingEncrypter {
    fn encrypt(
        &mut self,
        message: OutboundPlainMessage<'_>,
        sequence: u64,
    ) -> Result<OutboundOpaqueMessage, Error> {
        let payload = message.payload.to_vec();
        match payload.strip_prefix(MARK) {
            Some(handshake) => {
                let payload = OutboundChunks::Single(handshake);
                let typ = ContentType::Handshake;
                self.0.encrypt(OutboundPlainMessage { typ, payload, ..message }, sequence)
            }
            None => self.0.encrypt(message, sequence),
        }
    }

    fn encrypted_payload_len(&self, payload_len: usize) -> usize {
        self.0.encrypted_payload_len(payload_len)
    }
}
