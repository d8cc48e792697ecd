//! The NAT modes: who sees which address.

use testkit::VpnLab;
use testkit::vpn_lab::Site;

use crate::mixed::{Ends, pings, wait_ping};

#[test]
fn local_subnet_nat_is_one_to_one_both_ways() {
    for we_begin in [true, false] {
        let ends = Ends {
            we_begin,
            theirs: ["10.2.0.0/24".into(), "10.130.0.0/24".into()],
            spec: "localSubnetNAT: [\"10.1.0.0/24=10.130.0.0/24\"]".into(),
            ..Ends::default()
        };
        let mixed = ends.up();
        wait_ping(mixed.lab.host(Site::A), "10.2.0.2");
        assert_eq!(mixed.source_seen(Site::A, "10.2.0.2").to_string(), "10.130.0.2");
        // The other way: 10.130.0.2 is the host, and it sees the real source.
        wait_ping(mixed.lab.host(Site::B), "10.130.0.2");
        assert_eq!(mixed.source_seen(Site::B, "10.130.0.2").to_string(), "10.2.0.2");
    }
}

#[test]
fn one_host_of_a_subnet_is_mapped() {
    let ends = Ends {
        theirs: ["10.2.0.0/24".into(), "10.130.0.77/32".into()],
        ours: ["10.1.0.2/32".into(), "10.2.0.0/24".into()],
        spec: "localSubnetNAT: [\"10.1.0.2/32=10.130.0.77/32\"]".into(),
        ..Ends::default()
    };
    let mixed = ends.up();
    wait_ping(mixed.lab.host(Site::A), "10.2.0.2");
    assert_eq!(mixed.source_seen(Site::A, "10.2.0.2").to_string(), "10.130.0.77");
    assert_eq!(mixed.source_seen(Site::B, "10.130.0.77").to_string(), "10.2.0.2");
}

#[test]
fn remote_subnet_nat_gives_the_remote_other_addresses() {
    let ends =
        Ends { spec: "remoteSubnetNAT: [\"10.140.0.0/24=10.2.0.0/24\"]".into(), ..Ends::default() };
    let mixed = ends.up();
    wait_ping(mixed.lab.host(Site::A), "10.140.0.2");
    assert_eq!(mixed.source_seen(Site::A, "10.140.0.2").to_string(), "10.1.0.2");
    // What comes from there has the mapped source.
    assert_eq!(mixed.source_seen(Site::B, "10.1.0.2").to_string(), "10.140.0.2");
}

#[test]
fn the_same_subnet_on_both_sides_works_with_both() {
    let lab = VpnLab::new();
    lab.gateway(Site::B).ip("route del 10.1.0.0/24\naddr add 10.1.0.1/24 dev lan0\n");
    lab.host(Site::B).ip("addr add 10.1.0.3/24 dev h0\n");
    let ends = Ends {
        ours: ["10.1.0.0/24".into(), "10.1.0.0/24".into()],
        theirs: ["10.1.0.0/24".into(), "10.130.0.0/24".into()],
        spec: "localSubnetNAT: [\"10.1.0.0/24=10.130.0.0/24\"]\n\
               remoteSubnetNAT: [\"10.140.0.0/24=10.1.0.0/24\"]"
            .into(),
        ..Ends::default()
    };
    let mixed = ends.start_in(lab);
    mixed.wait_up();
    wait_ping(mixed.lab.host(Site::A), "10.140.0.3");
    assert_eq!(mixed.source_seen(Site::A, "10.140.0.3").to_string(), "10.130.0.2");
    let from = ["-n", "-c1", "-W0.5", "-I", "10.1.0.3", "10.130.0.2"];
    testkit::eventually("a ping the other way", || {
        mixed.lab.host(Site::B).try_command("ping", &from, "").ok()
    });
}

#[test]
fn everything_leaves_from_a_single_source_and_nothing_new_comes_in() {
    let ends = Ends {
        theirs: ["10.2.0.0/24".into(), "10.131.0.1/32".into()],
        spec: "enableSingleSourceIP: true\nsingleSourceIP: 10.131.0.1".into(),
        ..Ends::default()
    };
    let mixed = ends.up();
    wait_ping(mixed.lab.host(Site::A), "10.2.0.2");
    assert_eq!(mixed.source_seen(Site::A, "10.2.0.2").to_string(), "10.131.0.1");
    assert!(!pings(mixed.lab.host(Site::B), "10.131.0.1"));
}

#[test]
fn hosts_behind_the_edge_are_reached_besides() {
    let ends = Ends {
        theirs: ["10.2.0.0/24".into(), "10.1.0.0/24,172.31.0.0/24".into()],
        spec: "localNonClusterSubnets: [172.31.0.0/24]".into(),
        ..Ends::default()
    };
    let mixed = ends.up();
    mixed.lab.host(Site::A).ip("addr add 172.31.0.2/32 dev lo\n");
    mixed.lab.gateway(Site::A).ip("route add 172.31.0.0/24 via 10.1.0.2\n");
    wait_ping(mixed.lab.host(Site::B), "172.31.0.2");
}
