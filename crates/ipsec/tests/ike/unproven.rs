//! Who has not proven to be anybody gets nothing and changes nothing; who has gets its share.

use std::net::SocketAddr;
use std::time::Duration;

use ipsec::crypto::kex::KeyExchange;
use ipsec::crypto::keys::IkeKeys;
use ipsec::ike::config::{Connection, Settings};
use ipsec::ike::event::{DownReason, Event, Failure, State};
use ipsec::ike::message::{Exchange, Message, Notify, Payload, WireProposal, notify, offer};
use model::suite::{Group, Purpose};

use crate::forger::{Forger, clear, sent};
use crate::pair::{NAME, Pair, connection, id, proposals};

const KEY: &[u8] = b"a long and random key";
const SECOND: Duration = Duration::from_secs(1);

/// Left alone, which takes anyone who has the key.
fn left() -> Pair {
    let mut pair = Pair::idle(Settings::default());
    pair.configure(0, Connection { remote_id: None, ..connection(0) });
    pair
}

/// Right, which waits, and where a forger comes from.
fn right(connection: Connection) -> (Pair, (SocketAddr, SocketAddr)) {
    let mut pair = Pair::idle(Settings::default());
    pair.configure(1, connection);
    let addresses = (pair.ends[1].address, pair.ends[0].address);
    (pair, addresses)
}

fn error(kind: u16) -> Payload {
    Payload::Notify(Notify::new(kind, Vec::new()))
}

fn has(payloads: &[Payload], kind: u16) -> bool {
    payloads.iter().any(|one| matches!(one, Payload::Notify(notify) if notify.kind == kind))
}

fn is_nobody_there(pair: &mut Pair, end: usize) {
    pair.collect();
    assert_eq!(pair.ends[end].engine.counters().established, 0);
    assert!(pair.ends[end].sas.is_empty());
    let up = pair.ends[end].events.iter().any(|event| matches!(event, Event::IkeUp { .. }));
    assert!(!up);
}

#[test]
fn a_proof_that_is_sent_back_is_none() {
    let mut pair = left();
    let engine = &mut pair.ends[0].engine;
    let mut forger = Forger::responds(engine, pair.now);
    let ours = forger.open(&sent(engine).remove(0));
    assert!(ours.iter().any(|one| matches!(one, Payload::Auth(..))));
    // As a request of the responder, under the initiator's own identity.
    let answer = forger.asks(engine, Exchange::Auth, &ours);
    is_nobody_there(&mut pair, 0);
    assert!(has(&answer, notify::INVALID_SYNTAX), "{answer:?}");
    // As the response.
    let theirs: Vec<_> = ours
        .into_iter()
        .map(|payload| match payload {
            Payload::IdInitiator(id) => Payload::IdResponder(id),
            other => other,
        })
        .collect();
    forger.answers(&mut pair.ends[0].engine, Exchange::Auth, 1, &theirs);
    is_nobody_there(&mut pair, 0);
    assert!(matches!(pair.failures(0)[..], [Failure::BadProof { .. }]), "{:?}", pair.failures(0));
}

#[test]
fn an_end_does_not_believe_itself() {
    let mut pair = left();
    for _ in 0..20 {
        while let Some(one) = pair.ends[0].engine.poll_transmit() {
            // Back to where it came from, as if the other end had sent it.
            pair.ends[0].engine.handle_datagram(pair.now, one.path, &one.payload);
        }
    }
    is_nobody_there(&mut pair, 0);
    assert_eq!(pair.ends[0].engine.counters().half_open, 0);
}

