//! What has happened, as lines of the log; and what went wrong last, for people who ask.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipsec::ike::event::{DownReason, Event, Failure};
use ipsec::sa::{ChildName, ChildSaId, ConnectionName, Path};

use super::failure::{cause, selectors};
use super::report::{Ended, Seen, Stranger};

/// So many strangers are remembered.
const STRANGERS: usize = 16;
/// The same failure is logged once in this time.
const QUIET: Duration = Duration::from_secs(60);

/// What went wrong.
#[derive(Debug, Default)]
pub(super) struct Journal {
    seen: BTreeMap<ConnectionName, Seen>,
    strangers: VecDeque<Stranger>,
    /// When each was logged.
    logged: BTreeMap<ConnectionName, (Failure, Instant)>,
    /// When each was configured, or came up: the later of both.
    since: BTreeMap<ConnectionName, Instant>,
    /// How each was lost.
    ended: BTreeMap<ConnectionName, Ended>,
    /// Where the other end was last.
    remotes: BTreeMap<ConnectionName, SocketAddr>,
    /// Whose SAs are there.
    children: BTreeMap<ChildSaId, (ConnectionName, ChildName)>,
}

impl Journal {
    /// Takes note of an event. `psk`: whether a connection has a preshared key. Returns whether
    /// what is wrong has changed.
    pub(super) fn note(
        &mut self,
        now: Instant,
        event: &Event,
        psk: impl Fn(&ConnectionName) -> bool,
    ) -> bool {
        match event {
            Event::IkeUp { connection, ike, remote_id, path, suite, rekeyed } => {
                tracing::info!(
                    %connection, ike = ike.0, %remote_id, local = %path.local,
                    remote = %path.remote, %suite, rekeyed, "IKE SA up"
                );
                self.remotes.insert(Arc::clone(connection), path.remote);
                if *rekeyed {
                    return false;
                }
                self.ended.remove(connection);
                self.since.insert(Arc::clone(connection), now);
                self.seen.remove(connection).is_some()
            }
            Event::IkeDown { connection, ike, reason: DownReason::Dead } => {
                let remote = self.remotes.get(connection).copied();
                tracing::warn!(
                    %connection, ike = ike.0, remote = remote.map(tracing::field::display),
                    reason = word(&DownReason::Dead), "IKE SA down"
                );
                let Some(remote) = remote else { return false };
                let seen = Seen { failure: Failure::Dead, remote, at: now, times: 1 };
                self.seen.insert(Arc::clone(connection), seen);
                true
            }
            Event::IkeDown { connection, ike, reason } => {
                if let Some(how) = how(reason) {
                    self.ended.insert(Arc::clone(connection), Ended { how, at: now });
                }
                let reason = word(reason);
                tracing::info!(%connection, ike = ike.0, reason, "IKE SA down");
                false
            }
            Event::ChildInstall { sa, send, replaces } => {
                tracing::info!(
                    connection = %sa.connection, child = %sa.child, id = sa.id.0,
                    inbound_spi = %sa.inbound_spi, outbound_spi = %sa.outbound_spi,
                    local = selectors(&sa.local), remote = selectors(&sa.remote),
                    suite = %sa.suite, udp = sa.udp, send,
                    replaces = replaces.map(|sa| sa.0), "child SA up"
                );
                let whose = (Arc::clone(&sa.connection), Arc::clone(&sa.child));
                self.children.insert(sa.id, whose);
                let seen = self.seen.remove(&sa.connection).is_some();
                self.logged.remove(&sa.connection);
                seen
            }
            Event::ChildSend { sa } => {
                tracing::debug!(id = sa.0, "child SA sends");
                false
            }
            Event::ChildRemove { sa, reason, .. } => {
                let (connection, child) = self.children.remove(sa).unzip();
                tracing::info!(
                    connection = connection.as_deref(),
                    child = child.as_deref(),
                    id = sa.0,
                    reason = word(reason),
                    "child SA down"
                );
                false
            }
            Event::PathChanged { children, path, udp } => {
                tracing::info!(
                    children = children.len(), local = %path.local, remote = %path.remote, udp,
                    "path changed"
                );
                false
            }
            Event::Failed { connection: Some(connection), path, failure } => {
                self.failed(now, connection, *path, failure, psk(connection))
            }
            Event::Failed { connection: None, path, failure } => {
                self.stranger(now, *path, failure);
                false
            }
        }
    }

    fn failed(
        &mut self,
        now: Instant,
        connection: &ConnectionName,
        path: Path,
        failure: &Failure,
        psk: bool,
    ) -> bool {
        let last = self.logged.get(connection);
        let again = last.is_some_and(|(last, at)| {
            last == failure && now.saturating_duration_since(*at) < QUIET
        });
        if !again {
            let cause = cause(failure, psk);
            tracing::warn!(
                %connection, remote = %path.remote, reason = cause.reason, "{}", cause.seen
            );
            self.logged.insert(Arc::clone(connection), (failure.clone(), now));
        }
        let times = match self.seen.get(connection) {
            Some(seen) if seen.failure == *failure => seen.times + 1,
            _ => 1,
        };
        let seen = Seen { failure: failure.clone(), remote: path.remote, at: now, times };
        self.seen.insert(Arc::clone(connection), seen);
        times == 1
    }

