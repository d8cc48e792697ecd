//! Pure planners: from the [`model::Snapshot`] to what each plane should have in force.
//!
//! **What it is:** rules. The same snapshot always gives the same plan, byte for byte. [`l7`] has
//! the ALBs' routes, [`l4`] the addresses and ways of Services, [`policy`] who may reach what, [`nft`] the kernel's
//! table as data.
//!
//! **What it is not:** drivers. No async, no clock, no I/O, no randomness.

pub mod l4;
pub mod l7;
pub mod machines;
pub mod nft;
pub mod overlay;
pub mod policy;
pub mod vpn;
