//! Faults on demand, and the counters of requests.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

/// A fault and whom it meets. Fields that are not given mean any.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "camelCase")]
pub struct Fault {
    /// What happens.
    pub effect: Effect,
    /// A part of the client's User-Agent.
    pub user_agent: Option<String>,
    /// The address that the client comes from.
    pub address: Option<IpAddr>,
    /// The user's name.
    pub user: Option<String>,
    /// The verb: get, list, watch, create, update, patch, delete. `write` is all that write.
    pub verb: Option<String>,
    /// The plural, such as `leases`.
    pub resource: Option<String>,
    /// Only every n-th of the requests that fit.
    pub every: Option<u32>,
    /// How often at most.
    pub times: Option<u32>,
    /// For how long, in milliseconds.
    pub for_milliseconds: Option<u64>,
}

/// What happens to a request.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Effect {
    /// It is answered late.
    Delay {
        /// By how much.
        milliseconds: u64,
    },
    /// It is refused with a status code: 429, 500, 503.
    Status {
        /// The code.
        code: u16,
        /// Seconds in the header Retry-After.
        retry_after: Option<u32>,
    },
    /// The connection breaks before anything is done.
    #[default]
    LoseRequest,
    /// It is done, and then the connection breaks.
    LoseAnswer,
    /// It is neither done nor answered, and watches are silent, until the fault is lifted: a
    /// partition. Then it is done, as a packet sent again would be.
    Hang,
}

/// Who asks for what, as faults see it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Caller {
    pub(crate) user_agent: String,
    pub(crate) address: Option<IpAddr>,
    pub(crate) user: String,
    pub(crate) verb: String,
    pub(crate) resource: String,
}

/// How often what was asked for by whom.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Counter {
    /// get, list, watch, create, update, patch, delete, deletecollection; other paths: `other`.
    pub verb: String,
    /// The plural, with `/status` for a subresource.
    pub resource: String,
    /// The client's.
    pub user_agent: String,
    /// The status code answered; 0 where none was.
    pub code: u16,
    /// How often.
    pub count: u64,
}

#[derive(Debug)]
struct Rule {
    id: u64,
    fault: Fault,
    seen: u32,
    done: u32,
    until: Option<Instant>,
}

/// All faults in force.
#[derive(Debug)]
pub(crate) struct Faults {
    rules: Mutex<(u64, Vec<Rule>)>,
    counters: Mutex<BTreeMap<(String, String, String, u16), u64>>,
    /// Goes up when faults change, so that what hangs looks again.
    pub(crate) changed: watch::Sender<u64>,
    /// Goes up when watches are to end.
    pub(crate) cut: watch::Sender<(u64, Fault)>,
    /// Until when there is no API at all.
    pub(crate) gone: watch::Sender<Gone>,
    /// Whether connections are accepted now.
    here: (Mutex<bool>, Condvar),
}

/// Whether connections are refused.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Gone {
    /// They are not.
    #[default]
    Here,
    /// Until told otherwise.
    Away,
    /// Until then.
    Until(Instant),
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            rules: Mutex::default(),
            counters: Mutex::default(),
            changed: watch::Sender::new(0),
            cut: watch::Sender::new((0, Fault::default())),
            gone: watch::Sender::new(Gone::Here),
            here: (Mutex::new(true), Condvar::new()),
        }
    }
}

impl Fault {
    /// A fault for everybody.
    pub fn new(effect: Effect) -> Self {
        Self { effect, ..Self::default() }
    }

    /// The partition of a client by a part of its User-Agent.
    pub fn partition(user_agent: &str) -> Self {
        Self { user_agent: Some(user_agent.to_owned()), ..Self::new(Effect::Hang) }
    }

    pub(crate) fn meets(&self, caller: &Caller) -> bool {
        let verb = |wanted: &String| {
            *wanted == caller.verb
                || (wanted == "write"
                    && matches!(
                        caller.verb.as_str(),
                        "create" | "update" | "patch" | "delete" | "deletecollection"
                    ))
        };
        self.user_agent.as_ref().is_none_or(|part| caller.user_agent.contains(part))
            && self.address.is_none_or(|address| caller.address == Some(address))
            && self.user.as_ref().is_none_or(|user| caller.user == *user)
            && self.verb.as_ref().is_none_or(verb)
            && self.resource.as_ref().is_none_or(|resource| caller.resource == *resource)
    }
}

