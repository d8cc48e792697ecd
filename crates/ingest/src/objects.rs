//! What a source delivers.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{Namespace, Node, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::{Ingress, IngressClass};
use model::{Location, ObjectKey, ObjectRef};

use crate::crds::{AddressPool, VpnConnection};

/// All objects of all kinds that Tidegate reads, as a source last saw them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ObjectSet {
    /// networking.k8s.io/v1 Ingress
    pub ingresses: BTreeMap<ObjectKey, Ingress>,
    /// networking.k8s.io/v1 IngressClass, by name
    pub ingress_classes: BTreeMap<String, IngressClass>,
    /// v1 Service
    pub services: BTreeMap<ObjectKey, Service>,
    /// discovery.k8s.io/v1 EndpointSlice
    pub endpoint_slices: BTreeMap<ObjectKey, EndpointSlice>,
    /// v1 Secret
    pub secrets: BTreeMap<ObjectKey, Secret>,
    /// v1 Namespace, by name
    pub namespaces: BTreeMap<String, Namespace>,
    /// v1 Node, by name
    pub nodes: BTreeMap<String, Node>,
    /// tidegate.io/v1alpha1 AddressPool, by name
    pub pools: BTreeMap<String, AddressPool>,
    /// tidegate.io/v1alpha1 VpnConnection
    pub vpn: BTreeMap<ObjectKey, VpnConnection>,
    /// Calico's objects
    pub calico: crate::calico::Objects,
    /// Where each object was read, where the source knows.
    pub origins: BTreeMap<ObjectRef, Location>,
}
