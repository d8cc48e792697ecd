//! WireGuard's peers, and the networks that each may use.
