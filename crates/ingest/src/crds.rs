//! Tidegate's own kinds, as they are written: `tidegate.io/v1alpha1`.
//!
//! Their documentation becomes the CustomResourceDefinitions' (`gateway crds`). A field that isn't
//! known is a warning, as with Kubernetes' own kinds. One that restricts something and can't be
//! read spoils its object, so that a source can keep the last good one in force.

pub mod address_pool;
pub mod definition;
pub mod edge_gateway;
pub mod ipam_block;
pub mod label_selector;
pub mod span;
pub mod vpn_connection;

pub use address_pool::{AddressPool, AddressPoolSpec};
pub use edge_gateway::{EdgeGateway, EdgeGatewaySpec, EdgeGatewayStatus};
pub use ipam_block::{IpamBlock, IpamBlockSpec};
pub use label_selector::LabelSelector;
pub use span::Span;
pub use vpn_connection::{VpnConnection, VpnConnectionSpec};

/// The group of all of them.
pub const GROUP: &str = "tidegate.io";
/// Their version.
pub const VERSION: &str = "v1alpha1";
/// What stands in their `apiVersion`.
pub const API_VERSION: &str = "tidegate.io/v1alpha1";
