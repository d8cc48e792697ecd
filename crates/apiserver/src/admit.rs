//! What the API server does to an object on its way in: decoding, defaults that clients count on,
//! allocation of Services' addresses and ports, and checks.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde_json::{Value, json};

use crate::kinds::{Kind, kinds_of};
use crate::refusal::Refusal;
use crate::store::Contents;
use crate::{schema, typed};

mod checks;

pub(crate) use checks::check;

/// What Services are given.
#[derive(Debug)]
pub(crate) struct Ranges {
    next_address: u32,
    ports: BTreeSet<u16>,
}

impl Default for Ranges {
    fn default() -> Self {
        Self { next_address: u32::from(Ipv4Addr::new(10, 96, 0, 10)), ports: BTreeSet::new() }
    }
}

/// Which node ports are given out.
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30_000..=32_767;

/// Decodes and checks; returns the fields that don't exist, which are dropped.
pub(crate) fn decode(kind: &Kind, object: &mut Value) -> Result<Vec<String>, Refusal> {
    metadata(kind, object)?;
    if kind.builtin {
        return typed::decode(kind, object);
    }
    let Some(schema) = &kind.schema else { return Ok(Vec::new()) };
    let found = schema::check(object, schema);
    if found.wrong.is_empty() {
        return Ok(found.unknown);
    }
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    Err(Refusal::invalid(kind, name, &found.wrong))
}

fn metadata(kind: &Kind, object: &Value) -> Result<(), Refusal> {
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().unwrap_or_default();
    let invalid =
        |field: &str, what: String| Err(Refusal::invalid(kind, name, &[(field.to_owned(), what)]));
    for maps in ["labels", "annotations"] {
        let Some(map) = metadata[maps].as_object() else { continue };
        if let Some((key, value)) = map.iter().find(|(_, value)| !value.is_string()) {
            return Err(Refusal::bad_request(format!(
                "{} in version {:?} cannot be handled as a {}: json: cannot unmarshal {value} into \
                 Go struct field ObjectMeta.metadata.{maps} of type string (key {key:?})",
                kind.kind, kind.version, kind.kind
            )));
        }
    }
    let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-' || c == '.';
    // RBAC's names are freer.
    let free = kind.group == "rbac.authorization.k8s.io";
    let ends = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    if !free
        && (name.len() > 253
            || !name.chars().all(fits)
            || !name.starts_with(ends)
            || !name.ends_with(ends))
    {
        return invalid(
            "metadata.name",
            format!(
                "Invalid value: {name:?}: a lowercase RFC 1123 subdomain must consist of lower \
                     case alphanumeric characters, '-' or '.', and must start and end with an \
                     alphanumeric character"
            ),
        );
    }
    Ok(())
}

/// Fills in what the server fills in. `old` is what was there before.
pub(crate) fn complete(
    contents: &mut Contents,
    kind: &Kind,
    object: &mut Value,
    old: Option<&Value>,
) -> Result<(), Refusal> {
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "Service") => service(contents, object, old),
        ("", "Secret") => secret(kind, object, old),
        ("", "Namespace") => {
            let name = object["metadata"]["name"].clone();
            object["metadata"]["labels"]["kubernetes.io/metadata.name"] = name;
            if object["spec"]["finalizers"].is_null() {
                object["spec"]["finalizers"] = json!(["kubernetes"]);
            }
            if object["status"]["phase"].is_null() {
                object["status"]["phase"] = "Active".into();
            }
            Ok(())
        }
        ("", "Pod") => {
            if object["status"]["phase"].is_null() {
                object["status"]["phase"] = "Pending".into();
            }
            Ok(())
        }
        ("apiextensions.k8s.io", "CustomResourceDefinition") => definition(kind, object),
        _ => Ok(()),
    }
}

