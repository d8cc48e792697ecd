use model::snapshot::{Algorithm, Exposure, ProxyVersion};
use model::{ObjectKey, Visibility};

use super::{balanced, manifest};
use crate::fixture::{Fixture, l4};

fn exposure(found: &Fixture) -> &Exposure {
    found.service("web").exposure.as_ref().unwrap()
}

/// A Service with all that can be reached from outside, and one annotation.
fn with(name: &str, value: &str) -> Fixture {
    all_ports(&format!("tidegate.io/{name}: {value:?}"), "{port: 443, nodePort: 30443}")
}

fn all_ports(annotations: &str, ports: &str) -> Fixture {
    l4(&manifest(
        annotations,
        &format!("type: LoadBalancer, externalIPs: [192.0.2.9], ports: [{ports}]"),
    ))
}

#[track_caller]
fn clean(name: &str, value: &str) -> Exposure {
    let found = with(name, value);
    assert_eq!(found.messages(), [] as [String; 0]);
    exposure(&found).clone()
}

#[test]
fn every_annotation_is_read() {
    assert_eq!(clean("visibility", "private").visibility, Visibility::Private);
    assert_eq!(clean("pool", "a.b").pool.as_deref(), Some("a.b"));
    let requested = clean("addresses", "192.0.2.1, 2001:db8::1,192.0.2.1").requested;
    let requested: Vec<String> = requested.iter().map(|one| one.address.to_string()).collect();
    assert_eq!(requested, ["192.0.2.1", "2001:db8::1"]);
    assert_eq!(clean("sharing-key", "k").sharing_key.as_deref(), Some("k"));
    for (text, algorithm) in [
        ("random", Algorithm::Random),
        ("round-robin", Algorithm::RoundRobin),
        ("source-hash", Algorithm::SourceHash),
        ("maglev", Algorithm::Maglev),
        (" least-connections ", Algorithm::LeastConnections),
    ] {
        assert_eq!(clean("algorithm", text).algorithm, algorithm);
    }
    assert_eq!(clean("snat", "false").snat, Some(false));
    assert!(clean("user-space", "true").stream.forced);
    assert!(!clean("user-space", "false").stream.any());
    assert_eq!(
        clean("sni-hosts", "B.example.com,*.a.example").stream.sni_hosts,
        ["*.a.example", "b.example.com"]
    );
    assert!(clean("accept-proxy-protocol", "true").stream.accept_proxy);
    assert_eq!(clean("send-proxy-protocol", "v1").stream.send_proxy, Some(ProxyVersion::V1));
    assert_eq!(clean("send-proxy-protocol", "v2").stream.send_proxy, Some(ProxyVersion::V2));
    assert_eq!(clean("idle-timeout", "5m").stream.idle_ms, Some(300_000));
}

#[test]
fn an_annotation_that_only_tunes_is_left_out_if_it_cannot_be_read() {
    for (name, value, reason) in [
        ("algorithm", "fastest", "not a way to choose"),
        ("snat", "maybe", "neither true nor false"),
        ("user-space", "", "neither true nor false"),
        ("sharing-key", " ", "the key is empty"),
        ("idle-timeout", "forever", "not a number of seconds"),
        ("idle-timeout", "0s", "not more than 0"),
    ] {
        let found = with(name, value);
        let message = found.only();
        let start = format!(
            "error: Service default/web: metadata.annotations[\"tidegate.io/{name}\"] {:?}: \
             {reason}",
            value.trim()
        );
        assert!(message.starts_with(&start), "{message}");
        assert!(message.contains("it has no effect; write"), "{message}");
        let without = all_ports("", "{port: 443, nodePort: 30443}");
        assert_eq!(exposure(&found), exposure(&without));
    }
}

