//! What people ask a running gateway, and what it answers.

use serde_json::Value;
use testkit::eventually;
use testkit::vpn_lab::Site;

use crate::Pair;
use crate::site::Connection;

/// Waits until `diagnose` names a cause, and returns all that it says.
#[track_caller]
fn diagnosis(pair: &Pair, site: Site, reason: &str) -> String {
    eventually(&format!("{site:?} names {reason}"), || {
        let (_, json, _) = pair.gateway(site).run(&["vpn", "diagnose", "site", "--output", "json"]);
        let value: Value = serde_json::from_str(&json).ok()?;
        let causes = value.get("causes")?.as_array()?.clone();
        causes.iter().find(|cause| cause["reason"] == reason).map(|_| json)
    })
}

#[test]
fn status_shows_both_ends_suites_and_selectors() {
    let pair = Pair::up();
    pair.wait_ping(Site::A);
    let (code, text, error) = pair.gateway(Site::A).run(&["vpn", "status"]);
    assert_eq!(code, Some(0), "{error}");
    assert!(text.contains("default/site") && text.contains("up"), "{text}");
    let (code, text, error) = pair.gateway(Site::A).run(&["vpn", "status", "site"]);
    assert_eq!(code, Some(0), "{error}");
    for part in ["192.0.2.1", "192.0.2.2", "a.test", "b.test", "10.1.0.0/24", "10.2.0.0/24"] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let (code, _, error) = pair.gateway(Site::A).run(&["vpn", "status", "other"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("default/site"), "{error}");
    let (code, text, _) = pair.gateway(Site::A).run(&["vpn", "diagnose", "site"]);
    assert_eq!(code, Some(0), "{text}");
    // Nobody writes keys anywhere.
    for site in Site::BOTH {
        assert!(!pair.gateway(site).stderr().contains("a key for tests"));
    }
}

#[test]
fn keys_that_differ_are_named() {
    let pair = Pair::start_with(|site| match site {
        Site::A => Connection::new(site),
        Site::B => Connection::new(site).psk("another key for tests, as long"),
    });
    let text = diagnosis(&pair, Site::B, "psk-differs");
    assert!(text.contains("a.test"), "{text}");
    let text = diagnosis(&pair, Site::A, "refused");
    assert!(text.contains("a.test") && text.contains("preshared key"), "{text}");
    let (code, ..) = pair.gateway(Site::A).run(&["vpn", "diagnose", "site"]);
    assert_eq!(code, Some(1));
}

#[test]
fn ids_that_differ_are_named_with_both_strings() {
    let pair = Pair::start_with(|site| match site {
        Site::A => Connection::new(site).id("wrong.test"),
        Site::B => Connection::new(site),
    });
    let text = diagnosis(&pair, Site::B, "wrong-id");
    assert!(text.contains("wrong.test") && text.contains("a.test"), "{text}");
    let text = diagnosis(&pair, Site::A, "refused");
    assert!(text.contains("wrong.test") && text.contains("b.test"), "{text}");
}

#[test]
fn end_that_is_asked_for_by_another_name_is_named_with_both_strings() {
    let pair = Pair::start_with(|site| match site {
        Site::A => Connection::new(site),
        Site::B => Connection::new(site).id("wrong.test"),
    });
    let text = diagnosis(&pair, Site::B, "asked-for-another");
    assert!(text.contains("wrong.test") && text.contains("b.test"), "{text}");
}

#[test]
fn selectors_that_differ_are_named_with_both_lists() {
    let pair = Pair::start_with(|site| match site {
        Site::A => Connection::new(site).remote("10.77.0.0/24"),
        Site::B => Connection::new(site),
    });
    let text = diagnosis(&pair, Site::B, "no-selectors");
    assert!(text.contains("10.77.0.0/24") && text.contains("10.2.0.0/24"), "{text}");
    diagnosis(&pair, Site::A, "no-selectors");
}

#[test]
fn proposals_that_differ_are_named_with_both_lists() {
    let pair = Pair::start_with(|site| match site {
        Site::A => Connection::new(site).spec("ike: [aes128gcm16-prfsha256-ecp384]"),
        Site::B => Connection::new(site).spec("ike: [aes256gcm16-prfsha384-ecp256]"),
    });
    let text = diagnosis(&pair, Site::B, "no-proposal-ike");
    assert!(text.contains("aes256gcm16") && text.contains("aes128gcm16"), "{text}");
    diagnosis(&pair, Site::A, "no-proposal-ike");
}

#[test]
fn peer_that_does_not_answer_is_named() {
    // As it ends after few tries.
    let settings = "retransmit: {first: 200ms, base: 1.0, max: 200ms, tries: 3}";
    let pair = Pair::configured(settings, Connection::new);
    pair.wait_up();
    pair.gateway(Site::A).run(&["vpn", "down", "site"]);
    pair.wait_state(Site::A, "down");
    pair.lab.lose(100);
    pair.gateway(Site::A).run(&["vpn", "up", "site"]);
    let text = diagnosis(&pair, Site::A, "no-answer");
    assert!(text.contains("UDP 500"), "{text}");
    pair.lab.lose(0);
    pair.wait_up();
    let text = pair.gateway(Site::A).run(&["vpn", "diagnose", "site"]).1;
    assert!(!text.contains("no-answer"), "{text}");
}

#[test]
fn nothing_is_changed_for_other_machines_or_web_pages() {
    let pair = Pair::up();
    let gateway = pair.lab.gateway(Site::A);
    let url = format!("http://{}/api/v1/vpn/default/site/down", pair.gateway(Site::A).admin());
    let post = |arguments: &[&str]| {
        let mut all = vec!["-s", "-o", "/dev/null", "-w", "%{http_code}", "-X", "POST", &url];
        all.extend(arguments);
        gateway.command("curl", &all)
    };
    assert_eq!(post(&[]), "403");
    assert_eq!(post(&["-H", "tidegate-admin: x", "-H", "Host: evil.example"]), "403");
    assert_eq!(pair.connection(Site::A)["state"], "up");
    assert_eq!(post(&["-H", "tidegate-admin: x"]), "202");
    pair.wait_state(Site::A, "down");
}

#[test]
fn capture_holds_decrypted_messages() {
    let pair = Pair::up();
    let file = pair.gateway(Site::A).folder().join("ike.pcap");
    let file = file.to_str().unwrap();
    std::thread::scope(|scope| {
        let capture = scope.spawn(|| {
            let arguments = ["vpn", "capture", "site", "--seconds", "3", "--write", file];
            pair.gateway(Site::A).run(&arguments)
        });
        eventually("something is rekeyed", || {
            pair.gateway(Site::A).run(&["vpn", "rekey", "site", "--what", "ike"]);
            capture.is_finished().then_some(())
        });
        let (code, _, error) = capture.join().unwrap();
        assert_eq!(code, Some(0), "{error}");
    });
    let text = pair.lab.gateway(Site::A).command("tcpdump", &["-nn", "-v", "-r", file]);
    // The payloads inside: a rekeying names its proposal and nonce.
    assert!(text.contains("child_sa") && text.contains("nonce"), "{text}");
}

#[test]
fn metrics_pass_promtool() {
    let pair = Pair::up();
    pair.wait_ping(Site::A);
    let page = pair.gateway(Site::A).admin_get("/metrics").text();
    let host = pair.lab.host(Site::A);
    let said = host.command_with("promtool", &["check", "metrics"], &page);
    assert_eq!(said, "");
    for name in ["vpn_sent_bytes_total", "vpn_received_packets_total", "vpn_child_sas"] {
        let labels = [("connection", "default/site"), ("child", "site")];
        assert!(pair.gateway(Site::A).metric(&format!("tidegate_{name}"), &labels) > 0.0, "{name}");
    }
    let sas = [("state", "established")];
    assert_eq!(pair.gateway(Site::A).metric("tidegate_vpn_ike_sas", &sas), 1.0);
}

#[test]
fn packets_that_the_other_end_did_not_agree_on_are_told_from_others() {
    let pair = Pair::start_with(|site| match site {
        Site::A => Connection::new(site).remote("10.2.0.0/16"),
        Site::B => Connection::new(site),
    });
    pair.wait_up();
    pair.wait_ping(Site::A);
    let (_, text, _) = pair.gateway(Site::A).run(&["vpn", "status", "site"]);
    assert!(text.contains("agreed on less than"), "{text}");
    let ping = ["-n", "-c1", "-W0.5", "10.2.77.1"];
    assert!(pair.lab.host(Site::A).try_command("ping", &ping, "").is_err());
    let text = diagnosis(&pair, Site::A, "narrowed");
    assert!(text.contains("10.2.0.0/16") && text.contains("10.2.0.0/24"), "{text}");
    assert!(!text.contains("wrong-subnet"), "{text}");
}

#[test]
fn peer_that_stops_answering_is_remembered_at_once() {
    let pair = Pair::up();
    pair.lab.lose(100);
    let text = diagnosis(&pair, Site::A, "dead-peer");
    assert!(text.contains("ago"), "{text}");
    let (_, text, _) = pair.gateway(Site::A).run(&["vpn", "status"]);
    assert!(text.contains("dead-peer"), "{text}");
    pair.lab.lose(0);
    pair.gateway(Site::A).run(&["vpn", "up", "site"]);
    pair.wait_up();
    let (_, text, _) = pair.gateway(Site::A).run(&["vpn", "status"]);
    assert!(!text.contains("dead-peer"), "{text}");
}
