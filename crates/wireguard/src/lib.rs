//! WireGuard interfaces, and what an overlay plan puts around them.
