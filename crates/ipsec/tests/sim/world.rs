//! Two engines, a clock that jumps, and what is between them. Everything follows from a seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipsec::crypto::rng::SeededRng;
use ipsec::ike::Engine;
use ipsec::ike::config::{Auth, Child, Close, Connection, Settings, Start};
use ipsec::ike::event::{Command, DownReason, Rekey, State};
use ipsec::ike::identity::Identity;
use ipsec::sa::Path;
use ipsec::selector::TrafficSelector;
use model::suite::{Encryption, Esn, Group, Prf, Proposal};

use super::network::{Nat, Weather, arrive, leave};
use super::plane::{ALIVE_EVERY, Plane, Sealed};

pub(crate) const NAME: &str = "ns/sim";

/// One end.
pub(crate) struct End {
    /// None while it is dead.
    pub(crate) engine: Option<Engine>,
    pub(crate) addresses: Vec<IpAddr>,
    pub(crate) config: Connection,
    pub(crate) plane: Plane,
    /// How often each child of it sends a packet; never if none.
    pub(crate) sends_every: Option<Duration>,
    /// How often it was begun.
    lives: u64,
}

enum Item {
    Ike {
        source: SocketAddr,
        target: SocketAddr,
        octets: Vec<u8>,
    },
    Esp {
        source: SocketAddr,
        target: SocketAddr,
        sealed: Sealed,
    },
    /// An end's children send.
    Tick(usize),
}

pub(crate) struct World {
    pub(crate) seed: u64,
    pub(crate) now: Instant,
    begin: Instant,
    pub(crate) random: fastrand::Rng,
    pub(crate) weather: Weather,
    pub(crate) nat: Option<Nat>,
    pub(crate) ends: [End; 2],
    items: BinaryHeap<Reverse<(Instant, u64)>>,
    contents: BTreeMap<u64, Item>,
    next: u64,
    /// Every packet must arrive from now on, as long as no end has lost anything.
    pub(crate) strict: bool,
    /// Packets that have arrived, by receiver.
    pub(crate) delivered: [u64; 2],
    /// Packets that could not be opened, or sealed.
    pub(crate) dropped: u64,
    pub(crate) log: Option<Vec<String>>,
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

pub(crate) fn ike_proposal() -> Proposal {
    Proposal {
        encryption: vec![Encryption::Aes128Gcm16],
        prf: vec![Prf::HmacSha256],
        groups: vec![Group::X25519],
        ..Proposal::default()
    }
}

pub(crate) fn esp_proposal(groups: &[Group]) -> Proposal {
    Proposal {
        encryption: vec![Encryption::Aes128Gcm16],
        groups: groups.to_vec(),
        esn: vec![Esn::Yes, Esn::No],
        ..Proposal::default()
    }
}

fn network(text: &str) -> TrafficSelector {
    TrafficSelector::network(text.parse().unwrap())
}

/// Both ends' configurations with so many children.
pub(crate) fn configs(children: usize, groups: &[Group]) -> [Connection; 2] {
    let addresses = [ip("10.0.0.1"), ip("10.0.0.2")];
    [0, 1].map(|end: usize| {
        let other = 1 - end;
        let children = (0..children).map(|number| Child {
            name: format!("child{number}").into(),
            local: vec![network(&format!("10.{}.{number}.0/24", end + 1))],
            remote: vec![network(&format!("10.{}.{number}.0/24", other + 1))],
            proposals: vec![esp_proposal(groups)],
            lifetime: Duration::from_secs(3600),
        });
        Connection {
            name: NAME.into(),
            local: Some(addresses[end]),
            remote: vec![SocketAddr::new(addresses[other], 500)],
            local_id: Identity::parse(["a.example", "b.example"][end]).unwrap(),
            remote_id: Some(Identity::parse(["a.example", "b.example"][other]).unwrap()),
            auth: Auth::Psk(Arc::new(b"a key of the simulation, long enough".to_vec().into())),
            ppk: None,
            proposals: vec![ike_proposal()],
            children: children.collect(),
            start: if end == 0 { Start::Now } else { Start::Wait },
            dpd_delay: Duration::from_secs(30),
            dpd_timeout: Duration::from_secs(120),
            dpd_action: Close::Restart,
            close_action: Close::Restart,
            ike_lifetime: Duration::from_secs(4 * 3600),
            reauthentication: false,
            force_udp: false,
            fragmentation: true,
            mobike: false,
            childless: false,
            replay_window: 1024,
        }
    })
}

impl World {
    pub(crate) fn new(seed: u64, configs: [Connection; 2]) -> Self {
        let begin = Instant::now();
        let addresses = [vec![ip("10.0.0.1")], vec![ip("10.0.0.2")]];
        let mut addresses = addresses.into_iter();
        Self {
            seed,
            now: begin,
            begin,
            random: fastrand::Rng::with_seed(seed),
            weather: Weather::FAIR,
            nat: None,
            ends: configs.map(|config| End {
                engine: None,
                addresses: addresses.next().unwrap(),
                config,
                plane: Plane::default(),
                sends_every: Some(Duration::from_millis(500)),
                lives: 0,
            }),
            items: BinaryHeap::new(),
            contents: BTreeMap::new(),
            next: 0,
            strict: false,
            delivered: [0, 0],
            dropped: 0,
            log: None,
        }
    }

