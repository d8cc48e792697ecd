//! VpnConnection: a site-to-site connection.
//!
//! All of it decides who may reach what and whether it is encrypted, so a field that isn't known
//! spoils the object; but the object itself is always read, so that its remote networks can be
//! kept from leaving in the clear.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{Metadata, NamespaceResourceScope, Resource};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{API_VERSION, GROUP, VERSION};
use crate::yaml::FieldPath;

// What the API server refuses at once, in CEL with Kubernetes' library of IP functions (1.31).
const NETWORKS: &str = "self.all(n, isIP(n) || (isCIDR(n) && cidr(n) == cidr(n).masked()))";
const WRITE_NETWORKS: &str = "each is a network such as 10.20.0.0/16, without bits behind its \
                              prefix, or an address";
const PAIRS: &str = "self.all(p, p.split('=').size() == 2 && p.split('=').all(n, \
                     isCIDR(n.trim()) && cidr(n.trim()) == cidr(n.trim()).masked()) && \
                     cidr(p.split('=')[0].trim()).prefixLength() == \
                     cidr(p.split('=')[1].trim()).prefixLength() && \
                     cidr(p.split('=')[0].trim()).ip().family() == \
                     cidr(p.split('=')[1].trim()).ip().family())";
const WRITE_PAIRS: &str = "each is a pair of networks of one size, such as \
                           172.30.0.0/16=10.130.0.0/16";
const ADDRESS: &str = "isIP(self)";
const DURATION: &str = "^([0-9]+(ms|s|m|h|d))+$";
const ONE_AUTH: &str = "has(self.psk) != has(self.certificate)";
const ONE_ADDRESS: &str = "!(has(self.address) && has(self.addressPool))";
const SINGLE: &str = "!(has(self.enableSingleSourceIP) && self.enableSingleSourceIP && \
                      ((has(self.localSubnetNAT) && self.localSubnetNAT.size() > 0) || \
                      (has(self.localNonClusterSubnets) && self.localNonClusterSubnets.size() > \
                      0)))";
const WRITE_SINGLE: &str = "with enableSingleSourceIP there is neither localSubnetNAT nor \
                            localNonClusterSubnets";
const ANY_WAITS: &str = "self.remote.gateway != '%any' || !has(self.auto) || self.auto == 'add'";
const REMOTE: &str = "has(self.children) || (has(self.remote.subnets) && \
                      self.remote.subnets.size() > 0)";

/// Fields that aren't known are named up to this many.
const MOST_UNKNOWN: usize = 16;

/// A VpnConnection object.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct VpnConnection {
    /// tidegate.io/v1alpha1, where it is written.
    pub api_version: Option<String>,
    /// VpnConnection, where it is written.
    pub kind: Option<String>,
    /// Its name and the like.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What it says, unread: [`Self::read`].
    #[serde(default)]
    pub spec: Value,
    /// Written by the gateway, and read by nobody here.
    #[serde(default)]
    pub status: Value,
}

/// What is wrong with a specification's form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpecFault {
    /// The field, from `spec` on.
    pub field: String,
    /// In words for a diagnostic.
    pub reason: String,
    /// Whether there is no such field.
    pub is_unknown: bool,
}

impl VpnConnection {
    /// Reads the specification.
    ///
    /// # Errors
    /// The first field that doesn't fit, and those that aren't known, of these the first few.
    pub fn read(&self) -> Result<VpnConnectionSpec, Vec<SpecFault>> {
        let mut unknown = Vec::new();
        let mut further = 0_usize;
        let mut track = serde_path_to_error::Track::new();
        let tracked = serde_path_to_error::Deserializer::new(&self.spec, &mut track);
        let read = serde_ignored::deserialize(tracked, |path| {
            if unknown.len() < MOST_UNKNOWN {
                unknown.push(FieldPath::from(&path));
            } else {
                further += 1;
            }
        });
        let fault = |path: &FieldPath| SpecFault {
            field: named(path),
            reason: "is not a field of VpnConnection".to_owned(),
            is_unknown: true,
        };
        let mut faults: Vec<SpecFault> = unknown.iter().map(fault).collect();
        if let Some(last) = faults.last_mut().filter(|_| further > 0) {
            last.reason = format!("is not a field of VpnConnection, as are {further} after it");
        }
        match read {
            Err(error) => {
                let field = named(&FieldPath::from(&track.path()));
                faults.push(SpecFault { field, reason: error.to_string(), is_unknown: false });
                Err(faults)
            }
            Ok(_) if !faults.is_empty() => Err(faults),
            Ok(spec) => Ok(spec),
        }
    }
}

