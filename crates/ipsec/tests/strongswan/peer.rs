//! Both ends.

use std::collections::BTreeMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use ipsec::crypto::rng::SystemRng;
use ipsec::ike::Engine;
use ipsec::ike::config::{Auth, Child, Close, Connection, Settings, Start};
use ipsec::ike::event::{Command, Event, Failure};
use ipsec::ike::identity::Identity;
use ipsec::sa::{ChildSa, Path};
use ipsec::selector::TrafficSelector;
use model::suite::{Purpose, parse_list};
use testkit::vpn_lab::{Site, VpnLab};
use testkit::{StrongSwan, SwanBuilder, SwanConnection};

use crate::KEY;

/// How long anything may take.
const DEADLINE: Duration = Duration::from_secs(20);

/// What the connection on strongSwan's side is like.
#[derive(Clone)]
pub(crate) struct Swan {
    /// Of IKE.
    pub(crate) proposals: String,
    /// Of ESP.
    pub(crate) esp: String,
    /// Lines of the connection.
    pub(crate) lines: String,
    /// Lines of `local` and `remote`.
    pub(crate) auth: (String, String),
    /// Whether it begins.
    pub(crate) starts: bool,
    /// Its networks, and ours.
    pub(crate) subnets: (String, String),
    /// Lines of the child.
    pub(crate) child: String,
}

impl Default for Swan {
    fn default() -> Self {
        Self {
            proposals: "aes128gcm16-prfsha256-x25519".to_owned(),
            esp: "aes128gcm16".to_owned(),
            lines: String::new(),
            auth: ("auth = psk\nid = b.test".to_owned(), "auth = psk\nid = a.test".to_owned()),
            starts: false,
            subnets: ("10.2.0.0/24".to_owned(), "10.1.0.0/24".to_owned()),
            child: String::new(),
        }
    }
}

impl Swan {
    /// As swanctl.conf has it.
    pub(crate) fn connection(&self) -> SwanConnection {
        let (local, remote) = &self.auth;
        let lines = format!(
            "version = 2\nlocal_addrs = 192.0.2.2\nremote_addrs = 192.0.2.1\nproposals = {}\n{}\n\
             local {{\n{local}\n}}\nremote {{\n{remote}\n}}",
            self.proposals, self.lines
        );
        let child = format!(
            "local_ts = {}\nremote_ts = {}\nesp_proposals = {}\nstart_action = {}\n{}",
            self.subnets.0,
            self.subnets.1,
            self.esp,
            if self.starts { "start" } else { "none" },
            self.child
        );
        SwanConnection { name: "edge".to_owned(), lines, children: vec![("net".to_owned(), child)] }
    }

    /// Ready to be started.
    pub(crate) fn builder(&self) -> SwanBuilder {
        StrongSwan::builder().connection(self.connection()).psk("a.test", "b.test", KEY)
    }
}

/// Our connection, the counterpart of [`Swan::default`].
pub(crate) fn connection() -> Connection {
    Connection {
        name: "vpn/b".into(),
        local: Some(Site::A.gateway_address()),
        remote: vec![SocketAddr::new(Site::B.gateway_address(), 500)],
        local_id: Identity::parse("a.test").unwrap(),
        remote_id: Some(Identity::parse("b.test").unwrap()),
        auth: psk(KEY),
        ppk: None,
        proposals: parse_list("aes128gcm16-prfsha256-x25519", Purpose::Ike, true).unwrap(),
        children: vec![child("net", "10.1.0.0/24", "10.2.0.0/24", "aes128gcm16")],
        start: Start::Now,
        dpd_delay: Duration::from_secs(2),
        dpd_timeout: Duration::from_secs(5),
        dpd_action: Close::Restart,
        close_action: Close::Restart,
        ike_lifetime: Duration::from_secs(3600),
        reauthentication: false,
        force_udp: false,
        fragmentation: true,
        mobike: false,
        childless: false,
        replay_window: 1024,
    }
}

/// Authentication by a key.
pub(crate) fn psk(key: &str) -> Auth {
    Auth::Psk(Arc::new(key.as_bytes().to_vec().into()))
}

/// A child of networks, separated by spaces.
pub(crate) fn child(name: &str, local: &str, remote: &str, esp: &str) -> Child {
    let selectors = |text: &str| {
        text.split_whitespace().map(|n| TrafficSelector::network(n.parse().unwrap())).collect()
    };
    Child {
        name: name.into(),
        local: selectors(local),
        remote: selectors(remote),
        proposals: parse_list(esp, Purpose::Esp, true).unwrap(),
        lifetime: Duration::from_secs(3600),
    }
}

