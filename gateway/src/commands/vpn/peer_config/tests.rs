use std::fs;

use clap::Parser;
use tempfile::TempDir;

use super::*;

const MANIFESTS: &str = "\
apiVersion: tidegate.io/v1alpha1
kind: VpnConnection
metadata: {name: hq}
spec:
  ike: [aes256gcm16-prfsha384-x25519, aes128-sha256-modp2048]
  esp: [aes128gcm16, aes128-sha256]
  auth: {psk: {secretName: psk}}
  local: {address: 192.0.2.1, id: edge.example.net, subnets: [172.30.0.0/16, 172.21.0.0/16]}
  remote: {gateway: 203.0.113.7, id: hq.example.net, subnets: [10.20.0.0/16]}
  localSubnetNAT: [\"172.30.0.0/16=10.130.0.0/16\"]
---
apiVersion: tidegate.io/v1alpha1
kind: VpnConnection
metadata: {name: branch}
spec:
  auth: {psk: {secretName: psk}}
  remote: {gateway: \"%any\", id: branch.example.net, subnets: [10.30.0.0/16]}
  local: {subnets: [172.30.0.0/16]}
---
apiVersion: v1
kind: Secret
metadata: {name: psk}
stringData: {psk: 3f0a9c7be1d24685aa70}
";

#[derive(Parser)]
struct Cli {
    #[command(flatten)]
    args: PeerConfigArgs,
}

fn written(line: &str) -> Result<String> {
    written_of(MANIFESTS, line)
}

fn written_of(manifests: &str, line: &str) -> Result<String> {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("a.yaml"), manifests).unwrap();
    let line = format!("x {line} --manifests {}", folder.path().display());
    let cli = Cli::try_parse_from(line.split(' '))?;
    let mut out = Vec::new();
    run(&cli.args, &mut out)?;
    Ok(String::from_utf8(out).unwrap())
}

#[track_caller]
fn has(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|has| has.trim() == *line), "{line}\n{text}");
    }
}

#[test]
fn strongswan_has_everything_mirrored() {
    let text = written("hq").unwrap();
    has(
        &text,
        &[
            "version = 2",
            "local_addrs = 203.0.113.7",
            "remote_addrs = 192.0.2.1",
            "proposals = aes256gcm16-prfsha384-x25519, aes128-sha256-prfsha256-modp2048",
            "id = hq.example.net",
            "id = edge.example.net",
            "local_ts = 10.20.0.0/16",
            "remote_ts = 10.130.0.0/16, 172.21.0.0/16",
            "esp_proposals = aes128gcm16, aes128-sha256",
            "rekey_time = 10800s",
            "rekey_time = 3600s",
            "start_action = none",
            "secret = THE-PRESHARED-KEY",
        ],
    );
    assert!(!text.contains("3f0a9c7be1d24685aa70"), "{text}");
    let local = text.find("id = hq.example.net").unwrap();
    assert!(local < text.find("id = edge.example.net").unwrap(), "{text}");
}

#[test]
fn the_key_is_shown_only_if_asked_for() {
    let text = written("default/hq --show-secrets").unwrap();
    has(&text, &["secret = 3f0a9c7be1d24685aa70"]);
    let text = written("hq --show-secrets --format libreswan").unwrap();
    has(&text, &["@hq.example.net @edge.example.net : PSK \"3f0a9c7be1d24685aa70\""]);
    assert_eq!(plain(b"a\"b"), None);
    assert_eq!(hexadecimal(b"a\n"), "0x610a");
}

#[test]
fn an_end_that_begins_is_told_to_and_where_to() {
    let text = written("branch").unwrap();
    has(&text, &["start_action = start", "dpd_action = restart", "remote_addrs = EDGE-ADDRESS"]);
    assert!(text.contains("or name it with --address"), "{text}");
    let text = written("branch --address 192.0.2.9").unwrap();
    has(&text, &["remote_addrs = 192.0.2.9"]);
}

