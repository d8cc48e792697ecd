//! A double of the Kubernetes API server, for tests and for trying things out: real HTTP for the
//! real clients (kube, kubectl).
