use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use crate::lab::{End, Lab, Options, nets, pair};

/// Whom the right sees when left says something from an address to an address.
fn seen(lab: &Lab, from: &str, to: &str, bound: &str) -> IpAddr {
    let bound: IpAddr = bound.parse().unwrap();
    let listener =
        lab.right.namespace.run(move || UdpSocket::bind(SocketAddr::new(bound, 0)).unwrap());
    listener.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let to = SocketAddr::new(to.parse().unwrap(), listener.local_addr().unwrap().port());
    let from = SocketAddr::new(from.parse().unwrap(), 0);
    let socket = lab.left.namespace.run(move || UdpSocket::bind(from).unwrap());
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket.send_to(b"question", to).unwrap();
    let (_, source) = listener.recv_from(&mut [0; 64]).unwrap();
    listener.send_to(b"answer", source).unwrap();
    let (_, answering) = socket.recv_from(&mut [0; 64]).unwrap();
    assert_eq!(answering, to);
    source.ip()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn local_networks_have_others_in_the_tunnel() {
    let options = Options::default();
    let [mut left, mut right] = options.ends.clone();
    left.local_nat = vec![
        pair("10.1.0.0/16", "172.20.0.0/16"),
        pair("10.1.0.9/32", "198.51.100.9/32"),
        pair("fd00:1::/32", "fd00:77::/32"),
    ];
    left.addresses.extend(nets(&["10.1.0.9/16"]));
    left.selectors = nets(&["172.20.0.0/16", "198.51.100.9/32", "fd00:77::/32"]);
    right.remote = left.selectors.clone();
    let lab = Lab::up(Options { ends: [left, right], ..options });
    assert_eq!(seen(&lab, "10.1.0.1", "10.2.0.1", "10.2.0.1"), ip("172.20.0.1"));
    assert_eq!(seen(&lab, "10.1.0.9", "10.2.0.1", "10.2.0.1"), ip("198.51.100.9"));
    assert_eq!(seen(&lab, "fd00:1::1", "fd00:2::1", "fd00:2::1"), ip("fd00:77::1"));
    for to in ["172.20.0.1", "198.51.100.9", "fd00:77::1"] {
        assert!(lab.right.pings(to), "{to}");
    }
    assert_eq!(lab.bulk_from(Some("10.1.0.1"), "10.2.0.1", 8 << 20).1, ip("172.20.0.1"));
    assert_eq!(lab.bulk_from(None, "fd00:2::1", 8 << 20).1, ip("fd00:77::1"));
}

#[test]
fn remote_networks_have_others_on_this_side() {
    let options = Options::default();
    let [mut left, right] = options.ends.clone();
    left.remote = nets(&["10.200.0.0/16", "fd00:200::/32"]);
    left.remote_nat =
        vec![pair("10.200.0.0/16", "10.2.0.0/16"), pair("fd00:200::/32", "fd00:2::/32")];
    let lab = Lab::up(Options { ends: [left, right], ..options });
    assert_eq!(seen(&lab, "10.1.0.1", "10.200.0.1", "10.2.0.1"), ip("10.1.0.1"));
    assert_eq!(seen(&lab, "fd00:1::1", "fd00:200::1", "fd00:2::1"), ip("fd00:1::1"));
    assert!(lab.left.pings("10.200.0.1") && lab.right.pings("10.1.0.1"));
    lab.bulk("10.200.0.1", 8 << 20);
}

#[test]
fn both_sides_may_have_the_same_networks() {
    let options = Options::default();
    let end = |number: u8| {
        let other = 3 - number;
        End {
            addresses: nets(&["10.0.0.1/24"]),
            remote: nets(&[&format!("10.9{other}.0.0/24")]),
            selectors: nets(&[&format!("10.9{number}.0.0/24")]),
            local_nat: vec![pair("10.0.0.0/24", &format!("10.9{number}.0.0/24"))],
            remote_nat: Vec::new(),
        }
    };
    let lab = Lab::up(Options { ends: [end(1), end(2)], ..options });
    assert_eq!(seen(&lab, "10.0.0.1", "10.92.0.1", "10.0.0.1"), ip("10.91.0.1"));
    assert!(lab.left.pings("10.92.0.1") && lab.right.pings("10.91.0.1"));
    lab.bulk("10.92.0.1", 8 << 20);
}

#[test]
fn one_end_alone_makes_up_for_equal_networks() {
    // The right knows of nothing: it sees 10.91.0.0/24, and is seen as 10.92.0.0/24.
    let options = Options::default();
    let left = End {
        addresses: nets(&["10.0.0.1/24"]),
        remote: nets(&["10.92.0.0/24"]),
        selectors: nets(&["10.91.0.0/24"]),
        local_nat: vec![pair("10.0.0.0/24", "10.91.0.0/24")],
        remote_nat: vec![pair("10.92.0.0/24", "10.0.0.0/24")],
    };
    let right = End {
        addresses: nets(&["10.0.0.1/24"]),
        remote: nets(&["10.91.0.0/24"]),
        selectors: nets(&["10.0.0.0/24"]),
        ..End::default()
    };
    let lab = Lab::up(Options { ends: [left, right], ..options });
    assert_eq!(seen(&lab, "10.0.0.1", "10.92.0.1", "10.0.0.1"), ip("10.91.0.1"));
    assert!(lab.left.pings("10.92.0.1") && lab.right.pings("10.91.0.1"));
    lab.bulk("10.92.0.1", 8 << 20);
    // A closed port: the answer quotes what was translated.
    let refused = lab.left.namespace.run(|| {
        let socket = UdpSocket::bind("10.0.0.1:0").unwrap();
        socket.connect("10.92.0.1:9").unwrap();
        socket.send(b"x").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket.recv(&mut [0; 8]).unwrap_err()
    });
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused, "{refused}");
}