fn secret(kind: &Kind, object: &mut Value, old: Option<&Value>) -> Result<(), Refusal> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    if let Some(members) = object.as_object_mut()
        && let Some(Value::Object(texts)) = members.remove("stringData")
    {
        for (key, text) in texts {
            let text = text.as_str().unwrap_or_default();
            let bytes = k8s_openapi::ByteString(text.as_bytes().to_vec());
            object["data"][key] = serde_json::to_value(bytes).unwrap_or_default();
        }
    }
    if object["type"].is_null() {
        object["type"] = "Opaque".into();
    }
    let Some(old) = old else { return Ok(()) };
    if old["type"] != object["type"] {
        let what = format!("Invalid value: {}: field is immutable", object["type"]);
        return Err(Refusal::invalid(kind, &name, &[("type".to_owned(), what)]));
    }
    if old["immutable"] == true && old["data"] != object["data"] {
        let what = "Forbidden: field is immutable when `immutable` is set".to_owned();
        return Err(Refusal::invalid(kind, &name, &[("data".to_owned(), what)]));
    }
    Ok(())
}

fn definition(kind: &Kind, object: &mut Value) -> Result<(), Refusal> {
    let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let kinds = kinds_of(object).map_err(|error| {
        let what = "Required value".to_owned();
        Refusal::invalid(kind, &name, &[(error.field, what)])
    })?;
    if let Some(first) = kinds.first()
        && first.qualified() != name
    {
        let what = format!("Invalid value: {name:?}: must be spec.names.plural+\".\"+spec.group");
        return Err(Refusal::invalid(kind, &name, &[("metadata.name".to_owned(), what)]));
    }
    established(object);
    Ok(())
}

/// Says in a definition's status that its kinds are served.
pub(crate) fn established(object: &mut Value) {
    let version = object["spec"]["versions"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|version| version["storage"] == true)
        .map(|version| version["name"].clone());
    object["status"]["acceptedNames"] = object["spec"]["names"].clone();
    object["status"]["storedVersions"] = version.into_iter().collect();
    if object["status"]["conditions"].is_null() {
        let since = object["metadata"]["creationTimestamp"].clone();
        let condition = |kind: &str, reason: &str| {
            json!({
                "type": kind,
                "status": "True",
                "reason": reason,
                "message": "",
                "lastTransitionTime": since,
            })
        };
        object["status"]["conditions"] = json!([
            condition("NamesAccepted", "NoConflicts"),
            condition("Established", "InitialNamesAccepted"),
        ]);
    }
}

fn service(
    contents: &mut Contents,
    object: &mut Value,
    old: Option<&Value>,
) -> Result<(), Refusal> {
    if object["status"]["loadBalancer"].is_null() {
        object["status"]["loadBalancer"] = json!({});
    }
    if let Some(old) = old {
        drop_dependent(object, old);
    }
    let spec = &mut object["spec"];
    let default = |spec: &mut Value, field: &str, value: Value| {
        if spec[field].is_null() {
            spec[field] = value;
        }
    };
    default(spec, "type", "ClusterIP".into());
    default(spec, "sessionAffinity", "None".into());
    if spec["sessionAffinity"] == "ClientIP" && spec["sessionAffinityConfig"].is_null() {
        spec["sessionAffinityConfig"] = json!({"clientIP": {"timeoutSeconds": 10_800}});
    }
    for port in ports_of(spec) {
        default(port, "protocol", "TCP".into());
        let target = port["port"].clone();
        default(port, "targetPort", target);
    }
    let kind = spec["type"].as_str().unwrap_or_default().to_owned();
    if kind == "ExternalName" {
        return Ok(());
    }
    default(spec, "internalTrafficPolicy", "Cluster".into());
    let outside = kind == "NodePort" || kind == "LoadBalancer";
    if outside {
        default(spec, "externalTrafficPolicy", "Cluster".into());
    }
    if kind == "LoadBalancer" {
        default(spec, "allocateLoadBalancerNodePorts", true.into());
    }
    // What was given stays given.
    let before = old.map(|old| &old["spec"]).unwrap_or(&Value::Null);
    let checked = kind == "LoadBalancer" && spec["externalTrafficPolicy"] == "Local";
    let kept = ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"];
    for field in kept.into_iter().chain(checked.then_some("healthCheckNodePort")) {
        if spec[field].is_null() && !before[field].is_null() {
            spec[field] = before[field].clone();
        }
    }
    if spec["clusterIP"].as_str().is_none_or(str::is_empty) {
        spec["clusterIP"] = contents.next_address().into();
    }
    let address = spec["clusterIP"].clone();
    default(spec, "clusterIPs", json!([address]));
    let family =
        if address.as_str().is_some_and(|text| text.contains(':')) { "IPv6" } else { "IPv4" };
    default(spec, "ipFamilies", json!([family]));
    default(spec, "ipFamilyPolicy", "SingleStack".into());
    if outside && spec["allocateLoadBalancerNodePorts"] != false {
        for port in ports_of(spec) {
            let same = |other: &&Value| {
                other["port"] == port["port"] && other["protocol"] == port["protocol"]
            };
            let old = before["ports"].as_array().into_iter().flatten().find(same);
            if let (None, Some(given)) =
                (port["nodePort"].as_u64(), old.and_then(|port| port["nodePort"].as_u64()))
            {
                port["nodePort"] = given.into();
            }
            if port["nodePort"].as_u64().is_none_or(|port| port == 0) {
                port["nodePort"] = contents.next_port()?.into();
            } else if let Some(given) = port["nodePort"].as_u64() {
                contents.ranges.ports.insert(u16::try_from(given).unwrap_or(0));
            }
        }
    }
    if kind == "LoadBalancer"
        && spec["externalTrafficPolicy"] == "Local"
        && spec["healthCheckNodePort"].is_null()
    {
        spec["healthCheckNodePort"] = contents.next_port()?.into();
    }
    Ok(())
}

