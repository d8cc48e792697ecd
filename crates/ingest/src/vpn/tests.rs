use model::snapshot::vpn::{
    Auto, CloseAction, LocalAddress, RemoteGateway, VpnAuth, VpnConnection,
};
use model::{ObjectKey, Settings, Snapshot, VpnSettings};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

use crate::build::{Memo, ingest_with};
use crate::fixture::{self, Fixture};
use crate::{ObjectSet, manifest};

const HEAD: &str = "apiVersion: tidegate.io/v1alpha1\nkind: VpnConnection\n";
const KEY: &str = "3f0a9c7be1d24685aa70";

fn settings() -> Settings {
    let cluster_subnets =
        ["172.30.0.0/16", "172.21.0.0/16"].iter().map(|text| text.parse().unwrap()).collect();
    Settings {
        vpn: Some(VpnSettings { cluster_subnets, ..VpnSettings::default() }),
        ..Settings::default()
    }
}

/// A connection `c` and its Secret.
fn text(spec: &str, key: &str) -> String {
    let secret = format!(
        "---\napiVersion: v1\nkind: Secret\nmetadata: {{name: psk}}\nstringData: {{psk: {key:?}}}\n"
    );
    format!("{HEAD}metadata: {{name: c}}\nspec: {{{spec}}}\n{secret}")
}

/// The same, with what most connections have.
fn usual(rest: &str) -> String {
    let usual = "auth: {psk: {secretName: psk}}, remote: {gateway: 203.0.113.7, subnets: \
                 [10.20.0.0/16]}";
    text(&format!("{usual}{rest}"), KEY)
}

fn read(text: &str) -> Fixture {
    fixture::with(text, settings())
}

/// A connection in which nothing is wrong.
#[track_caller]
fn good(text: &str) -> VpnConnection {
    let found = read(text);
    assert_eq!(found.messages(), [] as [String; 0]);
    found.snapshot.vpn[&ObjectKey::new("default", "c")].clone()
}

/// Checks that a connection is refused, and with which words.
#[track_caller]
fn refused(text: &str, parts: &[&str]) {
    let found = read(text);
    let messages = found.messages();
    assert!(found.snapshot.vpn.is_empty(), "{messages:#?}");
    let told = |message: &&String| {
        message.starts_with("error: ") && parts.iter().all(|part| message.contains(part))
    };
    assert!(messages.iter().any(|message| told(&message)), "{parts:?}: {messages:#?}");
    assert!(messages.iter().any(|message| message.contains("is refused")), "{messages:#?}");
}

fn guarded(snapshot: &Snapshot) -> Vec<String> {
    snapshot.vpn_refused.values().flatten().map(ToString::to_string).collect()
}

#[test]
fn what_is_not_written_has_its_default() {
    let connection = good(&usual(""));
    assert_eq!(connection.auto, Auto::Start);
    assert!(!connection.ike.is_empty() && !connection.esp.is_empty());
    assert_eq!(connection.local.address, LocalAddress::Route);
    assert_eq!(connection.children.len(), 1);
    assert_eq!(connection.children[0].name, "c");
    let local: Vec<String> = connection.children[0].local.iter().map(ToString::to_string).collect();
    assert_eq!(local, ["172.30.0.0/16", "172.21.0.0/16"]);
    assert_eq!((connection.dpd.delay.as_secs(), connection.dpd.timeout.as_secs()), (10, 30));
    assert_eq!(connection.dpd.action, CloseAction::Restart);
    assert_eq!((connection.lifetimes.ike.as_secs(), connection.lifetimes.child.as_secs()), {
        (10800, 3600)
    });
    assert!(connection.fragmentation && connection.mobike);
    assert!(!connection.force_udp && !connection.childless && !connection.reauthentication);
    assert_eq!(connection.replay_window, 1024);
    assert_eq!(connection.auth, VpnAuth::Psk(model::snapshot::vpn::SecretBytes(KEY.into())));
}

