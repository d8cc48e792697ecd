//! The agent as a process on a node, against edges that are made of the same parts as the
//! gateway's.

mod agent {
    mod api;
    mod cases;
    mod edge;
    mod lab;
}
