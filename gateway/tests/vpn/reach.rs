//! Hosts reach each other.

use std::net::SocketAddr;

use testkit::Authority;
use testkit::lab::Server;
use testkit::vpn_lab::Site;

use crate::Pair;
use crate::site::Connection;

#[test]
fn hosts_reach_each_other_both_ways_and_nothing_is_in_the_clear() {
    let pair = Pair::start();
    let clear = pair.lab.clear();
    pair.wait_up();
    for from in Site::BOTH {
        pair.wait_ping(from);
        let to = pair.lab.host(from.other());
        let _server = Server::start(to, 8080, "host");
        let at = SocketAddr::new(from.other().host_address(), 8080);
        let answer = pair.lab.host(from).answer(at);
        // Nobody in between has changed the source.
        assert_eq!(answer.client.ip(), from.host_address());
        let mut flow = pair.lab.host(from).connect(at).unwrap();
        let long = "x".repeat(60_000);
        assert_eq!(flow.say(&long).unwrap().text, long);
    }
    assert_eq!(clear.lines(), [""; 0]);
    for site in Site::BOTH {
        assert!(pair.number(site, "/children/0/sent_packets") > 10);
        assert!(pair.number(site, "/children/0/received_packets") > 10);
        let labels = [("connection", "default/site"), ("state", "up")];
        assert_eq!(pair.gateway(site).metric("tidegate_vpn_connection_state", &labels), 1.0);
    }
}

#[test]
fn first_packet_begins_a_connection_that_waits_for_it() {
    let pair = Pair::start_with(|site| match site {
        Site::A => Connection::new(site).auto("route"),
        Site::B => Connection::new(site),
    });
    pair.wait_state(Site::A, "trapped");
    pair.wait_ping(Site::A);
    pair.wait_state(Site::A, "up");
}

#[test]
fn gateways_themselves_reach_the_other_sites_hosts() {
    let pair = Pair::up();
    let to = Site::B.host_address().to_string();
    testkit::eventually("a ping of the gateway's own is answered", || {
        let gateway = pair.lab.gateway(Site::A);
        gateway.try_command("ping", &["-n", "-c1", "-W0.5", &to], "").ok()
    });
}

#[test]
fn hosts_reach_each_other_by_ipv6_too() {
    let pair = Pair::start_with(|site| {
        let six = |site| if site == Site::A { "fd01::/64" } else { "fd02::/64" };
        let both = |of: Site| format!("{}, \"{}\"", of.network(), six(of));
        Connection::new(site).local(&both(site)).remote(&both(site.other()))
    });
    let clear = pair.lab.clear();
    pair.wait_up();
    let host = pair.lab.host(Site::A);
    testkit::eventually("a ping by IPv6 is answered", || {
        host.try_command("ping", &["-6", "-n", "-c1", "-W0.5", "fd02::2"], "").ok()
    });
    pair.wait_ping(Site::B);
    assert_eq!(clear.lines(), [""; 0]);
}

#[test]
fn each_child_has_an_sa_of_its_own() {
    let pair = Pair::start_with(|site| {
        let all = [["10.1.0.0/24", "10.2.0.0/25"], ["10.1.0.0/24", "10.2.0.128/25"]];
        let child = |name: &str, [a, b]: [&str; 2]| {
            let (own, other) = if site == Site::A { (a, b) } else { (b, a) };
            format!("- {{name: {name}, local: [{own}], remote: [{other}]}}\n")
        };
        let [low, high] = all;
        let children = format!("children:\n{}{}", child("low", low), child("high", high));
        Connection::new(site).without_subnets().spec(&children)
    });
    pair.wait_up();
    pair.wait_ping(Site::A);
    let children = pair.connection(Site::A)["children"].as_array().unwrap().clone();
    let sas: Vec<usize> =
        children.iter().map(|child| child["sas"].as_array().unwrap().len()).collect();
    assert_eq!(sas, [1, 1], "{children:#?}");
    // 10.2.0.2 is in the first.
    assert!(pair.number(Site::A, "/children/0/sent_packets") > 0);
    assert_eq!(pair.number(Site::A, "/children/1/sent_packets"), 0);
}

#[test]
fn certificates_prove_who_both_are() {
    let authority = Authority::new();
    let pair = Pair::start_with(|site| Connection::new(site).certificate(&authority));
    pair.wait_up();
    pair.wait_ping(Site::A);
    // Another authority's are not believed.
    let other = Authority::new();
    let pair = Pair::start_with(|site| match site {
        Site::A => Connection::new(site).certificate(&authority),
        Site::B => Connection::new(site).certificate(&other),
    });
    testkit::eventually("the certificate is refused", || {
        let (_, text, _) = pair.gateway(Site::B).run(&["vpn", "diagnose", "site"]);
        text.contains("bad-certificate").then_some(())
    });
}

#[test]
fn addresses_of_both_sides_are_mapped_as_written() {
    // A's hosts see B's as 10.201.0.0/24, and are seen as 10.202.0.0/24.
    let nat = "localSubnetNAT: [10.1.0.0/24=10.202.0.0/24]\n\
               remoteSubnetNAT: [10.201.0.0/24=10.2.0.0/24]";
    let pair = Pair::start_with(|site| match site {
        Site::A => Connection::new(site).spec(nat),
        Site::B => Connection::new(site).remote("10.202.0.0/24"),
    });
    pair.wait_up();
    let to = SocketAddr::from(([10, 201, 0, 2], 8080));
    let _server = Server::start(pair.lab.host(Site::B), 8080, "host");
    let answer = pair.lab.host(Site::A).answer(to);
    assert_eq!(answer.client.ip().to_string(), "10.202.0.2");
}
