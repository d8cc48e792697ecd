//! The Kubernetes API as Tidegate uses it.
