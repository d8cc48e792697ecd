//! The agent as a process on a node, against edges that are made of the same parts as the
//! gateway's.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

mod agent {
    mod api;
    mod cases;
    mod edge;
    mod lab;
}