fn named(path: &FieldPath) -> String {
    if *path == FieldPath::default() { "spec".to_owned() } else { format!("spec.{path}") }
}

/// A site-to-site connection by IKEv2 and ESP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": SINGLE, "message": WRITE_SINGLE},
    {"rule": ANY_WAITS, "message": "with remote.gateway: \"%any\" write auto: add"},
    {"rule": REMOTE, "message": "write remote.subnets, or children with their own"},
]))]
pub struct VpnConnectionSpec {
    /// Who begins: add (the other end), start (this end, at once) or route (this end, on the first
    /// packet). By default start, or add where remote.gateway is %any.
    pub auto: Option<AutoSpec>,
    /// The version of IKE. Only 2 is spoken (RFC 9395).
    #[schemars(range(min = 2, max = 2), extend("default" = 2))]
    pub ike_version: Option<i64>,
    /// The same in the words of ipsec.conf. Only ikev2 is spoken (RFC 9395).
    #[schemars(with = "Option<String>", extend("enum" = ["ikev2"]))]
    pub keyexchange: Option<String>,
    /// Proposals for IKE SAs in order of preference, in swanctl's notation, such as
    /// aes256gcm16-prfsha384-x25519.
    #[schemars(length(max = 32), inner(length(min = 1, max = 256)))]
    pub ike: Option<Vec<String>>,
    /// The same for child SAs, such as aes128gcm16 or aes128-sha256-x25519.
    #[schemars(length(max = 32), inner(length(min = 1, max = 256)))]
    pub esp: Option<Vec<String>>,
    /// Whether proposals may have SHA-1, 3DES and groups under 14 (RFC 8247).
    #[schemars(extend("default" = false))]
    pub allow_legacy: Option<bool>,
    /// How both ends prove who they are: one of psk and certificate.
    pub auth: AuthSpec,
    /// A post-quantum preshared key besides (RFC 8784).
    pub ppk: Option<PpkSpec>,
    /// This end.
    pub local: Option<LocalSpec>,
    /// The other end.
    pub remote: RemoteSpec,
    /// Child SAs; without it there is one of the connection's own name.
    #[schemars(length(min = 1, max = 64))]
    pub children: Option<Vec<ChildSpec>>,
    /// What the remote end sees in place of local networks: inside=outside, of one size.
    #[serde(rename = "localSubnetNAT")]
    #[schemars(length(max = 64), inner(length(max = 91)))]
    #[schemars(extend("x-kubernetes-validations" = [{"rule": PAIRS, "message": WRITE_PAIRS}]))]
    pub local_subnet_nat: Option<Vec<String>>,
    /// What pods see in place of remote networks: what pods see=the real remote, of one size.
    #[serde(rename = "remoteSubnetNAT")]
    #[schemars(length(max = 64), inner(length(max = 91)))]
    #[schemars(extend("x-kubernetes-validations" = [{"rule": PAIRS, "message": WRITE_PAIRS}]))]
    pub remote_subnet_nat: Option<Vec<String>>,
    /// Whether everything leaves from one address, and nothing new comes in.
    #[serde(rename = "enableSingleSourceIP")]
    #[schemars(extend("default" = false))]
    pub enable_single_source_ip: Option<bool>,
    /// That address; by default local.subnets, if it is a single /32 or /128.
    #[serde(rename = "singleSourceIP")]
    #[schemars(length(max = 49))]
    pub single_source_ip: Option<String>,
    /// Hosts behind the edge that the remote end may reach.
    #[schemars(length(max = 64), inner(length(max = 45)))]
    #[schemars(extend("x-kubernetes-validations" = [{"rule": NETWORKS, "message": WRITE_NETWORKS}]))]
    pub local_non_cluster_subnets: Option<Vec<String>>,
    /// Only nodes of this zone (topology.kubernetes.io/zone) and their pods route through it.
    #[schemars(length(min = 1, max = 63))]
    pub zone: Option<String>,
    /// Dead peer detection.
    pub dpd: Option<DpdSpec>,
    /// How long SAs live.
    pub lifetimes: Option<LifetimesSpec>,
    /// What follows if the other end closes: restart, clear or none.
    pub close_action: Option<ActionSpec>,
    /// auto for ESP in UDP only where NAT is seen, udp for always.
    pub encapsulation: Option<EncapsulationSpec>,
    /// IKE fragmentation (RFC 7383).
    #[schemars(extend("default" = true))]
    pub fragmentation: Option<bool>,
    /// Address updates (RFC 4555).
    #[schemars(extend("default" = true))]
    pub mobike: Option<bool>,
    /// An IKE SA first, and child SAs as they are needed (RFC 6023).
    #[schemars(extend("default" = false))]
    pub childless: Option<bool>,
    /// A new IKE SA with authentication in place of a rekeying of the old one; the new one is there
    /// before the old one goes.
    #[schemars(extend("default" = false))]
    pub reauthentication: Option<bool>,
    /// Packets that ESP's replay window spans.
    #[schemars(range(min = 0, max = 65536), extend("default" = 1024))]
    pub replay_window: Option<u32>,
}

