//! Pure planners: from the [`model::Snapshot`] to what each plane should have in force.
//!
//! **What it is:** rules. The same snapshot always gives the same plan, byte for byte.
//!
//! **What it is not:** drivers. No async, no clock, no I/O, no randomness.

pub mod l7;