#[test]
fn everything_that_is_written_is_taken() {
    let connection = good(&text(
        "auto: route, ikeVersion: 2, keyexchange: ikev2, ike: [aes128-sha1-modp1024], \
         esp: [aes256gcm16], allowLegacy: true, auth: {psk: {secretName: psk, key: psk}}, \
         ppk: {secretName: psk, key: psk, id: quantum, required: false}, \
         local: {address: 192.0.2.1, id: edge, subnets: [172.30.0.0/16]}, \
         remote: {gateway: HQ.example.com, id: hq, subnets: [10.20.0.0/16]}, \
         children: [{name: one, local: [172.30.1.0/24], remote: [10.20.1.0/24], esp: [aes128gcm16]}, \
         {name: two, remote: [10.20.2.0/24]}], zone: a, dpd: {delay: 1s, timeout: 4s, action: none}, \
         lifetimes: {ike: 1d, child: 1h30m, bytes: 10000000, packets: 100000}, closeAction: clear, \
         encapsulation: udp, fragmentation: false, mobike: false, childless: true, \
         reauthentication: true, replayWindow: 4096",
        KEY,
    ));
    assert_eq!(connection.auto, Auto::Route);
    assert_eq!(connection.remote.gateway, RemoteGateway::Name("hq.example.com".to_owned()));
    let ppk = connection.ppk.unwrap();
    assert_eq!((ppk.id.as_str(), ppk.required), ("quantum", false));
    assert_eq!(connection.children[0].esp.len(), 1);
    assert_eq!(connection.children[1].local[0].to_string(), "172.30.0.0/16");
    assert_eq!(connection.zone.as_deref(), Some("a"));
    assert_eq!((connection.dpd.action, connection.close_action), {
        (CloseAction::None, CloseAction::Clear)
    });
    assert_eq!(connection.lifetimes.bytes, Some(10_000_000));
    assert!(connection.force_udp && connection.childless && connection.reauthentication);
    assert!(!connection.fragmentation && !connection.mobike);
    assert_eq!(connection.replay_window, 4096);
}

#[test]
fn keys_that_can_be_guessed_are_refused_or_told_of() {
    let of = |key: &str| {
        text(
            "auth: {psk: {secretName: psk}}, remote: {gateway: 203.0.113.7, subnets: [10.20.0.0/16]}",
            key,
        )
    };
    for known in
        ["Not-valid-preshared-key", "strongswan-preshared-secret", "ChangeMe", "strongswan\n"]
    {
        refused(&of(known), &["Secret default/psk", "everybody knows", "openssl rand"]);
    }
    refused(&of("short"), &["data[\"psk\"]", "has 5 bytes", "fewer than 8"]);
    for (weak, word) in [
        ("fifteen letters", "is weak: it has 15 bytes"),
        ("aaaaaaaaaaaaaaaaaaaaaaaa", "few different characters"),
        ("3f0a9c7be1d24685aa70\n", "ends with a line break"),
    ] {
        let found = read(&of(weak));
        assert_eq!(found.snapshot.vpn.len(), 1);
        let message = found.only();
        assert!(
            message.starts_with("warning: Secret default/psk") && message.contains(word),
            "{message}"
        );
        assert!(!message.contains(weak), "{message}");
    }
}

