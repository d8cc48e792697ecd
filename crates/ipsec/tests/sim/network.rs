//! The network between two ends: loss, duplication, delay, reordering, and a NAT.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipsec::sa::Path;

/// What happens to datagrams.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// Share of IKE datagrams that are lost. ESP is not: what it would lose proves nothing.
    pub(crate) loss: f64,
    /// Share that comes twice.
    pub(crate) duplication: f64,
    /// Share that comes again much later.
    pub(crate) replay: f64,
    /// Share of copies that come besides with an octet changed.
    pub(crate) corruption: f64,
    /// How long they take, at least and at most.
    pub(crate) delay: (Duration, Duration),
}

impl Weather {
    pub(crate) const FAIR: Self = Self {
        loss: 0.0,
        duplication: 0.0,
        replay: 0.0,
        corruption: 0.0,
        delay: (Duration::from_millis(5), Duration::from_millis(10)),
    };

    /// Loses so much, and the rest as bad.
    pub(crate) fn bad(loss: f64) -> Self {
        Self {
            loss,
            duplication: loss,
            replay: loss / 2.0,
            corruption: loss / 2.0,
            delay: (Duration::from_millis(1), Duration::from_millis(250)),
        }
    }
}

/// A NAT before the first end.
#[derive(Debug)]
pub(crate) struct Nat {
    pub(crate) outside: IpAddr,
    pub(crate) inside: IpAddr,
    next: u16,
    ports: BTreeMap<u16, u16>,
}

impl Nat {
    pub(crate) fn new(outside: IpAddr, inside: IpAddr) -> Self {
        Self { outside, inside, next: 20_000, ports: BTreeMap::new() }
    }

    /// Forgets its ports and gives others from now on.
    pub(crate) fn rebind(&mut self) {
        self.ports.clear();
    }

    fn out(&mut self, port: u16) -> u16 {
        let next = &mut self.next;
        *self.ports.entry(port).or_insert_with(|| {
            *next += 1;
            *next
        })
    }

    fn into(&self, port: u16) -> Option<u16> {
        self.ports.iter().find(|(_, outside)| **outside == port).map(|(inside, _)| *inside)
    }
}

/// From where a datagram comes, as the network sees it after NAT.
pub(crate) fn leave(nat: &mut Option<Nat>, path: Path) -> (SocketAddr, SocketAddr) {
    let mut source = path.local;
    if let Some(nat) = nat
        && source.ip() == nat.inside
    {
        source = SocketAddr::new(nat.outside, nat.out(source.port()));
    }
    (source, path.remote)
}

/// Where a datagram arrives: its path as the receiver sees it. None if nobody is there.
pub(crate) fn arrive(
    nat: &Option<Nat>,
    source: SocketAddr,
    mut target: SocketAddr,
) -> Option<Path> {
    if let Some(nat) = nat {
        if target.ip() == nat.outside {
            target = SocketAddr::new(nat.inside, nat.into(target.port())?);
        } else if target.ip() == nat.inside && source.ip() != nat.inside {
            return None;
        }
    }
    Some(Path { local: target, remote: source })
}