/// What went with a Service's former type goes where the type is another one now, unless it was
/// changed along with it.
fn drop_dependent(object: &mut Value, old: &Value) {
    let (was, is) = (&old["spec"]["type"], object["spec"]["type"].clone());
    let is = if is.is_null() { Value::from("ClusterIP") } else { is };
    if *was == is {
        return;
    }
    let mut fields = Vec::new();
    if is != "LoadBalancer" {
        object["status"]["loadBalancer"] = json!({});
        fields.extend([
            "allocateLoadBalancerNodePorts",
            "loadBalancerClass",
            "healthCheckNodePort",
        ]);
    }
    let spec = &mut object["spec"];
    if is != "LoadBalancer" && is != "NodePort" {
        fields.push("externalTrafficPolicy");
        for (port, before) in
            ports_of(spec).zip(old["spec"]["ports"].as_array().into_iter().flatten())
        {
            if port["nodePort"] == before["nodePort"]
                && let Some(port) = port.as_object_mut()
            {
                port.remove("nodePort");
            }
        }
    }
    if let Some(spec) = spec.as_object_mut() {
        for field in fields {
            if spec.get(field) == old["spec"].get(field) {
                spec.remove(field);
            }
        }
    }
}

fn ports_of(spec: &mut Value) -> impl Iterator<Item = &mut Value> {
    spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten()
}

impl Contents {
    fn next_address(&mut self) -> String {
        let services = self.kinds.at("", "v1", "services").cloned();
        loop {
            let address = Ipv4Addr::from(self.ranges.next_address).to_string();
            self.ranges.next_address += 1;
            // The first of the selectable fields is the address.
            let taken = services.as_ref().is_some_and(|kind| {
                self.all(kind, None).any(|object| object.fields.first() == Some(&address))
            });
            if !taken {
                return address;
            }
        }
    }

    fn next_port(&mut self) -> Result<u16, Refusal> {
        for round in 0..2 {
            let free = NODE_PORTS.into_iter().find(|port| !self.ranges.ports.contains(port));
            if let Some(port) = free {
                self.ranges.ports.insert(port);
                return Ok(port);
            }
            if round == 0 {
                self.ranges.ports = self.used_ports();
            }
        }
        let message = "failed to allocate a nodePort: range is full";
        Err(Refusal::new(500, "InternalError", message))
    }

    /// Ports of Services that are still there.
    fn used_ports(&self) -> BTreeSet<u16> {
        let Some(kind) = self.kinds.at("", "v1", "services") else { return BTreeSet::new() };
        let services: Vec<Value> = self.all(kind, None).map(|object| object.value()).collect();
        let ports = services.iter().flat_map(|service| {
            let ports = service["spec"]["ports"].as_array().into_iter().flatten();
            let ports = ports.map(|port| &port["nodePort"]);
            ports.chain([&service["spec"]["healthCheckNodePort"]])
        });
        ports.filter_map(|port| u16::try_from(port.as_u64()?).ok()).collect()
    }
}