#[test]
fn wrong_values_are_named_with_what_to_write() {
    for (rest, parts) in [
        (", ike: [aes256-sha256-modp1024]", vec!["spec.ike[0]", "modp1024", "allowLegacy"]),
        (", esp: [aes128gcm16, rot13]", vec!["spec.esp[1] \"rot13\"", "swanctl's notation"]),
        (", esp: [des-md5]", vec!["spec.esp[0]", "write"]),
        (", ikeVersion: 1", vec!["spec.ikeVersion \"1\"", "RFC 9395", "ask for IKEv2"]),
        (", keyexchange: ikev1", vec!["spec.keyexchange", "RFC 9395"]),
        (", ikeVersion: 3", vec!["there is no such version"]),
        (", auto: sometimes", vec!["spec.auto", "unknown variant"]),
        (
            ", dpd: {delay: 10s, timeout: 5s}",
            vec!["spec.dpd.timeout \"5s\"", "less than dpd.delay"],
        ),
        (", dpd: {delay: 10}", vec!["spec.dpd.delay: is a number, and must be a time", "\"10s\""]),
        (", dpd: {delay: ten}", vec!["spec.dpd.delay \"ten\"", "write a time such as 30s"]),
        (", lifetimes: {child: 0s}", vec!["spec.lifetimes.child"]),
        (", lifetimes: {bytes: 10}", vec!["spec.lifetimes.bytes \"10\""]),
        (", replayWindow: 1000000", vec!["spec.replayWindow"]),
        (", local: {address: nowhere}", vec!["spec.local.address \"nowhere\"", "is no address"]),
        (", local: {address: \"2001:db8::1\"}", vec!["of another family than remote.gateway"]),
        (", local: {address: 192.0.2.1, addressPool: p}", vec!["beside local.addressPool"]),
        (", local: {addressPool: p}", vec!["the L4 plane isn't enabled"]),
        (
            ", local: {subnets: [172.30.0.1/16]}",
            vec!["spec.local.subnets[0]", "write 172.30.0.0/16"],
        ),
        (", localSubnetNAT: [\"172.30.0.0/16=10.130.0.0/24\"]", vec!["localSubnetNAT[0]", "sizes"]),
        (
            ", localSubnetNAT: [\"192.168.9.0/24=10.130.0.0/24\"]",
            vec!["is not within local.subnets"],
        ),
        (
            ", local: {subnets: [10.130.0.0/16]}, localSubnetNAT: [\"172.31.0.0/16=10.130.0.0/16\"]",
            vec!["172.31.0.0/16 is not within", "172.31.0.0/16 in place of 10.130.0.0/16"],
        ),
        (
            ", localSubnetNAT: [\"172.30.0.0/16=10.130.0.0/16\", \"172.21.3.0/24=10.130.9.0/24\"]",
            vec!["10.130.9.0/24 overlaps 10.130.0.0/16"],
        ),
        (
            ", localSubnetNAT: [\"172.30.0.0/16=10.130.0.0/16\", \"172.30.0.0/16=10.131.0.0/16\"]",
            vec!["has a pair already"],
        ),
        (
            ", remoteSubnetNAT: [\"10.20.0.0/16=10.131.0.0/16\"]",
            vec!["remoteSubnetNAT[0]", "the other way round: 10.131.0.0/16=10.20.0.0/16"],
        ),
        (", enableSingleSourceIP: true", vec!["spec.singleSourceIP", "singleSourceIP: 10.131.0.1"]),
        (", singleSourceIP: 10.131.0.1", vec!["without enableSingleSourceIP"]),
        (
            ", enableSingleSourceIP: true, singleSourceIP: 10.131.0.0/24",
            vec!["spec.singleSourceIP", "no single address"],
        ),
        (
            ", enableSingleSourceIP: true, singleSourceIP: 10.20.0.1",
            vec!["lies within the remote network 10.20.0.0/16"],
        ),
        (
            ", enableSingleSourceIP: true, singleSourceIP: 10.131.0.1, \
             localSubnetNAT: [\"172.30.0.0/16=10.130.0.0/16\"]",
            vec!["spec.localSubnetNAT", "beside enableSingleSourceIP"],
        ),
        (
            ", enableSingleSourceIP: true, singleSourceIP: 10.131.0.1, \
             localNonClusterSubnets: [192.168.1.0/24]",
            vec!["spec.localNonClusterSubnets", "nothing comes in"],
        ),
        (", children: []", vec!["spec.children", "empty"]),
        (", children: [{name: A}]", vec!["spec.children[0].name \"A\""]),
        (", children: [{name: a}, {name: a}]", vec!["the name of two children"]),
        (", children: [{name: a}, {name: b}]", vec!["networks that child a has too"]),
        (", colour: red", vec!["spec.colour", "is not a field"]),
        (", dpd: {dely: 1s}", vec!["spec.dpd.dely", "is not a field"]),
        (", zone: \"\"", vec!["spec.zone", "is empty"]),
    ] {
        refused(&usual(rest), &parts);
    }
}

