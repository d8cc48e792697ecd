//! A whole cluster: two edges with the gateway, three nodes with the agent, the API's double, a
//! client, and a customer's network with a strongSwan. What packets do between them, and what is
//! lost when one of them fails.

#![allow(clippy::unwrap_used, clippy::panic)] // reason: a test fails by panicking
#![allow(clippy::print_stdout)] // reason: figures of what was lost, with --no-capture

mod clear;
mod failures;
mod holders;
mod kubectl;
mod load;
mod objects;
mod own_link;
mod reach;
mod restarts;
mod standing;
mod world;
