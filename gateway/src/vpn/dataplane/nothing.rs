//! No data path: none could be started.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ipsec::ike::event::Transmit;
use ipsec::sa::{ChildSa, ChildSaId, ConnectionName, Path};
use plan::vpn::Policy;

use super::{Counters, Dataplane};

/// Carries nothing. It stands in for a data path that can't be started, so that remote networks
/// are guarded all the same.
#[derive(Clone, Copy, Debug)]
pub struct Nothing;

impl Dataplane for Nothing {
    fn name(&self) -> &'static str {
        "none"
    }

    fn set_policies(&mut self, _: BTreeMap<ConnectionName, Vec<Policy>>) {}

    fn install(&mut self, _: &Arc<ChildSa>, _: bool, _: Option<ChildSaId>) -> Result<(), String> {
        Err("there is no data path".to_owned())
    }

    fn send(&mut self, _: ChildSaId) {}

    fn remove(&mut self, _: ChildSaId, _: Duration) {}

    fn set_path(&mut self, _: &[ChildSaId], _: Path, _: bool) {}

    fn transmit(&mut self, _: &Transmit) {}

    fn carries(&self) -> bool {
        false
    }

    fn counters(&self) -> Counters {
        Counters::default()
    }
}