#[test]
fn a_wrong_form_is_told_in_the_words_of_who_writes_it() {
    let remote = "remote: {gateway: 203.0.113.7, subnets: [10.20.0.0/16]}";
    for (spec, expected) in [
        (
            format!("auth: {{psk: secret}}, {remote}"),
            vec!["spec.auth.psk: is text, and not fields of its own; write secretName, key beneath"],
        ),
        (
            "auth: {psk: {secretName: psk}}, remote: {gatway: 203.0.113.7, subnets: [10.2.0.0/16]}"
                .to_owned(),
            vec![
                "spec.remote.gatway: is not a field of VpnConnection; write gateway if that is",
                "spec.remote: missing field `gateway`; write it",
            ],
        ),
        (
            "auth: {psk: {secretName: psk}}, remote: {gateway: 203.0.113.7, subnets: [10.2.0.1/24]}"
                .to_owned(),
            vec![
                "spec.remote.subnets[0] \"10.2.0.1/24\": has bits set behind its prefix; write \
                 10.2.0.0/24 or 10.2.0.1",
            ],
        ),
        (
            "auth: {psk: {secretName: psk}}, remote: {gateway: 203.0.113.7, subnets: 10.2.0.0/16}"
                .to_owned(),
            vec!["spec.remote.subnets: is text, and must be a list; write it in brackets"],
        ),
        (
            format!("auth: {{psk: {{secretName: 7}}}}, {remote}"),
            vec!["spec.auth.psk.secretName: is a number, and must be text; put it in quotes: \"7\""],
        ),
        (
            format!("auth: {{psk: {{secretName: psk}}}}, {remote}, mobike: \"no\""),
            vec!["spec.mobike: is text, and must be true or false; write true or false"],
        ),
        (
            format!("auth: {{psk: {{secretName: psk}}}}, {remote}, replayWindow: -1"),
            vec!["spec.replayWindow: is a number, and must be a whole number in range; write a"],
        ),
        (
            format!("auth: {{psk: {{secretName: psk}}}}, {remote}, localSubnetNat: []"),
            vec!["spec.localSubnetNat: is not a field of VpnConnection; write localSubnetNAT if"],
        ),
        (
            format!("auth: {{psk: {{secretName: psk}}}}, {remote}, children: [{{name: a, locl: []}}]"),
            vec!["spec.children[0].locl: is not a field of VpnConnection; write local if"],
        ),
        (
            format!("auth: {{psk: {{secretName: psk}}}}, {remote}, local: {{subnets: [172.30.0.1/16]}}, \
                 localSubnetNAT: [\"172.30.0.0/16=10.130.0.0/16\"]"),
            vec!["spec.local.subnets[0] \"172.30.0.1/16\": has bits set behind its prefix"],
        ),
    ] {
        let messages = read(&text(&spec, KEY)).messages();
        let errors: Vec<_> = messages.iter().filter(|one| one.starts_with("error")).collect();
        assert_eq!(errors.len(), expected.len(), "{errors:#?}");
        for part in expected {
            assert!(errors.iter().any(|error| error.contains(part)), "{part}\n{errors:#?}");
        }
    }
}

#[test]
fn wrong_ends_are_named_with_what_to_write() {
    let auth = "auth: {psk: {secretName: psk}}";
    for (spec, parts) in [
        (
            format!(
                "{auth}, remote: {{gateway: \"%any\", id: a, subnets: [10.0.0.0/8]}}, auto: start"
            ),
            vec!["spec.auto \"start\"", "write auto: add"],
        ),
        (
            format!(
                "{auth}, remote: {{gateway: \"%any\", id: a, subnets: [10.0.0.0/8]}}, auto: route"
            ),
            vec!["spec.auto \"route\""],
        ),
        (
            format!("{auth}, remote: {{gateway: \"%any\", subnets: [10.0.0.0/8]}}"),
            vec!["spec.remote.id", "is missing"],
        ),
        (
            format!("{auth}, remote: {{gateway: 203.0.113.300, subnets: [10.0.0.0/8]}}"),
            vec!["spec.remote.gateway", "neither an address nor a name"],
        ),
        (
            format!("{auth}, remote: {{gateway: 0.0.0.0, subnets: [10.0.0.0/8]}}"),
            vec!["nobody's address"],
        ),
        (
            format!("{auth}, remote: {{gateway: a b, subnets: [10.0.0.0/8]}}"),
            vec!["spec.remote.gateway \"a b\""],
        ),
        (
            format!("{auth}, remote: {{gateway: 203.0.113.7}}"),
            vec!["spec.remote.subnets", "has no network"],
        ),
        (
            format!("{auth}, remote: {{gateway: 203.0.113.7, subnets: [0.0.0.0/0]}}"),
            vec!["spec.remote.subnets \"0.0.0.0/0\""],
        ),
        (
            format!("{auth}, remote: {{gateway: 203.0.113.7, subnets: [172.30.9.0/24]}}"),
            vec!["lies within 172.30.0.0/16", "remoteSubnetNAT: [<free range>=172.30.9.0/24]"],
        ),
        (
            format!("{auth}, remote: {{gateway: 203.0.113.7, subnets: [\"2001:db8::/32\"]}}"),
            vec!["of another family"],
        ),
        (
            "remote: {gateway: 203.0.113.7, subnets: [10.0.0.0/8]}".to_owned(),
            vec!["missing field `auth`"],
        ),
        (
            "auth: {}, remote: {gateway: 203.0.113.7, subnets: [10.0.0.0/8]}".to_owned(),
            vec!["spec.auth", "neither psk nor certificate"],
        ),
        (
            "auth: {psk: {secretName: x}}, remote: {gateway: 203.0.113.7, subnets: [10.0.0.0/8]}"
                .to_owned(),
            vec!["spec.auth.psk.secretName \"x\"", "no Secret default/x"],
        ),
        (
            "auth: {psk: {secretName: psk, key: y}}, remote: {gateway: a.b, subnets: [10.0.0.0/8]}"
                .to_owned(),
            vec!["spec.auth.psk.key \"y\"", "name one of psk"],
        ),
    ] {
        refused(&text(&spec, KEY), &parts);
    }
    let without_default = Settings { vpn: Some(VpnSettings::default()), ..Settings::default() };
    let found = fixture::with(&usual(""), without_default);
    assert!(found.messages()[0].contains("vpn.clusterSubnets"), "{:?}", found.messages());
}

