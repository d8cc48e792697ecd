//! What others may know of the VPN plane.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipsec::ike::config::{Child, Connection};
use ipsec::ike::event::{ConnectionStatus, Counters, Failure, State};
use ipsec::sa::{ChildName, ConnectionName};
use model::{Diagnostic, ObjectKey};
use plan::vpn::ConnectionPlan;

use super::dataplane::{self, SaCounters};
use super::guard::Count;

/// What is in force, and what isn't.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// The generation that is to be in force.
    pub desired: u64,
    /// The last one that was in force as a whole.
    pub applied: u64,
    /// The first objects are in force, or have been found to be impossible.
    pub settled: bool,
    /// What is wrong.
    pub diagnostics: Vec<Diagnostic>,
}

/// How everything is at one moment.
#[derive(Clone, Debug)]
pub struct Report {
    /// The moment.
    pub now: Instant,
    /// What is in force.
    pub view: Arc<View>,
    /// What carries packets, such as `userspace`.
    pub dataplane: &'static str,
    /// What came from the network and was not good.
    pub ike: Counters,
    /// What the data path has counted.
    pub data: dataplane::Counters,
    /// What the guard table has counted, by counter.
    pub guard: BTreeMap<String, Count>,
    /// The connections, by name.
    pub connections: Vec<OneConnection>,
    /// Who has come, and fits no connection: the latest ones.
    pub strangers: Vec<Stranger>,
    /// What of `no-policy` had been dropped when the objects changed last.
    pub strays_before: u64,
    /// The machine forwards packets: of IPv4, of IPv6; none where that can't be read.
    pub forwards: [Option<bool>; 2],
}

/// One connection.
#[derive(Clone, Debug)]
pub struct OneConnection {
    /// Its object.
    pub key: ObjectKey,
    /// Its name with the engine.
    pub name: ConnectionName,
    /// As it was planned.
    pub plan: Arc<ConnectionPlan>,
    /// As the engine has it; none while that can't be.
    pub made: Option<Arc<Connection>>,
    /// What the engine says of it.
    pub status: Option<ConnectionStatus>,
    /// What went wrong last, and hasn't been made good by its coming up.
    pub seen: Option<Seen>,
    /// When it was configured, or came up: the later of both.
    pub since: Option<Instant>,
    /// How it was lost, if it was, and isn't there again.
    pub ended: Option<Ended>,
    /// What had been counted of its children then.
    pub before: BTreeMap<ChildName, SaCounters>,
    /// What keeps it from being.
    pub finding: Option<Diagnostic>,
}

/// How a connection that was up has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    /// In words, as of "the other end".
    pub how: &'static str,
    /// When.
    pub at: Instant,
}

impl OneConnection {
    /// What it is up to, in a word.
    pub fn state(&self) -> &'static str {
        match self.status.as_ref().map(|status| status.state) {
            None => "impossible",
            Some(State::Down) => "down",
            Some(State::Listening) => "listening",
            Some(State::Trapped) => "trapped",
            Some(State::Connecting) => "connecting",
            Some(State::Up) => "up",
            Some(State::Partial) => "partial",
        }
    }

    /// What was counted of a child.
    pub fn counters(&self, data: &dataplane::Counters, child: &str) -> SaCounters {
        let key: (ConnectionName, ChildName) = (Arc::clone(&self.name), child.into());
        data.children.get(&key).copied().unwrap_or_default()
    }

    /// What was counted of a child since the connection was configured or came up.
    pub fn counted_since(&self, data: &dataplane::Counters, child: &str) -> SaCounters {
        let before = self.before.get(child).copied().unwrap_or_default();
        self.counters(data, child).since(&before)
    }

    /// A child as the engine has it.
    pub fn wanted(&self, child: &str) -> Option<&Child> {
        self.made.as_ref()?.children.iter().find(|wanted| &*wanted.name == child)
    }
}

/// The states that [`OneConnection::state`] knows.
pub const STATES: [&str; 7] =
    ["impossible", "down", "listening", "trapped", "connecting", "up", "partial"];

/// Something that went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// What.
    pub failure: Failure,
    /// With whom.
    pub remote: SocketAddr,
    /// When it was seen last.
    pub at: Instant,
    /// How often in a row.
    pub times: u64,
}

/// Somebody who fits no connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// What went wrong.
    pub seen: Seen,
}

impl Report {
    /// How long ago something was.
    pub fn since(&self, at: Instant) -> Duration {
        self.now.saturating_duration_since(at)
    }

    /// How long it takes until something is.
    pub fn until(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.now)
    }
}
