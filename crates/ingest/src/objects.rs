//! What a source delivers.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Node, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use model::{Diagnostic, Location, ObjectKey, ObjectRef, SharedMap};

use crate::crds::{AddressPool, EdgeGateway, IpamBlock, VpnConnection};

/// All objects of all kinds that Tidegate reads, as a source last saw them.
///
/// Objects are shared, and so are the maps of them: a copy of the set costs next to nothing, and what
/// is the same in memory as before has not changed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObjectSet {
    /// networking.k8s.io/v1 Ingress
    pub ingresses: SharedMap<ObjectKey, Arc<Ingress>>,
    /// networking.k8s.io/v1 IngressClass, by name
    pub ingress_classes: SharedMap<String, Arc<IngressClass>>,
    /// v1 Service
    pub services: SharedMap<ObjectKey, Arc<Service>>,
    /// discovery.k8s.io/v1 EndpointSlice
    pub endpoint_slices: SharedMap<ObjectKey, Arc<EndpointSlice>>,
    /// v1 Secret
    pub secrets: SharedMap<ObjectKey, Arc<Secret>>,
    /// v1 Namespace, by name
    pub namespaces: SharedMap<String, Arc<Namespace>>,
    /// v1 Node, by name
    pub nodes: SharedMap<String, Arc<Node>>,
    /// tidegate.io/v1alpha1 AddressPool, by name
    pub pools: SharedMap<String, Arc<AddressPool>>,
    /// tidegate.io/v1alpha1 VpnConnection
    pub vpn: SharedMap<ObjectKey, Arc<VpnConnection>>,
    /// tidegate.io/v1alpha1 EdgeGateway, by name
    pub edges: SharedMap<String, Arc<EdgeGateway>>,
    /// crd.projectcalico.org/v1 IPAMBlock, by name
    pub ipam_blocks: SharedMap<String, Arc<IpamBlock>>,
    /// Calico's policies and what they select
    pub calico: crate::calico::Objects,
    /// Where each object was read, where the source knows.
    pub origins: SharedMap<ObjectRef, Location>,
}

impl ObjectSet {
    /// How many objects there are.
    pub fn len(&self) -> usize {
        let calico = &self.calico;
        self.ingresses.len()
            + self.ingress_classes.len()
            + self.services.len()
            + self.endpoint_slices.len()
            + self.secrets.len()
            + self.namespaces.len()
            + self.nodes.len()
            + self.pools.len()
            + self.vpn.len()
            + self.edges.len()
            + self.ipam_blocks.len()
            + calico.policies.len()
            + calico.endpoints.len()
            + calico.sets.len()
            + calico.unsupported.len()
    }

    /// Whether everything but the EndpointSlices is the same in memory.
    pub(crate) fn is_but_for_slices(&self, other: &Self) -> bool {
        let Self {
            ingresses,
            ingress_classes,
            services,
            endpoint_slices: _,
            secrets,
            namespaces,
            nodes,
            pools,
            vpn,
            edges,
            ipam_blocks,
            calico,
            origins,
        } = self;
        ingresses.is(&other.ingresses)
            && ingress_classes.is(&other.ingress_classes)
            && services.is(&other.services)
            && secrets.is(&other.secrets)
            && namespaces.is(&other.namespaces)
            && nodes.is(&other.nodes)
            && pools.is(&other.pools)
            && vpn.is(&other.vpn)
            && edges.is(&other.edges)
            && ipam_blocks.is(&other.ipam_blocks)
            && calico.is(&other.calico)
            && origins.is(&other.origins)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// All objects of a source at one time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delivery {
    /// The objects, those in force again because their newer versions can't be read included.
    pub objects: ObjectSet,
    /// What is wrong with what was read, in the order of files, or of objects.
    pub diagnostics: Vec<Diagnostic>,
    /// How many objects of which kinds were left alone: `apps/v1 Deployment`.
    pub ignored: BTreeMap<String, usize>,
    /// Kinds of which nothing is known, since they may not be read: of these there may be objects.
    pub unread: BTreeSet<&'static str>,
}
