use std::fs;

use ingest::{ObjectSet, manifest};
use model::{Settings, VpnSettings};
use tempfile::TempDir;

use super::*;

/// What becomes of values: the text, whether all is well, and the findings about the manifests.
fn import(values: &str) -> (String, bool, Vec<String>) {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("values.yaml");
    fs::write(&path, values).unwrap();
    let args = ImportArgs { values: path, name: "hq".to_owned(), namespace: "net".to_owned() };
    let mut out = Vec::new();
    let well = run(&args, &mut out).unwrap() == ExitCode::SUCCESS;
    let text = String::from_utf8(out).unwrap();
    let parsed = manifest::parse("f.yaml", &text);
    let mut objects = ObjectSet::default();
    assert_eq!(parsed.objects.len(), 2, "{text}");
    parsed.objects.into_iter().for_each(|entry| entry.insert_into(&mut objects));
    let cluster_subnets = vec!["172.30.0.0/16".parse().unwrap()];
    let vpn = Some(VpnSettings { cluster_subnets, ..VpnSettings::default() });
    let (_, found) = ingest::ingest(&objects, &Settings { vpn, ..Settings::default() });
    (text, well, found.iter().map(ToString::to_string).collect())
}

const VALUES: &str = "\
ipsec: {keyexchange: ikev2, auto: start, ike: \"aes256-sha256-modp2048!\", esp: aes256gcm16, ikelifetime: 3h, lifetime: 1h, additionalOptions: \"dpddelay=10s\\nforceencaps=yes\\nleftfirewall=no\"}
local: {subnet: \"10.130.0.0/16,172.21.0.0/16,192.168.77.0/24\", id: ibm-cloud}
remote: {gateway: 203.0.113.7, subnet: \"172.30.0.0/16,10.9.0.0/16\", id: on-prem, privateIPtoPing: 10.9.0.1}
localSubnetNAT: 172.30.0.0/16=10.130.0.0/16
remoteSubnetNAT: 172.30.0.0/16=10.131.0.0/16
localNonClusterSubnet: 192.168.77.0/24
loadBalancerIP: 192.0.2.1
zoneSelector: dal10
zoneSpecificRoutes: true
preshared: {secret: 0123456789abcdef0123456789}
";

#[test]
fn values_become_manifests_in_which_nothing_is_wrong() {
    let (text, well, found) = import(VALUES);
    assert!(well, "{text}");
    assert_eq!(found, [] as [String; 0], "{text}");
    for line in [
        "  auto: start",
        "  ike: [aes256-sha256-modp2048]",
        "    address: \"192.0.2.1\"",
        "    subnets: [172.30.0.0/16, 172.21.0.0/16]",
        "  localSubnetNAT: [\"172.30.0.0/16=10.130.0.0/16\"]",
        "  remoteSubnetNAT: [\"10.131.0.0/16=172.30.0.0/16\"]",
        "  localNonClusterSubnets: [192.168.77.0/24]",
        "  dpd: {delay: 10s, timeout: 150s, action: restart}",
        "  encapsulation: udp",
        "  zone: dal10",
        "  closeAction: restart",
    ] {
        assert!(text.lines().any(|has| has == line), "{line}\n{text}");
    }
    assert!(text.contains("# warning: ipsec.additionalOptions: leftfirewall=no"), "{text}");
    assert!(text.contains("# warning: remote.privateIPtoPing"), "{text}");
}

#[test]
fn the_charts_own_defaults_are_refused_where_they_are_unsafe() {
    let (text, well, found) =
        import("remote: {gateway: \"%any\", subnet: 192.168.0.0/24, id: on-prem}\n");
    assert!(!well, "{text}");
    assert!(text.contains("# error: preshared.secret: is the chart's default"), "{text}");
    assert!(text.contains("  auto: add\n"), "{text}");
    assert!(found.iter().any(|one| one.contains("a default that everybody knows")), "{found:?}");
}

#[test]
fn what_cannot_be_carried_over_is_said() {
    let (text, well, _) = import(
        "ipsec: {keyexchange: ikev1, auto: start, ike: aes128-sha1-modp1024, esp: 'nonsense,aes128gcm16'}\n\
         local: {subnet: 10.131.0.1/32}\n\
         remote: {gateway: 203.0.113.7, subnet: 10.20.0.0/16}\n\
         localSubnetNAT: 10.171.42.0/25=192.168.168.100/32\n\
         preshared: {secret: short-secret}\n\
         zoneLoadBalancer: \"dal10=192.0.2.1\"\n\
         enableServiceSourceIP: true\n",
    );
    assert!(!well, "{text}");
    for part in [
        "# error: ipsec.keyexchange: \"ikev1\": IKEv1 is not spoken",
        "# warning: ipsec.ike: \"aes128-sha1-modp1024\"",
        "  allowLegacy: true",
        "# error: ipsec.esp: \"nonsense\"",
        "  esp: [aes128gcm16]",
        "of different sizes and is left out",
        "# warning: preshared.secret: is weak",
        "# warning: zoneLoadBalancer",
        "# warning: enableServiceSourceIP",
    ] {
        assert!(text.contains(part), "{part}\n{text}");
    }
}

#[test]
fn a_single_source_address_is_what_the_chart_has_as_local_subnet() {
    let (text, well, found) = import(
        "ipsec: {auto: start, ike: aes256gcm16-prfsha256-x25519, esp: aes256gcm16}\n\
         local: {subnet: 10.131.0.1/32}\nenableSingleSourceIP: true\n\
         remote: {gateway: 203.0.113.7, subnet: 10.20.0.0/16}\n\
         preshared: {secret: 0123456789abcdef0123456789}\n",
    );
    assert!(well && found.is_empty(), "{found:?}\n{text}");
    assert!(text.contains("  singleSourceIP: 10.131.0.1\n"), "{text}");
}
