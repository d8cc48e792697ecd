//! The rules and the sets' types, which are the same whatever the Services are.

use model::net::{PortRange, Protocol};

use crate::nft::{Chain, Set, Table};

use super::SEED;

/// `4` or `6`: how names of one family's sets and chains end.
pub(super) fn digit(v6: bool) -> char {
    if v6 { '6' } else { '4' }
}

/// The network header's name in rules.
pub(super) fn ip(v6: bool) -> &'static str {
    if v6 { "ip6" } else { "ip" }
}

pub(super) fn chain<const N: usize>(rules: [String; N]) -> Chain {
    Chain { hook: None, rules: rules.into() }
}

fn base(hook: &str, rules: Vec<String>) -> Chain {
    Chain { hook: Some(format!("type {hook}; policy accept;")), rules }
}

/// A head of a [`crate::nft::Flat`].
pub(super) struct Head {
    pub(super) is_map: bool,
    pub(super) text: String,
}

/// The sets that rules refer to always, whether they have elements or not.
pub(super) fn heads() -> Vec<(String, Head)> {
    let mut heads = Vec::new();
    let mut add = |name: String, is_map, text: String| heads.push((name, Head { is_map, text }));
    for v6 in [false, true] {
        let (d, addr) = (digit(v6), format!("ipv{}_addr", digit(v6)));
        let frontend = format!("type {addr} . inet_proto . inet_service");
        add(format!("vips{d}"), false, format!("type {addr};"));
        add(format!("served{d}"), false, format!("type {addr};"));
        add(format!("endpoint_nets{d}"), false, format!("type {addr};"));
        add(format!("open{d}"), false, format!("{frontend};"));
        add(format!("restricted{d}"), false, format!("{frontend};"));
        add(format!("sources{d}"), false, format!("{frontend} . {addr}; flags interval;"));
        add(format!("refused{d}"), true, format!("{frontend} : verdict;"));
        add(format!("frontends{d}"), true, format!("{frontend} : classid; counter;"));
        add(format!("sticky{d}"), true, format!("{frontend} : classid;"));
        add(format!("traffic{d}"), false, format!("{frontend}; counter;"));
        add(format!("snat{d}"), false, format!("{frontend};"));
        add(format!("services{d}"), true, "type classid : verdict;".to_owned());
        add(format!("remember{d}"), true, "type classid : verdict;".to_owned());
    }
    let port = "type inet_proto . inet_service";
    add("node_ports".to_owned(), true, format!("{port} : classid; counter;"));
    add("refused_ports".to_owned(), true, format!("{port} : verdict;"));
    add("sticky_ports".to_owned(), true, format!("{port} : classid;"));
    add("traffic_ports".to_owned(), false, format!("{port}; counter;"));
    add("snat_ports".to_owned(), false, format!("{port};"));
    heads
}

/// Whether a set is one of those: the others are `slots4_tcp` and their kind.
pub(super) fn is_fixed(name: &str) -> bool {
    !name.starts_with("slots") && !name.starts_with("endpoints")
}

/// The type of `slots4_tcp`, `endpoints6_udp` and their kind. The protocol is in the name because
/// nft only translates ports of a protocol that it knows.
pub(super) fn head_of_endpoints(name: &str) -> String {
    let (kind, protocol) = name.split_once('_').unwrap_or((name, "tcp"));
    let ip = ip(kind.ends_with('6'));
    let key = if kind.starts_with("slots") {
        "meta priority . numgen random mod 2"
    } else {
        "meta priority"
    };
    format!("typeof {key} : {ip} daddr . {protocol} dport;")
}

/// The rule that sends a connection to the slot that is drawn.
pub(super) fn translate(protocol: Protocol, v6: bool, draw: &str) -> String {
    let (p, ip, d) = (protocol.lower(), ip(v6), digit(v6));
    format!("meta l4proto {p} dnat {ip} to meta priority . {draw} map @slots{d}_{p}")
}

/// Sends a client where it went before if that endpoint is still there, and otherwise on.
pub(super) fn stick(protocol: Protocol, v6: bool, otherwise: &str) -> Chain {
    let (p, ip, d) = (protocol.lower(), ip(v6), digit(v6));
    chain([
        format!("meta priority set meta priority . {} map @affinity{d}", client(v6)),
        format!("meta l4proto {p} dnat {ip} to meta priority map @endpoints{d}_{p}"),
        // It has none, or that endpoint is gone: the priority may be that endpoint's number now.
        "meta priority set meta l4proto . th dport map @sticky_ports".to_owned(),
        format!("meta priority set {ip} daddr . meta l4proto . th dport map @sticky{d}"),
        // `update` alone would leave the old endpoint in.
        format!("delete @affinity{d} {{ meta priority . {} : meta priority }}", client(v6)),
        format!("goto {otherwise}"),
    ])
}