#[test]
fn what_decides_on_addresses_takes_the_vip_away_if_it_cannot_be_read() {
    for (name, value) in [
        ("visibility", "privat"),
        ("visibility", "Private"),
        ("pool", "A b"),
        ("addresses", "192.0.2.1;192.0.2.2"),
        ("addresses", ""),
    ] {
        let found = with(name, value);
        let message = found.only();
        assert!(message.contains("the Service has no VIP until it is mended"), "{message}");
        let exposure = exposure(&found);
        assert!(!exposure.load_balancer);
        let reason = format!("the annotation tidegate.io/{name} can't be honoured");
        assert_eq!(exposure.refused.as_deref(), Some(reason.as_str()));
        assert_eq!(exposure.external_ips.len(), 1);
        assert_eq!(found.service("web").ports[0].node_port, Some(30443));
    }
}

#[test]
fn what_decides_on_who_gets_in_closes_the_service_if_it_cannot_be_read() {
    for (name, value, reason) in [
        ("tls-secret", "a b", "characters other than"),
        ("sni-hosts", "a.example,", "\"\" is not a host name"),
        ("sni-hosts", "*", "\"*\" is not a host name"),
        ("accept-proxy-protocol", "v2", "neither true nor false"),
        ("send-proxy-protocol", "true", "neither v1 nor v2"),
        ("tls-ports", "https", "\"https\" is not a port number"),
    ] {
        let found = with(name, value);
        let message = found.only();
        assert!(message.contains(reason), "{message}");
        assert!(message.contains("nothing of the Service is reached from outside"), "{message}");
        let exposure = exposure(&found);
        assert!(!exposure.load_balancer && exposure.refused.is_some(), "{name}");
        assert!(exposure.external_ips.is_empty(), "{name}");
        assert_eq!(found.service("web").ports[0].node_port, None, "{name}");
    }
}

#[test]
fn a_tls_secret_that_is_not_there_is_named_and_stays_asked_for() {
    let found = with("tls-secret", "web-tls");
    let message = found.only();
    assert!(message.contains("\"web-tls\": there is no such Secret; connections to"), "{message}");
    let secret = ObjectKey::new("default", "web-tls");
    assert_eq!(exposure(&found).stream.tls_secret.as_ref(), Some(&secret));
    assert!(found.snapshot.certificates.is_empty());
    let broken = manifest(
        "tidegate.io/tls-secret: s",
        "type: NodePort, ports: [{port: 443, nodePort: 30443}]",
    ) + "---\n{apiVersion: v1, kind: Secret, metadata: {name: s}, type: Opaque}\n";
    let messages = l4(&broken).messages();
    assert!(messages[0].contains("Secret default/s: type"), "{messages:?}");
    assert!(messages[1].contains("the Secret can't be used"), "{messages:?}");
}

#[test]
fn a_tls_secret_is_in_the_snapshot() {
    let pair = rcgen::generate_simple_self_signed(["db.example.com".to_owned()]).unwrap();
    let indent = |pem: &str| pem.replace('\n', "\n    ");
    let text = format!(
        "{}---\napiVersion: v1\nkind: Secret\ntype: kubernetes.io/tls\nmetadata: {{name: s}}\n\
         stringData:\n  tls.crt: |\n    {}\n  tls.key: |\n    {}\n",
        manifest(
            "tidegate.io/tls-secret: s, tidegate.io/tls-ports: \"8443,443\"",
            "type: LoadBalancer, ports: [{name: a, port: 443}, {name: b, port: 80}, {name: c, \
             port: 8443}]"
        )
        .replace("ports: [{port: 8080}]", "ports: [{name: a, port: 1}]"),
        indent(&pair.cert.pem()),
        indent(&pair.signing_key.serialize_pem()),
    );
    let found = l4(&text);
    assert_eq!(found.messages(), [] as [String; 0]);
    assert_eq!(exposure(&found).stream.tls_ports, [443, 8443]);
    let pair = &found.snapshot.certificates[&ObjectKey::new("default", "s")];
    assert_eq!(*pair.names, ["db.example.com"]);
}

