//! The kinds that are read, and their objects.

use std::fmt;

use k8s_openapi::api::core::v1::{Namespace, Node as ClusterNode, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{ByteString, Metadata};
use model::{ObjectKey, ObjectRef};
use serde::de::DeserializeOwned;

use crate::ObjectSet;
use crate::calico;
use crate::crds::{AddressPool, EdgeGateway, GROUP, IpamBlock, VpnConnection};
use crate::spelling;
use crate::yaml::{self, FieldError, FieldPath, Node, Segment, Typed};

/// The configuration's kind: it is of Tidegate's group, but read from a file of its own.
const CONFIGURATION: &str = "GatewayConfig";

/// An object of one of the kinds that are read.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// networking.k8s.io/v1 Ingress
    Ingress(Box<Ingress>),
    /// networking.k8s.io/v1 IngressClass
    IngressClass(Box<IngressClass>),
    /// v1 Service
    Service(Box<Service>),
    /// discovery.k8s.io/v1 EndpointSlice
    EndpointSlice(Box<EndpointSlice>),
    /// v1 Secret, its `stringData` merged into `data`
    Secret(Box<Secret>),
    /// v1 Namespace
    Namespace(Box<Namespace>),
    /// v1 Node
    Node(Box<ClusterNode>),
    /// tidegate.io/v1alpha1 AddressPool
    AddressPool(Box<AddressPool>),
    /// tidegate.io/v1alpha1 VpnConnection
    VpnConnection(Box<VpnConnection>),
    /// tidegate.io/v1alpha1 EdgeGateway
    EdgeGateway(Box<EdgeGateway>),
    /// crd.projectcalico.org/v1 IPAMBlock
    IpamBlock(Box<IpamBlock>),
    /// One of Calico's
    Calico(calico::Object),
}

impl Object {
    pub(super) fn insert_into(self, reference: &ObjectRef, set: &mut ObjectSet) {
        let name = reference.name.clone();
        let key = ObjectKey::new(reference.namespace.clone().unwrap_or_default(), name.clone());
        match self {
            Self::Ingress(object) => drop(set.ingresses.insert(key, object.into())),
            Self::IngressClass(object) => drop(set.ingress_classes.insert(name, object.into())),
            Self::Service(object) => drop(set.services.insert(key, object.into())),
            Self::EndpointSlice(object) => drop(set.endpoint_slices.insert(key, object.into())),
            Self::Secret(object) => drop(set.secrets.insert(key, object.into())),
            Self::Namespace(object) => drop(set.namespaces.insert(name, object.into())),
            Self::Node(object) => drop(set.nodes.insert(name, object.into())),
            Self::AddressPool(object) => drop(set.pools.insert(name, object.into())),
            Self::VpnConnection(object) => drop(set.vpn.insert(key, object.into())),
            Self::EdgeGateway(object) => drop(set.edges.insert(name, object.into())),
            Self::IpamBlock(object) => drop(set.ipam_blocks.insert(name, object.into())),
            Self::Calico(object) => object.insert_into(reference, &mut set.calico),
        }
    }
}

/// A kind that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ingress,
    IngressClass,
    Service,
    EndpointSlice,
    Secret,
    Namespace,
    Node,
    AddressPool,
    VpnConnection,
    EdgeGateway,
    IpamBlock,
    Calico(calico::Kind),
}

/// What an apiVersion and kind mean here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It is read.
    Read(Kind),
    /// An old or mistaken version of this kind.
    WrongVersion(Kind),
    /// A kind that Tidegate's own group doesn't have.
    NoneOfOurs,
    /// Nothing that is read, such as a Deployment, or another group's Service.
    Other,
}

impl Kind {
    const ALL: [Self; 11] = [
        Self::Ingress,
        Self::IngressClass,
        Self::Service,
        Self::EndpointSlice,
        Self::Secret,
        Self::Namespace,
        Self::Node,
        Self::AddressPool,
        Self::VpnConnection,
        Self::EdgeGateway,
        Self::IpamBlock,
    ];

    /// Groups (`v1` is that of no name) that have or had one of these kinds, or that it is easily
    /// taken for. In any other group a kind of the same name is another thing.
    const GROUPS: [&'static str; 6] =
        ["", "core", "extensions", "networking.k8s.io", "discovery.k8s.io", "tidegate.io"];

    /// The kinds of Tidegate's own group that manifests hold.
    const OURS: [Self; 3] = [Self::AddressPool, Self::VpnConnection, Self::EdgeGateway];

    /// The same, the one first that is most like a misspelt one.
    pub(super) fn ours_like(written: &str) -> Vec<&'static str> {
        let mut names = Self::OURS.map(Self::name).to_vec();
        if let Some(near) = spelling::nearest(written, names.iter().copied()) {
            names.sort_by_key(|name| *name != near);
        }
        names
    }

