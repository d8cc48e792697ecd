//! Calico's objects as they are written: names and types of
//! `github.com/projectcalico/api/pkg/apis/projectcalico/v3`.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde::Deserialize;
use serde_json::Value;

/// Where `crd.projectcalico.org/v1` keeps an object's own labels and annotations, as JSON.
pub(super) const METADATA: &str = "projectcalico.org/metadata";

/// An object with a specification.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Of<S> {
    /// `apiVersion`, known already.
    pub api_version: String,
    /// `kind`, known already.
    pub kind: String,
    /// Name, labels and annotations.
    pub metadata: ObjectMeta,
    /// What is wanted.
    pub spec: S,
}

/// GlobalNetworkPolicy
pub type GlobalNetworkPolicy = Of<PolicySpec>;
/// HostEndpoint
pub type HostEndpoint = Of<EndpointSpec>;
/// GlobalNetworkSet
pub type GlobalNetworkSet = Of<SetSpec>;

/// An object of a kind that isn't honoured.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct Unsupported {
    /// Name, labels and annotations.
    pub metadata: ObjectMeta,
}

/// Labels and annotations within [`METADATA`].
#[derive(Default, Deserialize)]
#[serde(default)]
pub(super) struct Stored {
    labels: Option<BTreeMap<String, String>>,
    annotations: Option<BTreeMap<String, String>>,
}

impl<S> Of<S> {
    /// Its labels.
    pub fn labels(&self) -> BTreeMap<String, String> {
        let mut labels = self.metadata.labels.clone().unwrap_or_default();
        labels.extend(self.stored().unwrap_or_default().labels.unwrap_or_default());
        labels
    }

    /// One of its annotations.
    pub fn annotation(&self, name: &str) -> Option<String> {
        let stored = self.stored().unwrap_or_default().annotations;
        let stored = stored.and_then(|mut all| all.remove(name));
        stored.or_else(|| self.metadata.annotations.as_ref()?.get(name).cloned())
    }

    /// What is stored in the annotation; the reason if it can't be read.
    pub(super) fn stored(&self) -> Result<Stored, String> {
        let text = self.metadata.annotations.as_ref().and_then(|all| all.get(METADATA));
        let stored = text.map(|text| serde_json::from_str(text)).transpose();
        stored.map(Option::unwrap_or_default).map_err(|error| error.to_string())
    }
}

/// What stands in a structure under names that it has no fields of. Whoever uses the structure
/// says so: with a match less, a rule would allow more than it was meant to.
pub type Unknown = BTreeMap<String, Value>;

/// What a GlobalNetworkPolicy wants.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs, reason = "Calico's reference says what they are")]
pub struct PolicySpec {
    pub tier: Option<String>,
    pub order: Option<f64>,
    pub selector: Option<String>,
    pub namespace_selector: Option<String>,
    pub service_account_selector: Option<String>,
    pub types: Option<Vec<String>>,
    pub ingress: Option<Vec<Rule>>,
    pub egress: Option<Vec<Rule>>,
    pub do_not_track: Option<bool>,
    #[serde(rename = "preDNAT")]
    pub pre_dnat: Option<bool>,
    pub apply_on_forward: Option<bool>,
    pub performance_hints: Option<Vec<String>>,
    pub staged_action: Option<String>,
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A rule of a GlobalNetworkPolicy.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs, reason = "Calico's reference says what they are")]
pub struct Rule {
    pub action: String,
    #[serde(rename = "ipVersion")]
    pub ip_version: Option<i64>,
    pub protocol: Option<IntOrString>,
    pub not_protocol: Option<IntOrString>,
    pub icmp: Option<Icmp>,
    #[serde(rename = "notICMP")]
    pub not_icmp: Option<Icmp>,
    pub source: Option<Entity>,
    pub destination: Option<Entity>,
    pub http: Option<Value>,
    pub metadata: Option<Value>,
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A type and perhaps a code of ICMP.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "Calico's reference says what they are")]
pub struct Icmp {
    #[serde(rename = "type")]
    pub kind: Option<i64>,
    pub code: Option<i64>,
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// What a rule says of one end of a packet.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs, reason = "Calico's reference says what they are")]
pub struct Entity {
    pub nets: Option<Vec<String>>,
    pub not_nets: Option<Vec<String>>,
    pub selector: Option<String>,
    pub not_selector: Option<String>,
    pub namespace_selector: Option<String>,
    pub ports: Option<Vec<IntOrString>>,
    pub not_ports: Option<Vec<IntOrString>>,
    pub domains: Option<Vec<String>>,
    pub service_accounts: Option<Value>,
    pub services: Option<Value>,
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// What a HostEndpoint is.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs, reason = "Calico's reference says what they are")]
pub struct EndpointSpec {
    pub node: Option<String>,
    pub interface_name: Option<String>,
    #[serde(rename = "expectedIPs")]
    pub expected_ips: Option<Vec<String>>,
    pub profiles: Option<Vec<String>>,
    pub ports: Option<Vec<EndpointPort>>,
    #[serde(flatten)]
    pub unknown: Unknown,
}

/// A port of a HostEndpoint that has a name.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default)]
#[allow(missing_docs, reason = "Calico's reference says what they are")]
pub struct EndpointPort {
    pub name: String,
    pub protocol: Option<IntOrString>,
    pub port: i64,
}

/// What a GlobalNetworkSet holds.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs, reason = "Calico's reference says what they are")]
pub struct SetSpec {
    pub nets: Option<Vec<String>>,
    pub allowed_egress_domains: Option<Vec<String>>,
    #[serde(flatten)]
    pub unknown: Unknown,
}
