//! Events: what is told about objects, and how often: a state machine without I/O.
//!
//! What is told once is told again only as long as it holds, and seldom: the same Event is raised
//! (`series`). Each object and all together have a budget, so that many broken objects don't flood
//! the API server; what doesn't fit waits. What is remembered is bounded: an Event that was
//! forgotten is found again by its name, which is made of what it says.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde::Serialize;

use super::Author;

pub(super) mod send;

/// Something that is told about an object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// About which one.
    pub object: Regarding,
    /// Who tells it.
    pub author: Author,
    /// Warning, or otherwise Normal.
    pub warning: bool,
    /// In one word, for machines.
    pub reason: String,
    /// What was done about it, in one word.
    pub action: String,
    /// For people; up to 1,024 bytes.
    pub note: String,
}

/// The object of an Event.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Regarding {
    /// Its API version.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its namespace, none for cluster-scoped kinds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// Its name.
    pub name: String,
    /// Its uid, where it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
}

/// How often.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Events that are remembered.
    pub remembered: usize,
    /// How long one waits before it is raised if it vanished and came back.
    pub came_back: Duration,
    /// How long one waits before it is raised if it still holds. Below an hour, after which API
    /// servers forget Events by default.
    pub holds: Duration,
    /// All together: so many at once, and one more each …
    pub burst: u32,
    /// … of this time.
    pub each: Duration,
    /// The same of one object.
    pub object_burst: u32,
    /// The same of one object.
    pub object_each: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            remembered: 16_384,
            came_back: Duration::from_secs(300),
            holds: Duration::from_secs(1_800),
            burst: 50,
            each: Duration::from_millis(100),
            object_burst: 10,
            object_each: Duration::from_secs(60),
        }
    }
}

/// What is remembered of one.
#[derive(Debug, Default)]
struct Known {
    /// When it was sent last; none before the first time.
    sent: Option<Instant>,
    /// It was told in the newest desired state.
    holds: bool,
    /// When it is to be sent, if it is.
    due: Option<Instant>,
    /// It is under way.
    running: bool,
}

/// A token bucket.
#[derive(Clone, Copy, Debug)]
struct Bucket {
    tokens: f64,
    at: Instant,
}

/// Everything that is told.
#[derive(Debug)]
pub struct Book {
    limits: Limits,
    known: BTreeMap<Event, Known>,
    due: BTreeSet<(Instant, Event)>,
    all: Option<Bucket>,
    objects: BTreeMap<Regarding, Bucket>,
    /// How many weren't taken in, for want of room.
    dropped: u64,
    /// Nothing is sent before: the API server doesn't take any.
    pause: Option<Instant>,
}