/// Who begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum AutoSpec {
    /// The other end.
    Add,
    /// This end, at once.
    Start,
    /// This end, on the first packet.
    Route,
}

/// What follows when it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum ActionSpec {
    /// It is begun again.
    Restart,
    /// It waits for a packet or the other end.
    Clear,
    /// Nothing.
    None,
}

/// How ESP goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum EncapsulationSpec {
    /// In UDP where NAT is seen.
    Auto,
    /// Always in UDP.
    Udp,
}

/// How both ends prove who they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": ONE_AUTH, "message": "write one of psk and certificate"},
]))]
pub struct AuthSpec {
    /// A preshared key.
    pub psk: Option<PskSpec>,
    /// Certificates (RFC 7427).
    pub certificate: Option<CertificateSpec>,
}

/// A preshared key in a Secret of the connection's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PskSpec {
    /// The Secret.
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
    /// The key within it.
    #[schemars(length(min = 1, max = 253), extend("default" = "psk"))]
    pub key: Option<String>,
}

/// Certificates in Secrets of the connection's namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateSpec {
    /// The Secret with this end's chain (tls.crt) and private key (tls.key).
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
    /// The Secret with the authorities that the other end's certificate must come from (ca.crt),
    /// and perhaps their revocation lists (ca.crl or crl.pem); by default the same Secret.
    #[schemars(length(min = 1, max = 253))]
    pub ca_secret_name: Option<String>,
}

/// A post-quantum preshared key.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PpkSpec {
    /// The Secret.
    #[schemars(length(min = 1, max = 253))]
    pub secret_name: String,
    /// The key within it.
    #[schemars(length(min = 1, max = 253), extend("default" = "ppk"))]
    pub key: Option<String>,
    /// Its name on the wire.
    #[schemars(length(min = 1, max = 255))]
    pub id: String,
    /// Whether a connection without it is refused.
    #[schemars(extend("default" = true))]
    pub required: Option<bool>,
}

/// This end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [
    {"rule": ONE_ADDRESS, "message": "write one of address and addressPool"},
]))]
pub struct LocalSpec {
    /// The source and listening address; by default the one of the route to the other end.
    #[schemars(length(max = 45))]
    #[schemars(extend("x-kubernetes-validations" = [
        {"rule": ADDRESS, "message": "an address, such as 192.0.2.1"},
    ]))]
    pub address: Option<String>,
    /// The AddressPool that gives it a VIP.
    #[schemars(length(min = 1, max = 253))]
    pub address_pool: Option<String>,
    /// Its name for the other end; by default its address, or its certificate's subject.
    #[schemars(length(min = 1, max = 1024))]
    pub id: Option<String>,
    /// Networks that the other end may reach; by default the pod and service networks.
    #[schemars(length(max = 64), inner(length(max = 45)))]
    #[schemars(extend("x-kubernetes-validations" = [{"rule": NETWORKS, "message": WRITE_NETWORKS}]))]
    pub subnets: Option<Vec<String>>,
}