/// Remembers where a client is sent. A map that is full is no reason to stop a connection.
pub(super) fn remember(v6: bool, seconds: u32) -> Chain {
    let (ip, d) = (ip(v6), digit(v6));
    chain([format!(
        "update @affinity{d} {{ meta priority . {} timeout {seconds}s : \
         jhash {ip} daddr . th dport . meta priority mod 0xffffffff seed {SEED:#x} }}",
        client(v6)
    )])
}

/// What affinity knows a client by. An IPv6 address leaves no register for the rest.
fn client(v6: bool) -> String {
    if v6 {
        format!("jhash ip6 saddr mod 0xffffffff seed {SEED:#x}")
    } else {
        "ip saddr".to_owned()
    }
}

/// All that doesn't depend on the plan but for the NodePorts' range.
pub(super) fn fixed(node_ports: PortRange) -> Table {
    let mut table = Table::default();
    for v6 in [false, true] {
        dynamic_sets(&mut table, v6);
    }
    let mut add = |name: &str, chain: Chain| table.chains.insert(name.to_owned(), chain);

    // Before translation: source ranges, and what has no endpoint.
    let new = |to: &str| vec![format!("ct state new goto {to}")];
    add("guard", base("filter hook prerouting priority -110", new("guarded")));
    add("guard_output", base("filter hook output priority -110", new("unserved")));
    let mut guarded: Vec<String> = [false, true]
        .map(|v6| {
            let (ip, d) = (ip(v6), digit(v6));
            let frontend = format!("{ip} daddr . meta l4proto . th dport");
            format!("{frontend} @restricted{d} {frontend} . {ip} saddr != @sources{d} drop")
        })
        .into();
    guarded.push("goto unserved".to_owned());
    add("guarded", Chain { hook: None, rules: guarded });
    let mut unserved = Vec::new();
    for v6 in [false, true] {
        let (ip, d) = (ip(v6), digit(v6));
        unserved.push(format!("{ip} daddr . meta l4proto . th dport vmap @refused{d}"));
    }
    for v6 in [false, true] {
        let own = own_address(node_ports, v6);
        unserved.push(format!("{own} meta l4proto . th dport vmap @refused_ports"));
    }
    add("unserved", Chain { hook: None, rules: unserved });
    add(
        "refuse",
        chain([
            "meta l4proto tcp reject with tcp reset".to_owned(),
            "reject with icmpx port-unreachable".to_owned(),
        ]),
    );

    // Translation.
    let families = || -> Vec<String> {
        let each = [("ipv4", "dispatch4"), ("ipv6", "dispatch6")];
        each.map(|(family, to)| format!("meta nfproto {family} goto {to}")).into()
    };
    add("dispatch", base("nat hook prerouting priority -100", families()));
    add("dispatch_output", base("nat hook output priority -100", families()));
    for v6 in [false, true] {
        let (ip, d, own) = (ip(v6), digit(v6), own_address(node_ports, v6));
        add(
            &format!("dispatch{d}"),
            chain([
                format!("meta priority set {ip} daddr . meta l4proto . th dport map @frontends{d}"),
                format!("meta priority vmap @services{d}"),
                format!("{own} meta priority set meta l4proto . th dport map @node_ports"),
                format!("meta priority vmap @services{d}"),
            ]),
        );
    }

    // After it: affinity, by the connection's destination as the client wrote it.
    let translated = "ct state new ct status dnat goto translated".to_owned();
    add("after", base("filter hook prerouting priority -99", vec![translated.clone()]));
    add("after_output", base("filter hook output priority -99", vec![translated]));
    let mut rules = Vec::new();
    rules.extend(Protocol::ALL.map(|protocol| {
        let (matches, key) = original_port(protocol, node_ports);
        format!("{matches} meta priority set {key} map @sticky_ports")
    }));
    for v6 in [false, true] {
        rules.extend(Protocol::ALL.map(|protocol| {
            let (matches, key) = original(protocol, v6);
            format!("{matches} meta priority set {key} map @sticky{}", digit(v6))
        }));
    }
    rules.push("meta nfproto ipv4 meta priority vmap @remember4".to_owned());
    rules.push("meta nfproto ipv6 meta priority vmap @remember6".to_owned());
    rules.push("meta priority set none".to_owned());
    add("translated", Chain { hook: None, rules });

    // What went through.
    add(
        "traffic",
        base(
            "filter hook forward priority 0",
            vec![
                "ct status dnat meta nfproto ipv4 goto counted4".to_owned(),
                "ct status dnat meta nfproto ipv6 goto counted6".to_owned(),
            ],
        ),
    );
    for v6 in [false, true] {
        let mut rules: Vec<String> = Vec::new();
        rules.extend(Protocol::ALL.map(|protocol| {
            let (matches, key) = original(protocol, v6);
            format!("{matches} {key} @traffic{} return", digit(v6))
        }));
        rules.extend(Protocol::ALL.map(|protocol| {
            let (matches, key) = original_port(protocol, node_ports);
            format!("{matches} {key} @traffic_ports return")
        }));
        add(&format!("counted{}", digit(v6)), Chain { hook: None, rules });
    }

    // Source addresses.
    add(
        "source",
        base(
            "nat hook postrouting priority 100",
            vec![
                "ct status dnat meta nfproto ipv4 goto source4".to_owned(),
                "ct status dnat meta nfproto ipv6 goto source6".to_owned(),
            ],
        ),
    );
    for v6 in [false, true] {
        add(&format!("source{}", digit(v6)), Chain { hook: None, rules: source(v6, node_ports) });
    }

    // VIPs are addresses of the machine, but not for all that listens on it.
    add(
        "local",
        base(
            "filter hook input priority -10",
            vec!["ip daddr @vips4 goto vip".to_owned(), "ip6 daddr @vips6 goto vip".to_owned()],
        ),
    );
    add(
        "vip",
        chain([
            "ct state established,related accept".to_owned(),
            // Packets of translated connections that conntrack can't place: a reset would end them.
            "ct state invalid drop".to_owned(),
            // ESP is taken by nobody but the VPN plane.
            "meta l4proto { icmp, ipv6-icmp, esp } accept".to_owned(),
            "ip daddr . meta l4proto . th dport @open4 accept".to_owned(),
            "ip6 daddr . meta l4proto . th dport @open6 accept".to_owned(),
            "goto refuse".to_owned(),
        ]),
    );
    table
}

