//! A data path as the events describe it, which checks what they must never do.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipsec::ike::event::{DownReason, Event};
use ipsec::sa::{ChildSa, ChildSaId, Path};

/// One SA pair that is installed.
#[derive(Debug)]
pub(crate) struct Installed {
    pub(crate) sa: Arc<ChildSa>,
    pub(crate) path: Path,
    pub(crate) udp: bool,
    /// Nothing comes on it any more from then on.
    pub(crate) until: Option<Instant>,
    pub(crate) alive: Option<Instant>,
}

/// Key and SPI of a packet on its way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sealed {
    pub(crate) spi: u32,
    pub(crate) key: Vec<u8>,
    pub(crate) child: String,
}

#[derive(Debug, Default)]
pub(crate) struct Plane {
    pub(crate) installed: BTreeMap<ChildSaId, Installed>,
    /// What packets of a child are sent on.
    pub(crate) outbound: BTreeMap<String, ChildSaId>,
    keys: HashSet<Vec<u8>>,
    /// Reasons other than that another one is in its place.
    pub(crate) lost: Vec<DownReason>,
    pub(crate) rekeyed: usize,
    pub(crate) ike_up: usize,
    pub(crate) ike_rekeyed: usize,
    pub(crate) ike_down: Vec<DownReason>,
    pub(crate) failures: Vec<String>,
}

/// What a data path does about packets that come.
pub(crate) const ALIVE_EVERY: Duration = Duration::from_secs(1);

impl Plane {
    pub(crate) fn apply(&mut self, now: Instant, event: &Event) {
        match event {
            Event::ChildInstall { sa, send, replaces } => self.install(now, sa, *send, *replaces),
            Event::ChildSend { sa } => {
                let known = self.installed.get(sa).expect("ChildSend of what is not installed");
                assert!(known.until.is_none(), "ChildSend of what is removed");
                self.outbound.insert(known.sa.child.to_string(), *sa);
            }
            Event::ChildRemove { sa, linger, reason } => {
                let known = self.installed.get_mut(sa).expect("ChildRemove of what isn't there");
                assert!(known.until.is_none(), "ChildRemove twice");
                known.until = Some(now + *linger);
                let child = known.sa.child.to_string();
                if self.outbound.get(&child) == Some(sa) {
                    self.outbound.remove(&child);
                    assert!(
                        *reason != DownReason::Replaced,
                        "nothing is in the place of what packets were sent on",
                    );
                }
                if *reason == DownReason::Replaced {
                    self.rekeyed += 1;
                } else {
                    self.lost.push(reason.clone());
                }
            }
            Event::PathChanged { children, path, udp } => {
                for child in children {
                    let known = self.installed.get_mut(child).expect("a path of what isn't there");
                    (known.path, known.udp) = (*path, *udp);
                }
            }
            Event::IkeUp { rekeyed, .. } => {
                self.ike_up += 1;
                self.ike_rekeyed += usize::from(*rekeyed);
            }
            Event::IkeDown { reason, .. } => self.ike_down.push(reason.clone()),
            Event::Failed { failure, .. } => self.failures.push(format!("{failure:?}")),
        }
    }

    fn install(
        &mut self,
        now: Instant,
        sa: &Arc<ChildSa>,
        send: bool,
        replaces: Option<ChildSaId>,
    ) {
        self.sweep(now);
        for key in [&sa.inbound, &sa.outbound] {
            let all = [key.encryption.as_slice(), &key.salt, &key.integrity].concat();
            assert!(self.keys.insert(all), "a key is used twice");
        }
        for other in self.installed.values() {
            assert_ne!(other.sa.inbound_spi, sa.inbound_spi, "an SPI is used twice at once");
        }
        let child = sa.child.to_string();
        if let Some(replaces) = replaces {
            let known = self.installed.get(&replaces).expect("it replaces what is not there");
            assert_eq!(known.sa.child, sa.child);
        }
        let installed =
            Installed { sa: Arc::clone(sa), path: sa.path, udp: sa.udp, until: None, alive: None };
        assert!(self.installed.insert(sa.id, installed).is_none(), "installed twice");
        if send {
            self.outbound.insert(child, sa.id);
        }
    }

    /// Forgets what has lingered long enough.
    pub(crate) fn sweep(&mut self, now: Instant) {
        self.installed.retain(|_, one| one.until.is_none_or(|until| now < until));
    }

    /// A packet of a child, sealed, and where it goes.
    pub(crate) fn seal(&self, child: &str) -> Option<(Sealed, Path)> {
        let known = self.installed.get(self.outbound.get(child)?)?;
        let sealed = Sealed {
            spi: known.sa.outbound_spi.get(),
            key: known.sa.outbound.encryption.clone(),
            child: child.to_owned(),
        };
        Some((sealed, known.path))
    }

    /// The SA that a packet is for, if it can be opened.
    pub(crate) fn open(&mut self, now: Instant, sealed: &Sealed) -> Option<&mut Installed> {
        self.sweep(now);
        self.installed.values_mut().find(|one| {
            one.sa.inbound_spi.get() == sealed.spi && one.sa.inbound.encryption == sealed.key
        })
    }

    /// What is there and not on its way out: pairs of SPIs, ours first, by child.
    pub(crate) fn live(&self) -> Vec<(String, u32, u32)> {
        let live = self.installed.values().filter(|one| one.until.is_none());
        let mut all: Vec<_> = live
            .map(|one| {
                let sa = &one.sa;
                (sa.child.to_string(), sa.inbound_spi.get(), sa.outbound_spi.get())
            })
            .collect();
        all.sort();
        all
    }
}
