use model::OverlaySettings;
use model::settings::PodCidrs;
use model::snapshot::overlay::OverlayMode;

use super::*;
use crate::config::file::Backend;

fn with_overlay(rest: &str) -> Result<Config, ConfigError> {
    parse(&format!("{SOURCE}nodeName: edge-1\noverlay: {{enabled: true{rest}}}\n"))
}

#[test]
fn the_overlay_is_disabled_unless_enabled_and_needs_no_alb() {
    assert_eq!(with("overlay: {mode: direct}\n").unwrap().overlay, None);
    let config = with_overlay("").unwrap();
    assert!(!config.alb.public.enabled);
    let expected = OverlaySettings { name: "edge-1".to_owned(), ..OverlaySettings::default() };
    assert_eq!(config.settings().overlay, Some(expected));
    let overlay = config.overlay.unwrap();
    assert_eq!((overlay.on_stop, overlay.backend), (OnStop::Keep, Backend::Auto));
    assert_eq!((overlay.key_rotation, overlay.offloads), (None, true));
}

#[test]
fn what_is_written_of_the_overlay_is_taken() {
    let config = with_overlay(
        ", mode: wireguard, podCIDRs: calico, serviceSubnets: [172.21.0.0/16, \"fd00::/108\"], \
         egress: {networks: [0.0.0.0/0], masquerade: false}, interface: wg0, port: 4000, \
         probePort: 4002, mtu: 1400, backend: userspace, workers: 2, offloads: false, \
         underlay: {addresses: [192.0.2.7]}, outside: [eth0], keyRotation: 168h, onStop: remove",
    );
    let overlay = config.unwrap().overlay.unwrap();
    assert_eq!((overlay.backend, overlay.workers.count()), (Backend::Userspace, 2));
    assert_eq!((overlay.on_stop, overlay.offloads), (OnStop::Remove, false));
    assert_eq!(overlay.underlay, ["192.0.2.7".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(overlay.outside, Some(vec!["eth0".to_owned()]));
    assert_eq!(overlay.key_rotation.unwrap().to_string(), "168h");
    let settings = overlay.settings;
    assert_eq!((settings.mode, settings.pod_cidrs), (OverlayMode::Wireguard, PodCidrs::Calico));
    assert_eq!((settings.services.len(), settings.egress.len()), (2, 1));
    assert_eq!((settings.port, settings.probe_port, settings.mtu), (4000, 4002, Some(1400)));
    assert!(!settings.masquerade && settings.interface == "wg0");
}

#[test]
fn wrong_values_of_the_overlay_are_named() {
    for (rest, key, part) in [
        (", interface: \"a b\"", "overlay.interface", "can't be an interface's name"),
        (", interface: abcdefghijklmno", "overlay.interface", "can't be an interface's name"),
        (", probePort: 51822", "overlay.probePort", "which new keys take"),
        (", port: 0", "overlay.port", "is not from 1 to 65534"),
        (", mtu: 1000", "overlay.mtu", "is not from 1280"),
        (", serviceSubnets: [0.0.0.0/0]", "overlay.serviceSubnets", "everybody's"),
        (", underlay: {addresses: [127.0.0.1]}", "overlay.underlay.addresses", "no address that"),
        (", outside: [\"a b\"]", "overlay.outside", "can't be an interface's name"),
        (", keyRotation: 0s", "overlay.keyRotation", "nothing could be in time"),
        (", mode: plain", "overlay.mode", "`wireguard`"),
        (", podCidrs: node", "overlay.podCidrs", "unknown field"),
    ] {
        refused(with_overlay(rest), 5, key, &[part]);
    }
}

#[test]
fn no_policy_closes_the_overlays_ports() {
    let text = "nodeName: edge-1\noverlay: {enabled: true, port: 4000, probePort: 5000}\n\
                l4: {enabled: true, interfaces: {public: [eth0]}}\n";
    let inbound = with(text).unwrap().l4.unwrap().settings.fail_safe.inbound;
    for port in [4000, 4001, 5000] {
        assert!(inbound.contains(&(model::Protocol::Udp, port)), "{inbound:?}");
    }
}