    pub(super) fn find(api_version: &str, kind: &str) -> Known {
        match calico::Kind::find(api_version, kind) {
            Some(calico::Found::Current(kind)) => return Known::Read(Self::Calico(kind)),
            Some(calico::Found::WrongVersion(kind)) => {
                return Known::WrongVersion(Self::Calico(kind));
            }
            None => {}
        }
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        let Some(found) = Self::ALL.into_iter().find(|known| known.name() == kind) else {
            let is_ours = group == GROUP && kind != CONFIGURATION;
            return if is_ours { Known::NoneOfOurs } else { Known::Other };
        };
        if found.api_versions().contains(&api_version) {
            Known::Read(found)
        } else if Self::GROUPS.contains(&group) {
            Known::WrongVersion(found)
        } else {
            Known::Other
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Ingress => "Ingress",
            Self::IngressClass => "IngressClass",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Secret => "Secret",
            Self::Namespace => "Namespace",
            Self::Node => "Node",
            Self::AddressPool => "AddressPool",
            Self::VpnConnection => "VpnConnection",
            Self::EdgeGateway => "EdgeGateway",
            Self::IpamBlock => "IPAMBlock",
            Self::Calico(kind) => kind.name(),
        }
    }

    /// The apiVersions that are read, the usual one first.
    fn api_versions(self) -> &'static [&'static str] {
        match self {
            Self::Ingress | Self::IngressClass => &["networking.k8s.io/v1"],
            Self::EndpointSlice => &["discovery.k8s.io/v1"],
            Self::Service | Self::Secret | Self::Namespace | Self::Node => &["v1"],
            Self::AddressPool | Self::VpnConnection | Self::EdgeGateway => {
                &["tidegate.io/v1alpha1"]
            }
            Self::IpamBlock => &["crd.projectcalico.org/v1"],
            // It finds its own.
            Self::Calico(_) => &[],
        }
    }

    /// The apiVersion to write.
    pub(super) fn api_version(self) -> &'static str {
        match self {
            Self::Calico(kind) => kind.api_version(),
            _ => self.api_versions().first().copied().unwrap_or_default(),
        }
    }

    pub(super) fn is_namespaced(self) -> bool {
        match self {
            Self::Ingress
            | Self::Service
            | Self::EndpointSlice
            | Self::Secret
            | Self::VpnConnection => true,
            Self::IngressClass
            | Self::Namespace
            | Self::Node
            | Self::AddressPool
            | Self::EdgeGateway
            | Self::IpamBlock => false,
            Self::Calico(kind) => kind.is_namespaced(),
        }
    }

    /// The name by which an object is known whose metadata has this one.
    pub(super) fn canonical_name(self, name: String) -> String {
        match self {
            Self::Calico(kind) => kind.canonical_name(name),
            _ => name,
        }
    }

    /// Reads an object of this kind, whose name is known already.
    pub(super) fn read(
        self,
        node: &Node,
        reference: &ObjectRef,
    ) -> Result<Typed<Object>, FieldError> {
        match self {
            Self::Ingress => read(node, reference, Object::Ingress),
            Self::IngressClass => read(node, reference, Object::IngressClass),
            Self::Service => read(node, reference, Object::Service),
            Self::EndpointSlice => read(node, reference, Object::EndpointSlice),
            Self::Secret => read(node, reference, |mut secret: Box<Secret>| {
                admit_string_data(&mut secret);
                Object::Secret(secret)
            })
            .map_err(without_secrets),
            Self::Namespace => read(node, reference, Object::Namespace),
            Self::Node => read(node, reference, Object::Node),
            Self::AddressPool => read(node, reference, Object::AddressPool),
            Self::VpnConnection => read(node, reference, Object::VpnConnection),
            Self::EdgeGateway => read(node, reference, Object::EdgeGateway),
            // Calico writes it, and more than is read.
            Self::IpamBlock => read(node, reference, Object::IpamBlock)
                .map(|typed| Typed { unknown: Vec::new(), ..typed }),
            Self::Calico(kind) => Ok(kind.read(node)?.map(Object::Calico)),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

fn read<T>(
    node: &Node,
    reference: &ObjectRef,
    wrap: impl FnOnce(Box<T>) -> Object,
) -> Result<Typed<Object>, FieldError>
where
    T: DeserializeOwned + Metadata<Ty = ObjectMeta>,
{
    let typed = yaml::typed::<T>(node)?;
    Ok(typed.map(|mut object| {
        object.metadata_mut().namespace.clone_from(&reference.namespace);
        wrap(Box::new(object))
    }))
}

/// `stringData` is write-only: the API server puts it into `data`, over what stands there.
fn admit_string_data(secret: &mut Secret) {
    if let Some(texts) = secret.string_data.take() {
        let bytes = texts.into_iter().map(|(key, text)| (key, ByteString(text.into_bytes())));
        secret.data.get_or_insert_default().extend(bytes);
    }
}

/// Keeps what stands in a Secret out of logs.
fn without_secrets(mut error: FieldError) -> FieldError {
    let kept = match error.path.segments().first() {
        Some(Segment::Key(key)) if key == "data" => "must be base64 text",
        Some(Segment::Key(key)) if key == "stringData" => "must be text",
        _ if error.path == FieldPath::default() => "is not a Secret",
        _ => return error,
    };
    error.reason = format!("{kept}; what stands there isn't shown");
    error.remedy = "give each key one value, in quotes".to_owned();
    error
}
