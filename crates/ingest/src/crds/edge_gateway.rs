//! EdgeGateway: one edge machine, as it tells of itself.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{ClusterResourceScope, Metadata, Resource};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::vpn_connection::ConditionStatus;
use super::{API_VERSION, GROUP, VERSION};

/// An EdgeGateway object. Its name is the edge's `nodeName`.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct EdgeGateway {
    /// tidegate.io/v1alpha1, where it is written.
    pub api_version: Option<String>,
    /// EdgeGateway, where it is written.
    pub kind: Option<String>,
    /// Its name and the like.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What people write.
    #[serde(default)]
    pub spec: EdgeGatewaySpec,
    /// What the edge writes.
    pub status: Option<EdgeGatewayStatus>,
}

/// What people may say about an edge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EdgeGatewaySpec {
    /// Whether the edge is to give up its VIPs and VPN connections to others and take no new ones,
    /// as before maintenance.
    #[schemars(with = "Option<bool>", extend("default" = false))]
    pub drain: Option<bool>,
}

/// What an edge tells of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EdgeGatewayStatus {
    /// The version of the program.
    pub version: Option<String>,
    /// The namespace of its Leases: edges share VIPs only with those that have theirs there, too.
    pub lease_namespace: Option<String>,
    /// Its addresses towards the nodes, the preferred one first.
    pub underlay_addresses: Option<Vec<String>>,
    /// Where its end of the WireGuard tunnels is; none where it has none.
    pub wireguard: Option<WireguardStatus>,
    /// The UDP port that answers probes of agents and other edges.
    pub probe_port: Option<u16>,
    /// auto, direct or wireguard: how it wants to be reached.
    pub mode: Option<String>,
    /// Service networks that it reaches over the nodes: nodes take packets for them from it.
    pub service_subnets: Option<Vec<String>>,
    /// Networks that pods reach through an edge, besides those of VpnConnections.
    pub egress_networks: Option<Vec<String>>,
    /// Where its public ALB listens besides addresses out of pools.
    pub public_addresses: Option<Vec<String>>,
    /// Where its private ALB listens besides addresses out of pools.
    pub private_addresses: Option<Vec<String>>,
    /// The VIPs that it holds.
    pub vips: Option<Vec<String>>,
    /// The VpnConnections that it holds, as namespace/name.
    pub vpn_connections: Option<Vec<String>>,
    /// Ready, NodesReachable, …, each with its reason.
    pub conditions: Option<Vec<ConditionStatus>>,
}

/// An edge's end of the tunnels.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct WireguardStatus {
    /// Its public keys, in base64, the one in use first; another one while it is being changed.
    pub public_keys: Vec<String>,
    /// The UDP ports that belong to them, in the same order.
    pub ports: Vec<u16>,
}

impl Resource for EdgeGateway {
    const API_VERSION: &'static str = API_VERSION;
    const GROUP: &'static str = GROUP;
    const KIND: &'static str = "EdgeGateway";
    const VERSION: &'static str = VERSION;
    const URL_PATH_SEGMENT: &'static str = "edgegateways";
    type Scope = ClusterResourceScope;
}

impl Metadata for EdgeGateway {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