#[test]
fn what_could_be_better_is_told_of_and_taken() {
    for (rest, word) in [
        (", lifetimes: {child: 10s}", "mostly being renewed"),
        (", replayWindow: 0", "may be replayed"),
        (", ike: [aes256-sha256-modp2048, aes256-sha256-modp2048]", "the same as one before"),
        (", local: {subnets: [172.30.0.0/16, 172.30.1.0/24]}", "write each network once"),
    ] {
        let found = read(&usual(rest));
        assert_eq!(found.snapshot.vpn.len(), 1, "{:?}", found.messages());
        assert!(found.only().contains(word), "{:?}", found.messages());
    }
}

#[test]
fn networks_of_refused_connections_are_guarded_as_far_as_they_can_be_read() {
    let of = |rest: &str| guarded(&read(&usual(rest)).snapshot);
    assert_eq!(of(", colour: red"), ["10.20.0.0/16"]);
    assert_eq!(
        of(", colour: red, remoteSubnetNAT: [\"10.131.0.0/16=10.20.0.0/16\"]"),
        ["10.131.0.0/16"]
    );
    assert_eq!(
        of(", auto: 7, children: [{name: a, remote: [10.21.0.0/16]}, 5]"),
        ["10.20.0.0/16", "10.21.0.0/16"]
    );
    let torn =
        text("remote: {gateway: 7, subnets: \"10.22.0.0/16, 172.30.1.0/24, 0.0.0.0/0\"}", KEY);
    assert_eq!(guarded(&read(&torn).snapshot), ["10.22.0.0/16"]);
    assert!(of("").is_empty());
}

/// Snapshots one after the other, as a running gateway has them.
fn after(texts: &[&str]) -> (Snapshot, Vec<String>) {
    let mut memo = Memo::default();
    let mut last = Default::default();
    for text in texts {
        let mut objects = ObjectSet::default();
        let entries = manifest::parse("f.yaml", text).objects;
        entries.into_iter().for_each(|entry| entry.insert_into(&mut objects));
        last = ingest_with(&objects, &settings(), &mut memo);
    }
    (last.0, last.1.iter().map(ToString::to_string).collect())
}

#[test]
fn a_broken_edit_leaves_the_last_good_form_in_force_and_guards_the_new_networks() {
    let broken = usual(", replayWindow: -1").replace("10.20", "10.21");
    let (snapshot, messages) = after(&[&usual(""), &broken, &broken]);
    let connection = &snapshot.vpn[&ObjectKey::new("default", "c")];
    assert_eq!(connection.children[0].remote[0].to_string(), "10.20.0.0/16");
    assert_eq!(guarded(&snapshot), ["10.21.0.0/16"]);
    assert!(
        messages.iter().any(|one| one.contains("stays in force as it was before")),
        "{messages:?}"
    );
    let mended = usual("").replace("10.20", "10.21");
    let (snapshot, messages) = after(&[&usual(""), &broken, &mended]);
    assert!(messages.is_empty() && guarded(&snapshot).is_empty());
    assert!(after(&[&usual(""), ""]).0.vpn.is_empty());
}

