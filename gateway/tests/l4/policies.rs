//! Pre-DNAT and host endpoint policies.

use testkit::lab::Server;
use testkit::{Lab, eventually};

use crate::{Edge, edge_at, vip, web, web_on};

const HOST_ENDPOINT: &str = "apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: edge-1-public, labels: {ibm.role: worker_public}}
spec: {node: edge-1, interfaceName: pub0, expectedIPs: [\"203.0.113.1\"]}
---
";

/// All NodePorts closed on the public interface.
const DENY_NODE_PORTS: &str = "apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: deny-nodeports}
spec:
  applyOnForward: true
  preDNAT: true
  order: 1100
  selector: ibm.role == 'worker_public'
  types: [Ingress]
  ingress:
  - {action: Deny, protocol: TCP, destination: {ports: [\"30000:32767\"]}}
  - {action: Deny, protocol: UDP, destination: {ports: [\"30000:32767\"]}}
---
";

/// One of them open to one client.
const ALLOW_OFFICE: &str = "apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: allow-office}
spec:
  applyOnForward: true
  preDNAT: true
  order: 500
  selector: ibm.role == 'worker_public'
  types: [Ingress]
  ingress:
  - {action: Allow, protocol: TCP, source: {nets: [203.0.113.11/32]}, destination: {ports: [30080]}}
---
";

/// A host endpoint alone drops what is for local processes; this allows it.
const ALLOW_LOCAL: &str = "apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: allow-local}
spec:
  order: 2000
  selector: ibm.role == 'worker_public'
  types: [Ingress, Egress]
  ingress: [{action: Allow}]
  egress: [{action: Allow}]
---
";

fn with_node_ports() -> String {
    let service = web().without_ports().tcp_node_port(80, 30080).tcp_node_port(81, 30081);
    let slice = web_on(&[1]).tcp(81, 8080);
    service.yaml() + &slice.yaml()
}

#[test]
fn pre_dnat_policy_closes_node_ports_and_leaves_the_vip_open() {
    let edge = Edge::start(&[with_node_ports()]);
    edge.client().answer(edge_at(30080));
    edge.gateway.apply("policy.yaml", [HOST_ENDPOINT, DENY_NODE_PORTS].concat());
    edge.client().silent(edge_at(30080));
    assert!(edge.client().is_silent(edge_at(30081)));
    assert_eq!(edge.client().ask(vip(20, 80)).unwrap().client.ip(), Lab::client_address(0));
    // The private interface is no host endpoint.
    edge.lab.backend(2).answer("10.0.0.1:30080".parse().unwrap());
    edge.gateway.remove("policy.yaml");
    edge.client().answer(edge_at(30080));
}

#[test]
fn earlier_allow_opens_one_node_port_to_one_client() {
    let edge = Edge::start(&[with_node_ports()]);
    let policies = [HOST_ENDPOINT, DENY_NODE_PORTS, ALLOW_OFFICE].concat();
    edge.gateway.apply("policy.yaml", policies);
    edge.client().silent(edge_at(30080));
    let office = Lab::client_address(1);
    assert_eq!(edge.client().ask_from(office, edge_at(30080)).unwrap().client.ip(), office);
    let attempt = std::time::Duration::from_millis(500);
    assert!(edge.client().connect_from(Some(office), edge_at(30081), attempt).is_err());
    edge.client().ask(vip(20, 80)).unwrap();
}

#[test]
fn policies_of_the_crd_group_are_the_same() {
    let edge = Edge::start(&[with_node_ports()]);
    let policies = [HOST_ENDPOINT, DENY_NODE_PORTS].concat();
    let policies = policies.replace("projectcalico.org/v3", "crd.projectcalico.org/v1");
    edge.client().answer(edge_at(30080));
    edge.gateway.apply("policy.yaml", policies);
    edge.client().silent(edge_at(30080));
}

#[test]
fn host_endpoint_without_policies_closes_local_ports_but_the_fail_safe_ones() {
    let edge = Edge::start(&[with_node_ports()]);
    let _shell = Server::start(edge.edge(), 22, "ssh");
    let _other = Server::start(edge.edge(), 8000, "other");
    edge.client().answer(edge_at(22));
    edge.client().answer(edge_at(8000));
    edge.gateway.apply("policy.yaml", HOST_ENDPOINT);
    edge.client().silent(edge_at(8000));
    edge.client().ask(edge_at(22)).unwrap();
    // What is forwarded passes.
    edge.client().ask(vip(20, 80)).unwrap();
    edge.client().ask(edge_at(30080)).unwrap();
    edge.lab.backend(1).answer("10.0.0.1:8000".parse().unwrap());
    edge.gateway.apply("policy.yaml", [HOST_ENDPOINT, ALLOW_LOCAL].concat());
    edge.client().answer(edge_at(8000));
}

#[test]
fn apply_on_forward_policy_drops_what_it_does_not_allow() {
    let policy = "apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: forward}
spec:
  applyOnForward: true
  order: 10
  selector: ibm.role == 'worker_public'
  types: [Ingress]
  ingress:
  - {action: Allow, protocol: TCP, source: {nets: [203.0.113.11/32]}, destination: {ports: [8080]}}
---
";
    let edge = Edge::start(&[with_node_ports()]);
    edge.client().answer(vip(20, 80));
    edge.gateway.apply("policy.yaml", [HOST_ENDPOINT, policy].concat());
    edge.client().silent(vip(20, 80));
    edge.client().ask_from(Lab::client_address(1), vip(20, 80)).unwrap();
}

#[test]
fn connection_under_way_outlives_a_new_deny() {
    let edge = Edge::start(&[with_node_ports()]);
    edge.client().answer(edge_at(30080));
    let mut flow = edge.client().connect(edge_at(30080)).unwrap();
    flow.say("before").unwrap();
    edge.gateway.apply("policy.yaml", [HOST_ENDPOINT, DENY_NODE_PORTS].concat());
    edge.client().silent(edge_at(30080));
    flow.say("after").unwrap();
}

#[test]
fn network_set_is_followed() {
    let set = |nets: &str| {
        format!(
            "apiVersion: projectcalico.org/v3
kind: GlobalNetworkSet
metadata: {{name: bad, labels: {{kind: bad}}}}
spec: {{nets: {nets}}}
---
"
        )
    };
    let policy = "apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: deny-bad}
spec:
  applyOnForward: true
  preDNAT: true
  selector: has(ibm.role)
  types: [Ingress]
  ingress:
  - {action: Deny, source: {selector: \"kind == 'bad'\"}}
---
";
    let edge = Edge::start(&[with_node_ports()]);
    edge.client().answer(vip(20, 80));
    let (first, second) = (Lab::client_address(0), Lab::client_address(1));
    let attempt = std::time::Duration::from_millis(300);
    let open = |from| edge.client().connect_from(Some(from), vip(20, 80), attempt).is_ok();
    edge.gateway.apply("policy.yaml", [HOST_ENDPOINT, policy, &set("[203.0.113.10/32]")].concat());
    eventually("the first is denied", || (!open(first) && open(second)).then_some(()));
    edge.gateway.apply("policy.yaml", [HOST_ENDPOINT, policy, &set("[203.0.113.11/32]")].concat());
    eventually("the second is denied", || (open(first) && !open(second)).then_some(()));
}