#[test]
fn an_initiator_that_does_not_believe_the_proof_may_say_only_that() {
    let (mut pair, addresses) = right(connection(1));
    let engine = &mut pair.ends[1].engine;
    let mut forger = Forger::begins(engine, pair.now, addresses, 1, &[]);
    let left = id("left.example");
    let proof = forger.auth(KEY, &left);
    let answer = forger.asks(engine, Exchange::Auth, &[Payload::IdInitiator(left), proof]);
    assert!(answer.iter().any(|one| matches!(one, Payload::Auth(..))), "{answer:?}");
    assert_eq!(engine.counters().established, 1);
    let refusal = [error(notify::AUTHENTICATION_FAILED)];
    forger.asks(engine, Exchange::Informational, &refusal);
    assert_eq!(engine.counters().established, 0);
    pair.collect();
    assert_eq!(pair.downs(1), [DownReason::Peer]);
}

#[test]
fn only_the_handshake_is_to_be_had_before_the_proof() {
    let (mut pair, addresses) = right(Connection { mobike: true, ..connection(1) });
    let engine = &mut pair.ends[1].engine;
    let mut forger = Forger::begins(engine, pair.now, addresses, 1, &[]);
    let mut child = forger.child(0x1234, "10.1.0.0/16", "10.2.0.0/16");
    child.push(Payload::Nonce(vec![3; 32]));
    for exchange in [Exchange::CreateChildSa, Exchange::FollowupKe] {
        let answer = forger.asks(engine, exchange, &child);
        assert!(has(&answer, notify::INVALID_SYNTAX), "{exchange}: {answer:?}");
    }
    let mut all = child.clone();
    all.extend([
        error(notify::UPDATE_SA_ADDRESSES),
        error(notify::INITIAL_CONTACT),
        Payload::Delete { protocol: 3, spis: vec![0x1234] },
    ]);
    assert_eq!(forger.asks(engine, Exchange::Informational, &all), []);
    is_nobody_there(&mut pair, 1);
}

#[test]
fn no_proof_but_the_right_one_is_believed() {
    let left = id("left.example");
    type Proof = fn(&Forger) -> Vec<Payload>;
    let proofs: [(&str, Proof); 8] = [
        ("none", |_| vec![Payload::IdInitiator(id("left.example"))]),
        ("no identity", |forger| vec![forger.auth(KEY, &id("left.example"))]),
        ("another key", |forger| {
            let left = id("left.example");
            let auth = forger.auth(b"another key", &left);
            vec![Payload::IdInitiator(left), auth]
        }),
        ("another identity's", |forger| {
            let auth = forger.auth(KEY, &id("other.example"));
            vec![Payload::IdInitiator(id("left.example")), auth]
        }),
        ("nobody's identity", |forger| {
            let other = id("other.example");
            let auth = forger.auth(KEY, &other);
            vec![Payload::IdInitiator(other), auth]
        }),
        ("empty", |_| vec![Payload::IdInitiator(id("left.example")), Payload::Auth(2, Vec::new())]),
        ("a signature", |_| {
            vec![Payload::IdInitiator(id("left.example")), Payload::Auth(14, vec![0; 64])]
        }),
        ("method null", |forger| {
            let left = id("left.example");
            let Payload::Auth(_, data) = forger.auth(KEY, &left) else { panic!() };
            vec![Payload::IdInitiator(left), Payload::Auth(13, data)]
        }),
    ];
    // Somebody is there, whom INITIAL_CONTACT would end.
    let mut pair = Pair::new(connection(0), connection(1));
    pair.settle();
    pair.assert_up();
    let addresses = (pair.ends[1].address, pair.ends[0].address);
    for (number, (name, proof)) in proofs.into_iter().enumerate() {
        let engine = &mut pair.ends[1].engine;
        let mut forger = Forger::begins(engine, pair.now, addresses, number as u64 + 1, &[]);
        let mut payloads = proof(&forger);
        payloads.push(error(notify::INITIAL_CONTACT));
        payloads.extend(forger.child(0x1234, "10.1.0.0/16", "10.2.0.0/16"));
        let answer = forger.asks(engine, Exchange::Auth, &payloads);
        assert_eq!(answer, [error(notify::AUTHENTICATION_FAILED)], "{name}");
        pair.settle();
        assert_eq!(pair.downs(1), [], "{name}");
        pair.assert_up();
    }
    assert_eq!(pair.status(1).ike.len(), 1);
    assert_eq!(pair.status(1).ike[0].remote_id, Some(left));
}

