use super::*;

fn with_vpn(rest: &str) -> Result<Config, ConfigError> {
    parse(&format!("{SOURCE}vpn: {{enabled: true{rest}}}\n"))
}

#[test]
fn the_vpn_plane_is_disabled_unless_enabled_and_needs_no_alb() {
    assert_eq!(with("vpn: {interface: t0}\n").unwrap().vpn, None);
    let config = with_vpn("").unwrap();
    assert!(!config.alb.public.enabled && !config.alb.private.enabled);
    let vpn = config.vpn.as_ref().unwrap();
    assert_eq!(config.settings().vpn, Some(VpnSettings::default()));
    assert_eq!((vpn.dataplane, vpn.on_stop, vpn.mtu), (Dataplane::Auto, OnStop::Keep, None));
    assert!(vpn.offloads);
    let with_alb = with("vpn: {enabled: true}\n").unwrap();
    assert!(with_alb.alb.public.enabled && with_alb.vpn.is_some());
    let asked_for =
        parse(&format!("{SOURCE}alb: {{public: {{enabled: true}}}}\nvpn: {{enabled: true}}\n"));
    assert_eq!(asked_for.unwrap_err().key, "alb.public.listen.addresses");
}

#[test]
fn what_is_written_of_the_vpn_plane_is_taken() {
    let config = with_vpn(
        ", dataplane: userspace, interface: t0, workers: 2, offloads: false, mtu: 1400, port: 1500, \
         natPort: 14500, clusterSubnets: [172.30.0.0/16, \"fd00::/48\"], \
         exempt: [10.1.1.0/24], onStop: remove, forceEncapsulation: true, \
         halfOpen: {cookieThreshold: 0, limit: 5, perSource: 1, lifetime: 5s}, \
         retransmit: {first: 100ms, base: 2, max: 1s, tries: 3}",
    );
    let vpn = config.unwrap().vpn.unwrap();
    assert_eq!((vpn.dataplane, vpn.offloads), (Dataplane::Userspace, false));
    assert_eq!((vpn.mtu, vpn.workers.count(), vpn.on_stop), (Some(1400), 2, OnStop::Remove));
    let settings = vpn.settings;
    assert_eq!((settings.port, settings.nat_port), (1500, 14500));
    assert!(settings.force_udp && settings.interface == "t0");
    assert_eq!((settings.cluster_subnets.len(), settings.exempt.len()), (2, 1));
    assert_eq!((vpn.half_open.cookie_threshold, vpn.half_open.limit), (0, 5));
    assert_eq!((vpn.retransmit.base, vpn.retransmit.tries), (2.0, 3));
}

#[test]
fn wrong_values_of_the_vpn_plane_are_named() {
    for (rest, key, part) in [
        (", interface: \"a b\"", "vpn.interface", "can't be an interface's name"),
        (", natPort: 500", "vpn.natPort", "is the same port as vpn.port"),
        (", port: 0", "vpn.port", "is not from 1 to 65535"),
        (", mtu: 100", "vpn.mtu", "is not from 576"),
        (", clusterSubnets: [0.0.0.0/0]", "vpn.clusterSubnets", "everybody's"),
        (", exempt: [\"::/0\"]", "vpn.exempt", "everybody's"),
        (", retransmit: {base: 0.5}", "vpn.retransmit.base", "not from 1 to 10"),
        (", retransmit: {first: 0s}", "vpn.retransmit.first", "nothing could be in time"),
        (", retransmit: {first: 30s}", "vpn.retransmit.max", "less than first"),
        (", dataplane: kernel", "vpn.dataplane", "`userspace`"),
        (", cookieThreshold: 1", "vpn.cookieThreshold", "unknown field"),
    ] {
        refused(with_vpn(rest), 4, key, &[part]);
    }
}
