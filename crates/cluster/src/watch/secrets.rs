//! Secrets that are named by others.

use std::collections::BTreeSet;

use ingest::ObjectSet;
use model::ObjectKey;

/// Where VpnConnections name Secrets of their namespace.
const FIELDS: [&str; 4] = [
    "/auth/psk/secretName",
    "/auth/certificate/secretName",
    "/auth/certificate/caSecretName",
    "/ppk/secretName",
];

/// The Secrets that VpnConnections name.
pub(super) fn named(set: &ObjectSet) -> BTreeSet<ObjectKey> {
    let all = set.vpn.iter().flat_map(|(key, connection)| {
        FIELDS.iter().filter_map(|field| {
            let name = connection.spec.pointer(field)?.as_str()?;
            (!name.is_empty()).then(|| ObjectKey::new(&key.namespace, name))
        })
    });
    all.collect()
}
