//! Objects as they come, and as they are kept: without what nobody reads.

use std::sync::Arc;

use ingest::ObjectSet;
use ingest::calico::objects::{GlobalNetworkPolicy, GlobalNetworkSet, HostEndpoint};
use ingest::crds::{AddressPool, EdgeGateway, IpamBlock, VpnConnection};
use ingest::yaml::FieldPath;
use k8s_openapi::api::core::v1::{Namespace, Node, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use model::{ObjectKey, ObjectRef, SharedMap};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::kind::Kind;

/// `kubectl apply` keeps a copy of the whole object there.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// An object that was read.
#[derive(Clone, Debug)]
pub(super) enum Object {
    Ingress(Arc<Ingress>),
    IngressClass(Arc<IngressClass>),
    Service(Arc<Service>),
    EndpointSlice(Arc<EndpointSlice>),
    Secret(Arc<Secret>),
    Namespace(Arc<Namespace>),
    Node(Arc<Node>),
    AddressPool(Arc<AddressPool>),
    VpnConnection(Arc<VpnConnection>),
    EdgeGateway(Arc<EdgeGateway>),
    IpamBlock(Arc<IpamBlock>),
    Policy(Box<GlobalNetworkPolicy>),
    Endpoint(Box<HostEndpoint>),
    Set(Box<GlobalNetworkSet>),
}

/// What every object says of itself.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Head {
    pub(super) metadata: HeadMeta,
}

/// As much of its metadata as a watch needs.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct HeadMeta {
    pub(super) name: String,
    pub(super) namespace: Option<String>,
    pub(super) resource_version: String,
    pub(super) annotations: Option<std::collections::BTreeMap<String, String>>,
}

/// An object, with its place in the course of changes.
pub(super) struct Read {
    pub(super) key: ObjectKey,
    /// Empty if even that can't be read.
    pub(super) version: String,
    pub(super) object: Result<Object, Fault>,
}

/// Why an object can't be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) field: String,
    pub(super) reason: String,
}

/// Reads an object; none if not even its name can be found.
pub(super) fn read(kind: Kind, bytes: &[u8]) -> Option<Read> {
    match kind {
        Kind::Ingress => typed(kind, bytes, |_: &mut Ingress| {}, Object::Ingress),
        Kind::IngressClass => typed(kind, bytes, |_: &mut IngressClass| {}, Object::IngressClass),
        Kind::Service => typed(kind, bytes, |_: &mut Service| {}, Object::Service),
        Kind::EndpointSlice => typed(kind, bytes, trim_slice, Object::EndpointSlice),
        Kind::Secret => typed(kind, bytes, |_: &mut Secret| {}, Object::Secret),
        Kind::Namespace => typed(kind, bytes, trim_namespace, Object::Namespace),
        Kind::Node => typed(kind, bytes, trim_node, Object::Node),
        Kind::AddressPool => {
            let name = |object: &mut AddressPool| {
                name_type(&mut object.api_version, &mut object.kind, kind);
            };
            typed(kind, bytes, name, Object::AddressPool)
        }
        Kind::VpnConnection => {
            let name = |object: &mut VpnConnection| {
                name_type(&mut object.api_version, &mut object.kind, kind);
            };
            typed(kind, bytes, name, Object::VpnConnection)
        }
        Kind::EdgeGateway => {
            let name = |object: &mut EdgeGateway| {
                name_type(&mut object.api_version, &mut object.kind, kind);
            };
            typed(kind, bytes, name, Object::EdgeGateway)
        }
        Kind::IpamBlock => typed(kind, bytes, |_: &mut IpamBlock| {}, Object::IpamBlock),
        Kind::GlobalNetworkPolicy => typed(
            kind,
            bytes,
            |_: &mut GlobalNetworkPolicy| {},
            |object| Object::Policy(Box::new(Arc::unwrap_or_clone(object))),
        ),
        Kind::HostEndpoint => typed(
            kind,
            bytes,
            |_: &mut HostEndpoint| {},
            |object| Object::Endpoint(Box::new(Arc::unwrap_or_clone(object))),
        ),
        Kind::GlobalNetworkSet => typed(
            kind,
            bytes,
            |_: &mut GlobalNetworkSet| {},
            |object| Object::Set(Box::new(Arc::unwrap_or_clone(object))),
        ),
    }
}

