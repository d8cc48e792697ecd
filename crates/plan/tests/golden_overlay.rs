//! Manifests in, an edge's or a node's overlay plan and diagnostics out, compared with what stands
//! beside them.
//!
//! For each `golden_overlay/NAME.yaml` there are `NAME.plan.txt` and `NAME.diagnostics.txt`; with
//! `UPDATE_GOLDEN=1` they are written anew. In manifests and comments `${a}` is the key of that
//! letter. Comments say what else the plan depends on:
//!
//! - `# edge NAME` or `# node NAME`: whose plan it is;
//! - `# mode MODE`, `# services NETWORKS`, `# egress NETWORKS`: of the settings;
//! - `# key ${a} PORT`: a key of its own; `# host eth0 192.0.2.7/24`: an address of the machine;
//! - `# hears NODE WAY` and `# answers EDGE WAY CONNECTIONS`: what probes tell, over the way
//!   `direct` or `${EDGE'S}=${NODE'S}`; `# nat NODE`, `# drains EDGE`;
//! - `# outside INTERFACE`: one that faces the internet, of an edge's input;
//! - `# mac ADDRESS MAC`, `# routed NETWORK`, `# had EDGE NUMBER`: of a node's input.

// Helpers of tests fail as tests do; clippy only exempts the tests themselves.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use ingest::ObjectSet;
use ingest::manifest::Entry;
use model::{HostAddress, ObjectKey, OverlaySettings, PublicKey, Settings};
use plan::overlay::{self, EdgeInput, Heard, NodeInput, OverlayPlan, Probed, Target};