    fn stranger(&mut self, now: Instant, path: Path, failure: &Failure) {
        let same = |stranger: &Stranger| {
            stranger.seen.remote.ip() == path.remote.ip() && stranger.seen.failure == *failure
        };
        let before = self.strangers.iter().position(same);
        let before = before.and_then(|at| self.strangers.remove(at));
        let times = before.map_or(0, |stranger| stranger.seen.times) + 1;
        if times == 1 {
            let cause = cause(failure, true);
            tracing::warn!(remote = %path.remote, reason = cause.reason, "{}", cause.seen);
            self.strangers.truncate(STRANGERS - 1);
        }
        let seen = Seen { failure: failure.clone(), remote: path.remote, at: now, times };
        self.strangers.push_front(Stranger { seen });
    }

    /// A connection is configured in another way: what went wrong before is over.
    pub(super) fn configured(&mut self, now: Instant, connection: &ConnectionName) {
        self.seen.remove(connection);
        self.logged.remove(connection);
        self.ended.remove(connection);
        self.since.insert(Arc::clone(connection), now);
    }

    /// When a connection was configured, or came up: the later of both.
    pub(super) fn since(&self, connection: &ConnectionName) -> Option<Instant> {
        self.since.get(connection).copied()
    }

    /// How a connection was lost, if it is.
    pub(super) fn ended(&self, connection: &ConnectionName) -> Option<Ended> {
        self.ended.get(connection).copied()
    }

    /// Forgets connections that are no more.
    pub(super) fn retain(&mut self, there: impl Fn(&ConnectionName) -> bool) {
        self.since.retain(|name, _| there(name));
        self.ended.retain(|name, _| there(name));
        self.remotes.retain(|name, _| there(name));
        self.seen.retain(|name, _| there(name));
        self.logged.retain(|name, _| there(name));
    }

    /// What went wrong last with a connection.
    pub(super) fn seen(&self, connection: &ConnectionName) -> Option<&Seen> {
        self.seen.get(connection)
    }

    /// Who has come, the latest first.
    pub(super) fn strangers(&self) -> Vec<Stranger> {
        self.strangers.iter().cloned().collect()
    }
}

/// What the other end did, where it is told for people.
fn how(reason: &DownReason) -> Option<&'static str> {
    match reason {
        DownReason::Peer => Some("closed it"),
        DownReason::PeerRestarted => Some("began anew"),
        DownReason::Expired => Some("did not agree on new keys in time"),
        DownReason::Asked | DownReason::Dead | DownReason::Replaced => None,
    }
}

fn word(reason: &DownReason) -> &'static str {
    match reason {
        DownReason::Asked => "asked",
        DownReason::Peer => "deleted-by-peer",
        DownReason::Dead => "dead-peer",
        DownReason::Replaced => "replaced",
        DownReason::Expired => "expired",
        DownReason::PeerRestarted => "peer-restarted",
    }
}

#[cfg(test)]
mod tests {
    use ipsec::ike::identity::Identity;
    use ipsec::sa::IkeSaId;

    use super::*;

    fn note(journal: &mut Journal, now: Instant, event: Event) {
        journal.note(now, &event, |_| true);
    }

    fn path() -> Path {
        let [local, remote] = ["192.0.2.1:500", "192.0.2.2:500"].map(|at| at.parse().unwrap());
        Path { local, remote }
    }

    fn up() -> Event {
        Event::IkeUp {
            connection: "ns/c".into(),
            ike: IkeSaId(1),
            remote_id: Identity::parse("b.test").unwrap(),
            path: path(),
            suite: model::suite::Proposal::default(),
            rekeyed: false,
        }
    }

    fn down(reason: DownReason) -> Event {
        Event::IkeDown { connection: "ns/c".into(), ike: IkeSaId(1), reason }
    }

    #[test]
    fn lost_peer_is_remembered_until_it_is_back() {
        let (mut journal, now, name) = (Journal::default(), Instant::now(), "ns/c".into());
        note(&mut journal, now, up());
        note(&mut journal, now, down(DownReason::Dead));
        assert_eq!(journal.seen(&name).unwrap().failure, Failure::Dead);
        note(&mut journal, now, up());
        assert_eq!(journal.seen(&name), None);
        note(&mut journal, now, down(DownReason::Peer));
        assert_eq!((journal.seen(&name), journal.ended(&name).is_some()), (None, true));
    }

    #[test]
    fn failure_of_before_a_change_is_forgotten() {
        let (mut journal, now, name) = (Journal::default(), Instant::now(), "ns/c".into());
        let failure = Failure::NoAnswer { to_nat_port: false };
        let connection = Some(Arc::clone(&name));
        note(&mut journal, now, Event::Failed { connection, path: path(), failure });
        assert_eq!(journal.seen(&name).unwrap().at, now);
        journal.configured(now, &name);
        assert_eq!((journal.seen(&name), journal.since(&name)), (None, Some(now)));
    }
}
