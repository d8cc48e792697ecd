//! The user-space data path: two of them in two network namespaces, with SAs made by hand, and
//! packets that really go from one to the other. Needs root, iproute2 and ping.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)] // reason: a test fails by panicking

mod addresses;
mod carrying;
mod dropping;
mod lab;
mod measure;
mod notices;
mod sizes;