#[test]
fn a_secret_that_is_taken_away_ends_its_connection() {
    let without = usual("").split("---").next().unwrap().to_owned();
    let (snapshot, messages) = after(&[&usual(""), &without]);
    assert!(snapshot.vpn.is_empty(), "{messages:?}");
    assert_eq!(guarded(&snapshot), ["10.20.0.0/16"]);
}

#[test]
fn the_older_connection_keeps_its_networks() {
    let one = |name: &str, created: &str, rest: &str| {
        format!(
            "{HEAD}metadata: {{name: {name}, creationTimestamp: \"{created}\"}}\nspec: {{auth: {{psk: \
         {{secretName: psk}}}}, remote: {{gateway: 203.0.113.7, subnets: [10.20.0.0/16]}}{rest}}}\n---\n"
        )
    };
    let secret = format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: psk}}\nstringData: {{psk: {KEY}}}\n"
    );
    let (old, young) = ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z");
    let names = |text: &str| -> Vec<String> {
        read(text).snapshot.vpn.keys().map(|key| key.name.clone()).collect()
    };
    let both = |rest: &str, other: &str| one("a", young, rest) + &one("b", old, other) + &secret;
    assert_eq!(names(&both("", "")), ["b"]);
    let message = &read(&both("", "")).messages()[0];
    assert!(
        message.contains("default/a") && message.contains("VpnConnection default/b"),
        "{message}"
    );
    assert_eq!(names(&both(", zone: x", "")), ["b"]);
    assert_eq!(names(&both(", zone: x", ", zone: y")), ["a", "b"]);
    let elsewhere = ", local: {subnets: [192.168.1.0/24]}";
    assert_eq!(names(&both(elsewhere, "")), ["a", "b"]);
    let renamed = ", remoteSubnetNAT: [\"10.131.0.0/16=10.20.0.0/16\"]";
    assert_eq!(names(&both(renamed, "")), ["a", "b"]);
}

#[test]
fn certificates_are_checked_and_kept_as_they_are_written() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = params.self_signed(&key).unwrap();
    let issuer = Issuer::new(params, key);
    let own_key = KeyPair::generate().unwrap();
    let own = CertificateParams::new(vec!["edge.example.net".to_owned()]).unwrap();
    let own = own.signed_by(&own_key, &issuer).unwrap();
    let indented = |pem: &str| pem.lines().map(|line| format!("    {line}\n")).collect::<String>();
    let of = |key: &str, authorities: &str| {
        format!(
            "{HEAD}metadata: {{name: c}}\nspec:\n  auth: {{certificate: {{secretName: own, caSecretName: \
         ca}}}}\n  remote: {{gateway: 203.0.113.7, id: hq, subnets: [10.20.0.0/16]}}\n---\n\
         apiVersion: v1\nkind: Secret\nmetadata: {{name: own}}\ntype: kubernetes.io/tls\nstringData:\n  \
         tls.crt: |\n{}  tls.key: |\n{}---\napiVersion: v1\nkind: Secret\nmetadata: {{name: \
         ca}}\nstringData:\n  ca.crt: |\n{}",
            indented(&own.pem()),
            indented(key),
            indented(authorities)
        )
    };
    let connection = good(&of(&own_key.serialize_pem(), &authority.pem()));
    let VpnAuth::Certificate { chain, authorities, revoked, .. } = connection.auth else {
        panic!("it has certificates");
    };
    assert!(chain.starts_with(b"-----BEGIN CERTIFICATE") && revoked.is_empty());
    assert!(authorities.starts_with(b"-----BEGIN CERTIFICATE"));
    let other = KeyPair::generate().unwrap().serialize_pem();
    refused(&of(&other, &authority.pem()), &["Secret default/own", "does not belong"]);
    refused(&of(&own_key.serialize_pem(), "nothing"), &["Secret default/ca", "data[\"ca.crt\"]"]);
    let crl = of(&own_key.serialize_pem(), &authority.pem()) + "  ca.crl: nothing\n";
    refused(&crl, &["data[\"ca.crl\"]", "no revocation list"]);
    let missing = of(&own_key.serialize_pem(), &authority.pem())
        .replace("caSecretName: ca", "caSecretName: x");
    refused(&missing, &["spec.auth.certificate.caSecretName \"x\""]);
}

