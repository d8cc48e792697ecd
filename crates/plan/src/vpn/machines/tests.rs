use super::*;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn node(n: u8) -> (IpAddr, ObjectRef) {
    (IpAddr::from([10, 0, 0, n]), ObjectRef::cluster("Node", format!("node-{n}")))
}

#[test]
fn next_hops_count_where_a_machine_is_behind_them() {
    let machines = Machines {
        api: [ip("192.0.2.9")].into(),
        hops: [
            (net("0.0.0.0/0"), ip("10.0.0.254")),
            (net("192.0.2.0/24"), ip("10.0.0.253")),
            (net("198.51.100.0/24"), ip("10.0.0.252")),
        ]
        .into(),
        ..Machines::default()
    };
    let expected = ["10.0.0.253", "10.0.0.254", "192.0.2.9"].map(ip);
    assert_eq!(machines.addresses(), expected.into());
}

#[test]
fn addresses_that_can_be_no_other_machines_are_left_out() {
    let api = ["127.0.0.1", "0.0.0.0", "224.0.0.1", "::1", "ff02::1", "fd00::1"].map(ip);
    let machines = Machines { api: api.into(), ..Machines::default() };
    assert_eq!(machines.addresses(), [ip("fd00::1")].into());
}

#[test]
fn machines_within_remote_networks_or_as_large_are_told_but_for_what_is_exempt_anyway() {
    let snapshot = Snapshot { machines: (1..=9).map(node).collect(), ..Snapshot::default() };
    let kept = Kept::new(&Machines::default(), &snapshot);
    let of = |remote: &[&str], exempt: &[&str]| {
        let parse = |all: &[&str]| all.iter().map(|text| net(text)).collect::<Vec<_>>();
        let found = kept.remote(&parse(remote), &parse(exempt));
        found.into_iter().map(|address| address.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(of(&["10.0.0.4/32"], &[]), ["10.0.0.4"]);
    assert_eq!(of(&["10.0.0.0/24"], &["10.0.0.2/31", "10.0.0.4/30", "10.0.0.8/29"]), ["10.0.0.1"]);
    assert_eq!(of(&["10.0.0.8/29", "fd00::/8"], &["10.0.0.0/30"]), ["10.0.0.8", "10.0.0.9"]);
    assert_eq!(of(&["0.0.0.0/1", "128.0.0.0/1"], &[]).len(), 9);
    assert_eq!(of(&["10.0.1.0/24"], &[]).len(), 0);
}
