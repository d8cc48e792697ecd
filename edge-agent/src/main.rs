//! The agent on the nodes.

fn main() {}
