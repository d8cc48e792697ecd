//! The usual columns of built-in kinds.

use serde_json::{Value, json};

use super::{age as age_of, since};
use crate::kinds::{Column, Kind};

/// Name and type of a column, and whether only `-o wide` shows it.
type Head = (&'static str, &'static str, i64);

const AGE: Head = ("Age", "string", 0);

fn heads(kind: &Kind) -> &'static [Head] {
    match kind.kind.as_str() {
        "Ingress" => &[
            ("Class", "string", 0),
            ("Hosts", "string", 0),
            ("Address", "string", 0),
            ("Ports", "string", 0),
            AGE,
        ],
        "IngressClass" => &[("Controller", "string", 0), ("Parameters", "string", 0), AGE],
        "Service" => &[
            ("Type", "string", 0),
            ("Cluster-IP", "string", 0),
            ("External-IP", "string", 0),
            ("Port(s)", "string", 0),
            AGE,
            ("Selector", "string", 1),
        ],
        "EndpointSlice" => {
            &[("AddressType", "string", 0), ("Ports", "string", 0), ("Endpoints", "string", 0), AGE]
        }
        "Secret" => &[("Type", "string", 0), ("Data", "string", 0), AGE],
        "ConfigMap" => &[("Data", "string", 0), AGE],
        "Namespace" => &[("Status", "string", 0), AGE],
        "Node" => &[
            ("Status", "string", 0),
            ("Roles", "string", 0),
            AGE,
            ("Version", "string", 0),
            ("Internal-IP", "string", 1),
            ("External-IP", "string", 1),
        ],
        "Pod" => &[
            ("Ready", "string", 0),
            ("Status", "string", 0),
            ("Restarts", "string", 0),
            AGE,
            ("IP", "string", 1),
            ("Node", "string", 1),
        ],
        "Lease" => &[("Holder", "string", 0), AGE],
        "Event" => &[
            ("Last Seen", "string", 0),
            ("Type", "string", 0),
            ("Reason", "string", 0),
            ("Object", "string", 0),
            ("Subobject", "string", 1),
            ("Source", "string", 1),
            ("Message", "string", 0),
            ("First Seen", "string", 1),
            ("Count", "string", 1),
            ("Name", "string", 1),
        ],
        "CustomResourceDefinition" => &[("Created At", "date", 0)],
        _ => &[AGE],
    }
}

fn column(&(name, kind, priority): &Head) -> Column {
    Column {
        name: name.to_owned(),
        kind: kind.to_owned(),
        format: String::new(),
        path: String::new(),
        priority,
        description: String::new(),
    }
}

pub(super) fn columns(kind: &Kind) -> Vec<Column> {
    heads(kind).iter().map(column).collect()
}

pub(super) fn age() -> Vec<Column> {
    vec![column(&AGE)]
}

