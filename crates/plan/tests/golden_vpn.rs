//! Golden tests of the VPN plan: manifests in, plan and diagnostics out.
//!
//! Each `golden_vpn/NAME.yaml` holds manifests; `NAME.plan.txt` is the plan that they give,
//! `NAME.diagnostics.txt` what ingest and planning find. `UPDATE_GOLDEN=1 cargo test` writes both
//! anew: read the difference before it is committed.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

use ingest::{ObjectSet, manifest};
use ipnet::IpNet;
use model::snapshot::vpn::NatPair;
use model::{Diagnostic, Settings, VpnSettings};
use plan::machines::Machines;
use plan::vpn::{VpnPlan, plan};

fn settings() -> Settings {
    let cluster_subnets =
        ["172.30.0.0/16", "172.21.0.0/16"].iter().map(|text| text.parse().unwrap()).collect();
    Settings {
        vpn: Some(VpnSettings { cluster_subnets, ..VpnSettings::default() }),
        ..Settings::default()
    }
}

/// What the edge needs, on a link that only `own_link` has to do with.
fn machines() -> Machines {
    let ip = |text: &str| text.parse().unwrap();
    Machines {
        api: [ip("198.18.0.100")].into(),
        own: [ip("198.18.0.1"), ip("fd00:18::1")].into(),
        hops: [("0.0.0.0/0".parse().unwrap(), ip("198.18.0.254"))].into(),
        ..Machines::default()
    }
}

fn planned(text: &str) -> (VpnPlan, Vec<Diagnostic>) {
    let parsed = manifest::parse("f.yaml", text);
    let mut objects = ObjectSet::default();
    parsed.objects.into_iter().for_each(|entry| entry.insert_into(&mut objects));
    let settings = settings();
    let (mut snapshot, found) = ingest::ingest(&objects, &settings);
    machines().join(&mut snapshot);
    let (plan, more) = plan(&snapshot, &settings, &BTreeMap::new());
    (plan, parsed.diagnostics.into_iter().chain(found).chain(more).collect())
}

fn joined<T: ToString>(all: &[T]) -> String {
    if all.is_empty() {
        return "-".to_owned();
    }
    all.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}

fn pairs(pairs: &[NatPair]) -> String {
    let pair = |pair: &NatPair| format!("{}={}", pair.inside, pair.outside);
    joined(&pairs.iter().map(pair).collect::<Vec<_>>())
}

/// The plan in words.
fn rendered(plan: &VpnPlan) -> String {
    let mut text = String::new();
    for (key, plan) in &plan.connections {
        let connection = &plan.connection;
        writeln!(text, "connection {key}").unwrap();
        writeln!(text, "  {:?} {:?} {:?}", connection.auto, connection.dpd, connection.lifetimes)
            .unwrap();
        writeln!(text, "  to {:?}, id {:?}", connection.remote.gateway, connection.remote.id)
            .unwrap();
        for policy in &plan.policies {
            writeln!(text, "  child {}", policy.child).unwrap();
            let sources = policy.sources.as_ref().map_or("all".to_owned(), |all| joined(all));
            let rows: [(&str, String); 7] = [
                ("from", joined::<IpNet>(&policy.local)),
                ("to", joined(&policy.remote)),
                ("sources", sources),
                ("local NAT", pairs(&policy.local_nat)),
                ("remote NAT", pairs(&policy.remote_nat)),
                ("local selectors", joined(&policy.local_selectors)),
                ("remote selectors", joined(&policy.remote_selectors)),
            ];
            for (name, value) in rows {
                writeln!(text, "    {name}: {value}").unwrap();
            }
        }
    }
    writeln!(text, "routes: {}\nexempt: {}", joined(&plan.routes), joined(&plan.exempt)).unwrap();
    text + &plan.table
}

fn golden(name: &str) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden_vpn");
    let text = fs::read_to_string(folder.join(format!("{name}.yaml"))).unwrap();
    let (plan, diagnostics) = planned(&text);
    let found: String = diagnostics.iter().map(|one| format!("{one}\n")).collect();
    for (ending, actual) in [("plan.txt", rendered(&plan)), ("diagnostics.txt", found)] {
        let path = folder.join(format!("{name}.{ending}"));
        if env::var_os("UPDATE_GOLDEN").is_some() {
            fs::write(&path, &actual).unwrap();
        }
        let expected = fs::read_to_string(&path).unwrap_or_default();
        assert!(actual == expected, "{} differs; it is now:\n{actual}", path.display());
    }
}

macro_rules! goldens {
    ($($name:ident),* $(,)?) => {
        $(#[test] fn $name() { golden(stringify!($name)); })*

        #[test]
        fn every_file_is_a_test() {
            let known = [$(stringify!($name)),*];
            let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden_vpn");
            for entry in fs::read_dir(folder).unwrap() {
                let name = entry.unwrap().file_name().into_string().unwrap();
                let name = name.split('.').next().unwrap();
                assert!(known.contains(&name), "{name} is in no test");
            }
        }
    };
}

goldens!(example, nat, single_source, zones, overlapping, refused, within, own_link);