#[test]
fn libreswan_and_vyos_have_their_own_names_for_the_same() {
    let text = written("hq --format libreswan").unwrap();
    has(
        &text,
        &[
            "conn hq",
            "ikev2=insist",
            "left=203.0.113.7",
            "leftid=@hq.example.net",
            "leftsubnets={10.20.0.0/16}",
            "rightsubnets={10.130.0.0/16,172.21.0.0/16}",
            "ike=aes_gcm256-sha2_384;dh31,aes128-sha2_256;dh14",
            "esp=aes_gcm128,aes128-sha2_256",
            "pfs=no",
            "auto=add",
        ],
    );
    let text = written("hq --format vyos").unwrap();
    has(
        &text,
        &[
            "set vpn ipsec ike-group hq key-exchange 'ikev2'",
            "set vpn ipsec ike-group hq proposal 1 dh-group '31'",
            "set vpn ipsec ike-group hq proposal 1 encryption 'aes256gcm128'",
            "set vpn ipsec ike-group hq proposal 1 hash 'sha384'",
            "set vpn ipsec ike-group hq proposal 2 hash 'sha256'",
            "set vpn ipsec esp-group hq-1 pfs 'disable'",
            "set vpn ipsec site-to-site peer hq authentication remote-id 'edge.example.net'",
            "set vpn ipsec site-to-site peer hq connection-type 'respond'",
            "set vpn ipsec site-to-site peer hq tunnel 1 local prefix '10.20.0.0/16'",
            "set vpn ipsec site-to-site peer hq tunnel 1 remote prefix '10.130.0.0/16'",
        ],
    );
}

#[test]
fn a_connection_that_is_not_there_is_named() {
    let error = written("other").unwrap_err().to_string();
    assert!(error.contains("default/branch, default/hq"), "{error}");
}

#[test]
fn every_proposal_for_esp_is_written_with_a_group_only_if_it_is_that_of_all() {
    let of = |esp: &str, format: &str| {
        let manifests = MANIFESTS.replace("[aes128gcm16, aes128-sha256]", esp);
        written_of(&manifests, &format!("hq --format {format}")).unwrap()
    };
    let same = "[aes256gcm16-x25519, aes128-sha256-modp2048-x25519]";
    has(&of(same, "libreswan"), &["esp=aes_gcm256;dh31,aes128-sha2_256;dh31", "pfs=yes"]);
    let text = of(same, "vyos");
    has(
        &text,
        &[
            "set vpn ipsec esp-group hq-1 pfs 'dh-group31'",
            "set vpn ipsec esp-group hq-1 proposal 1 encryption 'aes256gcm128'",
            "set vpn ipsec esp-group hq-1 proposal 2 encryption 'aes128'",
        ],
    );
    assert!(!text.contains("One group"), "{text}");

    let mixed = "[aes256gcm16-x25519, aes128gcm16, aes128-sha256-modp2048]";
    let text = of(mixed, "libreswan");
    has(&text, &["esp=aes_gcm256,aes_gcm128,aes128-sha2_256", "pfs=no"]);
    assert!(text.contains("written without a group"), "{text}");
    assert!(text.contains("among the rest: aes_gcm256, aes128-sha2_256\n"), "{text}");
    let text = of(mixed, "vyos");
    has(
        &text,
        &[
            "set vpn ipsec esp-group hq-1 pfs 'disable'",
            "set vpn ipsec esp-group hq-1 proposal 3 hash 'sha256'",
        ],
    );
    assert!(text.contains("\n# This edge takes these with another group only"), "{text}");

    let different = "[aes256gcm16-x25519, aes128gcm16-modp2048]";
    let text = of(different, "libreswan");
    has(&text, &["esp=aes_gcm256;dh31,aes_gcm128;dh31", "pfs=yes"]);
    assert!(text.contains("among the rest: aes_gcm128\n"), "{text}");
    has(&of(different, "vyos"), &["set vpn ipsec esp-group hq-1 pfs 'dh-group31'"]);

    // The defaults are each with groups and without, so all have one in common.
    let text = written("branch --format libreswan").unwrap();
    let esp = text.lines().find(|line| line.contains("esp=")).unwrap();
    assert!(esp.split(',').count() > 3 && esp.split(',').all(|one| one.contains(";dh")), "{esp}");
    has(&text, &["pfs=yes"]);
    assert!(!text.contains("One group"), "{text}");
}
