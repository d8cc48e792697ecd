//! The lab itself, on peers that every development machine and CI have. Figures decide nothing
//! here: what is looked at is that each kind of scenario measures what it says.

use serde_json::Value;

use crate::shared::{loadtest, said};

#[test]
fn every_kind_of_scenario_is_measured_on_the_peers() {
    let folder = tempfile::tempdir().expect("a folder");
    let json = folder.path().join("result.json");
    let html = folder.path().join("result.html");
    let peers = ["--quick", "--without-gateway", "--peers", "nginx,haproxy"];
    let only = ["--only", "h1-64,h1-70,tls-full-rsa,h1-idle-50k,control-1000"];
    let [json_text, html_text] =
        [&json, &html].map(|path| path.to_str().expect("a path of text").to_owned());
    let files = ["--json", &json_text, "--html", &html_text];
    let output = loadtest(&[&["compare"], &peers[..], &only, &files].concat());
    let err = said(&output.stderr);
    assert!(output.status.success(), "{err}");
    let text = std::fs::read_to_string(&json).expect("JSON");
    let report: Value = serde_json::from_str(&text).expect("JSON");
    // The page is the one that `report` makes of the JSON.
    let page = std::fs::read_to_string(&html).expect("HTML");
    let again = folder.path().join("again.html");
    let again_text = again.to_str().expect("a path of text");
    let report_command = loadtest(&["report", &json_text, "--html", again_text]);
    assert!(report_command.status.success(), "{}", said(&report_command.stderr));
    assert_eq!(page, std::fs::read_to_string(&again).expect("HTML"));
    // Lines that stay are few: one for each scenario, unless it takes long.
    let lines: Vec<_> = err.lines().filter(|line| line.contains(" pass ")).collect();
    assert!((1..=30).contains(&lines.len()), "{err}");
    let trials = |id: &str| -> Vec<Value> {
        let scenarios = report["scenarios"].as_array().expect("scenarios");
        let scenario = scenarios.iter().find(|scenario| scenario["id"] == id).expect(id);
        let trials = scenario["trials"].as_array().expect("trials").clone();
        for peer in ["nginx", "haproxy"] {
            assert!(trials.iter().any(|trial| trial["target"] == peer), "{id}: {peer}");
        }
        assert!(trials.iter().all(|trial| trial["cost"].as_f64().is_some()), "{id}: {trials:?}");
        trials
    };
    for trial in trials("h1-64") {
        let latency = &trial["latency"];
        assert_eq!(latency["count"], trial["operations"]);
        assert!(trial["memory"]["pss"].as_u64().expect("memory") > 0);
        assert!(trial.get("open_loop").is_none(), "{trial}");
    }
    // All are asked for the same, and for less than they can take.
    let rates: Vec<_> = trials("h1-70")
        .iter()
        .map(|trial| trial["open_loop"]["rate"].as_f64().expect("a rate"))
        .collect();
    assert!(rates.iter().all(|rate| *rate > 0.0 && *rate == rates[0]), "{rates:?}");
    // The client believes the RSA certificate alone, and resumes nothing.
    for trial in trials("tls-full-rsa") {
        assert!(trial["tls"][0].as_str().expect("TLS").contains("TLS13"), "{trial}");
        assert!(trial["operations"].as_u64().expect("requests") > 0);
    }
    for trial in trials("h1-idle-50k") {
        assert_eq!(trial["operations"], 500);
    }
    for figure in ["endpoint", "endpoint-loaded", "ingress", "ingress-cpu"] {
        for trial in trials(&format!("control-1000-{figure}")) {
            assert_eq!(trial["each"].as_array().expect("changes").len(), 2, "{figure}");
        }
    }
    for trial in trials("control-1000-ingress-loaded") {
        assert!(trial["clients"]["requests"].as_u64().expect("clients") > 0);
    }
}

#[test]
fn wireguard_of_the_peers_is_measured_beside_plain_routing() {
    let folder = tempfile::tempdir().expect("a folder");
    let json = folder.path().join("result.json");
    let json_text = json.to_str().expect("a path of text");
    let what = ["compare", "overlay", "--quick", "--without-gateway", "--only", "overlay-bulk"];
    let output = loadtest(&[&what[..], &["--json", json_text]].concat());
    assert!(output.status.success(), "{}", said(&output.stderr));
    let text = std::fs::read_to_string(&json).expect("JSON");
    let report: Value = serde_json::from_str(&text).expect("JSON");
    let scenarios = report["scenarios"].as_array().expect("scenarios");
    let ids: Vec<_> = scenarios.iter().map(|one| one["id"].as_str().expect("an id")).collect();
    assert_eq!(ids, ["overlay-bulk", "overlay-bulk-all"]);
    for target in ["boringtun", "wireguard-go", "routing"] {
        let trials = scenarios[1]["trials"].as_array().expect("trials");
        let own: Vec<_> = trials.iter().filter(|trial| trial["target"] == target).collect();
        assert!(!own.is_empty(), "{target}");
        for trial in own {
            assert!(trial["cost"].as_f64().is_some_and(|cost| cost > 0.0), "{trial:#}");
            assert_eq!(trial["packet"], 1400, "{trial:#}");
        }
    }
}

#[test]
fn tunnels_of_the_peers_are_measured_beside_plain_routing() {
    let folder = tempfile::tempdir().expect("a folder");
    let json = folder.path().join("result.json");
    let json_text = json.to_str().expect("a path of text");
    let only = "vpn-bulk,vpn-small,vpn-latency";
    let what = ["compare", "vpn", "--quick", "--without-gateway", "--only", only];
    let output = loadtest(&[&what[..], &["--json", json_text]].concat());
    assert!(output.status.success(), "{}", said(&output.stderr));
    let text = std::fs::read_to_string(&json).expect("JSON");
    let report: Value = serde_json::from_str(&text).expect("JSON");
    let scenarios = report["scenarios"].as_array().expect("scenarios");
    let ids: Vec<_> = scenarios.iter().map(|one| one["id"].as_str().expect("an id")).collect();
    assert_eq!(ids, ["vpn-bulk", "vpn-bulk-all", "vpn-small", "vpn-small-all", "vpn-latency"]);
    for scenario in scenarios {
        let trials = scenario["trials"].as_array().expect("trials");
        let has = |target: &str| trials.iter().any(|trial| trial["target"] == target);
        let is_of_all =
            scenario["id"].as_str().is_some_and(|id| !["vpn-bulk", "vpn-small"].contains(&id));
        assert!(has("libipsec") && has("boringtun"), "{scenario:#}");
        assert_eq!(has("routing"), is_of_all, "{scenario:#}");
        for trial in trials {
            assert!(trial["cost"].as_f64().is_some_and(|cost| cost > 0.0), "{trial:#}");
        }
        // All send packets of the same size.
        let sizes: Vec<_> = trials.iter().map(|trial| &trial["packet"]).collect();
        assert!(sizes.iter().all(|size| *size == sizes[0]), "{sizes:?}");
    }
}