#[test]
fn annotations_that_contradict_each_other_or_the_ports_are_named() {
    let tcp = "{port: 443, nodePort: 30443}";
    let found = all_ports("tidegate.io/tls-ports: \"443\"", tcp);
    assert!(found.only().contains("has no effect without tidegate.io/tls-secret"));
    assert!(exposure(&found).load_balancer);

    let found = all_ports("tidegate.io/tls-secret: s, tidegate.io/sni-hosts: a.b", tcp);
    let messages = found.messages();
    assert!(messages.iter().any(|one| one.contains("passes through by name or ends here")));
    assert!(!exposure(&found).load_balancer);

    let found = all_ports("tidegate.io/tls-secret: s, tidegate.io/tls-ports: \"444\"", tcp);
    let messages = found.messages();
    assert!(messages.iter().any(|one| one.contains("444 is no TCP port")), "{messages:?}");
    assert!(!exposure(&found).load_balancer);
}

#[test]
fn tls_and_proxy_headers_are_for_tcp() {
    let both = "{name: a, port: 443, nodePort: 30443}, {name: b, port: 443, protocol: UDP, nodePort: 30443}";
    let text = |annotation: &str, ports: &str| {
        let found = all_ports(&format!("tidegate.io/{annotation}"), ports);
        let of_service = found.messages().into_iter().filter(|one| one.contains("annotations"));
        (of_service.collect::<Vec<_>>(), exposure(&found).load_balancer)
    };
    for annotation in
        ["sni-hosts: a.b", "send-proxy-protocol: v2", "accept-proxy-protocol: \"true\""]
    {
        let (messages, served) = text(annotation, both);
        assert!(messages[0].contains("doesn't hold for 443 of UDP"), "{messages:?}");
        assert!(messages[0].starts_with("warning") && served);
        let (messages, served) = text(annotation, "{port: 53, protocol: UDP, nodePort: 30053}");
        assert!(messages[0].contains("needs a TCP port"), "{messages:?}");
        assert!(messages[0].starts_with("error") && !served);
    }
    let (messages, served) = text("algorithm: least-connections", "{port: 9, protocol: SCTP}");
    assert!(messages[0].contains("doesn't hold for 9 of SCTP") && served, "{messages:?}");
}

#[test]
fn an_annotation_that_is_not_known_is_named() {
    let found = with("visibilty", "private");
    let message = found.only();
    assert!(message.starts_with("warning: Service default/web: metadata.annotations"), "{message}");
    assert!(message.contains("is no annotation of Services") && message.contains("visibility"));
    // Of others nothing is said.
    assert!(balanced("example.com/visibility: x", "").messages().is_empty());
}

#[test]
fn annotations_of_a_service_that_nothing_exposes_are_in_vain() {
    let text = manifest("tidegate.io/visibility: private, tidegate.io/x: y", "ports: [{port: 80}]");
    let messages = l4(&text).messages();
    assert!(messages[0].contains("tidegate.io/visibility"), "{messages:?}");
    assert!(messages[0].contains("has no effect on a Service that isn't reached from outside"));
    assert!(messages[1].contains("tidegate.io/x") && messages.len() == 2, "{messages:?}");
}

#[test]
fn annotations_about_vips_are_in_vain_without_any() {
    for name in ["visibility", "pool", "addresses", "sharing-key"] {
        let spec = "type: NodePort, ports: [{port: 80, nodePort: 30080}]";
        let found = l4(&manifest(&format!("tidegate.io/{name}: a b"), spec));
        let message = found.only();
        assert!(message.starts_with("warning"), "{message}");
        assert!(message.contains("has no effect on a Service that gets no VIP"), "{message}");
        assert_eq!(found.service("web").ports[0].node_port, Some(30080));
        assert_eq!(exposure(&found).refused, None);
    }
}

#[test]
fn a_long_value_is_shown_in_part() {
    let found = with("visibility", &"x".repeat(10_000));
    assert!(found.only().len() < 500 && found.only().contains('…'));
    let found = balanced("", &format!("loadBalancerSourceRanges: [{}]", "x".repeat(10_000)));
    assert!(found.only().len() < 500, "{}", found.only().len());
}