fn typed<T: DeserializeOwned + HasMeta>(
    kind: Kind,
    bytes: &[u8],
    trim: impl FnOnce(&mut T),
    wrap: impl FnOnce(Arc<T>) -> Object,
) -> Option<Read> {
    match serde_json::from_slice::<T>(bytes) {
        Ok(mut object) => {
            let meta = object.meta();
            let version = meta.resource_version.take().unwrap_or_default();
            let name = meta.name.clone()?;
            let key = key_of(kind, meta.namespace.clone(), name);
            trim_meta(meta);
            trim(&mut object);
            Some(Read { key, version, object: Ok(wrap(Arc::new(object))) })
        }
        Err(_) => {
            let head: Head = serde_json::from_slice(bytes).ok()?;
            let HeadMeta { name, namespace, resource_version, .. } = head.metadata;
            if name.is_empty() {
                return None;
            }
            let key = key_of(kind, namespace, name);
            let fault = fault::<T>(kind, bytes);
            Some(Read { key, version: resource_version, object: Err(fault) })
        }
    }
}

/// What doesn't fit, found by reading once more: to remember the way costs more than reading.
fn fault<T: DeserializeOwned>(kind: Kind, bytes: &[u8]) -> Fault {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    match serde_path_to_error::deserialize::<_, T>(&mut json) {
        Ok(_) => Fault { field: String::new(), reason: "can't be read".to_owned() },
        Err(error) => {
            let field = FieldPath::from(error.path()).to_string();
            let reason = match kind {
                // The words may quote the value.
                Kind::Secret => "can't be read; what stands there isn't shown".to_owned(),
                _ => without_place(&error.inner().to_string()),
            };
            Fault { field, reason }
        }
    }
}

/// Without the line and column in a text that nobody has before them.
fn without_place(reason: &str) -> String {
    reason.rsplit_once(" at line ").map_or(reason, |(reason, _)| reason).to_owned()
}

/// The name by which the object is known.
pub(super) fn key_of(kind: Kind, namespace: Option<String>, name: String) -> ObjectKey {
    // Calico stores policies of the default tier with the tier's name before their own.
    let name = match (kind, name.strip_prefix("default.")) {
        (Kind::GlobalNetworkPolicy, Some(rest)) if !rest.is_empty() => rest.to_owned(),
        _ => name,
    };
    let namespace =
        if kind.is_namespaced() { namespace.unwrap_or_default() } else { String::new() };
    ObjectKey::new(namespace, name)
}

/// The object's name in findings.
pub(super) fn reference(kind: Kind, key: &ObjectKey) -> ObjectRef {
    match kind.is_namespaced() {
        true => ObjectRef::namespaced(kind.name(), key),
        false => ObjectRef::cluster(kind.name(), &key.name),
    }
}

/// Items of lists needn't say what they are.
fn name_type(api_version: &mut Option<String>, name: &mut Option<String>, kind: Kind) {
    let place = kind.place();
    api_version.get_or_insert_with(|| format!("{}/{}", place.group, place.version));
    name.get_or_insert_with(|| kind.name().to_owned());
}

trait HasMeta {
    fn meta(&mut self) -> &mut ObjectMeta;
}

macro_rules! has_meta {
    ($($kind:ty),*) => {
        $(impl HasMeta for $kind {
            fn meta(&mut self) -> &mut ObjectMeta {
                &mut self.metadata
            }
        })*
    };
}

has_meta!(Ingress, IngressClass, Service, EndpointSlice, Secret, Namespace, Node);
has_meta!(AddressPool, VpnConnection, EdgeGateway, IpamBlock);
has_meta!(GlobalNetworkPolicy, HostEndpoint, GlobalNetworkSet);

fn trim_meta(meta: &mut ObjectMeta) {
    meta.managed_fields = None;
    meta.self_link = None;
    meta.generate_name = None;
    meta.owner_references = None;
    if let Some(annotations) = &mut meta.annotations {
        annotations.remove(LAST_APPLIED);
        if annotations.is_empty() {
            meta.annotations = None;
        }
    }
}

fn trim_slice(slice: &mut EndpointSlice) {
    for endpoint in &mut slice.endpoints {
        endpoint.target_ref = None;
        endpoint.hostname = None;
        endpoint.deprecated_topology = None;
        endpoint.addresses.shrink_to_fit();
    }
    slice.endpoints.shrink_to_fit();
    // The time of the last change that kube-proxy's metrics want, and a new one with each.
    if let Some(annotations) = &mut slice.metadata.annotations {
        annotations.remove("endpoints.kubernetes.io/last-change-trigger-time");
        if annotations.is_empty() {
            slice.metadata.annotations = None;
        }
    }
    slice.metadata.generation = None;
}

fn trim_namespace(namespace: &mut Namespace) {
    namespace.spec = None;
    namespace.status = None;
}

/// A kubelet writes much about its machine, and often.
fn trim_node(node: &mut Node) {
    let Some(status) = &mut node.status else { return };
    let addresses = status.addresses.take();
    let conditions = status.conditions.take().map(|mut conditions| {
        for condition in &mut conditions {
            condition.last_heartbeat_time = None;
        }
        conditions
    });
    *status =
        k8s_openapi::api::core::v1::NodeStatus { addresses, conditions, ..Default::default() };
}

