//! What the programs have to be allowed, and what the chart's roles grant.

#![allow(clippy::unwrap_used, clippy::panic)] // reason: a test fails by panicking

use apiserver::{Double, Options, User};
use cluster::access;
use cluster::watch::What;

const NAMESPACE: &str = "tidegate";

/// The namespace whose Secrets may be read, where not all may.
const SHOP: &str = "shop";

/// A template of the chart with nothing but its rules and names left: what is put in is the
/// account's name, and all conditions hold but the one between all Secrets and those of [`SHOP`].
fn rendered(component: &str, some_secrets: bool) -> String {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../helm/tidegate/templates");
    let text = std::fs::read_to_string(format!("{folder}/{component}/rbac.yaml")).unwrap();
    let text = match (text.split_once("{{- range"), some_secrets) {
        (None, _) => text,
        (Some((all, _)), false) => all.to_owned(),
        (Some((all, some)), true) => {
            let (head, tail) = all.split_once("{{- if not .Values.rbac.secrets").unwrap();
            let (_, tail) = tail.split_once("{{- end }}").unwrap();
            // The first line is what is left of the loop's head.
            let (_, some) = some.split_once('\n').unwrap();
            format!("{head}{tail}{some}").replace("namespace: {{ . }}", "namespace: shop")
        }
    };
    let mut lines = Vec::new();
    for line in text.lines().filter(|line| !line.trim_start().starts_with("{{")) {
        let mut line = line.to_owned();
        while let Some((head, tail)) = line.split_once("{{") {
            let (action, tail) = tail.split_once("}}").unwrap();
            let word = match action {
                action if action.contains("Namespace") => NAMESPACE,
                action if action.contains("labels") => "{}",
                _ => component,
            };
            line = format!("{head}{word}{tail}");
        }
        lines.push(line);
    }
    lines.join("\n")
}

/// What is missing, with this in the roles in place of that.
async fn missing(component: &str, what: &What, that: &str, this: &str) -> Vec<String> {
    let roles = rendered(component, false);
    assert!(roles.contains(that), "{roles}");
    missing_with(component, what, &roles.replace(that, this)).await
}

async fn missing_with(component: &str, what: &What, roles: &str) -> Vec<String> {
    let name = format!("system:serviceaccount:{NAMESPACE}:{component}");
    let users = vec![User { name: name.clone(), token: "token".to_owned() }];
    let options = Options { users, rbac: true, namespaces_must_exist: false, ..Options::default() };
    let double = Double::start(options).unwrap();
    double.put_yaml(roles).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("kubeconfig");
    double.write_kubeconfig(&path, Some(&name)).unwrap();
    let options = cluster::Options { kubeconfig: Some(path), ..cluster::Options::default() };
    let cluster = cluster::connect(&options).await.unwrap();
    let missing = access::missing(&cluster.client, &what.needs()).await.unwrap();
    missing.iter().map(ToString::to_string).collect()
}

fn gateway() -> What {
    What { needs: access::of_gateway(NAMESPACE), ..What::gateway(&[]) }
}

#[tokio::test]
async fn with_secrets_of_some_namespaces_alone_these_are_what_is_asked_for_and_granted() {
    let some = What { needs: access::of_gateway(NAMESPACE), ..What::gateway(&[SHOP.to_owned()]) };
    let none: [&str; 0] = [];
    let roles = rendered("gateway", true);
    assert_eq!(missing_with("gateway", &some, &roles).await, none);
    assert_eq!(
        missing_with("gateway", &gateway(), &roles).await,
        ["list secrets", "watch secrets"]
    );
}

#[tokio::test]
async fn the_charts_roles_grant_what_the_gateway_asks_for() {
    let none: [&str; 0] = [];
    assert_eq!(missing("gateway", &gateway(), "rules", "rules").await, none);
    // The ConfigMap's rights are for its name alone.
    let lacks = missing("gateway", &gateway(), "[tidegate-allocations]", "[another]").await;
    let all = ["get", "list", "watch", "update"]
        .map(|verb| format!("{verb} configmaps tidegate-allocations in the namespace {NAMESPACE}"));
    assert_eq!(lacks, all);
    let lacks = missing("gateway", &gateway(), "[leases]", "[sleeps]").await;
    assert_eq!(lacks.len(), 5, "{lacks:?}");
}

#[tokio::test]
async fn the_charts_roles_grant_what_the_agent_asks_for() {
    let agent = What::agent("worker-1");
    let none: [&str; 0] = [];
    assert_eq!(missing("agent", &agent, "rules", "rules").await, none);
    let lacks = missing("agent", &agent, "verbs: [patch]", "verbs: []").await;
    assert_eq!(lacks, ["patch nodes worker-1"]);
}
