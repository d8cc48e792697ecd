use model::{PortRange, Protocol, Visibility};

use super::*;

const L4: &str = "enabled: true, interfaces: {public: [eth0], private: [eth1]}";

/// A configuration with the L4 plane enabled and these keys besides in its section.
fn with_l4(rest: &str) -> Result<Config, ConfigError> {
    with(&format!("nodeName: edge-1\nl4: {{{L4}{rest}}}\n"))
}

#[test]
fn the_l4_plane_is_disabled_unless_enabled() {
    assert_eq!(with("").unwrap().l4, None);
    let config = with("l4: {interfaces: {public: [eth0]}, onStop: remove}\n").unwrap();
    assert_eq!((config.l4.as_ref(), config.settings().l4), (None, None));
}

#[test]
fn what_is_not_written_of_the_l4_plane_has_its_default() {
    let config = with_l4("").unwrap();
    let l4 = config.l4.as_ref().unwrap();
    assert_eq!(l4.on_stop, OnStop::Keep);
    let settings = &l4.settings;
    assert_eq!(settings.node_ports, PortRange { first: 30000, last: 32767 });
    assert_eq!(settings.load_balancer_class, "tidegate.io/edge");
    assert!(settings.default_class && !settings.snat);
    assert_eq!(settings.interfaces(Visibility::Public), ["eth0"]);
    assert_eq!(settings.interfaces(Visibility::Private), ["eth1"]);
    use Protocol::{Tcp, Udp};
    let inbound = [(Tcp, 22), (Tcp, 179), (Udp, 68), (Udp, 500), (Udp, 4500), (Udp, 51820)];
    assert_eq!(settings.fail_safe.inbound, inbound);
    let outbound =
        [(Tcp, 179), (Tcp, 6443), (Udp, 53), (Udp, 67), (Udp, 500), (Udp, 4500), (Udp, 51820)];
    assert_eq!(settings.fail_safe.outbound, outbound);
    assert_eq!(config.settings().l4.as_ref(), Some(settings));
}

#[test]
fn what_is_written_of_the_l4_plane_is_taken() {
    let config = with_l4(
        ", nodePortRange: 20000-20010, snat: true, loadBalancerClass: a.b/c, defaultClass: false, \
         failSafe: {inbound: [\"udp:53\", tcp:22, \"sctp:9\", tcp:22], outbound: []}, onStop: remove",
    )
    .unwrap();
    let L4 { settings, on_stop } = config.l4.unwrap();
    assert_eq!(on_stop, OnStop::Remove);
    assert_eq!(settings.node_ports, PortRange { first: 20000, last: 20010 });
    assert_eq!(settings.load_balancer_class, "a.b/c");
    assert!(!settings.default_class && settings.snat);
    let inbound = [(Protocol::Tcp, 22), (Protocol::Udp, 53), (Protocol::Sctp, 9)];
    assert_eq!(settings.fail_safe.inbound, inbound);
    assert_eq!(settings.fail_safe.outbound, []);
}

#[test]
fn an_admin_side_that_others_reach_is_fail_safe() {
    let fail_safe = |admin: &str, rest: &str| {
        let config = with(&format!("admin: {{listen: {admin}}}\nl4: {{{L4}{rest}}}\n")).unwrap();
        config.l4.unwrap().settings.fail_safe.inbound.contains(&(Protocol::Tcp, 9901))
    };
    assert!(fail_safe("\"0.0.0.0:9901\"", ""));
    assert!(!fail_safe("\"0.0.0.0:9901\"", ", failSafe: {inbound: []}"));
    assert!(!fail_safe("\"127.0.0.1:9901\"", ""));
    assert!(!fail_safe("null", ""));
}

#[test]
fn wrong_values_of_the_l4_plane_are_named() {
    for (rest, key, parts) in [
        (
            ", nodePortRange: \"3-x\"",
            "l4.nodePortRange",
            vec!["\"3-x\" is no range", "30000-32767"],
        ),
        (", nodePortRange: 0-5", "l4.nodePortRange", vec!["\"0-5\" is no range"]),
        (", nodePortRange: 1-65536", "l4.nodePortRange", vec!["is no range of ports from 1"]),
        (", nodePortRange: \"+1-5\"", "l4.nodePortRange", vec!["is no range"]),
        (", nodePortRange: 9-5", "l4.nodePortRange", vec!["begins after its end", "\"5-9\""]),
        (", nodePortRange: [1]", "l4.nodePortRange", vec!["a range of ports, such as"]),
        (", loadBalancerClass: \"\"", "l4.loadBalancerClass", vec!["is empty"]),
        (", failSafe: {inbound: [22]}", "l4.failSafe.inbound[0]", vec!["expected text"]),
        (
            ", failSafe: {inbound: [\"22\"]}",
            "l4.failSafe.inbound[0]",
            vec!["\"22\" is no", "tcp:22"],
        ),
        (
            ", failSafe: {outbound: [\"icmp:1\"]}",
            "l4.failSafe.outbound[0]",
            vec!["tcp, udp or sctp"],
        ),
        (", failSafe: {outbound: [\"tcp:0\"]}", "l4.failSafe.outbound[0]", vec!["\"tcp:0\" is no"]),
        (", onStop: flush", "l4.onStop", vec!["`flush`", "`keep` or `remove`"]),
    ] {
        refused(with_l4(rest), 6, key, &parts);
    }
    let single = with_l4(", nodePortRange: 30000").unwrap().l4.unwrap();
    assert_eq!(single.settings.node_ports, PortRange { first: 30000, last: 30000 });
}