    /// Begins an end, with no memory of what it was before.
    pub(crate) fn start(&mut self, end: usize) {
        let settings = Settings::default();
        let one = &mut self.ends[end];
        one.lives += 1;
        let seed = self.seed.wrapping_mul(1000) + one.lives * 2 + end as u64;
        let epoch = (self.begin, Duration::from_secs(1_700_000_000));
        let mut engine = Engine::new(settings, Box::new(SeededRng::new(seed)), epoch);
        let config = Arc::new(one.config.clone());
        one.plane = Plane::default();
        engine.configure(self.now, [(config.name.clone(), config)].into());
        one.engine = Some(engine);
        self.drain(end);
        let ticking =
            self.contents.values().any(|item| matches!(item, Item::Tick(of) if *of == end));
        if let (Some(every), false) = (self.ends[end].sends_every, ticking) {
            self.push(self.now + every, Item::Tick(end));
        }
    }

    /// Gives an end its configuration anew.
    pub(crate) fn configure(&mut self, end: usize) {
        let now = self.now;
        let config = Arc::new(self.ends[end].config.clone());
        if let Some(engine) = &mut self.ends[end].engine {
            engine.configure(now, [(config.name.clone(), config)].into());
        }
        self.drain(end);
    }

    pub(crate) fn start_both(&mut self) {
        self.start(1);
        self.start(0);
    }

    /// It is gone without a word.
    pub(crate) fn kill(&mut self, end: usize) {
        self.note(|| format!("end {end} is killed"));
        self.ends[end].engine = None;
        self.ends[end].plane = Plane::default();
    }

    pub(crate) fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(log) = &mut self.log {
            let at = self.now - self.begin;
            log.push(format!("{:>10.3} {}", at.as_secs_f64(), what()));
        }
    }

    fn push(&mut self, at: Instant, item: Item) {
        self.next += 1;
        self.items.push(Reverse((at, self.next)));
        self.contents.insert(self.next, item);
    }

    fn delay(&mut self) -> Duration {
        let (least, most) = self.weather.delay;
        least + (most - least).mul_f64(self.random.f64())
    }

    pub(crate) fn command(&mut self, end: usize, command: Command) {
        self.note(|| format!("end {end}: {command:?}"));
        let now = self.now;
        if let Some(engine) = &mut self.ends[end].engine {
            engine.command(now, command);
        }
        self.drain(end);
    }

    pub(crate) fn rekey(&mut self, end: usize, what: Rekey) {
        self.command(end, Command::Rekey { connection: NAME.into(), what });
    }

    /// Acts on what an engine tells and sends what it wants sent, in this order.
    fn drain(&mut self, end: usize) {
        let Some(mut engine) = self.ends[end].engine.take() else { return };
        while let Some(event) = engine.poll_event() {
            self.note(|| format!("end {end}: {event:?}"));
            let now = self.now;
            self.ends[end].plane.apply(now, &event);
            let mut lost = self.ends.iter().flat_map(|end| &end.plane.lost).peekable();
            let is_bad = lost.peek().is_some() && lost.all(|one| *one != DownReason::Dead);
            assert!(!(self.strict && is_bad), "end {end}: lost for another reason than rekeying");
        }
        while let Some(transmit) = engine.poll_transmit() {
            self.send(end, transmit.path, transmit.payload);
        }
        self.ends[end].engine = Some(engine);
    }

