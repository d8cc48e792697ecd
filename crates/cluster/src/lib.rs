//! The Kubernetes API as Tidegate uses it.

pub mod write;
