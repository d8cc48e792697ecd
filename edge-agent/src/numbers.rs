//! Which edges have numbers, where there are more of them than marks tell apart.
//!
//! An edge without a number isn't asked and isn't used. Those that answer keep theirs; the others
//! have turns, so that one that answers is found among any number of EdgeGateways whose machines
//! are gone.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// How long an edge is tried before another one has its turn.
const TURN: Duration = Duration::from_secs(4);
/// How long one that has answered may be silent: connections under way keep their edge.
const PATIENCE: Duration = Duration::from_secs(15);
/// How long nothing is said of an edge that has only begun to be asked.
const FIRST: Duration = Duration::from_millis(1_500);

/// Numbers, and who had a turn when.
#[derive(Debug)]
pub struct Numbers {
    given: BTreeMap<String, u32>,
    /// Since when each has had its number.
    since: BTreeMap<String, Instant>,
    /// When each was last seen to be alive, or known to have been.
    seen: BTreeMap<String, Instant>,
    /// When each lost its turn.
    tried: BTreeMap<String, Instant>,
}

/// What is known of an edge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Whether it answers.
    pub alive: bool,
    /// Whether the other edges take it to be gone.
    pub gone: bool,
}

impl Numbers {
    /// Those that an earlier run remembered: of edges that answered.
    pub fn new(remembered: BTreeMap<String, u32>, now: Instant) -> Self {
        let seen: BTreeMap<_, _> = remembered.keys().map(|name| (name.clone(), now)).collect();
        Self { given: remembered, since: seen.clone(), seen, tried: BTreeMap::new() }
    }

    /// Gives numbers to these edges, as far as the mask has room.
    pub fn give(&mut self, edges: &BTreeMap<String, Known>, mask: u32, now: Instant) {
        for map in [&mut self.since, &mut self.seen, &mut self.tried] {
            map.retain(|name, _| edges.contains_key(name));
        }
        for (name, _) in edges.iter().filter(|(_, known)| known.alive) {
            self.seen.insert(name.clone(), now);
        }
        self.given.retain(|name, _| edges.contains_key(name));
        let had: Vec<String> = self.given.keys().cloned().collect();
        self.given = plan::overlay::numbers(&self.given, had, mask);
        let mut waiting: Vec<(&String, &Known)> =
            edges.iter().filter(|(name, _)| !self.given.contains_key(*name)).collect();
        waiting.sort_by_key(|(name, known)| (known.gone, self.tried.get(*name), *name));
        for (name, _) in waiting {
            let with = self.given.keys().chain([name]).cloned();
            let given = plan::overlay::numbers(&self.given, with, mask);
            if given.contains_key(name) {
                self.given = given;
            } else {
                let Some(idle) = self.idle(edges, now) else { break };
                let Some(number) = self.given.remove(&idle) else { break };
                self.given.insert(name.clone(), number);
                self.since.remove(&idle);
                self.seen.remove(&idle);
                self.tried.insert(idle, now);
            }
            self.since.insert(name.clone(), now);
        }
    }

    /// The one that makes room for another: that has been tried the longest, and doesn't answer.
    fn idle(&self, edges: &BTreeMap<String, Known>, now: Instant) -> Option<String> {
        let past = |at: Option<&Instant>, time| {
            at.is_none_or(|at| now.saturating_duration_since(*at) >= time)
        };
        let idle = self.given.keys().filter(|name| {
            let alive = edges.get(*name).is_some_and(|known| known.alive);
            !alive && past(self.since.get(*name), TURN) && past(self.seen.get(*name), PATIENCE)
        });
        let gone = |name: &String| edges.get(name).is_some_and(|known| known.gone);
        idle.min_by_key(|name| (!gone(name), self.since.get(*name), *name)).cloned()
    }

    /// The number of each.
    pub fn given(&self) -> &BTreeMap<String, u32> {
        &self.given
    }

    /// Those worth remembering: of edges that have answered.
    pub fn remembered(&self) -> BTreeMap<String, u32> {
        let answered = self.given.iter().filter(|(name, _)| self.seen.contains_key(*name));
        answered.map(|(name, number)| (name.clone(), *number)).collect()
    }

    /// Whether an edge is only beginning to be asked, so that its silence says nothing yet.
    pub fn is_new(&self, edge: &str, now: Instant) -> bool {
        let since = self.since.get(edge);
        since.is_some_and(|since| now.saturating_duration_since(*since) < FIRST)
    }

    /// Whether an edge has been tried before, in vain.
    pub fn was_tried(&self, edge: &str) -> bool {
        self.tried.contains_key(edge)
    }

