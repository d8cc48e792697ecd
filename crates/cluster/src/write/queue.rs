//! Which change is made next: a state machine without I/O.
//!
//! Of each object only the newest change is known. What has been made isn't made again until the
//! objects that are seen have had it, or haven't had it for a while; if that happens over and over,
//! somebody else undoes it, and the rests in between grow. What fails is tried again after growing
//! rests with jitter.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::{Duration, Instant};

use model::Diagnostic;
use serde_json::Value;

use super::{Author, Outcome, Patch, StatusChange, Target, Written};

/// Changes under way at once.
pub const AT_ONCE: usize = 16;
/// The rest after the first failure, and its limit.
const REST: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(60));
/// The rest after something that only people can mend.
const LONG_REST: Duration = Duration::from_secs(120);
/// What was made and still isn't seen is made again after this time.
const UNSEEN: Duration = Duration::from_secs(30);
/// So many changes of one object within [`CALM`] need no rest.
const FREE_CHANGES: u32 = 5;
/// After so long without a change an object's changes are counted anew.
const CALM: Duration = Duration::from_secs(60);
/// The longest that the API may put off all writes by one answer.
const LONGEST_ASKED: Duration = Duration::from_secs(30);

/// All changes that are to be made.
#[derive(Debug)]
pub struct Queue {
    wanted: BTreeMap<Target, Arc<Patch>>,
    tracks: BTreeMap<Target, Track>,
    /// What may be begun.
    ready: BTreeSet<Target>,
    /// What may be begun then.
    later: BTreeSet<(Instant, Target)>,
    running: usize,
    leads: bool,
    /// It is the end: nothing rests for the sake of calm.
    hurries: bool,
    /// Nothing is begun before: the API server has too much to do, or isn't there.
    pause: Option<Instant>,
    /// How often in a row it was so.
    busy: u32,
    /// Verbs that are missing.
    forbidden: BTreeMap<(&'static str, String), Instant>,
    /// What is wrong with single objects.
    findings: BTreeMap<Target, Diagnostic>,
    random: fastrand::Rng,
}

/// What is known of an object's changes.
#[derive(Debug, Default)]
struct Track {
    /// The change that was made last, or is being made.
    made: Option<u64>,
    /// A change is under way.
    running: bool,
    /// Changes, or failures, in a row.
    changes: u32,
    failures: u32,
    /// When the last change was made.
    last: Option<Instant>,
    /// When it may be begun, if it is in `later`.
    at: Option<Instant>,
}

impl Track {
    fn is_recent(&self, now: Instant) -> bool {
        self.last.is_some_and(|last| now.saturating_duration_since(last) < CALM)
    }
}

impl Queue {
    /// With nothing to do. Jitter comes from the seed.
    pub fn new(seed: u64) -> Self {
        Self {
            wanted: BTreeMap::new(),
            tracks: BTreeMap::new(),
            ready: BTreeSet::new(),
            later: BTreeSet::new(),
            running: 0,
            leads: false,
            hurries: false,
            pause: None,
            busy: 0,
            forbidden: BTreeMap::new(),
            findings: BTreeMap::new(),
            random: fastrand::Rng::with_seed(seed),
        }
    }

    /// There is a new desired state, or a new leader.
    pub fn want(&mut self, written: &Written, leads: bool, now: Instant) {
        self.leads = leads;
        let mine = written.patches.iter().filter(|patch| leads || patch.author == Author::Own);
        let wanted: BTreeMap<Target, Arc<Patch>> = mine
            .map(|patch| match self.wanted.remove(&patch.target) {
                Some(before) if *before == *patch => (patch.target.clone(), before),
                _ => (patch.target.clone(), Arc::new(patch.clone())),
            })
            .collect();
        self.wanted = wanted;
        let Self { tracks, later, wanted, findings, ready, .. } = self;
        // What is as it should be: if it doesn't stay so it is made again.
        tracks.retain(|target, track| {
            if wanted.contains_key(target) {
                return true;
            }
            if let Some(at) = track.at.take() {
                later.remove(&(at, target.clone()));
            }
            (track.made, track.failures) = (None, 0);
            track.running || track.is_recent(now)
        });
        findings.retain(|target, _| wanted.contains_key(target));
        ready.retain(|target| wanted.contains_key(target));
        let targets: Vec<Target> = self.wanted.keys().cloned().collect();
        for target in targets {
            self.enqueue(target, now);
        }
    }

