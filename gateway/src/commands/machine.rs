//! What a plan depends on besides configuration and objects: this machine's addresses, and what
//! the gateway remembers.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;

use ::plan::l4::Allocations;
use model::{Diagnostic, HostAddress, L4Settings, Location, ObjectRef, PublicKey};
use serde::Deserialize;

/// The file in the state directory that holds who has which address.
const FILE: &str = "allocations.json";

/// What of that file counts here.
#[derive(Deserialize)]
struct Memory {
    allocations: Allocations,
}

/// The file in the state directory that holds the overlay's keys.
const OVERLAY: &str = "overlay-keys.json";

/// What of that file counts here.
#[derive(Deserialize)]
struct OverlayMemory {
    keys: Vec<OverlayKey>,
}

#[derive(Deserialize)]
struct OverlayKey {
    public: String,
    port: u16,
}

/// Which Service has which address, as the gateway on this machine last wrote it down; nothing if
/// it never did. A file that can't be read is told of: the plan is then one for a first start.
pub(super) fn remembered(state: Option<&Path>) -> (Allocations, Option<Diagnostic>) {
    let Some(path) = state.map(|state| state.join(FILE)) else { return Default::default() };
    let reason = match fs::read(&path) {
        Ok(text) => match serde_json::from_slice::<Memory>(&text) {
            Ok(memory) => return (memory.allocations, None),
            Err(error) => format!("is broken: {error}"),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => return Default::default(),
        Err(error) => format!("can't be read: {error}"),
    };
    let file = path.to_string_lossy().into_owned();
    let finding = Diagnostic::warning(
        ObjectRef::cluster("GatewayConfig", "gateway"),
        "state",
        format!("{FILE} {reason}; addresses are planned as if none were given away"),
    )
    .value(state.unwrap_or(Path::new("")).to_string_lossy())
    .remedy("run this as the gateway's user, or mend the file")
    .at(Some(Location { file, line: 0 }));
    (Allocations::default(), Some(finding))
}

/// This machine's own addresses, if it is the edge, or one like it: where none of the edge's
/// interfaces is, they say nothing about the edge.
pub(super) fn host_addresses(settings: &L4Settings) -> Vec<HostAddress> {
    let host = netdev::address::host_addresses().unwrap_or_default();
    let ours = |address: &HostAddress| {
        settings.public.contains(&address.interface)
            || settings.private.contains(&address.interface)
    };
    if host.iter().any(ours) { host } else { Vec::new() }
}

/// The overlay's public keys with their ports, as the gateway on this machine last wrote them
/// down: of a first start, one of zeros in the place of the one that is made then.
pub(super) fn overlay_keys(state: Option<&Path>, port: u16) -> Vec<(PublicKey, u16)> {
    let text = state.and_then(|state| fs::read(state.join(OVERLAY)).ok());
    let memory = text.and_then(|text| serde_json::from_slice::<OverlayMemory>(&text).ok());
    let keys = memory.into_iter().flat_map(|memory| memory.keys);
    let keys: Vec<_> = keys.filter_map(|key| Some((key.public.parse().ok()?, key.port))).collect();
    if keys.is_empty() { vec![(PublicKey([0; 32]), port)] } else { keys }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_remembered_is_read_and_a_broken_file_is_told_of() {
        let folder = tempfile::TempDir::new().unwrap();
        assert_eq!(remembered(Some(folder.path())), Default::default());
        assert_eq!(remembered(None), Default::default());
        let file = folder.path().join(FILE);
        let text =
            r#"{"version": 1, "allocations": {"services": {"a/b": ["192.0.2.1"]}}, "taken": []}"#;
        fs::write(&file, text).unwrap();
        let (allocations, finding) = remembered(Some(folder.path()));
        assert_eq!(allocations.services["a/b"], ["192.0.2.1".parse::<std::net::IpAddr>().unwrap()]);
        assert_eq!(finding, None);
        fs::write(&file, "{").unwrap();
        let (allocations, finding) = remembered(Some(folder.path()));
        assert_eq!(allocations, Allocations::default());
        assert!(finding.unwrap().to_string().contains("allocations.json is broken"));
    }
}
