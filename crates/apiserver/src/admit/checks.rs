//! What the API server finds wrong with objects of built-in kinds, as far as Tidegate writes them.

use std::net::IpAddr;

use serde_json::Value;

use crate::kinds::Kind;
use crate::refusal::Refusal;

/// Fields and what is wrong with them.
type Wrong = Vec<(String, String)>;

/// Checks an object that is about to be stored.
pub(crate) fn check(kind: &Kind, object: &Value) -> Result<(), Refusal> {
    let mut wrong = Wrong::new();
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("networking.k8s.io", "Ingress") => {
            ingress(object, &mut wrong);
            addresses(object, &mut wrong);
        }
        ("", "Service") => {
            addresses(object, &mut wrong);
            let given = &object["status"]["loadBalancer"]["ingress"];
            let some = given.as_array().is_some_and(|list| !list.is_empty());
            if some && object["spec"]["type"] != "LoadBalancer" {
                let what = "Forbidden: may only be used when `spec.type` is \"LoadBalancer\"";
                add(&mut wrong, "status.loadBalancer.ingress", what);
            }
        }
        ("coordination.k8s.io", "Lease") => lease(object, &mut wrong),
        ("", "Event") => event(object, &mut wrong),
        _ => {}
    }
    if wrong.is_empty() {
        return Ok(());
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    Err(Refusal::invalid(kind, name, &wrong))
}

fn add(wrong: &mut Wrong, field: &str, what: &str) {
    wrong.push((field.to_owned(), what.to_owned()));
}

fn lease(object: &Value, wrong: &mut Wrong) {
    let spec = &object["spec"];
    if spec["leaseDurationSeconds"].as_i64().is_some_and(|seconds| seconds <= 0) {
        let what =
            format!("Invalid value: {}: must be greater than 0", spec["leaseDurationSeconds"]);
        add(wrong, "spec.leaseDurationSeconds", &what);
    }
    if spec["leaseTransitions"].as_i64().is_some_and(|count| count < 0) {
        let count = &spec["leaseTransitions"];
        let what = format!("Invalid value: {count}: must be greater than or equal to 0");
        add(wrong, "spec.leaseTransitions", &what);
    }
}

/// Events of the new form, which have an eventTime, need more.
fn event(object: &Value, wrong: &mut Wrong) {
    let about = object["involvedObject"]["namespace"].as_str().unwrap_or_default();
    let namespace = object["metadata"]["namespace"].as_str().unwrap_or_default();
    if about != namespace && !(about.is_empty() && namespace == "default") {
        let what = format!("Invalid value: {about:?}: does not match event.namespace");
        add(wrong, "involvedObject.namespace", &what);
    }
    if object["eventTime"].is_null() {
        return;
    }
    for (field, name) in [
        ("reportingComponent", "reportingController"),
        ("reportingInstance", "reportingInstance"),
        ("action", "action"),
        ("reason", "reason"),
    ] {
        if object[field].as_str().is_none_or(str::is_empty) {
            add(wrong, name, "Required value");
        }
    }
    if object["message"].as_str().is_some_and(|text| text.len() > 1_024) {
        add(wrong, "message", "Invalid value: \"\": can have at most 1024 characters");
    }
    if !matches!(object["type"].as_str(), Some("Normal" | "Warning")) {
        let what =
            format!("Invalid value: {}: has invalid value: {}", object["type"], object["type"]);
        add(wrong, "type", &what);
    }
}

fn addresses(object: &Value, wrong: &mut Wrong) {
    let given = object["status"]["loadBalancer"]["ingress"].as_array();
    for (place, entry) in given.into_iter().flatten().enumerate() {
        let field = format!("status.loadBalancer.ingress[{place}]");
        let address = entry["ip"].as_str().unwrap_or_default();
        if !address.is_empty() && address.parse::<IpAddr>().is_err() {
            let what = format!("Invalid value: {address:?}: must be a valid IP address");
            add(wrong, &format!("{field}.ip"), &what);
        }
        match entry["ipMode"].as_str() {
            Some("VIP" | "Proxy") if !address.is_empty() => {}
            Some("VIP" | "Proxy") => {
                let what = "Forbidden: may not be specified when `ip` is not set";
                add(wrong, &format!("{field}.ipMode"), what);
            }
            Some(other) => {
                let what =
                    format!("Unsupported value: {other:?}: supported values: \"Proxy\", \"VIP\"");
                add(wrong, &format!("{field}.ipMode"), &what);
            }
            None => {}
        }
    }
}

fn ingress(object: &Value, wrong: &mut Wrong) {
    if object["spec"]["rules"].is_null() && object["spec"]["defaultBackend"].is_null() {
        let what = "Invalid value: null: either `defaultBackend` or `rules` must be specified";
        wrong.push(("spec".to_owned(), what.to_owned()));
    }
    for (rule_place, rule) in object["spec"]["rules"].as_array().into_iter().flatten().enumerate() {
        for (place, path) in rule["http"]["paths"].as_array().into_iter().flatten().enumerate() {
            let field = format!("spec.rules[{rule_place}].http.paths[{place}]");
            match path["pathType"].as_str() {
                Some("Exact" | "Prefix") => {
                    let text = path["path"].as_str().unwrap_or_default();
                    if !text.starts_with('/') {
                        let what = format!("Invalid value: {text:?}: must be an absolute path");
                        wrong.push((format!("{field}.path"), what));
                    }
                }
                Some("ImplementationSpecific") => {}
                None | Some("") => {
                    let what = "Required value: pathType must be specified".to_owned();
                    wrong.push((format!("{field}.pathType"), what));
                }
                Some(other) => {
                    let what = format!(
                        "Unsupported value: {other:?}: supported values: \"Exact\", \
                         \"ImplementationSpecific\", \"Prefix\""
                    );
                    wrong.push((format!("{field}.pathType"), what));
                }
            }
        }
    }
}
