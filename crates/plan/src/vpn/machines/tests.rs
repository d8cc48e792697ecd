use super::*;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn node(n: u8) -> (IpAddr, Machine) {
    let object = ObjectRef::cluster("Node", format!("node-{n}"));
    (IpAddr::from([10, 0, 0, n]), Machine::Object(object))
}

#[test]
fn machines_within_remote_networks_or_as_large_are_told_but_for_what_is_exempt_anyway() {
    let machines = (1..=9).map(node).collect();
    let kept = Kept(&machines);
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