#[test]
fn every_manifest_gives_its_overlay_plan_and_diagnostics() {
    let update = std::env::var_os("UPDATE_GOLDEN").is_some();
    let mut wrong = Vec::new();
    for case in cases() {
        let (plan, diagnostics) = case.planned(case.entries());
        for (extension, actual) in [("plan.txt", &plan), ("diagnostics.txt", &diagnostics)] {
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
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden_overlay");
    let mut paths: Vec<PathBuf> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    for path in &paths {
        // NAME.plan.txt and NAME.diagnostics.txt of a NAME.yaml that has gone prove nothing.
        let name = path.file_name().and_then(|name| name.to_str()).unwrap();
        let manifest = path.with_file_name(name.split('.').next().unwrap()).with_extension("yaml");
        assert!(manifest.exists(), "{} is left over", path.display());
    }
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    paths.sort();
    assert!(paths.len() > 4, "only {} manifests were found", paths.len());
    let case = |path: PathBuf| Case { text: with_keys(&fs::read_to_string(&path).unwrap()), path };
    paths.into_iter().map(case).collect()
}

/// Puts keys in the place of `${a}`.
fn with_keys(text: &str) -> String {
    (b'a'..=b'z').fold(text.to_owned(), |text, letter| {
        let name = format!("${{{}}}", char::from(letter));
        text.replace(&name, &PublicKey([letter; 32]).to_string())
    })
}

/// Puts letters back in the place of keys.
fn without_keys(text: &str) -> String {
    (b'a'..=b'z').fold(text.to_owned(), |text, letter| {
        let name = format!("key-{}", char::from(letter));
        let key = PublicKey([letter; 32]);
        let address = key.overlay_address().to_string();
        text.replace(&key.to_string(), &name).replace(&address, &format!("<{name}>"))
    })
}

fn way(text: &str) -> Option<overlay::Path> {
    match text.split_once("==") {
        _ if text == "-" => None,
        _ if text == "direct" => Some(overlay::Path::Direct),
        Some((edge, node)) => Some(overlay::Path::Tunnel {
            edge: format!("{edge}=").parse().unwrap(),
            node: node.parse().unwrap(),
        }),
        None => panic!("{text} is no way"),
    }
}

impl Case {
    fn entries(&self) -> Vec<Entry> {
        let file = self.path.file_name().and_then(|name| name.to_str()).unwrap();
        let parsed = ingest::manifest::parse(file, &self.text);
        assert_eq!(parsed.diagnostics, [], "{file} can't be read");
        parsed.objects
    }

    /// What stands behind a comment's first word, in words.
    fn comments(&self, word: &str) -> Vec<Vec<&str>> {
        let lines = self.text.lines().filter_map(|line| line.strip_prefix("# "));
        let words = lines.map(|line| line.split_whitespace().collect::<Vec<_>>());
        words
            .filter(|words| words.first() == Some(&word))
            .map(|words| words[1..].to_vec())
            .collect()
    }

    fn settings(&self) -> (bool, OverlaySettings) {
        let is_edge = !self.comments("edge").is_empty();
        let name = self.comments(if is_edge { "edge" } else { "node" })[0][0].to_owned();
        let networks = |word: &str| {
            self.comments(word).concat().iter().map(|text| text.parse().unwrap()).collect()
        };
        let mut settings = OverlaySettings {
            name,
            services: networks("services"),
            egress: networks("egress"),
            ..OverlaySettings::default()
        };
        if let Some(mode) = self.comments("mode").first() {
            settings.mode = serde_json::from_value(mode[0].into()).unwrap();
        }
        (is_edge, settings)
    }

    fn planned(&self, entries: Vec<Entry>) -> (String, String) {
        let mut objects = ObjectSet::default();
        for entry in entries {
            entry.insert_into(&mut objects);
        }
        let (is_edge, overlay) = self.settings();
        let settings = Settings { overlay: Some(overlay.clone()), ..Settings::default() };
        let (snapshot, mut diagnostics) = ingest::ingest(&objects, &settings);
        let host: Vec<HostAddress> = self
            .comments("host")
            .iter()
            .map(|words| HostAddress {
                interface: words[0].to_owned(),
                network: words[1].parse().unwrap(),
            })
            .collect();
        let (plan, more) = match is_edge {
            true => overlay::edge(&snapshot, &overlay, &self.edge_input(host)),
            false => overlay::node(&snapshot, &overlay, &self.node_input(host)),
        };
        diagnostics.extend(more);
        diagnostics.sort();
        let mut text = String::new();
        // The VPN plane isn't what this is about.
        for diagnostic in diagnostics.iter().filter(|one| one.object.kind != "VpnConnection") {
            writeln!(text, "{diagnostic}").unwrap();
        }
        (without_keys(&rendered(&plan)), without_keys(&text))
    }

    fn edge_input(&self, host: Vec<HostAddress>) -> EdgeInput {
        let mut input = EdgeInput { host, underlay_mtu: Some(1500), ..EdgeInput::default() };
        for words in self.comments("key") {
            input.keys.push((words[0].parse().unwrap(), words[1].parse().unwrap()));
        }
        input.outside = self.comments("outside").iter().flatten().map(|&one| one.into()).collect();
        for words in self.comments("hears") {
            let heard = Heard { live: true, path: way(words[1]), nat: false };
            input.nodes.insert(words[0].to_owned(), heard);
        }
        for words in self.comments("nat") {
            input.nodes.get_mut(words[0]).unwrap().nat = true;
        }
        input.vpn_interface = Some("tidegate-vpn".to_owned());
        input
    }

    fn node_input(&self, host: Vec<HostAddress>) -> NodeInput {
        let mut input = NodeInput { host, underlay_mtu: Some(1500), ..NodeInput::default() };
        for words in self.comments("key") {
            input.keys.push(words[0].parse().unwrap());
        }
        for words in self.comments("answers") {
            let vpn: BTreeSet<ObjectKey> = words[2..]
                .iter()
                .map(|text| text.split_once('/').unwrap())
                .map(|(namespace, name)| ObjectKey::new(namespace, name))
                .collect();
            let path = way(words[1]);
            let probed = Probed { live: true, path, vpn, ..Probed::default() };
            input.edges.insert(words[0].to_owned(), probed);
        }
        for words in self.comments("drains") {
            input.edges.get_mut(words[0]).unwrap().drain = true;
        }
        for words in self.comments("mac") {
            let bytes: Vec<u8> =
                words[1].split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap()).collect();
            input.neighbours.insert(words[0].parse().unwrap(), bytes.try_into().unwrap());
        }
        for words in self.comments("had") {
            input.numbers.insert(words[0].to_owned(), words[1].parse().unwrap());
        }
        let routed = self.comments("routed").concat();
        input.routed = routed.iter().map(|text| text.parse().unwrap()).collect();
        input
    }
}

/// The plan in words.
fn rendered(plan: &OverlayPlan) -> String {
    let mut text = String::new();
    for tunnel in &plan.tunnels {
        let overlay::Tunnel { interface, key, port, mtu, addresses, peers } = tunnel;
        writeln!(text, "tunnel {interface} {key} port {port} mtu {mtu} {addresses:?}").unwrap();
        for peer in peers {
            let allowed: Vec<String> = peer.allowed.iter().map(ToString::to_string).collect();
            let at = peer.endpoint.map_or("-".to_owned(), |at| at.to_string());
            let alive = peer.keepalive.map_or(String::new(), |every| format!(" every {every}s"));
            let (name, key) = (&peer.name, peer.key);
            writeln!(text, "  {name} {key} at {at}{alive}: {}", allowed.join(" ")).unwrap();
        }
    }
    for rule in &plan.rules {
        let family = if rule.v6 { "ip6" } else { "ip4" };
        let (priority, selector, table) = (rule.priority, &rule.selector, rule.table);
        writeln!(text, "rule {priority} {family} {selector:?}: table {table:#x}").unwrap();
    }
    for route in &plan.routes {
        let target = match &route.target {
            Target::Device(interface) => format!("into {interface}"),
            Target::Via { address, interface } => format!("via {address} on {interface}"),
            Target::Unreachable => "unreachable".to_owned(),
            Target::Throw => "throw".to_owned(),
        };
        writeln!(text, "table {:#x} {} {target}", route.table, route.network).unwrap();
    }
    for (name, value) in &plan.sysctls {
        writeln!(text, "{name} = {value}").unwrap();
    }
    for probe in &plan.probes {
        let through = probe.interface.as_deref().unwrap_or("-");
        let overlay::ProbeTarget { edge, key, address, .. } = probe;
        writeln!(text, "probe {edge} {key} at {address} through {through}").unwrap();
    }
    for (key, edge) in &plan.active.vpn {
        writeln!(text, "{key} over {edge}").unwrap();
    }
    if let Some(edge) = &plan.active.egress {
        writeln!(text, "egress over {edge}").unwrap();
    }
    text + &plan.table
}
