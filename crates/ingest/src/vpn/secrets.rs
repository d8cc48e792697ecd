//! What a connection proves itself by.

use k8s_openapi::api::core::v1::Secret;
use model::snapshot::vpn::{Ppk, SecretBytes, VpnAuth};
use model::{Diagnostic, ObjectKey, ObjectRef};

use super::reader::Reader;
use crate::crds::vpn_connection::{AuthSpec, CertificateSpec, PpkSpec, PskSpec};
use crate::secrets::{self, Fault};

/// Shorter keys are guessed from one recorded exchange; refused.
const LEAST: usize = 8;
/// Shorter ones are weak (RFC 7296, section 2.15: as random as the strongest key in use).
const ENOUGH: usize = 20;
/// Fewer different characters than this are no random text.
const VARIETY: usize = 6;
const REMEDY: &str = "make a random one on both ends, with `openssl rand -base64 48 | tr -d '\\n'`";

/// Keys that manuals and charts begin with: everybody knows them.
const KNOWN: [&str; 24] = [
    "not-valid-preshared-key",
    "strongswan-preshared-secret",
    "strongswan",
    "changeme",
    "change-me",
    "change_me",
    "changethis",
    "secret",
    "supersecret",
    "mysecret",
    "password",
    "passw0rd",
    "presharedkey",
    "preshared-key",
    "pre-shared-key",
    "pre_shared_key",
    "preshared_secret",
    "mysecretkey",
    "cisco123",
    "cisco",
    "vyattavpn",
    "test123",
    "ipsecvpn",
    "tidegate",
];

