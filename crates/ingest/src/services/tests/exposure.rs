use model::Settings;
use model::snapshot::{Dual, Exposure, Families};

use super::{balanced, manifest};
use crate::fixture::{self, Fixture, l4};

fn exposure(found: &Fixture) -> &Exposure {
    found.service("web").exposure.as_ref().unwrap()
}

#[track_caller]
fn clean(found: Fixture) -> Exposure {
    assert_eq!(found.messages(), [] as [String; 0]);
    exposure(&found).clone()
}

#[test]
fn types_decide_what_is_exposed() {
    let of = |spec: &str| {
        let found = l4(&manifest("", &format!("ports: [{{port: 80, nodePort: 0}}], {spec}")));
        found.service("web").exposure.as_ref().map(|exposure| exposure.load_balancer)
    };
    assert_eq!(of("type: ClusterIP"), None);
    assert_eq!(of("externalIPs: []"), None);
    assert_eq!(of("type: ExternalName, externalName: a.b, externalIPs: [192.0.2.1]"), None);
    assert_eq!(of("externalIPs: [192.0.2.1], clusterIP: None"), None);
    assert_eq!(of("externalIPs: [192.0.2.1]"), Some(false));
    assert_eq!(of("type: NodePort"), Some(false));
    assert_eq!(of("type: LoadBalancer"), Some(true));
    assert_eq!(of("type: LoadBalancer, loadBalancerClass: tidegate.io/edge"), Some(true));
}

#[test]
fn a_service_of_another_class_has_its_node_ports_alone() {
    let text = manifest(
        "",
        "type: LoadBalancer, loadBalancerClass: other.io/lb, ports: [{port: 80, nodePort: 30080}]",
    );
    let found = l4(&text);
    assert!(!exposure(&found).load_balancer && exposure(&found).refused.is_none());
    assert_eq!(found.service("web").ports[0].node_port, Some(30080));

    let mut settings = fixture::l4_settings();
    settings.default_class = false;
    let settings = Settings { albs: Vec::new(), l4: Some(settings), ..Settings::default() };
    let without = manifest("", "type: LoadBalancer, ports: [{port: 80}]");
    assert!(!exposure(&fixture::with(&without, settings)).load_balancer);
}

#[test]
fn a_source_range_that_cannot_be_read_never_opens_to_all() {
    let ranges = |list: &str| {
        let found = balanced("", &format!("loadBalancerSourceRanges: [{list}]"));
        let ranges: Vec<String> =
            exposure(&found).source_ranges.iter().map(ToString::to_string).collect();
        (ranges, found.messages())
    };
    let (all, messages) = ranges("\"2001:db8::/32\", 203.0.113.9/24, \" 10.0.0.0/8 \", 10.0.0.0/8");
    assert_eq!(all, ["10.0.0.0/8", "203.0.113.0/24", "2001:db8::/32"]);
    assert!(messages.is_empty());
    let (one, messages) = ranges("x, 10.0.0.0/8");
    assert_eq!(one, ["10.0.0.0/8"]);
    let start = "error: Service default/web: spec.loadBalancerSourceRanges[0] \"x\": not a network";
    assert!(messages[0].starts_with(start), "{messages:?}");
    let (none, messages) = ranges("203.0.113.7, \"\"");
    assert_eq!(none, ["255.255.255.255/32"]);
    assert_eq!(messages.len(), 2);
    assert_eq!(ranges("").0, [] as [String; 0]);
}