#[test]
fn connections_without_the_plane_are_told_of() {
    let found = fixture::with(&usual(""), Settings::default());
    assert!(found.only().contains("write vpn.enabled: true"));
    assert!(found.snapshot.vpn.is_empty());
}

/// Far more than it takes, even where much else runs, and far less than what grows with the square.
const LONG: std::time::Duration = std::time::Duration::from_secs(30);

#[test]
fn huge_connections_are_refused_in_bounded_time_and_stay_guarded() {
    let networks: Vec<String> =
        (0..40_000).map(|n| format!("10.{}.{}.{}/32", n >> 16, (n >> 8) & 255, n & 255)).collect();
    let networks = networks.join(", ");
    let children: Vec<String> = (0..20_000).map(|n| format!("{{name: c{n}}}")).collect();
    let unknown: Vec<String> = (0..20_000).map(|n| format!("x{n}: 1")).collect();
    let head = "auth: {psk: {secretName: psk}}, remote: {gateway: 203.0.113.7, subnets: [";
    let started = std::time::Instant::now();
    for (spec, part) in [
        (format!("{head}{networks}]}}"), "spec.remote.subnets: has 40000 entries"),
        (
            format!("{head}10.20.0.0/16]}}, local: {{subnets: [{networks}]}}"),
            "spec.local.subnets: has 40000 entries",
        ),
        (
            format!("{head}10.20.0.0/16]}}, children: [{}]", children.join(", ")),
            "spec.children: has 20000 entries",
        ),
        (format!("{head}10.20.0.0/16]}}, {}", unknown.join(", ")), "as are 19984 after it"),
    ] {
        let found = read(&text(&spec, KEY));
        let messages = found.messages();
        assert!(messages.len() < 30, "{}", messages.len());
        assert!(messages.iter().any(|one| one.contains(part)), "{part}: {messages:?}");
        assert!(!guarded(&found.snapshot).is_empty());
    }
    assert!(started.elapsed() < LONG, "{:?}", started.elapsed());
}

#[test]
fn a_thousand_connections_to_one_remote_are_told_apart_in_bounded_time() {
    let many = |remote: fn(usize) -> String| {
        let one = |n: usize| {
            let remote = remote(n);
            format!(
                "{HEAD}metadata: {{name: c{n}}}\nspec: {{auth: {{psk: {{secretName: psk}}}}, remote: \
                 {{gateway: 203.0.113.7, subnets: [{remote}]}}}}\n---\n"
            )
        };
        let secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: psk}\nstringData: {psk: ";
        (0..1000).map(one).collect::<String>() + secret + KEY + "}\n"
    };
    let started = std::time::Instant::now();
    let same = read(&many(|_| "10.20.0.0/16".to_owned()));
    assert_eq!((same.snapshot.vpn.len(), same.snapshot.vpn_refused.len()), (1, 999));
    let apart = read(&many(|n| format!("10.{}.{}.0/24", n / 256, n % 256)));
    assert_eq!(apart.snapshot.vpn.len(), 1000);
    assert!(started.elapsed() < LONG, "{:?}", started.elapsed());
}

#[test]
fn a_connection_that_is_being_deleted_ends_and_stays_guarded() {
    let text = usual("");
    let deleted =
        text.replace("{name: c}", "{name: c, deletionTimestamp: \"2026-01-01T00:00:00Z\"}");
    let mut memo = Memo::default();
    let mut read = |text: &str| {
        let mut objects = ObjectSet::default();
        for entry in manifest::parse("all.yaml", text).objects {
            entry.insert_into(&mut objects);
        }
        ingest_with(&objects, &settings(), &mut memo)
    };
    let (snapshot, _) = read(&text);
    assert_eq!(snapshot.vpn.len(), 1);
    let (snapshot, diagnostics) = read(&deleted);
    assert_eq!(diagnostics, []);
    assert!(snapshot.vpn.is_empty());
    let guarded = &snapshot.vpn_refused[&ObjectKey::new("default", "c")];
    assert_eq!(guarded.iter().map(ToString::to_string).collect::<Vec<_>>(), ["10.20.0.0/16"]);
}