    fn send(&mut self, end: usize, path: Path, octets: Vec<u8>) {
        self.note(|| format!("end {end} sends {:?} {}", path.remote, describe(&octets)));
        if !self.ends[end].addresses.contains(&path.local.ip()) {
            return;
        }
        let (source, target) = leave(&mut self.nat, path);
        if self.random.f64() < self.weather.replay {
            let at = self.now + Duration::from_secs(self.random.u64(1..200));
            self.push(at, Item::Ike { source, target, octets: octets.clone() });
        }
        if self.random.f64() < self.weather.corruption {
            let mut octets = octets.clone();
            let place = self.random.usize(0..octets.len());
            octets[place] ^= 1 << self.random.u8(0..8);
            if self.random.bool() {
                octets.truncate(self.random.usize(0..octets.len()));
            }
            let at = self.now + self.delay();
            self.push(at, Item::Ike { source, target, octets });
        }
        let copies = if self.random.f64() < self.weather.duplication { 2 } else { 1 };
        for _ in 0..copies {
            if self.random.f64() >= self.weather.loss {
                let at = self.now + self.delay();
                self.push(at, Item::Ike { source, target, octets: octets.clone() });
            }
        }
    }

    fn receiver(&self, source: SocketAddr, target: SocketAddr) -> Option<(usize, Path)> {
        let path = arrive(&self.nat, source, target)?;
        let end = self.ends.iter().position(|end| end.addresses.contains(&path.local.ip()))?;
        Some((end, path))
    }

    /// The next thing happens, unless it would be later than `until`.
    fn step(&mut self, until: Instant) -> bool {
        let timer = self
            .ends
            .iter()
            .enumerate()
            .filter_map(|(end, one)| Some((one.engine.as_ref()?.poll_timeout()?, end)))
            .min();
        let item = self.items.peek().map(|Reverse((at, _))| *at);
        match (timer, item) {
            (Some((at, end)), item) if item.is_none_or(|item| at <= item) && at <= until => {
                self.now = self.now.max(at);
                let now = self.now;
                if let Some(engine) = &mut self.ends[end].engine {
                    engine.handle_timeout(now);
                    let next = engine.poll_timeout();
                    assert!(next.is_none_or(|next| next > now), "a timer that doesn't go off");
                }
                self.drain(end);
                true
            }
            (_, Some(at)) if at <= until => {
                let Some(Reverse((_, number))) = self.items.pop() else { return false };
                self.now = self.now.max(at);
                if let Some(item) = self.contents.remove(&number) {
                    self.happen(item);
                }
                true
            }
            _ => false,
        }
    }

    fn happen(&mut self, item: Item) {
        let now = self.now;
        match item {
            Item::Ike { source, target, octets } => {
                let Some((end, path)) = self.receiver(source, target) else { return };
                self.note(|| format!("end {end} gets {}", describe(&octets)));
                if let Some(engine) = &mut self.ends[end].engine
                    && octets != [0xff]
                {
                    engine.handle_datagram(now, path, &octets);
                    self.drain(end);
                }
            }
            Item::Esp { source, target, sealed } => self.deliver(source, target, &sealed),
            Item::Tick(end) => {
                let Some(every) = self.ends[end].sends_every else { return };
                if self.ends[end].engine.is_some() {
                    self.send_packets(end);
                }
                let pause = every.mul_f64(0.5 + self.random.f64());
                self.push(now + pause, Item::Tick(end));
            }
        }
    }

    /// Each child of an end sends one packet.
    pub(crate) fn send_packets(&mut self, end: usize) {
        let children: Vec<_> =
            self.ends[end].config.children.iter().map(|child| child.name.to_string()).collect();
        for child in children {
            let Some((sealed, path)) = self.ends[end].plane.seal(&child) else {
                self.lose(end, &format!("{child} has nothing to send on"));
                continue;
            };
            let (source, target) = leave(&mut self.nat, path);
            let at = self.now + self.delay();
            self.push(at, Item::Esp { source, target, sealed });
        }
    }

    fn lose(&mut self, end: usize, why: &str) {
        self.dropped += 1;
        self.note(|| format!("end {end}: lost: {why}"));
        assert!(!self.strict || self.has_lost(), "end {end}: {why}");
    }

    /// Whether an SA was lost to something else than rekeying.
    pub(crate) fn has_lost(&self) -> bool {
        self.ends.iter().any(|end| !end.plane.lost.is_empty() || end.engine.is_none())
    }

