//! What is wrong names object and field, and the rest goes on.

use testkit::manifest::{Exposed, Ingress, Slice, pool, service};
use testkit::{Backend, Lab, eventually};

use crate::{Edge, builder, edge_at, vip, web, web_on};

/// With `web` that serves all the while.
#[track_caller]
fn serving_beside(manifests: &str) -> Edge {
    let edge = Edge::start(&[web().yaml(), web_on(&[1]).yaml(), manifests.to_owned()]);
    edge.client().answer(vip(20, 80));
    edge
}

#[test]
fn overlapping_pools_are_named() {
    let edge = serving_beside(&pool("second", &["10.66.0.0/24", "198.51.100.20/31"], ""));
    edge.diagnostic("second", "spec.addresses[1]", &["portable-public"]);
}

#[test]
fn pool_inside_the_edges_own_subnet_is_named() {
    let edge = serving_beside(&pool("own", &["203.0.113.64/28"], ""));
    edge.diagnostic("own", "spec.addresses[0]", &["203.0.113"]);
}

#[test]
fn requested_address_outside_all_pools_is_named() {
    let other = Exposed::load_balancer("other").tcp(80).at("192.0.2.77");
    let edge = serving_beside(&other.yaml());
    edge.diagnostic("other", "tidegate.io/addresses", &["192.0.2.77"]);
    let other = Exposed::load_balancer("other").tcp(80).spec("loadBalancerIP: 192.0.2.78");
    edge.gateway.apply("other.yaml", other.yaml().replace("name: other", "name: field"));
    edge.diagnostic("field", "spec.loadBalancerIP", &["192.0.2.78"]);
}

#[test]
fn port_clash_on_a_shared_vip_is_named() {
    let a = Exposed::load_balancer("a").tcp(443).at("198.51.100.21").tidegate("sharing-key", "k");
    let b = Exposed::load_balancer("b").tcp(443).at("198.51.100.21").tidegate("sharing-key", "k");
    let edge = serving_beside(&(a.yaml() + &b.yaml()));
    edge.diagnostic("b", "", &["443"]);
}

#[test]
fn address_of_another_service_without_a_key_is_named() {
    let b = Exposed::load_balancer("zzz").tcp(443).at("198.51.100.20");
    let edge = serving_beside(&b.yaml());
    edge.diagnostic("zzz", "", &["198.51.100.20"]);
}

#[test]
fn node_port_outside_the_range_is_named() {
    let other = Exposed::node_port("other").tcp_node_port(80, 8000).tcp_node_port(81, 30081);
    let slice = Slice::of("other").tcp(80, 8080).tcp(81, 8080).ready(Lab::backend_address(2));
    let edge = serving_beside(&(other.yaml() + &slice.yaml()));
    edge.diagnostic("other", "spec.ports[0].nodePort", &["8000"]);
    assert_eq!(edge.client().answer(edge_at(30081)).server, "two");
}

#[test]
fn node_port_of_two_services_is_named() {
    let service = |name| Exposed::node_port(name).tcp_node_port(80, 30080).yaml();
    let edge = serving_beside(&(service("a") + &service("b")));
    edge.diagnostic("b", "spec.ports[0].nodePort", &["30080"]);
}

fn policy(spec: &str) -> String {
    format!(
        "apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {{name: broken}}
spec: {spec}
---
"
    )
}

#[test]
fn selector_that_does_not_parse_is_named() {
    let edge = serving_beside(&policy("{selector: \"role = 'a'\", types: [Ingress]}"));
    edge.diagnostic("broken", "spec.selector", &[]);
}

#[test]
fn rule_with_ports_but_no_protocol_is_named() {
    let rules =
        "{selector: all(), ingress: [{action: Allow}, {action: Deny, destination: {ports: [80]}}]}";
    let edge = serving_beside(&policy(rules));
    edge.diagnostic("broken", "spec.ingress[1]", &["protocol"]);
}

#[test]
fn pre_dnat_policy_with_egress_rules_is_named() {
    let rules = "{selector: all(), preDNAT: true, applyOnForward: true, egress: [{action: Deny}]}";
    let edge = serving_beside(&policy(rules));
    edge.diagnostic("broken", "spec.", &["preDNAT"]);
}

#[test]
fn without_net_admin_the_alb_serves_and_the_log_says_what_is_missing() {
    let without = "-net_admin,-net_raw";
    let command = ["setpriv", "--bounding-set", without, "--inh-caps", without];
    alb_serves_and_log_names(&command, "CAP_NET_ADMIN");
}

#[test]
fn without_nft_the_alb_serves_and_the_log_says_what_is_missing() {
    // It is hidden from this process alone.
    let hide = "mount --bind /dev/null \"$(command -v nft)\" && exec \"$0\" \"$@\"";
    alb_serves_and_log_names(&["unshare", "--mount", "sh", "-c", hide], "nft");
}

/// A gateway that is run by this command has no L4 plane.
#[track_caller]
fn alb_serves_and_log_names(command: &[&str], missing: &str) {
    let lab = Lab::new();
    let backend = lab.edge().run(|| Backend::named("from the ALB"));
    let ingress = Ingress::new("all").any_host().prefix("/", "app").yaml();
    let all = [service("app", &[&backend]), ingress, web().yaml(), web_on(&[1]).yaml()].concat();
    let gateway = lab.start(builder().run_by(command).manifest("all.yaml", all));
    let text = eventually("the ALB serves", || {
        let response = gateway.get("a.test", "/");
        (response.status == 200).then(|| response.text())
    });
    assert_eq!(text, "from the ALB");
    let log = eventually("the log names it", || {
        let log = gateway.stderr();
        log.contains(missing).then_some(log)
    });
    assert!(log.to_lowercase().contains("l4"), "{log}");
    drop(gateway);
    lab.edge().run(|| drop(backend));
}
