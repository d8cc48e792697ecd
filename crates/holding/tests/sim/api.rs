//! The API: Leases with versions, and what happens to words from and to it.

use std::collections::BTreeMap;

use holding::{Answer, Lease, Request};

/// How the network and the API behave. Times in microseconds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// To the API, and back.
    pub(crate) way: (u64, u64),
    /// Until a change is seen in a watch.
    pub(crate) lag: (u64, u64),
    /// Between edges.
    pub(crate) hop: (u64, u64),
    /// Until an address is off.
    pub(crate) removal: (u64, u64),
    /// Share of requests that arrive much later, or whose answers are lost.
    pub(crate) late: f64,
    /// Share of watch events that are lost, so that all is listed again a little later.
    pub(crate) dropped: f64,
    /// Share of watch events that an older one comes after.
    pub(crate) replayed: f64,
    /// Share of messages between edges that are lost, and of those that come twice.
    pub(crate) loss: f64,
}

impl Weather {
    pub(crate) const FAIR: Self = Self {
        way: (500, 3_000),
        lag: (500, 5_000),
        hop: (100, 1_000),
        removal: (0, 5_000),
        late: 0.0,
        dropped: 0.0,
        replayed: 0.0,
        loss: 0.0,
    };

    pub(crate) const SLOW: Self =
        Self { way: (1_000, 60_000), lag: (1_000, 150_000), hop: (100, 20_000), ..Self::FAIR };

    pub(crate) const FOUL: Self = Self {
        way: (500, 120_000),
        lag: (500, 400_000),
        hop: (100, 80_000),
        removal: (0, 40_000),
        late: 0.04,
        dropped: 0.02,
        replayed: 0.1,
        loss: 0.05,
    };
}

/// What has changed.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    Seen(Lease),
    Gone(String, String),
}

/// All Leases.
#[derive(Debug, Default)]
pub(crate) struct Api {
    pub(crate) leases: BTreeMap<String, Lease>,
    version: u64,
    pub(crate) history: Vec<Change>,
    pub(crate) writes: u64,
}

impl Api {
    fn next(&mut self) -> String {
        self.version += 1;
        self.version.to_string()
    }

    fn put(&mut self, lease: &Lease) -> (Answer, Option<Change>) {
        let version = self.next();
        let lease = Lease { version: version.clone(), ..lease.clone() };
        self.writes += 1;
        self.leases.insert(lease.name.clone(), lease.clone());
        self.history.push(Change::Seen(lease.clone()));
        (Answer::Written(version), Some(Change::Seen(lease)))
    }

    /// Does what is asked, and says what has changed.
    pub(crate) fn handle(&mut self, request: &Request) -> (Answer, Option<Change>) {
        match request {
            Request::Create(lease) if self.leases.contains_key(&lease.name) => {
                (Answer::Conflict, None)
            }
            Request::Create(lease) => self.put(lease),
            Request::Update(lease) => match self.leases.get(&lease.name) {
                Some(there) if there.version == lease.version => self.put(lease),
                _ => (Answer::Conflict, None),
            },
            Request::Read(name) => match self.leases.get(name) {
                Some(lease) => (Answer::Read(lease.clone()), None),
                None => (Answer::Gone, None),
            },
        }
    }

    /// Somebody else writes.
    pub(crate) fn write(&mut self, lease: &Lease) -> Option<Change> {
        self.put(lease).1
    }

    /// Somebody else deletes.
    pub(crate) fn delete(&mut self, name: &str) -> Option<Change> {
        self.leases.remove(name)?;
        let change = Change::Gone(name.to_owned(), self.next());
        self.history.push(change.clone());
        Some(change)
    }
}