#[test]
fn additional_key_exchanges_cannot_be_left_out() {
    let both = "aes256gcm16-prfsha384-x25519-ke1_mlkem768";
    let (mut pair, addresses) =
        right(Connection { proposals: proposals(both, Purpose::Ike), ..connection(1) });
    let ours = |text| vec![Payload::Sa(offer(&proposals(text, Purpose::Ike), Purpose::Ike, &[]))];
    // Not offered at all.
    let (_, public) = KeyExchange::begin(Group::X25519).unwrap();
    let header = ipsec::ike::message::Header {
        initiator_spi: 1,
        responder_spi: 0,
        exchange: Exchange::SaInit,
        from_initiator: true,
        response: false,
        message_id: 0,
    };
    for text in ["aes256gcm16-prfsha384-x25519", both] {
        let mut payloads = ours(text);
        payloads.push(Payload::KeyExchange { group: 31, data: public.clone() });
        payloads.push(Payload::Nonce(vec![1; 32]));
        // Without INTERMEDIATE_EXCHANGE_SUPPORTED.
        let request = Message { header, payloads }.encode();
        let path = ipsec::sa::Path { local: addresses.0, remote: addresses.1 };
        pair.ends[1].engine.handle_datagram(pair.now, path, &request);
        let answer = clear(&sent(&mut pair.ends[1].engine)[0]);
        assert!(has(&answer.payloads, notify::NO_PROPOSAL_CHOSEN), "{text}: {answer:?}");
    }
}

#[test]
fn a_forged_wish_for_another_key_exchange_is_forgotten() {
    let text = "aes256gcm16-prfsha384-x25519-ecp256";
    let mut pair = Pair::idle(Settings::default());
    pair.configure(0, Connection { proposals: proposals(text, Purpose::Ike), ..connection(0) });
    let group = |octets: &[u8]| {
        clear(octets).payloads.iter().find_map(|payload| match payload {
            Payload::KeyExchange { group, .. } => Some(*group),
            _ => None,
        })
    };
    let engine = &mut pair.ends[0].engine;
    let first = engine.poll_transmit().unwrap();
    assert_eq!(group(&first.payload), Some(31));
    let mut header = clear(&first.payload).header;
    (header.from_initiator, header.response) = (false, true);
    let wish = Notify::new(notify::INVALID_KE_PAYLOAD, vec![0, 19]);
    let forged = Message { header, payloads: vec![Payload::Notify(wish)] }.encode();
    for _ in 0..5 {
        engine.handle_datagram(pair.now, first.path, &forged);
    }
    let second = sent(engine);
    assert_eq!(second.len(), 1, "asked once more and not in a circle");
    assert_eq!(group(&second[0]), Some(19));
    pair.filter = Box::new(|_, _| false);
    pair.pass(120 * SECOND);
    let groups: Vec<_> = pair.sent.iter().filter_map(|(_, one)| group(&one.payload)).collect();
    assert_eq!(groups.last(), Some(&31), "{groups:?}");
}