    /// Puts a change where it belongs, if it is another one than was made last.
    fn enqueue(&mut self, target: Target, now: Instant) {
        let Some(patch) = self.wanted.get(&target) else { return };
        let track = self.tracks.entry(target.clone()).or_default();
        let rests = track.failures > 0 && track.at.is_some();
        if track.running || rests || track.made == Some(fingerprint(patch)) {
            return;
        }
        if let Some(at) = track.at.take() {
            self.later.remove(&(at, target.clone()));
        }
        let fights = track.changes.checked_sub(FREE_CHANGES).filter(|more| *more > 0);
        let calm = fights.filter(|_| !self.hurries && track.is_recent(now)).zip(track.last);
        let at = calm.map(|(more, last)| last + rest(more, 1.0)).filter(|at| *at > now);
        match at {
            Some(at) => {
                track.at = Some(at);
                self.later.insert((at, target));
            }
            None => drop(self.ready.insert(target)),
        }
    }

    /// This is the last word: nothing rests for the sake of calm any more, and what has failed is
    /// tried once again at once.
    pub fn hurry(&mut self) {
        self.hurries = true;
        for (_, target) in std::mem::take(&mut self.later) {
            if let Some(track) = self.tracks.get_mut(&target) {
                track.at = None;
                self.ready.insert(target);
            }
        }
    }

    /// The next change to be made now.
    pub fn next(&mut self, now: Instant) -> Option<Arc<Patch>> {
        if self.running >= AT_ONCE || self.pause.is_some_and(|until| now < until) {
            return None;
        }
        self.pause = None;
        while let Some((at, _)) = self.later.first()
            && *at <= now
            && let Some((_, target)) = self.later.pop_first()
        {
            if let Some(track) = self.tracks.get_mut(&target) {
                (track.at, track.made) = (None, None);
            }
            self.ready.insert(target);
        }
        while let Some(target) = self.ready.pop_first() {
            let Some(patch) = self.wanted.get(&target) else { continue };
            let track = self.tracks.entry(target).or_default();
            let made = fingerprint(patch);
            if track.running || track.made == Some(made) {
                continue;
            }
            track.made = Some(made);
            track.running = true;
            self.running += 1;
            return Some(Arc::clone(patch));
        }
        None
    }

    /// What became of a change; none if it was broken off.
    pub fn finished(&mut self, target: &Target, outcome: Option<Outcome>, now: Instant) {
        let jitter = self.random.f64();
        let Some(track) = self.tracks.get_mut(target) else { return };
        if !std::mem::take(&mut track.running) {
            return;
        }
        self.running = self.running.saturating_sub(1);
        let done = outcome == Some(Outcome::Done);
        if done {
            self.busy = 0;
            self.findings.remove(target);
            track.failures = 0;
            track.changes = if track.is_recent(now) { track.changes.saturating_add(1) } else { 1 };
            track.last = Some(now);
        } else {
            track.made = None;
        }
        let again = match &outcome {
            Some(Outcome::Done) => Some(UNSEEN.saturating_mul(track.changes)),
            Some(Outcome::Busy(after)) => {
                self.busy = self.busy.saturating_add(1);
                let asked = after.unwrap_or_default().min(LONGEST_ASKED);
                let rest = asked.max(rest(self.busy, jitter));
                self.pause = self.pause.max(Some(now + rest));
                None
            }
            // The objects that are seen will tell, if they don't already.
            Some(Outcome::Gone | Outcome::Raced | Outcome::Failed(_)) => {
                track.failures = track.failures.saturating_add(1);
                Some(rest(track.failures, jitter))
            }
            Some(Outcome::Foreign(_) | Outcome::Forbidden { .. } | Outcome::Refused(_)) => {
                track.failures = track.failures.saturating_add(1);
                Some(LONG_REST.mul_f64(1.0 + jitter))
            }
            None => None,
        };
        if let (Some(rest), true) = (again, self.wanted.contains_key(target)) {
            track.at = Some(now + rest);
            self.later.insert((now + rest, target.clone()));
        }
        self.note(target, outcome.as_ref(), now);
        self.enqueue(target.clone(), now);
    }

