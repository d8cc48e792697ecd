//! The agent on the nodes.
