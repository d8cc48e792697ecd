use std::time::Duration;

use super::*;

fn net(text: &str) -> TrafficSelector {
    TrafficSelector::network(text.parse().unwrap())
}

fn nets(texts: &[&str]) -> Vec<TrafficSelector> {
    texts.iter().map(|text| net(text)).collect()
}

fn child(name: &str, local: &[&str], remote: &[&str]) -> Child {
    Child {
        name: name.into(),
        local: nets(local),
        remote: nets(remote),
        proposals: Vec::new(),
        lifetime: Duration::from_secs(3600),
    }
}

#[test]
fn what_both_sides_have_is_kept_and_nothing_else() {
    let ours = nets(&["10.0.0.0/16", "10.2.0.0/24", "2001:db8::/32"]);
    let theirs = nets(&["10.0.5.0/24", "10.2.0.0/16", "192.168.0.0/16", "2001:db8:1::/48"]);
    assert_eq!(narrow(&ours, &theirs), nets(&["10.0.5.0/24", "10.2.0.0/24", "2001:db8:1::/48"]));
    assert_eq!(narrow(&ours, &nets(&["172.16.0.0/12"])), []);
    assert_eq!(narrow(&[], &theirs), []);
}

#[test]
fn what_lies_in_another_is_left_out_whatever_the_order() {
    let ours = nets(&["10.0.0.0/8"]);
    for theirs in [["10.1.0.0/24", "10.1.0.0/16"], ["10.1.0.0/16", "10.1.0.0/24"]] {
        assert_eq!(narrow(&ours, &nets(&theirs)), nets(&["10.1.0.0/16"]));
    }
    assert_eq!(narrow(&nets(&["0.0.0.0/0", "10.0.0.0/8"]), &ours), ours);
}

#[test]
fn protocols_and_ports_narrow_too() {
    let web = TrafficSelector { protocol: 6, first_port: 80, last_port: 90, ..net("10.0.0.0/8") };
    let asked =
        TrafficSelector { protocol: 6, first_port: 85, last_port: 85, ..net("10.1.1.1/32") };
    assert_eq!(
        narrow(&[web], &[asked, net("10.1.0.0/16")]),
        [TrafficSelector { first: asked.first, last: net("10.1.0.0/16").last, ..web },]
            .map(|one| TrafficSelector { first: net("10.1.0.0/16").first, ..one })
    );
    assert_eq!(narrow(&[web], &[TrafficSelector { protocol: 17, ..asked }]), []);
}

#[test]
fn no_more_than_a_payload_can_carry() {
    let ours: Vec<_> = (0..300u32)
        .map(|n| TrafficSelector {
            first: IpAddr::V4((0x0a00_0000 + n * 2).into()),
            last: IpAddr::V4((0x0a00_0000 + n * 2).into()),
            ..net("10.0.0.0/8")
        })
        .collect();
    assert_eq!(narrow(&ours, &nets(&["0.0.0.0/0"])).len(), MAX_SELECTORS);
}

#[test]
fn an_answer_must_lie_in_what_was_asked_for() {
    let asked = nets(&["10.0.0.0/24", "10.0.1.0/24", "2001:db8::/32"]);
    assert!(is_within(&nets(&["10.0.0.128/25"]), &asked));
    assert!(is_within(&nets(&["10.0.0.0/23"]), &asked), "joined neighbours");
    assert!(is_within(&asked, &asked));
    assert!(!is_within(&nets(&["10.0.0.0/22"]), &asked));
    assert!(!is_within(&nets(&["10.0.0.0/24", "10.9.0.0/24"]), &asked));
    assert!(!is_within(&nets(&["0.0.0.0/0"]), &asked));
    assert!(!is_within(&[], &asked));
    let whole = nets(&["0.0.0.0/0", "::/0"]);
    assert!(is_within(&whole, &whole), "the last address has no successor");
    let web = TrafficSelector { protocol: 6, first_port: 80, last_port: 80, ..net("10.0.0.0/24") };
    assert!(is_within(&[web], &asked));
    assert!(!is_within(&asked, &[web]));
}

#[test]
fn the_child_that_takes_everything_is_chosen() {
    let children = [
        child("part", &["10.0.0.0/24"], &["192.168.1.0/24"]),
        child("wide", &["10.0.0.0/8"], &["192.168.0.0/16"]),
        child("exact", &["10.0.0.0/16"], &["192.168.1.0/24"]),
    ];
    let chosen =
        narrow_both(&children, &nets(&["10.0.0.0/16"]), &nets(&["192.168.1.0/24"])).unwrap();
    assert_eq!(chosen.child, 2);
    assert_eq!((chosen.local, chosen.remote), (nets(&["10.0.0.0/16"]), nets(&["192.168.1.0/24"])));
    // Asked for the world: a child that is taken as a whole, the largest one.
    let all = nets(&["0.0.0.0/0"]);
    assert_eq!(narrow_both(&children, &all, &all).unwrap().child, 1);
    // A packet first, its network after it.
    let local = nets(&["10.0.0.7/32", "10.0.0.0/8"]);
    let remote = nets(&["192.168.1.9/32", "192.168.1.0/24"]);
    assert_eq!(narrow_both(&children, &local, &remote).unwrap().child, 1);
    assert_eq!(narrow_both(&children, &nets(&["172.16.0.0/24"]), &all), None);
}