    /// When [`Self::next`] may have something that it hasn't now; none if it needs to be told
    /// something first.
    pub fn wake(&self) -> Option<Instant> {
        if self.running >= AT_ONCE {
            return None;
        }
        let first = self.later.first().map(|(at, _)| *at);
        let first = if self.ready.is_empty() { first } else { self.pause };
        match self.pause {
            Some(pause) => first.map(|first| first.max(pause)),
            None => first,
        }
    }

    /// Whether nothing is left to be made but what rests.
    pub fn is_idle(&self) -> bool {
        self.running == 0 && self.ready.is_empty()
    }

    /// What can't be written, and why.
    pub fn findings(&self) -> Vec<Diagnostic> {
        let missing = self.forbidden.keys().map(|(verb, resource)| missing(verb, resource));
        missing.chain(self.findings.values().cloned()).collect()
    }

    fn note(&mut self, target: &Target, outcome: Option<&Outcome>, now: Instant) {
        let finding = match outcome {
            Some(Outcome::Forbidden { verb, resource }) => {
                self.forbidden.insert((verb, resource.clone()), now);
                return;
            }
            Some(Outcome::Foreign(managers)) => Diagnostic::warning(
                target.object(),
                "status",
                format!("{managers} writes the same fields, so they are left as they are"),
            )
            .remedy(
                "let one of both serve the object: set spec.loadBalancerClass, or turn the other \
                 one off",
            ),
            Some(Outcome::Refused(why)) => {
                Diagnostic::warning(target.object(), "status", format!("can't be written: {why}"))
                    .remedy("update Tidegate's CustomResourceDefinitions: `gateway crds`")
            }
            Some(Outcome::Done) => {
                // What has rested and works now was allowed meanwhile.
                self.forbidden.retain(|(_, resource), at| {
                    !resource.starts_with(target.kind.plural())
                        || now.saturating_duration_since(*at) < LONG_REST / 2
                });
                return;
            }
            _ => return,
        };
        self.findings.insert(target.clone(), finding);
    }

    /// A verb is missing for something else than a change of an object.
    pub(super) fn lacks(&mut self, verb: &'static str, resource: &str, now: Instant) {
        self.forbidden.insert((verb, resource.to_owned()), now);
    }

    /// It is there now.
    pub(super) fn has(&mut self, resource: &str) {
        self.forbidden.retain(|(_, missing), _| missing != resource);
    }
}

/// A verb that RBAC doesn't allow.
fn missing(verb: &str, resource: &str) -> Diagnostic {
    let object = model::ObjectRef::cluster("GatewayConfig", "gateway");
    Diagnostic::warning(
        object,
        "source.kubernetes",
        format!("RBAC doesn't allow {verb} of {resource}, so that isn't written"),
    )
    .value(format!("{verb} {resource}"))
    .remedy(format!("allow {verb} of {resource} to the gateway's ServiceAccount"))
}

/// Of what a change does. The time of a condition is that of its first planning.
fn fingerprint(patch: &Patch) -> u64 {
    let mut hasher = DefaultHasher::new();
    let Patch { target, uid, author, status, finalizer } = patch;
    (target, uid, author, finalizer, std::mem::discriminant(status)).hash(&mut hasher);
    match status {
        StatusChange::Apply { fields, force } => {
            force.hash(&mut hasher);
            hash(fields, &mut hasher);
        }
        StatusChange::Lost { fields } => hash(fields, &mut hasher),
        StatusChange::Keep | StatusChange::TakeBack => {}
    }
    hasher.finish()
}

fn hash(value: &Value, hasher: &mut DefaultHasher) {
    match value {
        Value::Object(fields) => {
            for (key, value) in fields.iter().filter(|(key, _)| *key != "lastTransitionTime") {
                key.hash(hasher);
                hash(value, hasher);
            }
        }
        Value::Array(items) => {
            items.len().hash(hasher);
            items.iter().for_each(|item| hash(item, hasher));
        }
        other => other.hash(hasher),
    }
}

/// Doubles from one to the next, up to the limit; between the half and the whole of it.
fn rest(failures: u32, jitter: f64) -> Duration {
    let whole = REST.0.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(REST.1);
    whole.mul_f64(0.5 + jitter / 2.0)
}

#[cfg(test)]
mod tests;