#[test]
fn nonsense_in_the_key_exchange_makes_cookies_wanted() {
    let (mut pair, addresses) = right(connection(1));
    let mut cookies = 0;
    for spi in 1..=200 {
        let header = ipsec::ike::message::Header {
            initiator_spi: spi,
            responder_spi: 0,
            exchange: Exchange::SaInit,
            from_initiator: true,
            response: false,
            message_id: 0,
        };
        let ours = proposals("aes256gcm16-prfsha384-x25519", Purpose::Ike);
        let payloads = vec![
            Payload::Sa(offer(&ours, Purpose::Ike, &[])),
            Payload::KeyExchange { group: 31, data: vec![0; 32] },
            Payload::Nonce(vec![1; 32]),
        ];
        let request = Message { header, payloads }.encode();
        let path = ipsec::sa::Path { local: addresses.0, remote: addresses.1 };
        pair.ends[1].engine.handle_datagram(pair.now, path, &request);
        let answer = clear(&sent(&mut pair.ends[1].engine)[0]);
        cookies += usize::from(has(&answer.payloads, notify::COOKIE));
    }
    assert!(cookies > 180, "{cookies}");
    // Who gets them comes in, and later without.
    pair.configure(0, connection(0));
    pair.settle();
    pair.assert_up();
    let before = pair.ends[1].engine.counters().cookies_sent;
    pair.pass(15 * SECOND);
    pair.configure(0, Connection { replay_window: 64, ..connection(0) });
    pair.pass(SECOND);
    pair.assert_up();
    assert_eq!(pair.ends[1].engine.counters().cookies_sent, before);
}

#[test]
fn long_lists_of_what_nobody_has_make_cookies_wanted() {
    let mut pair = Pair::idle(Settings::default());
    let many = (0..1000).map(|number| {
        let name = format!("test/{number}");
        let one = Connection { name: (*name).into(), remote: Vec::new(), ..connection(1) };
        (one.name.clone(), std::sync::Arc::new(one))
    });
    pair.ends[1].engine.configure(pair.now, many.collect());
    let mut wire =
        offer(&proposals("aes128gcm16-prfsha256-ecp256", Purpose::Ike), Purpose::Ike, &[]);
    let one = wire[0].transforms[0];
    wire[0].transforms.extend(std::iter::repeat_n(one, 240));
    let one = wire.remove(0);
    let wire: Vec<_> = (1..=20).map(|number| WireProposal { number, ..one.clone() }).collect();
    let mut cookies = 0;
    for spi in 1..=200 {
        let header = ipsec::ike::message::Header {
            initiator_spi: spi,
            responder_spi: 0,
            exchange: Exchange::SaInit,
            from_initiator: true,
            response: false,
            message_id: 0,
        };
        let payloads = vec![
            Payload::Sa(wire.clone()),
            Payload::KeyExchange { group: 19, data: vec![0; 64] },
            Payload::Nonce(vec![1; 32]),
        ];
        let request = Message { header, payloads }.encode();
        let path = ipsec::sa::Path { local: pair.ends[1].address, remote: pair.ends[0].address };
        pair.ends[1].engine.handle_datagram(pair.now, path, &request);
        let answer = clear(&sent(&mut pair.ends[1].engine)[0]);
        cookies += usize::from(has(&answer.payloads, notify::COOKIE));
    }
    assert!(cookies > 180, "{cookies}");
}

#[test]
fn a_copied_request_does_not_make_a_flood_of_answers() {
    let mut pair = Pair::new(connection(0), connection(1));
    pair.collect();
    let (to, first) = pair.wire[0].clone();
    for _ in 0..1000 {
        pair.deliver(to, &first);
    }
    let answers = sent(&mut pair.ends[1].engine).len();
    assert!((10..=40).contains(&answers), "{answers}");
    let mut pair = Pair::new(connection(0), connection(1));
    pair.settle();
    pair.assert_up();
    let last = pair.sent.iter().rfind(|(by, _)| *by == 0).unwrap().1.clone();
    for _ in 0..1000 {
        pair.deliver(1, &last);
    }
    let answers = sent(&mut pair.ends[1].engine).len();
    assert!((10..=40).contains(&answers), "{answers}");
}

