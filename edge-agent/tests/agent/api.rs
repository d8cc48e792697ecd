//! The agent and the Kubernetes API.

use std::time::{Duration, Instant};

use apiserver::{Denial, Double, Options};
use edge_agent::view::Status;
use serde_json::Value;
use testkit::{ClusterLab, Namespace, Program, eventually};

use super::edge::Identity;
use super::lab::{ADMIN, state};

const KEYS: &str = "tidegate.io/wireguard-public-keys";

/// A node with an API server of its own.
struct Cluster {
    double: Double,
    agent: Program,
    machine: Namespace,
}

impl Cluster {
    #[track_caller]
    fn new(mode: &str, denied: &[Denial]) -> Self {
        let machine = Namespace::alone("api");
        machine.ip("link set lo up
link add n0 type veth peer name n1
link set n0 up
link set n1 up
addr add 10.0.0.21/24 dev n0
");
        let options = Options { listen: "127.0.0.1:6443".parse().unwrap(), ..Options::default() };
        let double = machine.run(|| Double::start(options).unwrap());
        for crd in ["edgegateways", "vpnconnections", "addresspools"] {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../helm/tidegate/crds");
            double.load(format!("{folder}/{crd}.yaml").as_ref()).unwrap();
        }
        double.put_yaml(&ClusterLab::nodes_yaml()).unwrap();
        double.put_yaml(&Identity::new(1, "wireguard").yaml()).unwrap();
        for denial in denied {
            double.deny(denial.clone());
        }
        let config = format!(
            "apiVersion: tidegate.io/v1alpha1\nkind: AgentConfig\nnodeName: node-1\nsource: \
             {{kubernetes: {{kubeconfig: kubeconfig}}}}\noverlay: {{mode: {mode}}}\nstate: \
             state\nadmin: {{listen: \"{ADMIN}\"}}\n"
        );
        let kubeconfig = double.kubeconfig(None);
        let files = [("agent.yaml", config.as_str()), ("kubeconfig", kubeconfig.as_str())];
        let exe = env!("CARGO_BIN_EXE_edge-agent");
        let mut agent = Program::start(exe, &machine, &["run", "--config", "agent.yaml"], &files);
        agent.wait_ready(ADMIN.parse().unwrap(), "/readyz");
        Self { double, agent, machine }
    }

    #[track_caller]
    fn status(&self) -> Status {
        let answer = self.agent.get(ADMIN.parse().unwrap(), "/api/v1/status");
        serde_json::from_slice(&answer.body).unwrap()
    }

    fn annotation(&self, name: &str) -> Option<String> {
        let node = self.double.get("nodes", "", "node-1").unwrap();
        node["metadata"]["annotations"][name].as_str().map(str::to_owned)
    }

    #[track_caller]
    fn wait_for_finding(&self, words: &[&str]) {
        eventually(&format!("{words:?} is told"), || {
            let status = self.status();
            let so = |message: &str| words.iter().all(|word| message.contains(word));
            status.findings.iter().any(|found| so(&found.message)).then_some(())
        });
    }
}

#[test]
fn the_key_is_told_on_the_own_node_and_taken_back_by_uninstalling() {
    let mut cluster = Cluster::new("wireguard", &[]);
    let key = cluster.status().keys[0].key.clone();
    eventually("the key is told", || (cluster.annotation(KEYS)? == key).then_some(()));
    assert_eq!(cluster.annotation("tidegate.io/overlay-mode").as_deref(), Some("wireguard"));
    let node = cluster.double.get("nodes", "", "node-1").unwrap();
    let managers = node["metadata"]["managedFields"].as_array().unwrap();
    assert!(managers.iter().any(|one| one["manager"] == "tidegate-agent"), "{managers:?}");
    for other in ["node-2", "node-3"] {
        let node = cluster.double.get("nodes", "", other).unwrap();
        assert_eq!(node["metadata"]["annotations"], Value::Null);
    }
    // Somebody takes it away: it is put back.
    cluster.double.change("nodes", "", "node-1", |node| {
        node["metadata"]["annotations"] = Value::Null;
    });
    eventually("the key is told again", || (cluster.annotation(KEYS)? == key).then_some(()));
    eventually("an Event says that no edge answers", || {
        let events = cluster.double.list("events");
        let so = |event: &Value| {
            event["involvedObject"]["name"] == "node-1"
                && event["message"].as_str().is_some_and(|text| text.contains("no edge can be"))
                && event["reportingComponent"] == "tidegate.io/edge-agent"
        };
        events.iter().any(so).then_some(())
    });
    let (code, text, errors) = cluster.agent.run(&["check", "--config", "agent.yaml"]);
    assert_eq!(code, Some(0), "{text}{errors}");
    cluster.agent.terminate();
    assert!(cluster.agent.wait().success());
    let (code, text, errors) = cluster.agent.run(&["uninstall", "--config", "agent.yaml"]);
    assert_eq!(code, Some(0), "{text}{errors}");
    assert_eq!(cluster.annotation(KEYS), None);
    let left = state(&cluster.machine);
    assert!(!left.contains("tidegate") && !left.contains("543"), "{left}");
}

#[test]
fn without_the_api_all_goes_on_and_what_changed_meanwhile_follows_within_two_seconds() {
    let cluster = Cluster::new("wireguard", &[]);
    eventually("the edge is known", || cluster.status().edges.contains_key("edge-1").then_some(()));
    let rules = cluster.machine.command("ip", &["-6", "rule", "show"]);
    assert!(rules.contains("543"), "{rules}");
    cluster.double.go_away(None);
    eventually("it is told that the API is gone", || {
        (!cluster.status().source.connected).then_some(())
    });
    assert!(cluster.status().ready);
    assert_eq!(cluster.machine.command("ip", &["-6", "rule", "show"]), rules);
    cluster.double.put_yaml(&Identity::new(2, "wireguard").yaml()).unwrap();
    cluster.double.come_back();
    let start = Instant::now();
    eventually("the other edge is known", || (cluster.status().tunnels.len() == 2).then_some(()));
    println!("known after {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[test]
fn what_the_api_does_not_allow_is_named_and_the_rest_works() {
    let denial = Denial {
        user: "*".to_owned(),
        verbs: vec!["patch".to_owned()],
        group: "core".to_owned(),
        resource: "nodes".to_owned(),
        namespace: "*".to_owned(),
    };
    let cluster = Cluster::new("auto", &[denial]);
    cluster.wait_for_finding(&["key can't be told", "patch nodes"]);
    let (code, text, errors) = cluster.agent.run(&["check", "--config", "agent.yaml"]);
    assert_eq!(code, Some(1), "{text}{errors}");
    assert!(text.contains("doesn't allow to patch nodes node-1"), "{text}{errors}");
    assert!(cluster.status().ready);
    cluster.double.allow_all();
    eventually("the key is told", || cluster.annotation(KEYS));
}

#[test]
fn checking_tells_of_a_missing_node_of_one_without_pods_and_of_no_edge() {
    let cluster = Cluster::new("auto", &[]);
    let check = || {
        let (code, text, errors) = cluster.agent.run(&["check", "--config", "agent.yaml"]);
        (code, format!("{text}{errors}"))
    };
    assert_eq!(check().0, Some(0), "{}", check().1);
    cluster.double.change("nodes", "", "node-1", |node| {
        node["spec"]["podCIDRs"] = Value::Null;
        node["spec"]["podCIDR"] = Value::Null;
    });
    let (code, text) = check();
    assert!(code == Some(0) && text.contains("has no pod network"), "{text}");
    assert!(cluster.double.remove("edgegateways.tidegate.io", "", "edge-1"));
    let (code, text) = check();
    assert!(code == Some(0) && text.contains("there is no EdgeGateway"), "{text}");
    assert!(cluster.double.remove("nodes", "", "node-1"));
    let (code, text) = check();
    assert!(code == Some(1) && text.contains("Node node-1: is not in the cluster"), "{text}");
    // It is told soon that there is nothing to check.
    cluster.double.go_away(None);
    let start = Instant::now();
    let (code, text) = check();
    assert!(code == Some(1) && text.contains("connection is refused"), "{text}");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
}

#[test]
fn an_edge_with_another_key_and_a_node_without_pods_are_told_of() {
    let cluster = Cluster::new("wireguard", &[]);
    eventually("the edge is known", || cluster.status().edges.contains_key("edge-1").then_some(()));
    cluster.double.put_yaml(&Identity::new(1, "wireguard").yaml()).unwrap();
    cluster.wait_for_finding(&["and had", "before"]);
    cluster.double.change("nodes", "", "node-1", |node| {
        node["spec"]["podCIDRs"] = Value::Null;
        node["spec"]["podCIDR"] = Value::Null;
    });
    cluster.wait_for_finding(&["has no pod network"]);
    let findings = cluster.status().findings;
    let pods = findings.iter().filter(|found| found.message.contains("has no pod network"));
    assert_eq!(pods.count(), 1, "it is told once: {findings:?}");
}
