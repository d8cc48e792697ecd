use std::sync::mpsc::{Receiver, channel};

use model::PublicKey;
use overlay::probe::{Answer, Holds};

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

/// An edge that answers probes which are sealed with keys that it knows.
struct Answering {
    address: SocketAddr,
    key: PublicKey,
    known: Arc<Mutex<Vec<PublicKey>>>,
    /// Keys that were asked to be used, in turn.
    used: Arc<Mutex<Vec<PublicKey>>>,
}

impl Answering {
    fn start(name: &'static str) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let private = wireguard::random::private_key();
        let key = private.public();
        let known = Arc::<Mutex<Vec<PublicKey>>>::default();
        let used = Arc::<Mutex<Vec<PublicKey>>>::default();
        let (knows, uses) = (Arc::clone(&known), Arc::clone(&used));
        std::thread::spawn(move || {
            let mut buffer = [0; 2_000];
            loop {
                let (length, from) = socket.recv_from(&mut buffer).unwrap();
                for other in lock(&knows).iter() {
                    let pair = Pair::new(&private, other).unwrap();
                    let Ok((nonce, message)) = pair.open(&buffer[..length]) else { continue };
                    let Body::Probe(probe) = message.body else { continue };
                    if probe.use_key {
                        lock(&uses).push(*other);
                    }
                    let body = Body::Answer(Answer {
                        edge: name.to_owned(),
                        incarnation: 1,
                        drain: false,
                        hash: Holds::default().hash(),
                        holds: Some(Holds::default()),
                    });
                    let answer = Message { sequence: 1, answers: Some(nonce), body };
                    let sealed = pair.seal(wireguard::random::nonce(), &answer).unwrap();
                    socket.send_to(&sealed, from).unwrap();
                }
            }
        });
        Self { address, key, known, used }
    }

    /// By a key of the node, through a tunnel or not.
    fn aim(&self, key: &PrivateKey, tunnel: bool) -> Aim {
        let path = match tunnel {
            true => Path::Tunnel { edge: self.key, node: key.public() },
            false => Path::Direct,
        };
        let target = ProbeTarget {
            edge: "edge-1".to_owned(),
            key: self.key,
            address: self.address,
            interface: None,
        };
        Aim { target, source: None, path, key: key.clone(), generation: 1 }
    }
}

fn start() -> (Prober, Receiver<Findings>) {
    let (sender, receiver) = channel();
    let timing = Timing {
        interval: Duration::from_millis(50),
        patience: Duration::from_millis(40),
        ..Timing::default()
    };
    let prober = Prober::start("node-1", timing, move |findings| {
        let _ = sender.send(findings);
    });
    (prober.unwrap(), receiver)
}

fn orders(aims: Vec<Aim>) -> Orders {
    Orders {
        aims: BTreeMap::from([("edge-1".to_owned(), aims)]),
        told: BTreeMap::from([("edge-1".to_owned(), Told::default())]),
    }
}

#[track_caller]
fn wait_for(receiver: &Receiver<Findings>, so: impl Fn(&Finding) -> bool) -> Finding {
    let deadline = Instant::now() + DEADLINE;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let findings = receiver.recv_timeout(left).expect("it is found in time");
        if let Some(found) = findings.edges.get("edge-1").filter(|found| so(found)) {
            return found.clone();
        }
    }
}

#[test]
fn an_edge_that_answers_is_alive_and_one_that_stops_is_lost() {
    let edge = Answering::start("edge-1");
    let key = wireguard::random::private_key();
    let (prober, receiver) = start();
    prober.order(orders(vec![edge.aim(&key, false)]));
    wait_for(&receiver, |found| found.state == State::Lost);
    lock(&edge.known).push(key.public());
    let found = wait_for(&receiver, |found| found.state == State::Alive && found.path.is_some());
    assert_eq!(found.path, Some(Path::Direct));
    let counted = prober.statistics().0["edge-1"].clone();
    assert!(counted.sent >= counted.answered && counted.answered > 0, "{counted:?}");
    lock(&edge.known).clear();
    let start = Instant::now();
    wait_for(&receiver, |found| found.state == State::Lost);
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
}