impl Rule {
    fn over(&self, now: Instant) -> bool {
        self.until.is_some_and(|until| until <= now)
            || self.fault.times.is_some_and(|times| self.done >= times)
    }
}

impl Faults {
    fn rules(&self) -> MutexGuard<'_, (u64, Vec<Rule>)> {
        self.rules.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stir(&self) {
        self.changed.send_modify(|count| *count += 1);
    }

    /// Puts a fault in force and returns its number.
    pub(crate) fn add(&self, fault: Fault) -> u64 {
        let until = fault.for_milliseconds.map(|ms| Instant::now() + Duration::from_millis(ms));
        let id = {
            let (last, rules) = &mut *self.rules();
            *last += 1;
            rules.push(Rule { id: *last, fault, seen: 0, done: 0, until });
            *last
        };
        self.stir();
        id
    }

    /// Lifts one fault, or all.
    pub(crate) fn lift(&self, id: Option<u64>) {
        self.rules().1.retain(|rule| id.is_some_and(|id| rule.id != id));
        self.stir();
    }

    /// The faults in force with their numbers.
    pub(crate) fn list(&self) -> Vec<(u64, Fault)> {
        let now = Instant::now();
        let rules = self.rules();
        let rules = rules.1.iter().filter(|rule| !rule.over(now));
        rules.map(|rule| (rule.id, rule.fault.clone())).collect()
    }

    /// What happens to a request, in the order that the faults came. It counts towards `every` and
    /// `times`.
    pub(crate) fn effects(&self, caller: &Caller) -> Vec<Effect> {
        let now = Instant::now();
        let (_, rules) = &mut *self.rules();
        rules.retain(|rule| !rule.over(now));
        let mut effects = Vec::new();
        for rule in rules.iter_mut().filter(|rule| rule.fault.meets(caller)) {
            rule.seen += 1;
            if rule.seen % rule.fault.every.unwrap_or(1).max(1) == 0 {
                rule.done += 1;
                effects.push(rule.fault.effect.clone());
            }
        }
        effects
    }

    /// Whether a client is cut off, and when to look again at the latest.
    pub(crate) fn hangs(&self, caller: &Caller) -> Option<Option<Instant>> {
        let now = Instant::now();
        let rules = self.rules();
        rules
            .1
            .iter()
            .find(|rule| {
                rule.fault.effect == Effect::Hang
                    && rule.until.is_none_or(|until| until > now)
                    && rule.fault.meets(caller)
            })
            .map(|rule| rule.until)
    }

    /// Waits until a client isn't cut off.
    pub(crate) async fn connected(&self, caller: &Caller) {
        let mut changed = self.changed.subscribe();
        loop {
            changed.borrow_and_update();
            let Some(until) = self.hangs(caller) else { return };
            let at_latest = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                _ = changed.changed() => {}
                () = at_latest => {}
            }
        }
    }

    /// Tells that connections are accepted from now on, or not any more.
    pub(crate) fn set_here(&self, now: bool) {
        let (here, changed) = &self.here;
        *here.lock().unwrap_or_else(PoisonError::into_inner) = now;
        changed.notify_all();
    }

    /// Blocks until connections are accepted, or not any more; not for long if the double's thread
    /// is gone.
    pub(crate) fn wait_here(&self, wanted: bool) {
        let (here, changed) = &self.here;
        let now = here.lock().unwrap_or_else(PoisonError::into_inner);
        drop(changed.wait_timeout_while(now, Duration::from_secs(5), |now| *now != wanted));
    }

    /// Ends the watches of those whom the fault meets.
    pub(crate) fn cut_watches(&self, whom: Fault) {
        self.cut.send_modify(|(count, last)| {
            *count += 1;
            *last = whom;
        });
    }

    pub(crate) fn count(&self, caller: &Caller, code: u16) {
        let key = (caller.verb.clone(), caller.resource.clone(), caller.user_agent.clone(), code);
        let mut counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        *counters.entry(key).or_default() += 1;
    }

    pub(crate) fn counters(&self) -> Vec<Counter> {
        let counters = self.counters.lock().unwrap_or_else(PoisonError::into_inner);
        counters
            .iter()
            .map(|((verb, resource, user_agent, code), &count)| Counter {
                verb: verb.clone(),
                resource: resource.clone(),
                user_agent: user_agent.clone(),
                code: *code,
                count,
            })
            .collect()
    }

    pub(crate) fn reset_counters(&self) {
        self.counters.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