/// Does the same with each kind of which a set has shared objects: `$map` of a name or a key.
macro_rules! each_shared {
    ($with:ident) => {
        $with! {
            Ingress ingresses by_key, IngressClass ingress_classes by_name,
            Service services by_key, EndpointSlice endpoint_slices by_key,
            Secret secrets by_key, Namespace namespaces by_name, Node nodes by_name,
            AddressPool pools by_name, VpnConnection vpn by_key, EdgeGateway edges by_name,
            IpamBlock ipam_blocks by_name
        }
    };
}

impl Object {
    /// Puts the object into the set. Returns whether that changes anything; if it doesn't, what is
    /// there stays there.
    pub(super) fn insert_into(self, key: &ObjectKey, set: &mut ObjectSet) -> bool {
        macro_rules! insert {
            ($($kind:ident $map:ident $by:ident),*) => {
                match self {
                    $(Self::$kind(object) => put(&mut set.$map, $by(key), object),)*
                    Self::Policy(object) => put(&mut set.calico.policies, by_name(key), *object),
                    Self::Endpoint(object) => put(&mut set.calico.endpoints, by_name(key), *object),
                    Self::Set(object) => put(&mut set.calico.sets, by_name(key), *object),
                }
            };
        }
        each_shared!(insert)
    }
}

/// Takes an object out of the set. Returns whether it was there.
pub(super) fn remove(kind: Kind, key: &ObjectKey, set: &mut ObjectSet) -> bool {
    macro_rules! remove {
        ($($kind:ident $map:ident $by:ident),*) => {
            match kind {
                $(Kind::$kind => take(&mut set.$map, $by(key)),)*
                Kind::GlobalNetworkPolicy => take(&mut set.calico.policies, by_name(key)),
                Kind::HostEndpoint => take(&mut set.calico.endpoints, by_name(key)),
                Kind::GlobalNetworkSet => take(&mut set.calico.sets, by_name(key)),
            }
        };
    }
    each_shared!(remove)
}

/// Whether an object is in the set.
pub(super) fn has(kind: Kind, key: &ObjectKey, set: &ObjectSet) -> bool {
    macro_rules! has {
        ($($kind:ident $map:ident $by:ident),*) => {
            match kind {
                $(Kind::$kind => set.$map.contains_key($by(key)),)*
                Kind::GlobalNetworkPolicy => set.calico.policies.contains_key(by_name(key)),
                Kind::HostEndpoint => set.calico.endpoints.contains_key(by_name(key)),
                Kind::GlobalNetworkSet => set.calico.sets.contains_key(by_name(key)),
            }
        };
    }
    each_shared!(has)
}

/// The names of all objects of a kind in the set.
pub(super) fn keys(kind: Kind, set: &ObjectSet) -> Vec<ObjectKey> {
    trait Key {
        fn key(&self) -> ObjectKey;
    }
    impl Key for ObjectKey {
        fn key(&self) -> ObjectKey {
            self.clone()
        }
    }
    impl Key for String {
        fn key(&self) -> ObjectKey {
            ObjectKey::new("", self)
        }
    }
    macro_rules! keys {
        ($($kind:ident $map:ident $by:ident),*) => {
            match kind {
                $(Kind::$kind => set.$map.keys().map(Key::key).collect(),)*
                Kind::GlobalNetworkPolicy => set.calico.policies.keys().map(Key::key).collect(),
                Kind::HostEndpoint => set.calico.endpoints.keys().map(Key::key).collect(),
                Kind::GlobalNetworkSet => set.calico.sets.keys().map(Key::key).collect(),
            }
        };
    }
    each_shared!(keys)
}

/// How many objects of a kind are in the set.
pub(super) fn count(kind: Kind, set: &ObjectSet) -> usize {
    macro_rules! count {
        ($($kind:ident $map:ident $by:ident),*) => {
            match kind {
                $(Kind::$kind => set.$map.len(),)*
                Kind::GlobalNetworkPolicy => set.calico.policies.len(),
                Kind::HostEndpoint => set.calico.endpoints.len(),
                Kind::GlobalNetworkSet => set.calico.sets.len(),
            }
        };
    }
    each_shared!(count)
}

fn by_key(key: &ObjectKey) -> &ObjectKey {
    key
}

fn by_name(key: &ObjectKey) -> &String {
    &key.name
}

/// What changes nothing leaves the map the same in memory, too.
fn put<K: Ord + Clone, V: Clone + PartialEq>(map: &mut SharedMap<K, V>, key: &K, value: V) -> bool {
    let changed = map.get(key) != Some(&value);
    if changed {
        map.insert(key.clone(), value);
    }
    changed
}

fn take<K: Ord + Clone, V: Clone>(map: &mut SharedMap<K, V>, key: &K) -> bool {
    map.contains_key(key) && map.remove(key).is_some()
}

#[cfg(test)]
mod tests;