pub(super) fn cells(kind: &Kind, object: &Value) -> Vec<Value> {
    let (spec, status) = (&object["spec"], &object["status"]);
    let age: Value = age_of(object).into();
    let count = |value: &Value| -> Value {
        value.as_object().map_or(0, serde_json::Map::len).to_string().into()
    };
    match kind.kind.as_str() {
        "Ingress" => vec![
            or_none(text(&spec["ingressClassName"])),
            hosts(spec).into(),
            addresses(&status["loadBalancer"]).into(),
            (if spec["tls"].is_array() { "80, 443" } else { "80" }).into(),
            age,
        ],
        "IngressClass" => {
            let parameters = &spec["parameters"];
            let group = text(&parameters["apiGroup"]).map(|group| format!(".{group}"));
            let parameters = text(&parameters["kind"])
                .zip(text(&parameters["name"]))
                .map(|(kind, name)| format!("{kind}{}/{name}", group.unwrap_or_default()));
            vec![spec["controller"].clone(), or_none(parameters), age]
        }
        "Service" => service(object, age),
        "EndpointSlice" => {
            let ports = list(&object["ports"], |port| {
                port["port"].as_u64().map_or_else(|| "*".to_owned(), |port| port.to_string())
            });
            let endpoints: Vec<String> = each(&object["endpoints"])
                .flat_map(|endpoint| each(&endpoint["addresses"]))
                .filter_map(text)
                .collect();
            vec![
                object["addressType"].clone(),
                or_unset(shortened(&ports)),
                or_unset(shortened(&endpoints)),
                age,
            ]
        }
        "Secret" => vec![object["type"].clone(), count(&object["data"]), age],
        "ConfigMap" => {
            let all = ["data", "binaryData"];
            let all = all.map(|part| object[part].as_object().map_or(0, serde_json::Map::len));
            vec![all.iter().sum::<usize>().to_string().into(), age]
        }
        "Namespace" => vec![status["phase"].clone(), age],
        "Node" => node(object, age),
        "Pod" => pod(object, age),
        "Lease" => vec![spec["holderIdentity"].as_str().unwrap_or_default().into(), age],
        "Event" => event(object),
        "CustomResourceDefinition" => vec![object["metadata"]["creationTimestamp"].clone()],
        _ => vec![age],
    }
}

fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

