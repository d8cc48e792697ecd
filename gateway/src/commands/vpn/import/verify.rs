//! Whether what is written would be taken.

use ingest::{ObjectSet, manifest};
use ipnet::IpNet;
use model::{Settings, Severity, VpnSettings};

use super::Import;

/// In the place of the cluster's networks, which aren't known here; nobody has addresses there.
const NOBODYS: [&str; 2] = ["240.0.0.0/24", "100::/64"];

impl Import<'_> {
    /// Says what `gateway check` would refuse in the manifests.
    pub(super) fn verify(&mut self, manifests: &str) {
        let parsed = manifest::parse("", manifests);
        let mut objects = ObjectSet::default();
        parsed.objects.into_iter().for_each(|entry| entry.insert_into(&mut objects));
        // Lines would be those without the comments on top.
        objects.origins.clear();
        let cluster_subnets: Vec<IpNet> =
            NOBODYS.iter().filter_map(|text| text.parse().ok()).collect();
        let vpn = Some(VpnSettings { cluster_subnets, ..VpnSettings::default() });
        let (_, found) = ingest::ingest(&objects, &Settings { vpn, ..Settings::default() });
        for mut finding in parsed.diagnostics.into_iter().chain(found) {
            if finding.severity == Severity::Error {
                finding.location = None;
                let text = finding.to_string();
                let text = text.strip_prefix("error: ").unwrap_or(&text);
                self.fault(format!("the manifests below are refused: {text}"));
            }
        }
    }
}
