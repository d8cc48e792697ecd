//! Where objects come from.
//!
//! A source turns what it watches into [`Delivery`]s and decides nothing. The latest one stands in
//! a [`tokio::sync::watch`] channel: who is late sees the newest state and none of those between.

pub use ::source::{Delivery, directory, store};