#[test]
fn interfaces_are_names_that_the_kernel_could_have() {
    let interfaces = |text: &str| {
        with(&format!("nodeName: edge-1\nl4: {{enabled: true, interfaces: {text}}}\n"))
    };
    for bad in ["\"\"", "a/b", "\"a b\"", "sixteen-letters-", "\".\"", "\"eth*\""] {
        let result = interfaces(&format!("{{private: [{bad}]}}"));
        refused(result, 6, "l4.interfaces.private", &["can't be an interface's name", "ip link"]);
    }
    refused(interfaces("{public: [a, b, a]}"), 6, "l4.interfaces.public", &["has \"a\" twice"]);
    refused(interfaces("{}"), 6, "l4.interfaces", &["names no interface", "{public: [eth0]}"]);
    interfaces("{private: [\"bond0.100\", \"fifteen-letters\"]}").unwrap();
}

#[test]
fn the_node_is_named_as_the_kubelet_names_it() {
    let node = |name: &str| with(&format!("nodeName: {name}\nl4: {{{L4}}}\n"));
    let named = node("Edge-1.Example.com").unwrap().l4.unwrap().settings.node_name;
    assert_eq!(named, "edge-1.example.com");
    for bad in ["a_b", "\"\"", "-a", "a..b"] {
        refused(node(bad), 5, "nodeName", &["is no node's name", "such as edge-1"]);
    }
    refused(with("nodeName: a_b\n"), 5, "nodeName", &["\"a_b\""]);
}

#[test]
fn pools_may_give_an_alb_its_addresses() {
    let config = parse(&format!("{SOURCE}l4: {{{L4}}}\nnodeName: e\n")).unwrap();
    let listen = &config.alb.public.listen;
    assert!(config.alb.public.enabled && listen.addresses.is_empty());
    assert_eq!((listen.pool_http, listen.pool_https), (Some(80), Some(443)));

    let alb = |listen: &str| {
        parse(&format!(
            "{SOURCE}nodeName: e\nl4: {{{L4}}}\nalb: {{public: {{listen: {listen}}}}}\n"
        ))
    };
    let listen = alb("{poolHttp: null, poolHttps: 8443}").unwrap().alb.public.listen;
    assert_eq!((listen.pool_http, listen.pool_https), (None, Some(8443)));
    let key = "alb.public.listen";
    refused(alb("{poolHttp: null, poolHttps: null}"), 6, key, &["neither an address nor a port"]);
    refused(alb("{poolHttp: 443}"), 6, "alb.public.listen.poolHttps", &["the same port"]);
    refused(alb("{poolHttp: 0}"), 6, "alb.public.listen.poolHttp", &["0 is not from 1 to 65535"]);
    refused(alb("{addresses: [\"::1\"]}"), 6, key, &["has no port"]);
    alb("{addresses: [\"::1\"], http: 80, poolHttp: null, poolHttps: null}").unwrap();
}

#[test]
fn the_l4_plane_alone_is_enough_to_serve() {
    let alone =
        parse(&format!("{SOURCE}nodeName: e\nalb: {{public: {{enabled: false}}}}\nl4: {{{L4}}}\n"));
    assert_eq!(alone.unwrap().enabled_albs().count(), 0);
}

#[test]
fn the_sample_with_every_key_states_the_defaults_of_the_l4_plane() {
    let sample = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/gateway.yaml");
    let sample = std::fs::read_to_string(sample).unwrap();
    let enabled = sample
        .replace("l4:\n  enabled: false", "l4:\n  enabled: true")
        .replace("    public: [] ", "    public: [eth0] ")
        .replace("    private: [] ", "    private: [eth1] ");
    let name = "nodeName: edge-1\n";
    let sample = Config::parse("f.yaml", &format!("{enabled}{name}"), Path::new("")).unwrap();
    assert_eq!(sample.l4, with_l4("").unwrap().l4);
    assert!(sample.l4.is_some());
}