#[test]
fn who_authenticates_again_and_again_gets_its_share() {
    let (mut pair, addresses) = right(connection(1));
    let left = id("left.example");
    for spi in 1..=30 {
        let engine = &mut pair.ends[1].engine;
        let mut forger = Forger::begins(engine, pair.now, addresses, spi, &[]);
        let mut payloads = vec![Payload::IdInitiator(left.clone()), forger.auth(KEY, &left)];
        payloads.extend(forger.child(0x1000 + spi as u32, "10.1.0.0/16", "10.2.0.0/16"));
        let answer = forger.asks(engine, Exchange::Auth, &payloads);
        assert!(answer.iter().any(|one| matches!(one, Payload::Auth(..))), "{answer:?}");
    }
    assert!(pair.ends[1].engine.counters().established <= 8);
    assert_eq!(pair.state(1), State::Up);
}

#[test]
fn who_rekeys_again_and_again_and_deletes_nothing_has_to_wait() {
    let (mut pair, addresses) = right(connection(1));
    let left = id("left.example");
    let engine = &mut pair.ends[1].engine;
    let mut forger = Forger::begins(engine, pair.now, addresses, 1, &[]);
    let payloads = [Payload::IdInitiator(left.clone()), forger.auth(KEY, &left)];
    forger.asks(engine, Exchange::Auth, &payloads);
    let mut made = 0;
    for spi_i in 100..140_u64 {
        let (exchange, data) = KeyExchange::begin(Group::X25519).unwrap();
        let ours = proposals("aes256gcm16-prfsha384-x25519", Purpose::Ike);
        let ni = vec![spi_i as u8; 32];
        let payloads = [
            Payload::Sa(offer(&ours, Purpose::Ike, &spi_i.to_be_bytes())),
            Payload::Nonce(ni.clone()),
            Payload::KeyExchange { group: 31, data },
        ];
        let answer = forger.asks(engine, Exchange::CreateChildSa, &payloads);
        if has(&answer, notify::TEMPORARY_FAILURE) {
            continue;
        }
        let mut spi_r = 0;
        let (mut nr, mut shared, mut exchange) = (Vec::new(), None, Some(exchange));
        for payload in answer {
            match payload {
                Payload::Sa(wire) => {
                    spi_r = u64::from_be_bytes(wire[0].spi.clone().try_into().unwrap());
                }
                Payload::Nonce(nonce) => nr = nonce,
                Payload::KeyExchange { data, .. } => {
                    shared = exchange.take().unwrap().finish(&data).ok();
                }
                _ => {}
            }
        }
        let (prf, sk_d) = (forger.suite.prf[0], forger.keys.sk_d.clone());
        forger.keys =
            IkeKeys::rekey(&forger.suite, prf, &sk_d, &shared.unwrap(), &ni, &nr, spi_i, spi_r)
                .unwrap();
        forger.spis = (spi_i, spi_r);
        forger.next = 0;
        made += 1;
    }
    assert!((2..=8).contains(&made), "{made}");
    assert_eq!(pair.ends[1].engine.counters().established, 1);
    assert_eq!(&*pair.status(1).name, NAME);
}

#[test]
fn a_message_with_a_changed_source_does_not_take_the_connection_away() {
    let both = [0, 1].map(|end| Connection { mobike: true, ..connection(end) });
    let [left, mut right] = both;
    // Nothing else comes from there that would set it right at once.
    right.dpd_delay = Duration::from_secs(3600);
    let mut pair = Pair::new(left, right);
    pair.settle();
    pair.assert_up();
    let elsewhere = SocketAddr::from(([203, 0, 113, 66], 4500));
    let mut is_first = true;
    pair.filter = Box::new(move |by, one| {
        if by == 1 && std::mem::take(&mut is_first) {
            // What right sends comes from somebody else's address.
            one.path.local = elsewhere;
        }
        by == 1 || one.path.remote != elsewhere
    });
    pair.pass(11 * SECOND);
    assert_eq!(pair.status(0).ike[0].path.remote, elsewhere, "it has followed");
    pair.pass(40 * SECOND);
    assert_eq!(pair.status(0).ike[0].path.remote.ip(), pair.ends[1].address.ip());
    assert_eq!((pair.downs(0), pair.downs(1)), (Vec::new(), Vec::new()));
    pair.assert_up();
}