fn each(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn list(value: &Value, write: impl Fn(&Value) -> String) -> Vec<String> {
    each(value).map(write).collect()
}

fn or_none(text: Option<String>) -> Value {
    text.unwrap_or_else(|| "<none>".to_owned()).into()
}

fn or_unset(text: String) -> Value {
    if text.is_empty() { "<unset>".into() } else { text.into() }
}

/// The first three, and how many more there are.
fn shortened(all: &[String]) -> String {
    let shown = all.iter().take(3).cloned().collect::<Vec<_>>().join(",");
    match all.len().saturating_sub(3) {
        0 => shown,
        more => format!("{shown} + {more} more..."),
    }
}

fn hosts(spec: &Value) -> String {
    let hosts: Vec<String> = each(&spec["rules"]).filter_map(|rule| text(&rule["host"])).collect();
    if hosts.is_empty() { "*".to_owned() } else { shortened(&hosts) }
}

fn addresses(load_balancer: &Value) -> String {
    let found = each(&load_balancer["ingress"])
        .filter_map(|entry| text(&entry["ip"]).or_else(|| text(&entry["hostname"])));
    found.collect::<Vec<_>>().join(",")
}

fn service(object: &Value, age: Value) -> Vec<Value> {
    let spec = &object["spec"];
    let kind = text(&spec["type"]).unwrap_or_else(|| "ClusterIP".to_owned());
    let ports = list(&spec["ports"], |port| {
        let protocol = port["protocol"].as_str().unwrap_or("TCP");
        match port["nodePort"].as_u64().filter(|&port| port > 0) {
            Some(node_port) => format!("{}:{node_port}/{protocol}", port["port"]),
            None => format!("{}/{protocol}", port["port"]),
        }
    });
    let fixed = each(&spec["externalIPs"]).filter_map(text).collect::<Vec<_>>().join(",");
    let outside = match kind.as_str() {
        "LoadBalancer" => {
            let given = addresses(&object["status"]["loadBalancer"]);
            let both = [given, fixed].into_iter().filter(|part| !part.is_empty());
            let both = both.collect::<Vec<_>>().join(",");
            if both.is_empty() { "<pending>".into() } else { both.into() }
        }
        "ExternalName" => spec["externalName"].clone(),
        _ => or_none(Some(fixed).filter(|fixed| !fixed.is_empty())),
    };
    let selector = spec["selector"].as_object().map(|selector| {
        let pairs = selector.iter();
        let pairs =
            pairs.map(|(name, value)| format!("{name}={}", text(value).unwrap_or_default()));
        pairs.collect::<Vec<_>>().join(",")
    });
    vec![
        kind.into(),
        or_none(text(&spec["clusterIP"])),
        outside,
        or_none(Some(ports.join(",")).filter(|ports| !ports.is_empty())),
        age,
        or_none(selector),
    ]
}

fn node(object: &Value, age: Value) -> Vec<Value> {
    let ready = each(&object["status"]["conditions"]).find(|one| one["type"] == "Ready");
    let mut state = match ready.map(|ready| &ready["status"]) {
        Some(status) if *status == "True" => "Ready".to_owned(),
        Some(_) => "NotReady".to_owned(),
        None => "Unknown".to_owned(),
    };
    if object["spec"]["unschedulable"] == true {
        state.push_str(",SchedulingDisabled");
    }
    let labels = object["metadata"]["labels"].as_object().into_iter().flatten();
    let roles: Vec<&str> =
        labels.filter_map(|(name, _)| name.strip_prefix("node-role.kubernetes.io/")).collect();
    let address = |kind: &str| {
        let addresses = &object["status"]["addresses"];
        or_none(
            each(addresses).find(|one| one["type"] == kind).and_then(|one| text(&one["address"])),
        )
    };
    vec![
        state.into(),
        or_none(Some(roles.join(",")).filter(|roles| !roles.is_empty())),
        age,
        object["status"]["nodeInfo"]["kubeletVersion"].as_str().unwrap_or_default().into(),
        address("InternalIP"),
        address("ExternalIP"),
    ]
}

fn pod(object: &Value, age: Value) -> Vec<Value> {
    let status = &object["status"];
    let all = each(&object["spec"]["containers"]).count();
    let ready = each(&status["containerStatuses"]).filter(|one| one["ready"] == true).count();
    let restarts =
        each(&status["containerStatuses"]).filter_map(|one| one["restartCount"].as_u64());
    let state = if object["metadata"]["deletionTimestamp"].is_null() {
        status["phase"].as_str().unwrap_or_default()
    } else {
        "Terminating"
    };
    vec![
        format!("{ready}/{all}").into(),
        state.into(),
        restarts.sum::<u64>().to_string().into(),
        age,
        or_none(text(&status["podIP"])),
        or_none(text(&object["spec"]["nodeName"])),
    ]
}

fn event(object: &Value) -> Vec<Value> {
    // Either group's names.
    let of = |names: [&str; 2]| {
        names.into_iter().map(|name| &object[name]).find(|value| !value.is_null())
    };
    let about = of(["involvedObject", "regarding"]).cloned().unwrap_or_else(|| json!({}));
    let time = |names: [&str; 2]| of(names).and_then(text);
    let made =
        text(&object["eventTime"]).or_else(|| text(&object["metadata"]["creationTimestamp"]));
    let first = time(["firstTimestamp", "deprecatedFirstTimestamp"]).or_else(|| made.clone());
    let last = text(&object["series"]["lastObservedTime"])
        .or_else(|| time(["lastTimestamp", "deprecatedLastTimestamp"]))
        .or(made);
    let count = object["series"]["count"]
        .as_u64()
        .or_else(|| of(["count", "deprecatedCount"]).and_then(Value::as_u64))
        .unwrap_or(1);
    let source = text(&object["source"]["component"])
        .or_else(|| time(["reportingComponent", "reportingController"]));
    let kind = about["kind"].as_str().unwrap_or_default().to_lowercase();
    vec![
        last.map_or_else(|| "<unknown>".to_owned(), |time| since(&time)).into(),
        object["type"].clone(),
        object["reason"].clone(),
        format!("{kind}/{}", about["name"].as_str().unwrap_or_default()).into(),
        about["fieldPath"].as_str().unwrap_or_default().into(),
        source.unwrap_or_default().into(),
        of(["message", "note"]).and_then(text).unwrap_or_default().trim().into(),
        first.map_or_else(|| "<unknown>".to_owned(), |time| since(&time)).into(),
        count.to_string().into(),
        object["metadata"]["name"].clone(),
    ]
}
