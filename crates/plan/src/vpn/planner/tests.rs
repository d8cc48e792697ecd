use model::VpnSettings;

use super::*;

fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn networks_of_this_side_within_remote_ones_are_exempt_but_for_what_is_remote_in_them() {
    let exempt = |remote: &[&str], own: &[&str]| super::exempt(&nets(remote), &nets(own));
    assert_eq!(exempt(&["10.0.0.0/8"], &["10.5.0.0/16", "172.30.0.0/16"]), nets(&["10.5.0.0/16"]));
    assert_eq!(exempt(&["10.5.0.0/16"], &["10.5.0.0/16"]), nets(&[]));
    assert_eq!(exempt(&["10.5.8.0/24"], &["10.5.0.0/16"]), nets(&[]));
    assert_eq!(exempt(&["10.0.0.0/8", "10.5.0.0/16"], &["10.5.0.0/16"]), nets(&[]));
    assert_eq!(exempt(&["10.0.0.0/8", "10.5.128.0/17"], &["10.5.0.0/16"]), nets(&["10.5.0.0/17"]));
}

#[test]
fn the_edges_own_networks_can_be_kept_from_being_guarded() {
    let exempt = nets(&["10.1.1.0/24", "192.0.2.0/24"]);
    let vpn = Some(VpnSettings { exempt, ..VpnSettings::default() });
    let settings = Settings { vpn, ..Settings::default() };
    let mut snapshot = Snapshot::default();
    snapshot.vpn_refused.insert(ObjectKey::new("default", "c"), nets(&["10.0.0.0/8"]));
    let (plan, found) = plan(&snapshot, &settings, &BTreeMap::new());
    assert_eq!((plan.routes, plan.exempt), (nets(&["10.0.0.0/8"]), nets(&["10.1.1.0/24"])));
    assert!(plan.table.contains("elements = { 10.1.1.0/24 }") && found.is_empty());
}

#[test]
fn without_the_plane_or_a_connection_there_is_nothing() {
    let nothing = plan(&Snapshot::default(), &Settings::default(), &BTreeMap::new());
    assert_eq!(nothing, Default::default());
    let vpn = Some(VpnSettings::default());
    let settings = Settings { vpn, ..Settings::default() };
    assert_eq!(plan(&Snapshot::default(), &settings, &BTreeMap::new()), Default::default());
}