/// The other end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RemoteSpec {
    /// Its address or DNS name, or %any to listen only.
    #[schemars(length(min = 1, max = 253))]
    pub gateway: String,
    /// Who it must be; by default its address.
    #[schemars(length(min = 1, max = 1024))]
    pub id: Option<String>,
    /// Its networks as they really are.
    #[schemars(length(max = 64), inner(length(max = 45)))]
    #[schemars(extend("x-kubernetes-validations" = [{"rule": NETWORKS, "message": WRITE_NETWORKS}]))]
    pub subnets: Option<Vec<String>>,
}

/// A child SA.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChildSpec {
    /// Its name.
    #[schemars(length(min = 1, max = 63), regex(pattern = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$"))]
    pub name: String,
    /// Local networks; by default local.subnets.
    #[schemars(length(max = 64), inner(length(max = 45)))]
    pub local: Option<Vec<String>>,
    /// Remote networks; by default remote.subnets.
    #[schemars(length(max = 64), inner(length(max = 45)))]
    pub remote: Option<Vec<String>>,
    /// Proposals of its own.
    #[schemars(length(max = 32), inner(length(min = 1, max = 256)))]
    pub esp: Option<Vec<String>>,
}

/// Dead peer detection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct DpdSpec {
    /// After so long without a sign of life one is asked for; 0s for never.
    #[schemars(regex(pattern = DURATION), extend("default" = "10s"))]
    pub delay: Option<String>,
    /// After so long without an answer the other end is dead; by default three times the delay, at
    /// least 30s.
    #[schemars(regex(pattern = DURATION))]
    pub timeout: Option<String>,
    /// What follows: restart, clear or none; by default restart with auto: start, otherwise clear.
    pub action: Option<ActionSpec>,
}

/// How long SAs live, before jitter.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct LifetimesSpec {
    /// An IKE SA.
    #[schemars(regex(pattern = DURATION), extend("default" = "3h"))]
    pub ike: Option<String>,
    /// A child SA.
    #[schemars(regex(pattern = DURATION), extend("default" = "1h"))]
    pub child: Option<String>,
    /// A child SA, in bytes.
    #[schemars(range(min = 1_000_000))]
    pub bytes: Option<u64>,
    /// A child SA, in packets.
    #[schemars(range(min = 1000))]
    pub packets: Option<u64>,
}

/// What the gateway writes about a connection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct VpnConnectionStatus {
    /// Established, Connecting, Waiting, Down or Refused.
    pub state: Option<String>,
    /// Since when, as RFC 3339 has it.
    pub since: Option<String>,
    /// The EdgeGateway that holds it.
    pub edge: Option<String>,
    /// What was agreed with the other end, for each child SA.
    pub selectors: Option<Vec<SelectorsStatus>>,
    /// Accepted and Established, each with its reason.
    pub conditions: Option<Vec<ConditionStatus>>,
}

/// What was agreed for a child SA.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SelectorsStatus {
    /// The child SA.
    pub child: String,
    /// This end's selectors.
    pub local: Option<Vec<String>>,
    /// The other end's.
    pub remote: Option<Vec<String>>,
}

/// A condition, as meta/v1 has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConditionStatus {
    /// Its name.
    #[serde(rename = "type")]
    pub kind: String,
    /// True, False or Unknown.
    pub status: String,
    /// In one word.
    pub reason: Option<String>,
    /// For people.
    pub message: Option<String>,
    /// Since when, as RFC 3339 has it.
    pub last_transition_time: Option<String>,
    /// Of which generation of the object it tells.
    pub observed_generation: Option<i64>,
}

impl Resource for VpnConnection {
    const API_VERSION: &'static str = API_VERSION;
    const GROUP: &'static str = GROUP;
    const KIND: &'static str = "VpnConnection";
    const VERSION: &'static str = VERSION;
    const URL_PATH_SEGMENT: &'static str = "vpnconnections";
    type Scope = NamespaceResourceScope;
}

impl Metadata for VpnConnection {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
