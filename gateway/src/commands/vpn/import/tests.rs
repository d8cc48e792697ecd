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

/// The least that is whole, with more lines.
fn with(more: &str) -> String {
    let rest = ["ipsec:", "local:", "remote:", "preshared:"];
    let usual = [
        "ipsec: {auto: start, ike: aes256gcm16-prfsha256-x25519, esp: aes256gcm16}",
        "local: {subnet: 172.30.0.0/16}",
        "remote: {gateway: 203.0.113.7, subnet: 10.20.0.0/16}",
        "preshared: {secret: 0123456789abcdef0123456789}",
    ];
    let kept = usual.iter().zip(rest).filter(|(_, key)| !more.lines().any(|l| l.starts_with(key)));
    kept.map(|(line, _)| format!("{line}\n")).collect::<String>() + more + "\n"
}

#[test]
fn what_is_written_without_an_error_passes_the_check() {
    for more in [
        "",
        "local: {id: on}",
        "local: {subnet: \"172.30.0.0/16, 10.1.2.3/24\"}",
        "local: {subnet: [172.30.0.0/16, 192.168.9.0/24]}\nlocalNonClusterSubnet: 192.168.9.0/24",
        "local: {subnet: 172.30.0.0/16, zoneSubnet: \"dal10=10.1.0.0/16\"}",
        "ipsec: {auto: start, additionalOptions: \"dpddelay=10\\ndpdtimeout=40\"}",
        "ipsec: {additionalOptions: [dpddelay=10s, forceencaps=yes], ikelifetime: 10800}",
        "ipsec: {auto: start, additionalOptions: dpddelay=200s}",
        "ipsec: {auto: start, additionalOptions: dpddelay=soon}",
        "ipsec: {auto: start, closeaction: restart}\nremote: {subnet: 10.20.0.0/16, id: hq}",
        "remote: {gateway: 203.0.113.7}",
        "remote: {gateway: not a name, subnet: 10.20.0.0/16}",
        "remote: {gateway: vpn.example.com, subnet: 10.20.0.0/16, id: \"C=US, O=hq\"}",
        "remote: {gateway: 203.0.113.7, subnet: 0.0.0.0/0}",
        "local: {subnet: \"2001:db8:2::/48\"}\n\
         remote: {gateway: \"2001:db8::1\", subnet: \"2001:db8:1::/48\"}",
        "local: {subnet: 10.131.0.1/32}\nenableSingleSourceIP: true",
        "local: {subnet: 10.131.0.0/24}\nenableSingleSourceIP: true",
        "preshared: {secret: tiny}",
        "preshared: {secret: ChangeMe}",
        "preshared: {secret: \"with \\\"quotes\\\" and # signs: more\"}",
        "image: {tag: 1}\nresources: {}\nmonitoring: {enable: true}",
        "zoneSelector: \"1\"\nzoneSpecificRoutes: true",
        "loadBalancerIP: nowhere",
    ] {
        let (text, well, found) = import(&with(more));
        let errors: Vec<_> = found.iter().filter(|one| one.starts_with("error")).collect();
        assert_eq!(well, errors.is_empty(), "{more}\n{errors:?}\n{text}");
        assert_eq!(well, !text.contains("# error"), "{text}");
    }
}

#[test]
fn nothing_is_lost_in_silence() {
    for (more, part, is_fine) in [
        ("bogus: 3", "# error: bogus: is not a key of the chart", false),
        (
            "remote: {gatway: 203.0.113.7, subnet: 10.20.0.0/16, id: hq}",
            "# error: remote.gatway: is not a key of the chart and is left out; write gateway",
            false,
        ),
        ("localSubnetNat: a=b", "write localSubnetNAT if that is meant", false),
        ("local: {subnet: {a: b}}", "# error: local.subnet: is neither text nor a list", false),
        ("local: [a]", "# error: local: holds no keys", false),
        ("remoteSubnetNAT: 1\nremoteSubnetNAT: 2", "remoteSubnetNAT: stands twice", false),
        (
            "local: {zoneSubnet: \"dal10=10.1.0.0/16\"}",
            "# warning: local.zoneSubnet: dal10=10.1.0.0/16 is left out",
            true,
        ),
        (
            "local: {subnet: \"%zoneSubnet\", zoneSubnet: \"dal10=10.1.0.0/16\"}",
            "own addresses out of local.zoneSubnet (dal10=10.1.0.0/16)",
            false,
        ),
        ("local: {subnet: \"%all\"}", "# error: local.subnet: \"%all\" is no network", false),
        ("priorityClassName: x", "# warning: priorityClassName", true),
        ("ipsec: {margintime: 9m, esp: aes128gcm16}", "# warning: ipsec.margintime: 9m", true),
        ("ipsec: {additionalOptions: rubbish}", "ipsec.additionalOptions: rubbish=", true),
        ("preshared: {secret: short-secret}", "`openssl rand -base64 48 | tr -d '\\n'`", true),
    ] {
        let (text, well, _) = import(&with(more));
        assert!(text.contains(part), "{part}\n{text}");
        assert_eq!(well, is_fine, "{text}");
    }
}

#[test]
fn a_single_source_address_with_several_networks_keeps_them() {
    let (text, well, found) = import(&with(
        "local: {subnet: \"10.130.0.0/16,192.168.77.0/24\"}\nenableSingleSourceIP: true\n\
         localSubnetNAT: 172.30.0.0/16=10.130.0.0/16\nlocalNonClusterSubnet: 192.168.77.0/24",
    ));
    assert!(!well && found.iter().any(|one| one.contains("spec.singleSourceIP")), "{found:?}");
    for line in [
        "    subnets: [10.130.0.0/16, 192.168.77.0/24]",
        "  enableSingleSourceIP: true",
        "  # singleSourceIP: the one address that the other end sees",
        "  # localSubnetNAT: [\"172.30.0.0/16=10.130.0.0/16\"]",
        "  # localNonClusterSubnets: [192.168.77.0/24]",
    ] {
        assert!(text.lines().any(|has| has == line), "{line}\n{text}");
    }
}

#[test]
fn an_end_without_an_address_waits() {
    let (text, well, found) = import(&with(
        "ipsec: {auto: start, ike: aes256gcm16-prfsha256-x25519, esp: aes256gcm16}\n\
         remote: {gateway: \"%any\", subnet: 10.20.0.0/16, id: hq}",
    ));
    assert!(well && found.is_empty(), "{found:?}\n{text}");
    assert!(text.contains("\n  auto: add\n") && !text.contains("auto: start\n"), "{text}");
    assert!(text.contains("# warning: ipsec.auto: start: with remote.gateway: %any"), "{text}");
}
