//! How long things take.

use std::time::Duration;

/// An edge's settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The edge's name.
    pub name: String,
    /// The least number that its incarnation may have: seconds since 1970. It keeps numbers from
    /// coming again when somebody has deleted the edge's Lease.
    pub born: u64,
    /// A random number that tells this process from others of the same name.
    pub process: u64,
    /// Whether it is certain that no earlier process of this name runs any more (and that what it
    /// held is off), so that its incarnation needn't be waited for.
    pub alone_by_name: bool,
    /// How long a renewal counts, from when it was sent.
    pub validity: Duration,
    /// By how much longer others wait: for clocks that run at different rates. A promise counts
    /// for `validity`, and is kept for this much longer.
    pub margin: Duration,
    /// How often the edge's own Lease is renewed.
    pub renew_every: Duration,
    /// How long after the last renewal promises are asked for.
    pub ask_after: Duration,
    /// How often they are.
    pub ask_every: Duration,
    /// How long an edge that reaches the API goes on promising to one that doesn't.
    pub patience: Duration,
    /// After how long without any answer an edge whose Lease doesn't name this one is fenced.
    pub silence: Duration,
    /// How long the next in order waits for the one before it to take a free claim.
    pub grace: Duration,
    /// For how long an edge must have been there before claims are moved to it, and a claim have
    /// been held before it is moved.
    pub settle: Duration,
    /// How many claims are being moved at a time to have them where they belong.
    pub moves: usize,
    /// How many are being given up at a time before a stop or in a drain.
    pub moves_at_stop: usize,
    /// How many writes of claims are under way at a time.
    pub parallel: usize,
    /// How long after a failed write it is tried again.
    pub retry: Duration,
}

impl Settings {
    /// The defaults for an edge.
    pub fn new(name: impl Into<String>, born: u64, process: u64) -> Self {
        Self {
            name: name.into(),
            born,
            process,
            alone_by_name: false,
            validity: Duration::from_millis(1500),
            margin: Duration::from_millis(250),
            renew_every: Duration::from_millis(500),
            ask_after: Duration::from_millis(700),
            ask_every: Duration::from_millis(250),
            patience: Duration::from_secs(5),
            silence: Duration::from_secs(10),
            grace: Duration::from_millis(500),
            settle: Duration::from_secs(10),
            moves: 4,
            moves_at_stop: 32,
            parallel: 32,
            retry: Duration::from_millis(200),
        }
    }
}
