use std::collections::BTreeMap;

use ingest::ObjectSet;
use model::settings::FailSafe;
use model::{PortRange, Protocol, Settings};

use super::*;
use crate::nft::MARK_ACCEPTED;

/// An edge that keeps SSH open for itself, and DNS outward.
fn settings() -> L4Settings {
    L4Settings {
        node_name: "edge-1".into(),
        public: vec!["eth0".into()],
        private: vec!["eth1".into()],
        node_ports: PortRange { first: 30000, last: 32767 },
        snat: false,
        load_balancer_class: "tidegate.io/gateway".into(),
        default_class: true,
        fail_safe: FailSafe {
            inbound: vec![(Protocol::Tcp, 22)],
            outbound: vec![(Protocol::Udp, 53)],
        },
    }
}

fn host() -> Vec<HostAddress> {
    [("eth0", "192.0.2.1/24"), ("eth1", "10.0.0.1/24")]
        .map(|(interface, network)| HostAddress {
            interface: interface.into(),
            network: network.parse().unwrap(),
        })
        .to_vec()
}

fn policies(text: &str) -> (Policies, Vec<Diagnostic>) {
    let parsed = ingest::manifest::parse("test.yaml", text);
    assert_eq!(parsed.diagnostics, []);
    let mut set = ObjectSet::default();
    parsed.objects.into_iter().for_each(|entry| entry.insert_into(&mut set));
    let settings = Settings { l4: Some(settings()), ..Settings::default() };
    let (snapshot, diagnostics) = ingest::ingest(&set, &settings);
    (snapshot.policies, diagnostics)
}

fn compiled(text: &str) -> Compiled {
    let (policies, diagnostics) = policies(text);
    assert_eq!(diagnostics, []);
    let (compiled, diagnostics) = compile(&policies, &settings(), &host());
    assert_eq!(diagnostics, []);
    compiled
}

const PUBLIC: &str = "
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: edge-1-public, labels: {ibm.role: worker_public}}
spec: {node: edge-1, interfaceName: eth0, expectedIPs: [192.0.2.1]}
---
";

#[test]
fn zz_dump() {
    let text = std::fs::read_to_string(std::env::var("DUMP").unwrap()).unwrap();
    let (policies, diagnostics) = policies(&text);
    eprintln!("{diagnostics:#?}");
    let (compiled, diagnostics) = compile(&policies, &settings(), &host());
    eprintln!("{diagnostics:#?}");
    println!("table inet tidegate {{");
    for (name, set) in &compiled.table.sets {
        println!(" set {name} {{ {}", set.head);
        if !set.elements.is_empty() {
            let elements: Vec<&str> = set.elements.keys().map(String::as_str).collect();
            println!("  elements = {{ {} }}", elements.join(", "));
        }
        println!(" }}");
    }
    for (name, chain) in &compiled.table.chains {
        println!(" chain {name} {{");
        chain.hook.iter().for_each(|hook| println!("  {hook}"));
        chain.rules.iter().for_each(|rule| println!("  {rule}"));
        println!(" }}");
    }
    println!("}}");
}