/// Our end, in site A's gateway; strongSwan is in site B's.
pub(crate) struct Ends {
    _lab: VpnLab,
    pub(crate) swan: StrongSwan,
    pub(crate) engine: Engine,
    sockets: [UdpSocket; 2],
    /// The child SAs that are there, in the order of their installation.
    pub(crate) children: Vec<Arc<ChildSa>>,
    pub(crate) failures: Vec<Failure>,
    pub(crate) events: Vec<Event>,
    /// IKE datagrams that came.
    pub(crate) received: u64,
    /// Their sizes at most.
    pub(crate) largest: usize,
}

impl Ends {
    /// With both.
    #[track_caller]
    pub(crate) fn new(swan: SwanBuilder, ours: Connection) -> Self {
        Self::with(swan, ours, Settings::default())
    }

    /// With settings of ours, too.
    #[track_caller]
    pub(crate) fn with(swan: SwanBuilder, ours: Connection, settings: Settings) -> Self {
        let lab = VpnLab::new();
        let address = Site::A.gateway_address();
        let sockets = lab.gateway(Site::A).run(|| {
            [500, 4500].map(|port| {
                let socket = UdpSocket::bind((address, port)).unwrap();
                socket.set_nonblocking(true).unwrap();
                socket
            })
        });
        let unix = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let now = Instant::now();
        let mut engine = Engine::new(settings, Box::new(SystemRng), (now, unix));
        // Ours is there first, if it is strongSwan that begins.
        engine.configure(now, BTreeMap::from([(Arc::clone(&ours.name), Arc::new(ours))]));
        let swan = swan.start(lab.gateway(Site::B));
        Self {
            _lab: lab,
            swan,
            engine,
            sockets,
            children: Vec::new(),
            failures: Vec::new(),
            events: Vec::new(),
            received: 0,
            largest: 0,
        }
    }

    /// Tells the engine something.
    pub(crate) fn command(&mut self, command: Command) {
        self.engine.command(Instant::now(), command);
    }

    /// Goes on until something is so.
    #[track_caller]
    pub(crate) fn until(&mut self, what: &str, mut reached: impl FnMut(&mut Self) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            self.step();
            if reached(self) {
                return;
            }
            assert!(
                Instant::now() < deadline,
                "not within {DEADLINE:?}: {what}\nfailures: {:#?}\ncounters: {:?}",
                self.failures,
                self.engine.counters()
            );
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Goes on for a while.
    pub(crate) fn run_for(&mut self, time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.step();
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    fn step(&mut self) {
        let mut buffer = vec![0; 65_536];
        for port in [500_u16, 4500] {
            let socket = &self.sockets[usize::from(port == 4500)];
            while let Ok((length, remote)) = socket.recv_from(&mut buffer) {
                let mut datagram = &buffer[..length];
                if port == 4500 {
                    match datagram.strip_prefix(&[0; 4]) {
                        Some(ike) => datagram = ike,
                        None => continue,
                    }
                }
                self.received += 1;
                self.largest = self.largest.max(length);
                let local = SocketAddr::new(Site::A.gateway_address(), port);
                self.engine.handle_datagram(Instant::now(), Path { local, remote }, datagram);
            }
        }
        let now = Instant::now();
        if self.engine.poll_timeout().is_some_and(|at| at <= now) {
            self.engine.handle_timeout(now);
        }
        while let Some(event) = self.engine.poll_event() {
            self.events.push(event.clone());
            match event {
                Event::ChildInstall { sa, .. } => self.children.push(sa),
                Event::ChildRemove { sa, .. } => self.children.retain(|child| child.id != sa),
                Event::Failed { failure, .. } => self.failures.push(failure),
                _ => {}
            }
        }
        while let Some(transmit) = self.engine.poll_transmit() {
            let nat = transmit.path.local.port() == 4500;
            let mut payload = transmit.payload;
            if nat && payload != [0xff] {
                payload = [&[0; 4], payload.as_slice()].concat();
            }
            _ = self.sockets[usize::from(nat)].send_to(&payload, transmit.path.remote);
        }
    }

    /// Until both ends have as many child SAs.
    #[track_caller]
    pub(crate) fn until_up(&mut self, children: usize) {
        self.until("the child SAs are there", |ends| ends.children.len() == children);
        self.until("strongSwan has them, too", |ends| ends.swan.installed() == children);
        // Each end knows the other's SPIs.
        let sas = self.swan.sas();
        for child in &self.children {
            assert!(sas.contains(&format!("{:08x}", child.inbound_spi.get())), "{sas}");
            assert!(sas.contains(&format!("{:08x}", child.outbound_spi.get())), "{sas}");
        }
    }
}