#[test]
fn source_ranges_may_stand_in_kubernetes_old_annotation() {
    let name = "service.beta.kubernetes.io/load-balancer-source-ranges";
    let of = |annotation: &str, spec: &str| {
        let exposure = balanced(&format!("{name}: \"{annotation}\""), spec);
        let ranges = &exposure.service("web").exposure.as_ref().unwrap().source_ranges;
        ranges.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(of("10.0.0.0/8, 192.0.2.0/24", ""), ["10.0.0.0/8", "192.0.2.0/24"]);
    assert_eq!(of("x", ""), ["255.255.255.255/32"]);
    assert_eq!(of("", ""), [] as [&str; 0]);
    assert_eq!(of("x", "loadBalancerSourceRanges: [10.0.0.0/8]"), ["10.0.0.0/8"]);
}

#[test]
fn affinity_lasts_three_hours_unless_said_otherwise() {
    let of = |spec: &str| exposure(&balanced("", spec)).affinity;
    let with = |seconds: &str| {
        format!(
            "sessionAffinity: ClientIP, sessionAffinityConfig: {{clientIP: {{timeoutSeconds: \
             {seconds}}}}}"
        )
    };
    assert_eq!(of("sessionAffinity: None"), None);
    assert_eq!(of("sessionAffinity: ClientIP"), Some(10_800));
    assert_eq!(of(&with("1")), Some(1));
    assert_eq!(of(&with("86400")), Some(86_400));
    for seconds in ["0", "-1", "86401"] {
        let found = balanced("", &with(seconds));
        let field = "spec.sessionAffinityConfig.clientIP.timeoutSeconds";
        assert!(found.only().contains(field), "{}", found.only());
        assert_eq!(exposure(&found).affinity, Some(10_800));
    }
    let found = balanced("", "sessionAffinity: Cookie");
    assert!(found.only().contains("spec.sessionAffinity \"Cookie\": neither None nor ClientIP"));
    assert_eq!(exposure(&found).affinity, None);
}

#[test]
fn families_are_those_that_the_api_server_would_fill_in() {
    let of = |spec: &str| clean(balanced("", spec)).families;
    assert_eq!(of(""), Families::default());
    let single = |ipv6_first| Families { ipv6_first, dual: Dual::Single, named: true };
    assert_eq!(of("ipFamilies: [IPv4]"), single(false));
    assert_eq!(of("ipFamilies: [IPv6], ipFamilyPolicy: SingleStack"), single(true));
    let both = Families { ipv6_first: true, dual: Dual::Require, named: true };
    assert_eq!(of("ipFamilies: [IPv6, IPv4]"), both);
    let prefer = Families { ipv6_first: false, dual: Dual::Prefer, named: false };
    assert_eq!(of("ipFamilyPolicy: PreferDualStack"), prefer);
    for (spec, part) in [
        ("ipFamilies: [IPv5]", "spec.ipFamilies[0] \"IPv5\": neither"),
        ("ipFamilies: [IPv4, IPv4]", "spec.ipFamilies[1] \"IPv4\": stands there twice"),
        ("ipFamilyPolicy: Dual", "spec.ipFamilyPolicy \"Dual\": not a policy"),
    ] {
        assert!(balanced("", spec).only().contains(part), "{spec}");
    }
}

#[test]
fn external_addresses_are_checked_as_by_the_api_server() {
    let found = balanced(
        "",
        "externalIPs: [192.0.2.1, 127.0.0.1, \"fe80::1\", x, \"2001:db8::1\", 192.0.2.1, 0.0.0.0, \
         224.0.0.1, \"::ffff:192.0.2.2\"]",
    );
    let kept: Vec<String> = exposure(&found).external_ips.iter().map(ToString::to_string).collect();
    assert_eq!(kept, ["192.0.2.1", "2001:db8::1"]);
    let messages = found.messages();
    assert_eq!(messages.len(), 6, "{messages:?}");
    let first =
        "error: Service default/web: spec.externalIPs[1] \"127.0.0.1\": not an address that";
    assert!(messages[0].starts_with(first), "{messages:?}");
}

#[test]
fn the_status_says_what_is_held() {
    let text = manifest("", "type: LoadBalancer, ports: [{port: 80}]").replacen(
        "spec:",
        "status: {loadBalancer: {ingress: [{ip: 192.0.2.1}, {hostname: a.b}, {ip: x}, {ip: \
         \"2001:db8::1\"}]}}\nspec:",
        1,
    );
    let held = clean(l4(&text)).held;
    assert_eq!(
        held.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ["192.0.2.1", "2001:db8::1"]
    );
}

#[test]
fn an_address_that_is_asked_for_and_cannot_be_read_is_not_replaced_by_another() {
    let asked = clean(balanced("", "loadBalancerIP: 192.0.2.1"));
    assert_eq!(asked.requested[0].field, "spec.loadBalancerIP");
    let found = balanced("", "loadBalancerIP: 192.0.2.x");
    assert!(
        found.only().contains("spec.loadBalancerIP \"192.0.2.x\": not an address; the Service")
    );
    let exposure = exposure(&found);
    assert!(!exposure.load_balancer);
    assert_eq!(exposure.refused.as_deref(), Some("spec.loadBalancerIP is not an address"));
}

#[test]
fn selectors_of_pools_see_the_namespaces_labels() {
    let text = manifest("", "type: LoadBalancer, ports: [{port: 80}]")
        + "---\n{apiVersion: v1, kind: Namespace, metadata: {name: default, labels: {team: a}}}\n";
    assert_eq!(clean(l4(&text)).namespace_labels["team"], "a");
}

#[test]
fn the_creation_time_is_in_seconds() {
    let text = manifest("", "type: LoadBalancer, ports: [{port: 80}]")
        .replace("{name: web, a", "{name: web, creationTimestamp: \"2026-01-01T00:00:00Z\", a");
    assert_eq!(clean(l4(&text)).created, Some(1_767_225_600));
}

#[test]
fn a_health_port_needs_a_load_balancer_with_local_traffic() {
    let local = "externalTrafficPolicy: Local, healthCheckNodePort: 30500";
    let exposure = clean(balanced("", local));
    assert!(exposure.local_only);
    assert_eq!(exposure.health_check_node_port, Some(30500));
    for (spec, part, port) in [
        ("healthCheckNodePort: 30500", "has no effect without", None),
        ("externalTrafficPolicy: Local, healthCheckNodePort: 70000", "not a port number", None),
        ("externalTrafficPolicy: Local, healthCheckNodePort: 80", "isn't in the range", Some(80)),
        ("externalTrafficPolicy: local", "neither Cluster nor Local", None),
    ] {
        let found = balanced("", spec);
        assert!(found.only().contains(part), "{}", found.only());
        assert_eq!(self::exposure(&found).health_check_node_port, port);
    }
}
