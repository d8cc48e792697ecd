//! Calico's IPAMBlock (crd.projectcalico.org/v1): which node has which part of the pod networks,
//! where Calico's IPAM gives pods their addresses.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{ClusterResourceScope, Metadata, Resource};
use serde::Deserialize;

/// An IPAMBlock object, as far as it is read.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IpamBlock {
    /// Its name and the like.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What it says.
    pub spec: IpamBlockSpec,
}

/// What is read of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct IpamBlockSpec {
    /// The network, such as 10.244.1.64/26.
    pub cidr: String,
    /// Whose it is: `host:NODE`, none for a block that is given to nobody.
    pub affinity: Option<String>,
    /// Whether it is on its way out.
    #[serde(default)]
    pub deleted: bool,
}

impl Resource for IpamBlock {
    const API_VERSION: &'static str = "crd.projectcalico.org/v1";
    const GROUP: &'static str = "crd.projectcalico.org";
    const KIND: &'static str = "IPAMBlock";
    const VERSION: &'static str = "v1";
    const URL_PATH_SEGMENT: &'static str = "ipamblocks";
    type Scope = ClusterResourceScope;
}

impl Metadata for IpamBlock {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}
