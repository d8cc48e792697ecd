//! Machines of this side.

use std::fmt;

use crate::names::ObjectRef;

/// What is at a single address of this side: no VpnConnection leads there, and no VIP is there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Machine {
    /// The Kubernetes API.
    Api,
    /// Who tells the API's address.
    NameServer,
    /// A next hop of this edge's routes.
    Router,
    /// This edge.
    Own,
    /// What an EdgeGateway or a Node tells of itself.
    Object(ObjectRef),
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Api => f.write_str("the Kubernetes API"),
            Self::NameServer => f.write_str("a name server"),
            Self::Router => f.write_str("a router of this side"),
            Self::Own => f.write_str("this edge"),
            Self::Object(object) => object.fmt(f),
        }
    }
}