impl Reader<'_, '_, '_> {
    pub(super) fn auth(&mut self, spec: &AuthSpec) -> Option<VpnAuth> {
        match (&spec.psk, &spec.certificate) {
            (Some(psk), None) => self.psk(psk),
            (None, Some(certificate)) => self.certificate(certificate),
            (one, _) => {
                let reason = match one {
                    Some(_) => "has both psk and certificate",
                    None => "has neither psk nor certificate",
                };
                let remedy = "write psk: {secretName: …, key: …} or certificate: {secretName: …, \
                              caSecretName: …}";
                self.error("spec.auth", None, reason, remedy);
                None
            }
        }
    }

    fn psk(&mut self, spec: &PskSpec) -> Option<VpnAuth> {
        let key = spec.key.as_deref().unwrap_or("psk");
        let bytes = self.secret_key("spec.auth.psk", &spec.secret_name, key)?;
        self.check_strength(&spec.secret_name, key, &bytes)
            .then_some(VpnAuth::Psk(SecretBytes(bytes)))
    }

    pub(super) fn ppk(&mut self, spec: &PpkSpec) -> Option<Ppk> {
        let key = spec.key.as_deref().unwrap_or("ppk");
        if spec.id.is_empty() {
            self.error("spec.ppk.id", None, "is empty", "write the name that both ends know it by");
            return None;
        }
        let bytes = self.secret_key("spec.ppk", &spec.secret_name, key)?;
        let good = self.check_strength(&spec.secret_name, key, &bytes);
        let required = spec.required.unwrap_or(true);
        good.then(|| Ppk { id: spec.id.clone(), key: SecretBytes(bytes), required })
    }

    /// The bytes of one key of a Secret.
    fn secret_key(&mut self, field: &str, name: &str, key: &str) -> Option<Vec<u8>> {
        let (secret, reference) = self.secret(&format!("{field}.secretName"), name)?;
        let bytes = secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| &bytes.0);
        match bytes.filter(|bytes| !bytes.is_empty()) {
            Some(bytes) => Some(bytes.clone()),
            None => {
                self.secret_is_gone = true;
                let keys: Vec<&str> =
                    secret.data.iter().flat_map(|data| data.keys()).map(String::as_str).collect();
                let reason = format!("Secret {reference} has no such key, or an empty one");
                let remedy = match keys.is_empty() {
                    true => "put it in, under stringData".to_owned(),
                    false => format!("put it in, or name one of {}", keys.join(", ")),
                };
                self.error(&format!("{field}.key"), Some(key), &reason, &remedy);
                None
            }
        }
    }

    fn secret<'s>(&mut self, field: &str, name: &str) -> Option<(&'s Secret, ObjectKey)>
    where
        Self: 's,
    {
        let key = ObjectKey::new(self.key.namespace.clone(), name);
        let objects = self.context.0;
        match objects.secrets.get(&key) {
            Some(secret) => Some((secret, key)),
            None => {
                self.secret_is_gone = true;
                let reason = format!("there is no Secret {key} that could be read");
                let remedy = "make it, in the connection's own namespace";
                self.error(field, Some(name), &reason, remedy);
                None
            }
        }
    }

    /// Whether a key may be used at all; it is told if it is weak.
    fn check_strength(&mut self, secret: &str, key: &str, bytes: &[u8]) -> bool {
        let reference =
            ObjectRef::namespaced("Secret", &ObjectKey::new(self.key.namespace.clone(), secret));
        let field = format!("data[{key:?}]");
        let of = self.key.to_string();
        let text = String::from_utf8_lossy(bytes).trim().to_ascii_lowercase();
        let length = bytes.len();
        let error = |reason: String| {
            Diagnostic::error(reference.clone(), field.clone(), reason).remedy(REMEDY)
        };
        if KNOWN.contains(&text.as_str()) {
            let reason =
                format!("is a default that everybody knows; VpnConnection {of} is refused");
            self.refuse(error(reason));
            return false;
        }
        if text.len() < LEAST {
            let reason = format!(
                "has {length} bytes, fewer than {LEAST}: it is guessed in no time; VpnConnection \
                 {of} is refused"
            );
            self.refuse(error(reason));
            return false;
        }
        let warning = |reason: String| {
            Diagnostic::warning(reference.clone(), field.clone(), reason).remedy(REMEDY)
        };
        let mut different = bytes.to_vec();
        different.sort_unstable();
        different.dedup();
        if length < ENOUGH {
            let reason = format!(
                "is weak: it has {length} bytes, and fewer than {ENOUGH} can be guessed by whoever \
                 takes part in one exchange"
            );
            self.tell(warning(reason));
        } else if different.len() < VARIETY {
            self.tell(warning("is weak: it has few different characters".to_owned()));
        }
        if bytes.ends_with(b"\n") {
            let reason = "ends with a line break, which is a part of the key";
            let remedy = "take it out (`echo -n`, or stringData) unless the other end has it too";
            self.tell(Diagnostic::warning(reference.clone(), field.clone(), reason).remedy(remedy));
        }
        true
    }

    fn certificate(&mut self, spec: &CertificateSpec) -> Option<VpnAuth> {
        const FIELD: &str = "spec.auth.certificate";
        let own = self.secret(&format!("{FIELD}.secretName"), &spec.secret_name);
        let authority = spec.ca_secret_name.as_deref().unwrap_or(&spec.secret_name);
        let authority = self.secret(&format!("{FIELD}.caSecretName"), authority);
        let ((own, own_key), (authority, authority_key)) = (own?, authority?);
        let pair = self.checked(&own_key, secrets::peer_certificate(own));
        let authorities = self.checked(&authority_key, secrets::authorities(authority));
        let (pair, (authorities, revoked)) = (pair?, authorities?);
        Some(VpnAuth::Certificate {
            chain: pair.chain,
            key: SecretBytes(pair.key),
            authorities,
            revoked,
        })
    }

    fn checked<T>(&mut self, secret: &ObjectKey, result: Result<T, Fault>) -> Option<T> {
        result
            .map_err(|fault| {
                let reason = format!("{fault}; VpnConnection {} is refused", self.key);
                let object = ObjectRef::namespaced("Secret", secret);
                self.refuse(Diagnostic::error(object, fault.field, reason).remedy(fault.remedy));
            })
            .ok()
    }
}