fn dynamic_sets(table: &mut Table, v6: bool) {
    let (d, addr) = (digit(v6), format!("ipv{}_addr", digit(v6)));
    let mut add = |name: &str, is_map, head| {
        let set = Set { is_map, head, dynamic: true, ..Set::default() };
        table.sets.insert(format!("{name}{d}"), set);
    };
    let flags = "flags dynamic,timeout;";
    // By `numgen`, numbers get their type; `jhash` there makes nft 1.0.6 crash when it lists.
    let key = if v6 {
        "typeof meta priority . numgen random mod 2 : meta priority"
    } else {
        "type classid . ipv4_addr : classid"
    };
    add("affinity", true, format!("{key}; size 1048576; {flags}"));
    add("themselves", false, format!("type {addr} . {addr}; size 65536; {flags}"));
}

/// The rules that give a connection the edge's address.
fn source(v6: bool, node_ports: PortRange) -> Vec<String> {
    let (ip, d) = (ip(v6), digit(v6));
    let mut rules = Vec::new();
    // The edge's own connections: their source is the VIP itself, as it is a local address.
    rules.push(format!("ct original {ip} daddr @served{d} fib saddr type local masquerade"));
    for protocol in Protocol::ALL {
        let (matches, _) = original_port(protocol, node_ports);
        rules.push(format!("{matches} fib saddr type local masquerade"));
    }
    for protocol in Protocol::ALL {
        let (matches, key) = original(protocol, v6);
        rules.push(format!("{matches} {key} @snat{d} masquerade"));
    }
    for protocol in Protocol::ALL {
        let (matches, key) = original_port(protocol, node_ports);
        rules.push(format!("{matches} {key} @snat_ports masquerade"));
    }
    // An endpoint that is sent to itself would answer itself past the edge. Rules can't compare
    // two addresses, but look up whether the pair is one of those of an address with itself.
    let mask = if v6 { "ffff:ffff:ffff:ffff::" } else { "255.255.255.0" };
    rules.push(format!("{ip} saddr & {mask} != @endpoint_nets{d} return"));
    rules.push(format!("update @themselves{d} {{ {ip} saddr . {ip} saddr timeout 10s }}"));
    rules.push(format!("{ip} saddr . {ip} daddr @themselves{d} masquerade"));
    rules
}

/// Matches what may be for a NodePort: any address of the machine that is neither VIP nor
/// loopback.
fn own_address(node_ports: PortRange, v6: bool) -> String {
    let (ip, d) = (ip(v6), digit(v6));
    let loopback = if v6 { "::1" } else { "127.0.0.0/8" };
    format!(
        "th dport {node_ports} {ip} daddr != {loopback} {ip} daddr != @vips{d} fib daddr type local"
    )
}

/// What a rule begins with, and the key of the frontend that a connection came in by.
fn original(protocol: Protocol, v6: bool) -> (String, String) {
    // The first gives the port its type.
    let matches = format!("meta l4proto {}", protocol.lower());
    (matches, format!("ct original {} daddr . meta l4proto . ct original proto-dst", ip(v6)))
}

/// The same for the NodePort.
fn original_port(protocol: Protocol, node_ports: PortRange) -> (String, String) {
    let matches = format!("meta l4proto {} ct original proto-dst {node_ports}", protocol.lower());
    (matches, "meta l4proto . ct original proto-dst".to_owned())
}