    /// Says that there are more edges than numbers: who isn't used for that, and whose EdgeGateways
    /// take the room. None where all have one.
    pub fn shortage(&self, edges: &BTreeMap<String, Known>) -> Option<(String, &'static str)> {
        if edges.len() == self.given.len() {
            return None;
        }
        let room = self.given.len();
        let answers = |name: &&String| {
            self.seen.contains_key(*name) && edges.get(*name).is_some_and(|known| known.alive)
        };
        let silent: BTreeSet<&String> = edges.keys().filter(|name| !answers(name)).collect();
        let (most, told) = (5, silent.len());
        let mut names: Vec<String> =
            silent.into_iter().take(most).map(ToString::to_string).collect();
        if told > most {
            names.push(format!("{} more", told - most));
        }
        let names = names.join(", ");
        let count = edges.len();
        if told > count - room {
            let reason = format!(
                "there are {count} EdgeGateways, and marks tell {room} edges apart: those that \
                 don't answer are tried in turn ({names})"
            );
            return Some((
                reason,
                "delete the EdgeGateways of edges that are gone for good, or write a markMask \
                 with more bits in the agents' configuration",
            ));
        }
        let reason = format!(
            "there are {count} EdgeGateways, and marks tell {room} edges apart: this node doesn't \
             use {names}"
        );
        Some((reason, "write a markMask with more bits in the agents' configuration"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MASK: u32 = 0x70;

    fn edges(names: &[&str], alive: &[&str]) -> BTreeMap<String, Known> {
        let known =
            |name: &&str| ((*name).to_owned(), Known { alive: alive.contains(name), gone: false });
        names.iter().map(known).collect()
    }

    const NINE: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "y", "z"];

    #[test]
    fn an_edge_that_answers_is_found_behind_dead_ones_and_keeps_its_number() {
        let start = Instant::now();
        let mut numbers = Numbers::new(BTreeMap::new(), start);
        let mut found = None;
        for second in 0..20 {
            let now = start + Duration::from_secs(second);
            // An edge answers only while it is asked.
            let asked = numbers.given().contains_key("z");
            numbers.give(&edges(&NINE, if asked { &["z"] } else { &[] }), MASK, now);
            assert_eq!(numbers.given().len(), 7);
            let number = numbers.given().get("z").copied();
            found = found.or(number);
            assert!(found.is_none() || number == found, "it keeps its number");
        }
        assert!(found.is_some());
        assert_eq!(numbers.remembered().len(), 1);
        let (reason, remedy) = numbers.shortage(&edges(&NINE, &["z"])).unwrap();
        assert!(reason.contains("9 EdgeGateways") && reason.contains("(a, b, c, d, e, 3 more)"));
        assert!(remedy.contains("delete the EdgeGateways"), "{remedy}");
    }

    #[test]
    fn one_that_the_others_take_to_be_gone_has_its_turn_last() {
        let mut known = edges(&NINE, &[]);
        for name in ["a", "b"] {
            known.insert(name.to_owned(), Known { alive: false, gone: true });
        }
        let mut numbers = Numbers::new(BTreeMap::new(), Instant::now());
        numbers.give(&known, MASK, Instant::now());
        assert!(numbers.given().contains_key("z") && !numbers.given().contains_key("a"));
    }

    #[test]
    fn one_that_answered_keeps_its_number_over_a_restart_and_a_while_of_silence() {
        let start = Instant::now();
        let remembered: BTreeMap<String, u32> = [("z".to_owned(), 3)].into();
        let mut numbers = Numbers::new(remembered, start);
        let others = ["a", "b", "c", "d", "e", "f", "g", "y"];
        for second in 0..14 {
            let now = start + Duration::from_secs(second);
            let alive: Vec<&str> =
                others.into_iter().filter(|name| numbers.given().contains_key(*name)).collect();
            numbers.give(&edges(&NINE, &alive), MASK, now);
            assert_eq!(numbers.given().get("z"), Some(&3), "after {second} s");
        }
        // Others answer all the time, and one of them has no number.
        numbers.give(&edges(&NINE, &others), MASK, start + Duration::from_secs(60));
        assert_eq!(numbers.given().get("z"), None);
        let (reason, _) = numbers.shortage(&edges(&NINE, &others)).unwrap();
        assert!(reason.contains("9 EdgeGateways"), "{reason}");
    }

    #[test]
    fn where_all_have_room_nobody_loses_a_turn() {
        let start = Instant::now();
        let mut numbers = Numbers::new(BTreeMap::new(), start);
        let seven = edges(&NINE[..7], &[]);
        numbers.give(&seven, MASK, start);
        let first = numbers.given().clone();
        numbers.give(&seven, MASK, start + Duration::from_secs(600));
        assert_eq!(*numbers.given(), first);
        assert_eq!(numbers.shortage(&seven), None);
        assert!(numbers.remembered().is_empty());
    }
}