#[test]
fn another_ones_answers_do_not_count() {
    let edge = Answering::start("edge-2");
    let key = wireguard::random::private_key();
    lock(&edge.known).push(key.public());
    let (prober, receiver) = start();
    prober.order(orders(vec![edge.aim(&key, false)]));
    wait_for(&receiver, |found| found.state == State::Lost);
    assert_eq!(prober.statistics().0["edge-1"].answered, 0);
}

#[test]
fn a_new_key_is_asked_for_and_taken_once_the_edge_answers_by_it() {
    let edge = Answering::start("edge-1");
    let (old, new) = (wireguard::random::private_key(), wireguard::random::private_key());
    lock(&edge.known).push(old.public());
    let (prober, receiver) = start();
    prober.order(orders(vec![edge.aim(&old, true)]));
    wait_for(&receiver, |found| found.state == State::Alive && found.path.is_some());
    // The edge doesn't know the new one yet: all stays as it is.
    prober.order(orders(vec![edge.aim(&new, true), edge.aim(&old, true)]));
    let found = wait_for(&receiver, |found| !found.all);
    let by = |key: &PrivateKey| Some(Path::Tunnel { edge: edge.key, node: key.public() });
    assert_eq!((found.state, found.path), (State::Alive, by(&old)));
    lock(&edge.known).push(new.public());
    let found = wait_for(&receiver, |found| found.path == by(&new));
    assert!(found.all, "{found:?}");
    assert_eq!(lock(&edge.used).last(), Some(&new.public()));
}

#[test]
fn a_flood_of_datagrams_holds_up_nothing_else() {
    let shared = Arc::<Shared>::default();
    let report = Box::new(|_| {});
    let mut worker =
        Worker::new("node-1", Timing::default(), shared, Waker::new().unwrap(), report);
    let own: IpAddr = "127.0.0.1".parse().unwrap();
    let address = socket(&mut worker.sockets, own).unwrap().local_addr().unwrap();
    let flood = UdpSocket::bind("127.0.0.1:0").unwrap();
    for _ in 0..BATCH + 10 {
        flood.send_to(b"nonsense", address).unwrap();
    }
    let mut buffer = vec![0; overlay::probe::LARGEST];
    worker.receive(&mut buffer);
    let left = std::iter::repeat_with(|| worker.sockets[&own].recv_from(&mut buffer));
    assert_eq!(left.take_while(Result::is_ok).count(), 10);
}

#[test]
fn an_agent_whose_clock_was_set_back_goes_on_from_what_the_edge_knows() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    let private = wireguard::random::private_key();
    let key = wireguard::random::private_key();
    let (known, used) = (Arc::default(), Arc::default());
    let address = socket.local_addr().unwrap();
    let edge = Answering { address, key: private.public(), known, used };
    let (prober, _receiver) = start();
    prober.order(orders(vec![edge.aim(&key, false)]));
    let pair = Pair::new(&private, &key.public()).unwrap();
    let mut buffer = [0; 2_000];
    let (length, from) = socket.recv_from(&mut buffer).unwrap();
    let (nonce, first) = pair.open(&buffer[..length]).unwrap();
    let last = first.sequence + 3_600_000_000;
    let answer = Message { sequence: 1, answers: Some(nonce), body: Body::Behind(last) };
    let sealed = pair.seal(wireguard::random::nonce(), &answer).unwrap();
    socket.send_to(&sealed, from).unwrap();
    let deadline = Instant::now() + DEADLINE;
    loop {
        let (length, _) = socket.recv_from(&mut buffer).unwrap();
        let (_, next) = pair.open(&buffer[..length]).unwrap();
        if next.sequence > last {
            return;
        }
        assert!(Instant::now() < deadline, "it goes on as before");
    }
}
