//! Two engines, a clock and a wire between them.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipsec::crypto::rng::SeededRng;
use ipsec::ike::Engine;
use ipsec::ike::config::{Auth, Child, Close, Connection, Settings, Start};
use ipsec::ike::event::{ConnectionStatus, DownReason, Event, Failure, State, Transmit};
use ipsec::ike::identity::Identity;
use ipsec::sa::{ChildSa, ChildSaId, Path};
use ipsec::selector::TrafficSelector;
use model::suite::{Proposal, Purpose};
use zeroize::Zeroizing;

/// The name of the only connection.
pub(crate) const NAME: &str = "test/hq";

/// One end.
pub(crate) struct End {
    pub(crate) engine: Engine,
    pub(crate) address: SocketAddr,
    pub(crate) events: Vec<Event>,
    /// What the data path has, with whether it sends on it.
    pub(crate) sas: BTreeMap<ChildSaId, (Arc<ChildSa>, bool)>,
}

/// What the wire does with a datagram.
pub(crate) type Wire = Box<dyn FnMut(usize, &mut Transmit) -> bool>;

/// Both ends; 0 is called left, 1 right.
pub(crate) struct Pair {
    pub(crate) now: Instant,
    pub(crate) ends: [End; 2],
    /// To which end, and what.
    pub(crate) wire: VecDeque<(usize, Transmit)>,
    /// All that was sent, by whom.
    pub(crate) sent: Vec<(usize, Transmit)>,
    /// Says of each datagram (by whom) whether it arrives, and may change it.
    pub(crate) filter: Wire,
}

pub(crate) fn proposals(text: &str, purpose: Purpose) -> Vec<Proposal> {
    text.split(',').map(|one| Proposal::parse(one, purpose, true).unwrap()).collect()
}

pub(crate) fn selectors(text: &str) -> Vec<TrafficSelector> {
    text.split(',').map(|one| TrafficSelector::network(one.parse().unwrap())).collect()
}

pub(crate) fn child(name: &str, local: &str, remote: &str) -> Child {
    Child {
        name: name.into(),
        local: selectors(local),
        remote: selectors(remote),
        proposals: proposals("aes256gcm16-x25519", Purpose::Esp),
        lifetime: Duration::from_secs(3600),
    }
}

pub(crate) fn psk(key: &str) -> Auth {
    Auth::Psk(Arc::new(Zeroizing::new(key.as_bytes().to_vec())))
}

pub(crate) fn id(text: &str) -> Identity {
    Identity::parse(text).unwrap()
}

/// The connection of an end, with a preshared key; left begins.
pub(crate) fn connection(end: usize) -> Connection {
    let (local, remote) = if end == 0 { (1, 2) } else { (2, 1) };
    let address = |end: u8| SocketAddr::from(([192, 0, 2, end], 500));
    let name = |end: usize| id(["left.example", "right.example"][end]);
    let networks = ["10.1.0.0/16", "10.2.0.0/16"];
    Connection {
        name: NAME.into(),
        local: Some(address(local).ip()),
        remote: vec![address(remote)],
        local_id: name(end),
        remote_id: Some(name(1 - end)),
        auth: psk("a long and random key"),
        ppk: None,
        proposals: proposals("aes256gcm16-prfsha384-x25519", Purpose::Ike),
        children: vec![child("net", networks[end], networks[1 - end])],
        start: if end == 0 { Start::Now } else { Start::Wait },
        dpd_delay: Duration::from_secs(10),
        dpd_timeout: Duration::from_secs(30),
        dpd_action: Close::Restart,
        close_action: Close::Restart,
        ike_lifetime: Duration::from_secs(10_800),
        reauthentication: false,
        force_udp: false,
        fragmentation: true,
        mobike: false,
        childless: false,
        replay_window: 1024,
    }
}

impl Pair {
    /// Both ends with these connections.
    pub(crate) fn new(left: Connection, right: Connection) -> Self {
        Self::with(Settings::default(), left, right)
    }

    pub(crate) fn with(settings: Settings, left: Connection, right: Connection) -> Self {
        let mut pair = Self::idle(settings);
        pair.configure(1, right);
        pair.configure(0, left);
        pair
    }

