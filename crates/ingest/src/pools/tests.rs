use model::Visibility;
use model::snapshot::{AddressPool, Announce};

use crate::fixture::{self, Fixture};

const HEAD: &str = "apiVersion: tidegate.io/v1alpha1\nkind: AddressPool\nmetadata: {name: p}\n";

fn read(spec: &str) -> Fixture {
    fixture::l4(&format!("{HEAD}spec: {{{spec}}}\n"))
}

/// A pool in which nothing is wrong.
#[track_caller]
fn pool(spec: &str) -> AddressPool {
    let found = read(spec);
    assert_eq!(found.messages(), [] as [String; 0]);
    found.snapshot.pools["p"].clone()
}

fn ranges(pool: &AddressPool) -> Vec<String> {
    pool.ranges.iter().map(|range| format!("{}-{}", range.first, range.last)).collect()
}

#[test]
fn a_portable_29_has_what_its_manifest_says() {
    let pool = pool(
        "visibility: private, addresses: [198.51.100.16/29], reserved: [198.51.100.16, \
         198.51.100.17, 198.51.100.23], alb: 198.51.100.18, autoAssign: false, announce: bgp",
    );
    assert_eq!(ranges(&pool), ["198.51.100.16-198.51.100.23"]);
    let reserved: Vec<String> = pool.reserved.iter().map(ToString::to_string).collect();
    assert_eq!(reserved, ["198.51.100.16", "198.51.100.17", "198.51.100.23"]);
    assert_eq!(pool.alb, ["198.51.100.18".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!((pool.visibility, pool.announce), (Visibility::Private, Announce::Bgp));
    assert!(!pool.auto_assign);
    assert_eq!(pool.location.unwrap().line, 1);
}

#[test]
fn what_a_pool_does_not_say_has_its_default() {
    let pool = pool("addresses: [192.0.2.1]");
    assert_eq!((pool.visibility, pool.announce), (Visibility::Public, Announce::L2));
    assert!(pool.auto_assign && pool.reserved.is_empty() && pool.alb.is_empty());
    assert!(pool.service_selector.requirements.is_empty());
    let null =
        "addresses: [192.0.2.1], visibility: null, announce: null, reserved: null, alb: null";
    assert!(read(null).messages().is_empty());
}

#[test]
fn addresses_ranges_and_networks_of_both_families_are_read() {
    let pool = pool(
        "addresses: [192.0.2.7, \"192.0.2.10 - 192.0.2.20\", \"2001:db8::/64\", \
         \"2001:db8:1::5-2001:db8:1::9\", 10.0.0.0/8]",
    );
    let expected = [
        "192.0.2.7-192.0.2.7",
        "192.0.2.10-192.0.2.20",
        "2001:db8::-2001:db8::ffff:ffff:ffff:ffff",
        "2001:db8:1::5-2001:db8:1::9",
        "10.0.0.0-10.255.255.255",
    ];
    assert_eq!(ranges(&pool), expected);
    assert_eq!(pool.ranges.iter().map(|range| range.index).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
}

#[test]
fn addresses_that_cannot_be_are_named_and_the_rest_goes_on() {
    for (text, reason, remedy) in [
        ("x", "names no addresses", "write an address, a range such as"),
        ("192.0.2.0/33", "names no addresses", "a network such as 198.51.100.16/29"),
        ("192.0.2.1-", "names no addresses", ""),
        ("192.0.2.9/29", "has bits set behind the prefix", "write 192.0.2.8/29 or 192.0.2.9"),
        ("192.0.2.9-192.0.2.8", "begins after its end", "write 192.0.2.8-192.0.2.9"),
        ("192.0.2.9-2001:db8::1", "begins as IPv4 and ends as IPv6", "a range for each family"),
        ("0.0.0.0/0", "holds \"this network\"", "unicast"),
        ("127.0.0.1", "holds loopback", "unicast"),
        ("223.255.255.1-224.0.0.1", "holds multicast", "unicast"),
        ("255.255.255.255", "holds the broadcast address", "unicast"),
        ("::1", "holds the unspecified or loopback", "unicast"),
        ("fe80::1", "holds link-local", "unicast"),
        ("ff02::1", "holds multicast", "unicast"),
        ("::ffff:192.0.2.1", "holds IPv4 addresses mapped", "write them as IPv4"),
        ("198.51.100.0-198.51.100.9", "has addresses that spec.addresses[0] has too", "once"),
    ] {
        let found = read(&format!("addresses: [198.51.100.9, \"{text}\", 198.51.100.20]"));
        let message = found.only();
        let start = format!("error: AddressPool p: spec.addresses[1] {text:?}: {reason}");
        assert!(message.starts_with(&start), "{message}");
        assert!(message.contains("it is left out; ") && message.contains(remedy), "{message}");
        assert_eq!(ranges(&found.snapshot.pools["p"]).len(), 2, "{text}");
    }
    let empty = read("addresses: []");
    assert!(empty.only().contains("spec.addresses: the list is empty"));
    assert!(empty.snapshot.pools["p"].ranges.is_empty());
}

#[test]
fn what_is_reserved_may_be_ranges_and_must_be_the_pools() {
    let some = pool("addresses: [192.0.2.0/24], reserved: [192.0.2.0/30, 192.0.2.250-192.0.2.255]");
    assert_eq!(some.reserved.len(), 10);
    let found = read("addresses: [192.0.2.0/24], reserved: [192.0.3.1]");
    assert!(
        found.only().contains("warning: AddressPool p: spec.reserved[0] \"192.0.3.1\": none of")
    );
    // What is partly outside counts as far as it is inside.
    assert_eq!(
        pool("addresses: [192.0.2.0/31], reserved: [192.0.2.1-192.0.2.9]").reserved.len(),
        1
    );
}

#[test]
fn addresses_that_are_meant_to_be_kept_back_are_never_given_away() {
    // Too many to list.
    let found = read("addresses: [10.0.0.0/16, 192.0.2.1], reserved: [10.0.0.0/17]");
    assert!(found.only().contains("reserves over 4096"), "{}", found.only());
    assert_eq!(ranges(&found.snapshot.pools["p"]), ["192.0.2.1-192.0.2.1"]);
    // One that can't be read spoils the object: a source keeps the last good one.
    let found = read("addresses: [192.0.2.0/24], reserved: [192.0.2.l]");
    let message = found.only();
    assert!(message.contains("spec.reserved[0]: \"192.0.2.l\" names no addresses"), "{message}");
    assert!(found.snapshot.pools.is_empty());
}

#[test]
fn an_alb_takes_one_address_of_each_family_out_of_the_pool() {
    let two =
        pool("addresses: [192.0.2.0/24, \"2001:db8::/120\"], alb: [192.0.2.1, \"2001:db8::1\"]");
    assert_eq!(two.alb.len(), 2);
    let refuse = |rest: &str, value: &str, reason: &str| {
        let found = read(&format!("addresses: [192.0.2.0/24], {rest}"));
        let message = found.only();
        let start = format!("error: AddressPool p: spec.alb {value:?}: {reason}; the ALB doesn't");
        assert!(message.starts_with(&start), "{message}");
        found.snapshot.pools["p"].alb.len()
    };
    assert_eq!(refuse("alb: 192.0.3.1", "192.0.3.1", "none of the pool's addresses"), 0);
    assert_eq!(refuse("alb: 192.0.2.1, reserved: [192.0.2.1]", "192.0.2.1", "is reserved"), 0);
    let second = "the second of its family";
    assert_eq!(refuse("alb: [192.0.2.1, 192.0.2.2]", "192.0.2.2", second), 1);
    for (alb, reason) in [("x", "\"x\" is no address"), ("7", "an address, such as")] {
        let found = read(&format!("addresses: [192.0.2.0/24], alb: {alb}"));
        assert!(found.only().contains("spec.alb: "), "{}", found.only());
        assert!(found.only().contains(reason), "{}", found.only());
        assert!(found.snapshot.pools.is_empty());
    }
}

#[test]
fn selectors_hold_labels_and_expressions() {
    let pool = pool(
        "addresses: [192.0.2.1], serviceSelector: {matchLabels: {app: web}, matchExpressions: \
         [{key: tier, operator: NotIn, values: [test]}, {key: x, operator: Exists}]}, \
         namespaceSelector: {matchExpressions: [{key: y, operator: DoesNotExist}]}",
    );
    let labels = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let service = &pool.service_selector;
    assert!(service.matches(&labels(&[("app", "web"), ("x", "")])));
    assert!(!service.matches(&labels(&[("app", "web"), ("x", ""), ("tier", "test")])));
    assert!(!service.matches(&labels(&[("app", "web")])));
    assert!(pool.namespace_selector.matches(&labels(&[])));
    assert!(!pool.namespace_selector.matches(&labels(&[("y", "1")])));
}

#[test]
fn a_selector_that_cannot_hold_selects_nothing() {
    for expression in [
        "{key: a, operator: In}",
        "{key: a, operator: NotIn, values: []}",
        "{key: a, operator: DoesNotExist, values: [b]}",
    ] {
        let found = read(&format!(
            "addresses: [192.0.2.1], serviceSelector: {{matchExpressions: [{expression}]}}"
        ));
        let message = found.only();
        let field = "AddressPool p: spec.serviceSelector.matchExpressions[0].values: ";
        assert!(message.contains(field) && message.contains("selects nothing"), "{message}");
        let selector = &found.snapshot.pools["p"].service_selector;
        assert!(!selector.matches(&[("a".to_owned(), "b".to_owned())].into()));
        assert!(!selector.matches(&[].into()));
    }
    for selector in ["{app: web}", "{matchExpressions: [{key: a, operator: Is}]}"] {
        let found = read(&format!("addresses: [192.0.2.1], serviceSelector: {selector}"));
        assert!(found.only().contains("spec.serviceSelector"), "{}", found.only());
        assert!(found.snapshot.pools.is_empty());
    }
}

#[test]
fn a_field_that_is_not_known_is_a_warning() {
    let found = read("addresses: [192.0.2.1], auto-assign: false");
    let message = found.only();
    assert!(message.contains("spec.auto-assign: is not a field of AddressPool"), "{message}");
    assert!(found.snapshot.pools["p"].auto_assign);
    assert!(read("visibility: public").only().contains("missing field `addresses`"));
    assert!(read("addresses: [192.0.2.1], visibility: both").only().contains("`both`"));
}

#[test]
fn pools_are_not_used_without_the_l4_plane() {
    let found = fixture::alb(&format!("{HEAD}spec: {{addresses: [192.0.2.1]}}\n"));
    let message = found.only();
    assert!(message.starts_with("warning: AddressPool p: the L4 plane isn't enabled"), "{message}");
    assert!(found.snapshot.pools.is_empty());
}
