//! Manifests in, the L4 plan and diagnostics out, compared with what stands beside them.
//!
//! For each `golden_l4/NAME.yaml` there are `NAME.plan.json` and `NAME.diagnostics.txt`; with
//! `UPDATE_GOLDEN=1` they are written anew. The manifests may hold comments that say what else
//! the plan depends on:
//!
//! - `# host eth0 203.0.113.9/24`: an address of the machine;
//! - `# had shop/web 192.0.2.3`: what a Service had before.

// Helpers of tests fail as tests do; clippy only exempts the tests themselves.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use ingest::ObjectSet;
use ingest::manifest::Entry;
use model::settings::FailSafe;
use model::snapshot::Announce;
use model::{AlbKind, AlbSettings, HostAddress, L4Settings, PortRange, Settings, Visibility};
use plan::l4::{self, Allocations, Vip};

#[test]
fn every_manifest_gives_its_l4_plan_and_diagnostics() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for case in cases() {
        let (plan, diagnostics) = case.planned(case.entries());
        for (extension, actual) in [("plan.json", &plan), ("diagnostics.txt", &diagnostics)] {
            let path = case.path.with_extension(extension);
            if update {
                fs::write(&path, actual).unwrap();
            } else if fs::read_to_string(&path).unwrap_or_default() != *actual {
                wrong.push(format!("{} should be:\n{actual}", path.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}\nUPDATE_GOLDEN=1 writes them anew", wrong.join("\n"));
}

#[test]
fn order_of_the_objects_makes_no_difference() {
    for case in cases() {
        let entries = case.entries();
        let expected = case.planned(entries.clone());
        for shift in 1..entries.len() {
            let mut turned = entries.clone();
            turned.rotate_left(shift);
            turned.reverse();
            assert_eq!(case.planned(turned), expected, "{}", case.path.display());
        }
    }
}

struct Case {
    path: PathBuf,
    text: String,
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden_l4");
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    for path in &paths {
        // NAME.plan.json and NAME.diagnostics.txt of a NAME.yaml that has gone prove nothing.
        let name = path.file_name().and_then(|name| name.to_str()).unwrap();
        let manifest = path.with_file_name(name.split('.').next().unwrap()).with_extension("yaml");
        assert!(manifest.exists(), "{} is left over", path.display());
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    paths.sort();
    assert!(paths.len() > 4, "only {} manifests were found", paths.len());
    let case = |path: PathBuf| Case { text: fs::read_to_string(&path).unwrap(), path };
    paths.into_iter().map(case).collect()
}

impl Case {
    fn entries(&self) -> Vec<Entry> {
        let file = self.path.file_name().and_then(|name| name.to_str()).unwrap();
        let parsed = ingest::manifest::parse(file, &self.text);
        assert_eq!(parsed.diagnostics, [], "{file} can't be read");
        parsed.objects
    }

    /// The words of the comments that begin with this one.
    fn comments(&self, word: &str) -> impl Iterator<Item = (&str, &str)> {
        let lines = self.text.lines().filter_map(|line| line.strip_prefix("# "));
        lines.filter_map(move |line| line.strip_prefix(word)?.trim().split_once(' '))
    }

    fn planned(&self, entries: Vec<Entry>) -> (String, String) {
        let mut objects = ObjectSet::default();
        for entry in entries {
            entry.insert_into(&mut objects);
        }
        let host = |(interface, network): (&str, &str)| HostAddress {
            interface: interface.to_owned(),
            network: network.parse().unwrap(),
        };
        let host: Vec<HostAddress> = self.comments("host ").map(host).collect();
        let mut previous = Allocations::default();
        for (service, addresses) in self.comments("had ") {
            let addresses = addresses.split(' ').map(|address| address.parse().unwrap());
            let addresses: Vec<IpAddr> = addresses.collect();
            previous.vips.extend(addresses.iter().map(|address| Vip {
                address: *address,
                pool: String::new(),
                visibility: Visibility::Public,
                announce: Announce::L2,
            }));
            previous.services.insert(service.to_owned(), addresses);
        }
        let settings = settings();
        let (snapshot, mut diagnostics) = ingest::ingest(&objects, &settings);
        let (plan, more) = l4::plan(&snapshot, &settings, &host, &previous);
        diagnostics.extend(more);
        diagnostics.sort();
        let mut text = String::new();
        for diagnostic in diagnostics {
            writeln!(text, "{diagnostic}").unwrap();
        }
        (serde_json::to_string_pretty(&plan).unwrap() + "\n", text)
    }
}

fn settings() -> Settings {
    let alb = AlbSettings {
        kind: AlbKind::Public,
        ingress_class: "tidegate-public".into(),
        ssl_redirect: true,
        default_certificate: None,
        default_backend: None,
    };
    let l4 = L4Settings {
        node_name: "edge".into(),
        public: vec!["eth0".into()],
        private: vec!["eth1".into()],
        node_ports: PortRange { first: 30000, last: 32767 },
        snat: false,
        load_balancer_class: "tidegate.io/edge".into(),
        default_class: true,
        fail_safe: FailSafe::default(),
    };
    Settings { albs: vec![alb], l4: Some(l4), ..Settings::default() }
}
