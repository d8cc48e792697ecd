//! CREATE_CHILD_SA.

use std::time::Instant;

use super::engine::Engine;
use super::message::{Notify, Payload, notify};
use super::sa::{IkeSa, Received};
use crate::sa::ChildName;

pub(super) fn begin(engine: &mut Engine, now: Instant, sa: &mut IkeSa, child: &ChildName) {
    let _ = (engine, now, sa, child);
}

pub(super) fn answer(
    engine: &mut Engine,
    now: Instant,
    sa: &mut IkeSa,
    request: &Received,
) -> Vec<Payload> {
    let _ = (engine, now, sa, request);
    vec![Payload::Notify(Notify::new(notify::NO_ADDITIONAL_SAS, Vec::new()))]
}
