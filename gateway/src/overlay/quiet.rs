//! Nodes that have been silent for longer than any session of theirs lasts. WireGuard refuses a
//! handshake whose time is not later than that of the last one; a node whose clock was set back
//! would be refused for as long as it was ahead. What is known of such a node is forgotten, so that
//! its next handshake counts as its first.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::view::NodeView;

/// A session is over after 180 s (`REJECT_AFTER_TIME`).
const OVER: Duration = Duration::from_secs(200);

/// Since when which of them are silent.
#[derive(Debug, Default)]
pub(super) struct Quiet {
    since: BTreeMap<String, Instant>,
    /// Those that were forgotten and not heard since.
    done: BTreeSet<String>,
}

impl Quiet {
    /// The nodes to be forgotten now. One that nothing is known of has nothing to be forgotten.
    pub(super) fn look(
        &mut self,
        now: Instant,
        nodes: &BTreeMap<String, NodeView>,
    ) -> BTreeSet<String> {
        let over = |age: u64| age >= OVER.as_secs();
        let is_silent = |name: &String| {
            let node = nodes.get(name);
            node.is_some_and(|node| {
                !node.live && node.endpoint.is_some() && node.handshake_age.is_none_or(over)
            })
        };
        self.since.retain(|name, _| is_silent(name));
        self.done.retain(is_silent);
        for name in nodes.keys().filter(|name| is_silent(name) && !self.done.contains(*name)) {
            self.since.entry(name.clone()).or_insert(now);
        }
        let due = |since: &Instant| now.saturating_duration_since(*since) >= OVER;
        let found = self.since.iter().filter(|(_, since)| due(since));
        let found: BTreeSet<String> = found.map(|(name, _)| name.clone()).collect();
        self.since.retain(|name, _| !found.contains(name));
        self.done.extend(found.iter().cloned());
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_who_is_silent_for_longer_than_a_session_is_forgotten() {
        let node = |live, handshake_age, known: bool| NodeView {
            live,
            handshake_age,
            endpoint: known.then(|| "192.0.2.1:7".parse().unwrap()),
            ..NodeView::default()
        };
        let nodes = |age| {
            BTreeMap::from([
                ("behind".to_owned(), node(false, age, true)),
                ("live".to_owned(), node(true, None, true)),
                ("carries".to_owned(), node(false, Some(100), true)),
                ("unknown".to_owned(), node(false, None, false)),
            ])
        };
        let (mut quiet, start) = (Quiet::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert!(quiet.look(at(0), &nodes(None)).is_empty());
        assert!(quiet.look(at(199), &nodes(None)).is_empty());
        assert_eq!(quiet.look(at(200), &nodes(Some(300))), ["behind".to_owned()].into());
        // Once; and never while a handshake is young.
        assert!(quiet.look(at(201), &nodes(None)).is_empty());
        assert!(quiet.look(at(300), &nodes(Some(5))).is_empty());
        assert!(quiet.look(at(450), &nodes(None)).is_empty());
        assert_eq!(quiet.look(at(650), &nodes(None)), ["behind".to_owned()].into());
        // Where it was is still known; that is no reason to forget it again.
        assert!(quiet.look(at(651), &nodes(None)).is_empty());
        assert!(quiet.look(at(900), &nodes(None)).is_empty());
    }
}
