//! What the edge tells of itself, where no API takes it: a file for people to bring to agents.

use std::fmt::Write as _;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::path::Path;

use model::OverlaySettings;
use model::snapshot::overlay::OverlayMode;

use super::keys::replace;
use crate::status;

/// The file in the state directory.
const FILE: &str = "edgegateway.yaml";

/// The words for modes, as objects have them.
pub(super) fn mode(mode: OverlayMode) -> &'static str {
    match mode {
        OverlayMode::Auto => "auto",
        OverlayMode::Direct => "direct",
        OverlayMode::Wireguard => "wireguard",
    }
}

/// Writes it, if it isn't so already.
pub(super) fn write(
    directory: &Path,
    settings: &OverlaySettings,
    told: &status::Overlay,
) -> io::Result<()> {
    let text = text(settings, told);
    let same = std::fs::read(directory.join(FILE)).is_ok_and(|found| found == text.as_bytes());
    if same { Ok(()) } else { replace(directory, FILE, text.as_bytes()) }
}

fn text(settings: &OverlaySettings, told: &status::Overlay) -> String {
    let list = |all: &mut dyn Iterator<Item = String>| {
        let quoted: Vec<String> = all.map(|one| format!("\"{one}\"")).collect();
        format!("[{}]", quoted.join(", "))
    };
    let mut text = String::from(
        "# What this edge tells of itself: bring it to the manifests of the nodes' agents, and of \
         the other edges.\napiVersion: tidegate.io/v1alpha1\nkind: EdgeGateway\n",
    );
    let _ = writeln!(text, "metadata:\n  name: \"{}\"\nstatus:", settings.name);
    let underlay = list(&mut told.underlay.iter().map(ToString::to_string));
    let _ = writeln!(text, "  underlayAddresses: {underlay}");
    if let Some(wireguard) = &told.wireguard {
        let keys = list(&mut wireguard.public_keys.iter().cloned());
        let _ = writeln!(
            text,
            "  wireguard:\n    publicKeys: {keys}\n    ports: {:?}",
            wireguard.ports
        );
    }
    let _ = writeln!(text, "  probePort: {}", settings.probe_port);
    let _ = writeln!(text, "  mode: {}", mode(settings.mode));
    let services = list(&mut settings.services.iter().map(ToString::to_string));
    let egress = list(&mut settings.egress.iter().map(ToString::to_string));
    let _ = writeln!(text, "  serviceSubnets: {services}\n  egressNetworks: {egress}");
    text
}

/// The addresses that this machine has towards others: one of each family, in the order of theirs.
pub(super) fn towards(others: impl IntoIterator<Item = IpAddr>) -> Vec<IpAddr> {
    let mut found: Vec<IpAddr> = Vec::new();
    for other in others {
        if found.iter().any(|own| own.is_ipv4() == other.is_ipv4()) {
            continue;
        }
        // Nothing is sent by this.
        let own =
            UdpSocket::bind(SocketAddr::new(netdev::udp::wildcard(other), 0)).and_then(|socket| {
                socket.connect(SocketAddr::new(other, 9))?;
                socket.local_addr()
            });
        found.extend(own.ok().map(|own| own.ip()).filter(|own| !own.is_loopback()));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_an_object_that_ingest_reads() {
        let settings = OverlaySettings {
            name: "edge-1".to_owned(),
            services: vec!["172.21.0.0/16".parse().unwrap()],
            ..OverlaySettings::default()
        };
        let told = status::Overlay {
            underlay: vec!["192.0.2.7".parse().unwrap(), "2001:db8::7".parse().unwrap()],
            wireguard: Some(super::super::view::wireguard(&[(model::PublicKey([7; 32]), 51821)])),
            ..status::Overlay::default()
        };
        let text = text(&settings, &told);
        let parsed = ingest::manifest::parse("f.yaml", &text);
        assert_eq!(parsed.diagnostics, [], "{text}");
        let mut objects = ingest::ObjectSet::default();
        parsed.objects.into_iter().for_each(|entry| entry.insert_into(&mut objects));
        let settings = model::Settings { overlay: Some(settings), ..model::Settings::default() };
        let (snapshot, found) = ingest::ingest(&objects, &settings);
        assert_eq!(found, []);
        let edge = &snapshot.edges["edge-1"];
        assert_eq!((edge.keys.len(), edge.addresses.len(), edge.services.len()), (1, 2, 1));
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &OverlaySettings::default(), &told).unwrap();
        assert!(folder.path().join(FILE).exists());
    }
}