    fn deliver(&mut self, source: SocketAddr, target: SocketAddr, sealed: &Sealed) {
        let now = self.now;
        let Some((end, path)) = self.receiver(source, target) else { return };
        if self.ends[end].engine.is_none() {
            return;
        }
        let Some(known) = self.ends[end].plane.open(now, sealed) else {
            self.lose(
                end,
                &format!("{} has come with SPI {:08x}, unknown", sealed.child, sealed.spi),
            );
            let spi = ipsec::sa::Spi::new(sealed.spi).unwrap();
            self.command(end, Command::UnknownSpi { path, spi });
            return;
        };
        assert_eq!(*known.sa.child, *sealed.child);
        let id = known.sa.id;
        let is_removed = known.until.is_some();
        let has_moved = known.udp && known.path != path;
        let is_news = known.alive.is_none_or(|at| at + ALIVE_EVERY <= now);
        if is_news {
            known.alive = Some(now);
        }
        self.delivered[end] += 1;
        if is_news && !is_removed {
            self.command(end, Command::Alive { sa: id });
        }
        if has_moved && !is_removed {
            self.command(end, Command::Moved { sa: id, path });
        }
    }

    pub(crate) fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.step(until) {}
        self.now = self.now.max(until);
    }

    /// Runs until something holds. False if it doesn't in that time.
    pub(crate) fn run_until(&mut self, limit: Duration, holds: impl Fn(&Self) -> bool) -> bool {
        let until = self.now + limit;
        loop {
            if holds(self) {
                return true;
            }
            if !self.step(until) {
                self.now = self.now.max(until);
                return holds(self);
            }
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.ends.iter().all(|end| {
            end.engine.as_ref().is_some_and(|engine| {
                engine.status(self.now).iter().all(|one| one.state == State::Up)
            })
        })
    }

    /// Lets everything come to rest, and checks that both ends know the same.
    pub(crate) fn check_rest(&mut self) {
        self.weather = Weather::FAIR;
        self.run(Duration::from_secs(200));
        let up = self.run_until(Duration::from_secs(600), Self::is_settled);
        assert!(up, "they don't come to rest: {}", self.describe());
    }

    /// Whether both ends have the same SAs, one for each child, and send on them.
    pub(crate) fn is_settled(&self) -> bool {
        let [one, other] = &self.ends;
        let mut mirrored: Vec<_> = other
            .plane
            .live()
            .into_iter()
            .map(|(child, inbound, outbound)| (child, outbound, inbound))
            .collect();
        mirrored.sort();
        let live = one.plane.live();
        let ikes = |end: &End| -> Vec<(u64, u64)> {
            let status = end.engine.as_ref().map(|engine| engine.status(self.now));
            status.iter().flatten().flat_map(|one| &one.ike).map(|ike| ike.spis).collect()
        };
        self.is_up()
            && live == mirrored
            && live.len() == one.config.children.len()
            && ikes(one) == ikes(other)
            && ikes(one).len() == 1
            && self.ends.iter().all(|end| {
                let plane = &end.plane;
                plane.outbound.len() == end.config.children.len()
                    && end.engine.as_ref().is_some_and(|engine| {
                        engine.counters().established == 1 && engine.counters().half_open == 0
                    })
            })
    }

    pub(crate) fn describe(&self) -> String {
        let mut text = String::new();
        for (number, end) in self.ends.iter().enumerate() {
            text += &format!(
                "\nend {number}: {:?} sends on {:?}",
                end.plane.live(),
                end.plane.outbound
            );
            text += &format!(", lost {:?}, failures {:?}", end.plane.lost, end.plane.failures);
            for status in end.engine.iter().flat_map(|engine| engine.status(self.now)) {
                let ikes: Vec<_> = status.ike.iter().map(|one| (one.id, one.spis)).collect();
                text += &format!(", {:?} {ikes:x?}", status.state);
            }
            let counters = end.engine.as_ref().map(Engine::counters);
            text += &format!(", {counters:?}");
        }
        text
    }
}

/// The header of an IKE message, for the log.
fn describe(octets: &[u8]) -> String {
    if octets.len() < 28 {
        return format!("{octets:02x?}");
    }
    let spi = |at: usize| {
        u32::from_be_bytes([octets[at], octets[at + 1], octets[at + 2], octets[at + 3]])
    };
    let exchange = octets[18];
    let response = if octets[19] & 0x20 != 0 { "response" } else { "request" };
    format!(
        "{:08x}/{:08x} exchange {exchange} {response} {} ({})",
        spi(0),
        spi(8),
        spi(20),
        octets.len()
    )
}
