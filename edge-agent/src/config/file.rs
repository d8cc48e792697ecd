//! What may stand in the configuration file, with its defaults and JSON schema.

use std::borrow::Cow;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use model::snapshot::overlay::OverlayMode;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};
use settings::values::{Period, socket, within_if_any};

/// The apiVersion that the file must have.
pub const API_VERSION: &str = "tidegate.io/v1alpha1";
/// The kind that the file must have.
pub const KIND: &str = "AgentConfig";

/// An agent's configuration. Relative paths are taken from this file's folder.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[schemars(rename = "AgentConfig")]
pub struct File {
    /// tidegate.io/v1alpha1
    #[schemars(extend("const" = API_VERSION))]
    pub api_version: String,
    /// AgentConfig
    #[schemars(extend("const" = KIND))]
    pub kind: String,
    /// The name of this machine's Node; none for the environment's NODE_NAME, or the host name in
    /// lower case.
    pub node_name: Option<String>,
    /// Where the Node, the EdgeGateways and the VpnConnections come from: one of the two.
    pub source: Source,
    /// Tunnels to the edges.
    #[serde(default)]
    pub overlay: Overlay,
    /// The directory for keys, 0700.
    #[serde(default = "default_state")]
    pub state: PathBuf,
    /// Health, metrics and status.
    #[serde(default)]
    pub admin: Admin,
    /// What becomes of interfaces, routes and rules when the agent stops as told to. `edge-agent
    /// uninstall` removes them in any case.
    #[serde(default)]
    pub on_stop: OnStop,
}

/// Where objects come from.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Source {
    /// The Kubernetes API; {} within a cluster.
    pub kubernetes: Option<Kubernetes>,
    /// A directory of manifests (*.yaml, *.yml, *.json, also in folders below), watched.
    pub manifests: Option<PathBuf>,
}

/// How to reach the Kubernetes API.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Kubernetes {
    /// A kubeconfig; none for the service account of the pod that the agent runs in.
    pub kubeconfig: Option<PathBuf>,
    /// One of the kubeconfig's contexts; none for its current one.
    pub context: Option<String>,
}

/// Tunnels to the edges.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Overlay {
    /// Whether packets between this node and the edges are encrypted.
    pub mode: Mode,
    /// What the names of interfaces begin with; at most 11 characters. Another WireGuard interface
    /// whose name begins so is removed.
    pub interface_prefix: String,
    /// The bits of packet and connection marks that are the agent's: one number for each edge.
    pub mark_mask: Mask,
    /// The largest packet in a tunnel; none for 1420, or what the underlay leaves.
    #[serde(deserialize_with = "within_if_any::<_, _, 1280, 9000>")]
    #[schemars(with = "Option<u16>", range(min = 1280, max = 9000))]
    pub mtu: Option<u16>,
    /// Where packets are encrypted.
    pub backend: Backend,
    /// In user space: whether many packets go through one system call where the kernel can do
    /// that.
    pub offloads: bool,
    /// How often each edge is asked whether it is there. Three times without an answer, and it is
    /// lost.
    pub probe_interval: Period,
    /// How old the node's key gets before another takes its place; none for no end.
    pub key_age: Option<Period>,
}

impl Default for Overlay {
    fn default() -> Self {
        Self {
            mode: Mode::Auto,
            interface_prefix: "tidegate-wg".to_owned(),
            mark_mask: Mask(0x70),
            mtu: None,
            backend: Backend::Auto,
            offloads: true,
            probe_interval: Period::from_millis(250),
            key_age: None,
        }
    }
}

/// Whether packets are encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// In the clear where both are on one link, WireGuard elsewhere; as the edge wants it.
    #[default]
    Auto,
    /// In the clear.
    Direct,
    /// WireGuard.
    Wireguard,
}

impl From<Mode> for OverlayMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Auto => Self::Auto,
            Mode::Direct => Self::Direct,
            Mode::Wireguard => Self::Wireguard,
        }
    }
}

/// Where packets are encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// In the kernel if it has WireGuard, otherwise in user space.
    #[default]
    Auto,
    /// In the kernel: tunnels carry on while the agent is restarted.
    Kernel,
    /// In user space.
    Userspace,
}

/// What becomes of interfaces, routes and rules on a clean stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnStop {
    /// They stay, so that traffic goes on.
    #[default]
    Keep,
    /// They go.
    Remove,
}

/// Health, metrics and status.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Admin {
    /// Where it listens; null for nowhere.
    #[serde(deserialize_with = "socket")]
    #[schemars(with = "Option<String>", extend("default" = "127.0.0.1:9902"))]
    pub listen: Option<SocketAddr>,
}

impl Default for Admin {
    fn default() -> Self {
        Self { listen: Some(SocketAddr::from(([127, 0, 0, 1], 9902))) }
    }
}

fn default_state() -> PathBuf {
    "/var/lib/tidegate-agent".into()
}

/// Bits of a mark that stand next to each other, written as `112` or `"0x70"`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mask(pub u32);

impl Mask {
    fn new(bits: u32) -> Option<Self> {
        // Two bits at least: none is an edge's number.
        let run = bits >> bits.trailing_zeros().min(31);
        let is_run = run.count_ones() >= 2 && run.trailing_ones() == run.count_ones();
        is_run.then_some(Self(bits))
    }
}

impl<'de> Deserialize<'de> for Mask {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct MaskVisitor;

        impl Visitor<'_> for MaskVisitor {
            type Value = Mask;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("two or more bits side by side, such as \"0x70\"")
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Mask, E> {
                u32::try_from(number).ok().and_then(Mask::new).ok_or_else(|| {
                    E::custom(format_args!(
                        "{number:#x} is no mask of two or more bits side by side; write one such \
                         as \"0x70\""
                    ))
                })
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Mask, E> {
                let digits = text.strip_prefix("0x").map(|hex| u32::from_str_radix(hex, 16));
                let number = digits.unwrap_or_else(|| text.parse());
                number.ok().and_then(Mask::new).ok_or_else(|| {
                    E::custom(format_args!(
                        "{text:?} is no mask of two or more bits side by side; write one such as \
                         \"0x70\""
                    ))
                })
            }
        }

        deserializer.deserialize_any(MaskVisitor)
    }
}

impl JsonSchema for Mask {
    fn schema_name() -> Cow<'static, str> {
        "Mask".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": "Two or more bits side by side, such as \"0x70\".",
            "anyOf": [
                {"type": "string", "pattern": "^(0x[0-9a-fA-F]{1,8}|[0-9]+)$"},
                {"type": "integer", "minimum": 3, "maximum": u32::MAX},
            ],
        })
    }
}