impl Book {
    /// Empty.
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            known: BTreeMap::new(),
            due: BTreeSet::new(),
            all: None,
            objects: BTreeMap::new(),
            dropped: 0,
            pause: None,
        }
    }

    /// What holds now, and nothing else.
    pub fn tell<'a>(&mut self, events: impl Iterator<Item = &'a Event>, now: Instant) {
        let told: BTreeSet<&Event> = events.collect();
        let mut gone = Vec::new();
        for (event, known) in &mut self.known {
            let held = std::mem::replace(&mut known.holds, told.contains(event));
            if known.holds == held {
                continue;
            }
            if let Some(at) = known.due.take() {
                self.due.remove(&(at, event.clone()));
            }
            if known.holds && !known.running {
                let rest = self.limits.came_back;
                let at = known.sent.map_or(now, |sent| now.max(sent + rest));
                known.due = Some(at);
                self.due.insert((at, event.clone()));
            }
            if !known.holds && known.sent.is_none() && !known.running {
                gone.push(event.clone());
            }
        }
        for event in gone {
            self.known.remove(&event);
        }
        let new: Vec<&Event> =
            told.into_iter().filter(|event| !self.known.contains_key(*event)).collect();
        self.make_room(new.len());
        let room = self.limits.remembered.saturating_sub(self.known.len());
        self.dropped += new.len().saturating_sub(room) as u64;
        for event in new.into_iter().take(room) {
            let known = Known { holds: true, due: Some(now), ..Known::default() };
            self.known.insert(event.clone(), known);
            self.due.insert((now, event.clone()));
        }
        let rest = self.limits.object_each * self.limits.object_burst;
        self.objects.retain(|_, bucket| now.saturating_duration_since(bucket.at) < rest);
    }

    /// Forgets what holds no more, the oldest first, so that others can be remembered.
    fn make_room(&mut self, new: usize) {
        let too_many = (self.known.len() + new).saturating_sub(self.limits.remembered);
        if too_many == 0 {
            return;
        }
        let past = self.known.iter().filter(|(_, known)| !known.holds && !known.running);
        let mut past: Vec<(Option<Instant>, Event)> =
            past.map(|(event, known)| (known.sent, event.clone())).collect();
        past.sort_unstable();
        for (_, event) in past.into_iter().take(too_many) {
            self.known.remove(&event);
        }
    }

    /// The next Event to be sent now.
    pub fn next(&mut self, now: Instant) -> Option<Event> {
        if self.pause.is_some_and(|until| now < until) {
            return None;
        }
        self.pause = None;
        while let Some((at, _)) = self.due.first()
            && *at <= now
        {
            let Limits { burst, each, object_burst, object_each, .. } = self.limits;
            if Bucket::wait(self.all, (burst, each), now).is_some() {
                return None;
            }
            let (_, event) = self.due.pop_first()?;
            let Some(known) = self.known.get_mut(&event) else { continue };
            let bucket = self.objects.get(&event.object).copied();
            if let Some(at) = Bucket::wait(bucket, (object_burst, object_each), now) {
                known.due = Some(at);
                self.due.insert((at, event));
                continue;
            }
            known.due = None;
            known.running = true;
            self.all = Some(Bucket::take(self.all, (burst, each), now));
            let bucket = Bucket::take(bucket, (object_burst, object_each), now);
            self.objects.insert(event.object.clone(), bucket);
            return Some(event);
        }
        None
    }

    /// An Event was sent, or couldn't be and is to be tried again after a rest.
    pub fn finished(&mut self, event: &Event, failed: Option<Duration>, now: Instant) {
        let Some(known) = self.known.get_mut(event) else { return };
        known.running = false;
        if failed.is_none() {
            known.sent = Some(now);
        }
        if known.holds {
            let at = now + failed.unwrap_or(self.limits.holds);
            known.due = Some(at);
            self.due.insert((at, event.clone()));
        }
    }

    /// The API server takes no Events before then.
    pub fn pause(&mut self, until: Instant) {
        self.pause = self.pause.max(Some(until));
    }

    /// When [`Self::next`] may have something.
    pub fn wake(&self) -> Option<Instant> {
        let (at, _) = self.due.first()?;
        let at = &self.pause.map_or(*at, |until| until.max(*at));
        let Limits { burst, each, .. } = self.limits;
        Some(Bucket::wait(self.all, (burst, each), *at).map_or(*at, |token| token.max(*at)))
    }

    /// How many are remembered.
    pub fn len(&self) -> usize {
        self.known.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// How many weren't taken in, for want of room.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

impl Bucket {
    fn tokens(self, (burst, each): (u32, Duration), now: Instant) -> f64 {
        let grown = now.saturating_duration_since(self.at).as_secs_f64() / each.as_secs_f64();
        (self.tokens + grown).min(f64::from(burst))
    }

    /// When there is a token, if there isn't one now.
    fn wait(bucket: Option<Self>, (burst, each): (u32, Duration), now: Instant) -> Option<Instant> {
        let bucket = bucket?;
        let now = now.max(bucket.at);
        let tokens = bucket.tokens((burst, each), now);
        (tokens < 1.0).then(|| now + each.mul_f64(1.0 - tokens) + Duration::from_millis(1))
    }

    fn take(bucket: Option<Self>, (burst, each): (u32, Duration), now: Instant) -> Self {
        let tokens = bucket.map_or(f64::from(burst), |bucket| bucket.tokens((burst, each), now));
        Self { tokens: tokens - 1.0, at: now }
    }
}

#[cfg(test)]
mod tests;