    /// Both ends without connections.
    pub(crate) fn idle(settings: Settings) -> Self {
        let now = Instant::now();
        let end = |number: u8| End {
            engine: Engine::new(
                settings.clone(),
                Box::new(SeededRng::new(number.into())),
                (now, std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap()),
            ),
            address: SocketAddr::from(([192, 0, 2, number], 500)),
            events: Vec::new(),
            sas: BTreeMap::new(),
        };
        Self {
            now,
            ends: [end(1), end(2)],
            wire: VecDeque::new(),
            sent: Vec::new(),
            filter: Box::new(|_, _| true),
        }
    }

    pub(crate) fn configure(&mut self, end: usize, connection: Connection) {
        let name = connection.name.clone();
        let all = BTreeMap::from([(name, Arc::new(connection))]);
        self.ends[end].engine.configure(self.now, all);
    }

    /// Takes out what the engines want to tell and send.
    pub(crate) fn collect(&mut self) {
        for number in 0..2 {
            let end = &mut self.ends[number];
            while let Some(event) = end.engine.poll_event() {
                end.note(&event);
                end.events.push(event);
            }
            while let Some(mut transmit) = end.engine.poll_transmit() {
                self.sent.push((number, transmit.clone()));
                if (self.filter)(number, &mut transmit) {
                    self.wire.push_back((1 - number, transmit));
                }
            }
        }
    }

    /// Until nothing is on the wire.
    pub(crate) fn settle(&mut self) {
        self.collect();
        while let Some((to, transmit)) = self.wire.pop_front() {
            self.deliver(to, &transmit);
            self.collect();
        }
    }

    /// Hands over a datagram as it was sent, with the path turned round.
    pub(crate) fn deliver(&mut self, to: usize, transmit: &Transmit) {
        if transmit.payload == [0xff] {
            return;
        }
        let path = Path { local: transmit.path.remote, remote: transmit.path.local };
        self.ends[to].engine.handle_datagram(self.now, path, &transmit.payload);
    }

    /// Lets time pass, with all that happens meanwhile.
    pub(crate) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        self.settle();
        loop {
            let next = self.ends.iter().filter_map(|end| end.engine.poll_timeout()).min();
            let Some(next) = next.filter(|next| *next <= end) else { break };
            self.now = self.now.max(next);
            for number in 0..2 {
                self.ends[number].engine.handle_timeout(self.now);
            }
            self.settle();
        }
        self.now = end;
        self.settle();
    }

    pub(crate) fn status(&self, end: usize) -> ConnectionStatus {
        self.ends[end].engine.status(self.now).remove(0)
    }

    pub(crate) fn state(&self, end: usize) -> State {
        self.status(end).state
    }

    /// Both ends have all child SAs, with the same keys the right way round.
    pub(crate) fn assert_up(&self) {
        for end in 0..2 {
            let failures = self.failures(end);
            assert_eq!(self.state(end), State::Up, "end {end}: {failures:?}");
        }
        for end in 0..2 {
            let others: Vec<_> = self.ends[1 - end].sas.values().map(|(sa, _)| sa).collect();
            for (sa, _) in self.ends[end].sas.values() {
                let other = others
                    .iter()
                    .find(|other| other.inbound_spi == sa.outbound_spi)
                    .expect("each SA has its other end");
                assert_eq!(sa.inbound.encryption, other.outbound.encryption);
                assert_eq!(sa.outbound.salt, other.inbound.salt);
                assert_eq!(sa.local, other.remote);
                assert_eq!(sa.remote, other.local);
                assert_eq!(sa.suite, other.suite);
                assert_eq!(sa.udp, other.udp);
            }
        }
    }

    pub(crate) fn failures(&self, end: usize) -> Vec<Failure> {
        self.ends[end]
            .events
            .iter()
            .filter_map(|event| match event {
                Event::Failed { failure, .. } => Some(failure.clone()),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn downs(&self, end: usize) -> Vec<DownReason> {
        self.ends[end]
            .events
            .iter()
            .filter_map(|event| match event {
                Event::IkeDown { reason, .. } => Some(reason.clone()),
                _ => None,
            })
            .collect()
    }
}

impl End {
    fn note(&mut self, event: &Event) {
        match event {
            Event::ChildInstall { sa, send, .. } => {
                self.sas.insert(sa.id, (Arc::clone(sa), *send));
            }
            Event::ChildSend { sa } => {
                if let Some(known) = self.sas.get_mut(sa) {
                    known.1 = true;
                }
            }
            Event::ChildRemove { sa, .. } => {
                self.sas.remove(sa);
            }
            _ => {}
        }
    }
}
