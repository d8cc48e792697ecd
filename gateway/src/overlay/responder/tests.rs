use std::net::Ipv4Addr;
use std::sync::mpsc;

use model::ObjectKey;
use overlay::probe::{Nonce, Probe};

use super::*;

/// How long something may take.
const SOON: Duration = Duration::from_secs(10);

struct World {
    responder: Responder,
    findings: mpsc::Receiver<Findings>,
    letters: mpsc::Receiver<(String, Vec<u8>)>,
    edge: PrivateKey,
    node: PrivateKey,
    other: PrivateKey,
    socket: UdpSocket,
    at: SocketAddr,
    sequence: u64,
}

impl World {
    fn new(until: Option<Instant>) -> Self {
        let (report, findings) = mpsc::channel();
        let (letter, letters) = mpsc::channel();
        let responder = Responder::start(
            move |found| drop(report.send(found)),
            Box::new(move |name, octets| drop(letter.send((name, octets)))),
        )
        .unwrap();
        let [edge, node, other] = [1, 2, 3].map(|octet| PrivateKey::new([octet; 32]));
        // One that is free; it is let go of before it is bound again.
        let at = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
        let holds = Holds { vpn: [(ObjectKey::new("a", "b"), 3)].into(), vips: Vec::new() };
        responder.order(Orders {
            edge: "edge-1".to_owned(),
            keys: vec![edge.clone()],
            listen: [(at, None)].into(),
            askers: [
                (node.public(), Asker::Node("n1".to_owned())),
                (other.public(), Asker::Edge("edge-2".to_owned())),
            ]
            .into(),
            edges: BTreeMap::new(),
            holds,
            until: until.map(|until| {
                let holdings = Holdings { until: Some(until), ..Holdings::default() };
                watch::channel(Arc::new(holdings)).1
            }),
            incarnation: 7,
            drain: true,
        });
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        Self { responder, findings, letters, edge, node, other, socket, at, sequence: 0 }
    }

    fn message(&mut self, body: Body) -> Message {
        self.sequence += 1;
        Message { sequence: self.sequence, answers: None, body }
    }

    fn probe(&mut self, node: &str, knows: u64) -> Message {
        self.message(Body::Probe(Probe {
            node: node.to_owned(),
            generation: 1,
            use_key: true,
            knows,
        }))
    }

    /// Sends what it is until an answer comes, if one may.
    fn ask(&self, own: &PrivateKey, message: &Message) -> Option<Message> {
        let pair = Pair::new(own, &self.edge.public()).unwrap();
        let sealed = pair.seal(Nonce([9; 12]), message).unwrap();
        self.socket.send_to(&sealed, self.at).unwrap();
        let mut buffer = [0; 2048];
        let (length, _) = self.socket.recv_from(&mut buffer).ok()?;
        let (_, answer) = pair.open(&buffer[..length]).unwrap();
        assert_eq!(answer.answers, Some(Nonce([9; 12])));
        Some(answer)
    }

    /// The first answer of all.
    fn first(&mut self) -> Answer {
        let deadline = Instant::now() + SOON;
        loop {
            let probe = self.probe("n1", 0);
            match self.ask(&self.node.clone(), &probe).map(|answer| answer.body) {
                Some(Body::Answer(answer)) => return answer,
                Some(other) => panic!("{other:?}"),
                None => assert!(Instant::now() < deadline, "no answer"),
            }
        }
    }
}

#[test]
fn probes_are_answered_and_tell_who_lives() {
    let mut world = World::new(None);
    let answer = world.first();
    assert_eq!((answer.edge.as_str(), answer.incarnation, answer.drain), ("edge-1", 7, true));
    assert_eq!(answer.holds.as_ref().unwrap().vpn[&ObjectKey::new("a", "b")], 3);
    let again = world.probe("n1", answer.hash);
    let node = world.node.clone();
    let Body::Answer(second) = world.ask(&node, &again).unwrap().body else { panic!() };
    assert_eq!((second.holds, second.hash), (None, answer.hash));
    let found = world.findings.recv_timeout(SOON).unwrap();
    let found = if found["n1"].live { found } else { world.findings.recv_timeout(SOON).unwrap() };
    assert_eq!((found["n1"].live, found["n1"].path), (true, Some(Path::Direct)));
    // It falls silent.
    let lost = world.findings.recv_timeout(SOON).unwrap();
    assert!(!lost["n1"].live);
}

#[test]
fn what_is_repeated_or_anothers_is_not_answered() {
    let mut world = World::new(None);
    world.first();
    let node = world.node.clone();
    let probe = world.probe("n1", 0);
    assert!(world.ask(&node, &probe).is_some());
    assert!(world.ask(&node, &probe).is_none(), "a replayed probe is answered");
    let foreign = world.probe("n2", 0);
    assert!(world.ask(&node, &foreign).is_none(), "another node's name");
    let stranger = PrivateKey::new([8; 32]);
    let probe = world.probe("n1", 0);
    assert!(world.ask(&stranger, &probe).is_none(), "a key that nobody has");
    let [_, refused, replayed, _] = world.responder.counts();
    assert_eq!((refused, replayed), (2, 1));
}

#[test]
fn nothing_is_held_any_more_once_its_time_is_over() {
    let mut world = World::new(Some(Instant::now()));
    let answer = world.first();
    assert_eq!(answer.holds, Some(Holds::default()));
}

#[test]
fn letters_of_other_edges_are_handed_on() {
    let mut world = World::new(None);
    world.first();
    let other = world.other.clone();
    let letter = world.message(Body::PromiseAsked(b"hello".to_vec()));
    assert!(world.ask(&other, &letter).is_none());
    let got = world.letters.recv_timeout(SOON).unwrap();
    assert_eq!(got, ("edge-2".to_owned(), b"hello".to_vec()));
    let node = world.node.clone();
    let letter = world.message(Body::PromiseAsked(b"from a node".to_vec()));
    assert!(world.ask(&node, &letter).is_none());
    assert!(world.letters.try_recv().is_err(), "a node is no edge");
}

#[test]
fn who_is_behind_its_own_last_word_is_told_so_and_goes_on_from_there() {
    let mut world = World::new(None);
    world.first();
    let node = world.node.clone();
    // Its clock was far ahead, and was set back while it was started anew.
    let ahead = u64::try_from(Duration::from_secs(86_400).as_micros()).unwrap();
    world.sequence = ahead;
    let last = world.probe("n1", 0);
    assert!(world.ask(&node, &last).is_some());
    world.sequence = 7;
    let probe = world.probe("n1", 0);
    let answer = world.ask(&node, &probe).unwrap();
    assert_eq!(answer.body, Body::Behind(last.sequence));
    world.sequence = probe::caught_up(8, last.sequence, micros());
    let probe = world.probe("n1", 0);
    assert!(matches!(world.ask(&node, &probe).unwrap().body, Body::Answer(_)));
    // Nothing else follows from what is repeated: nobody is heard by it.
    let letter = world.message(Body::PromiseAsked(b"once".to_vec()));
    let other = world.other.clone();
    world.ask(&other, &letter);
    let repeated = Message { sequence: 1, ..letter };
    assert_eq!(world.ask(&other, &repeated).unwrap().body, Body::Behind(world.sequence));
    assert_eq!(world.letters.try_iter().count(), 1);
}
