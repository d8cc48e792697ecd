//! WireGuard peers and allowed IPs, and probes, sans-IO.
