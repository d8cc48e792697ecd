//! What doesn't come from the other end, or not as it sent it.

use std::net::SocketAddr;
use std::time::Duration;

use ipsec::ike::config::Settings;
use ipsec::ike::event::{Failure, State, Transmit};
use ipsec::ike::message::{
    Datagram, Exchange, Header, Message, Notify, Payload, notify, offer, read,
};
use ipsec::sa::Path;
use model::suite::Purpose;

use crate::pair::{Pair, connection, proposals};

const SECOND: Duration = Duration::from_secs(1);

fn up() -> Pair {
    let mut pair = Pair::new(connection(0), connection(1));
    pair.settle();
    pair.assert_up();
    pair
}

#[test]
fn replayed_messages_change_nothing() {
    let mut pair = up();
    let old: Vec<_> = pair.sent.clone();
    for round in 0..3 {
        for (by, one) in &old {
            pair.deliver(1 - by, one);
        }
        pair.pass(15 * SECOND);
        pair.assert_up();
        for end in 0..2 {
            assert_eq!(pair.ends[end].sas.len(), 1, "round {round}");
            assert_eq!(pair.status(end).ike.len(), 1);
            assert_eq!(pair.downs(end), []);
        }
    }
    assert!(pair.ends[0].engine.counters().out_of_window > 0);
}

#[test]
fn garbled_messages_are_counted_and_change_nothing() {
    let mut pair = Pair::new(connection(0), connection(1));
    let mut seed = 7_u32;
    pair.collect();
    let mut count = 0;
    // Before each sealed message come some that are like it but for one bit, or cut short.
    while let Some((to, one)) = pair.wire.pop_front() {
        let is_sealed = one.payload[18] != 34;
        for _ in 0..if is_sealed { 500 } else { 0 } {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let mut bad = one.clone();
            let at = (seed >> 8) as usize % bad.payload.len();
            if seed >> 31 == 0 {
                bad.payload[at] ^= 1 << (seed >> 5 & 7);
            } else {
                bad.payload.truncate(at);
            }
            pair.deliver(to, &bad);
            count += 1;
            // What is answered in the clear is lost.
            while pair.ends[to].engine.poll_transmit().is_some() {}
        }
        pair.deliver(to, &one);
        pair.collect();
    }
    assert!(count >= 1000);
    pair.assert_up();
    let counters = [0, 1].map(|end| pair.ends[end].engine.counters());
    assert!(counters.iter().all(|one| one.malformed > 0 && one.unauthentic > 0), "{counters:?}");
    pair.pass(12 * SECOND);
    pair.assert_up();
    assert_eq!(pair.downs(0), []);
    assert_eq!(pair.downs(1), []);
}

#[test]
fn garbled_messages_during_the_handshake_do_not_end_it() {
    let mut pair = Pair::new(connection(0), connection(1));
    let mut seed = 99_u32;
    // Half of all messages arrive with one bit changed.
    pair.filter = Box::new(move |_, one| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        if seed >> 31 == 0 {
            let at = (seed >> 8) as usize % one.payload.len();
            one.payload[at] ^= 1 << (seed >> 5 & 7);
        }
        true
    });
    pair.pass(Duration::from_secs(240));
    pair.filter = Box::new(|_, _| true);
    pair.pass(Duration::from_secs(120));
    pair.assert_up();
}

/// An IKE_SA_INIT request as an end without connections could send it.
fn request(spi: u64, cookie: Option<&[u8]>) -> Vec<u8> {
    let header = Header {
        initiator_spi: spi,
        responder_spi: 0,
        exchange: Exchange::SaInit,
        from_initiator: true,
        response: false,
        message_id: 0,
    };
    let mut payloads = Vec::new();
    if let Some(cookie) = cookie {
        payloads.push(Payload::Notify(Notify::new(notify::COOKIE, cookie.to_vec())));
    }
    let ours = proposals("aes256gcm16-prfsha384-x25519", Purpose::Ike);
    payloads.push(Payload::Sa(offer(&ours, Purpose::Ike, &[])));
    payloads.push(Payload::KeyExchange { group: 31, data: [9; 32].to_vec() });
    payloads.push(Payload::Nonce(spi.to_be_bytes().repeat(4)));
    Message { header, payloads }.encode()
}

fn from(source: SocketAddr, pair: &Pair) -> Path {
    Path { local: pair.ends[1].address, remote: source }
}

#[test]
fn a_flood_of_half_open_ones_leaves_what_is_there_alone() {
    let mut right = connection(1);
    right.remote.clear();
    let mut pair = Pair::new(connection(0), right);
    pair.settle();
    pair.assert_up();
    for second in 0..20_u32 {
        for one in 0..5000_u32 {
            let number = second * 5000 + one;
            let source = SocketAddr::from(([198, 18, (number >> 8) as u8, number as u8], 500));
            let path = from(source, &pair);
            let datagram = request(u64::from(number) + 1, None);
            pair.ends[1].engine.handle_datagram(pair.now, path, &datagram);
            while pair.ends[1].engine.poll_transmit().is_some() {}
        }
        pair.pass(SECOND);
    }
    pair.assert_up();
    let counters = pair.ends[1].engine.counters();
    assert!(counters.half_open <= 31, "{counters:?}");
    assert!(counters.cookies_sent > 99_000, "{counters:?}");
    assert_eq!(counters.established, 1);
    assert_eq!(pair.downs(0), []);
    assert_eq!(pair.downs(1), []);
    assert_eq!(pair.ends[1].sas.len(), 1);
    // Somebody who gets what is sent to him comes in nevertheless.
    pair.configure(0, connection(0));
    let mut again = connection(0);
    again.local_id = connection(0).local_id;
    again.replay_window = 64;
    pair.configure(0, again);
    pair.pass(SECOND);
    pair.assert_up();
    // What is not finished is forgotten.
    pair.pass(Duration::from_secs(40));
    assert_eq!(pair.ends[1].engine.counters().half_open, 0);
}

#[test]
fn one_source_cannot_take_all_places() {
    let mut pair = Pair::new(connection(0), connection(1));
    let source = pair.ends[0].address;
    let path = from(source, &pair);
    let mut cookies = 0;
    for number in 1..=50_u64 {
        pair.ends[1].engine.handle_datagram(pair.now, path, &request(number, None));
        while let Some(Transmit { payload, .. }) = pair.ends[1].engine.poll_transmit() {
            let Ok(Datagram::Clear(message)) = read(&payload) else { panic!("unreadable") };
            let cookie = message.payloads.iter().find_map(|payload| match payload {
                Payload::Notify(one) if one.kind == notify::COOKIE => Some(one.data.clone()),
                _ => None,
            });
            if let Some(cookie) = cookie {
                cookies += 1;
                let again = request(number, Some(&cookie));
                pair.ends[1].engine.handle_datagram(pair.now, path, &again);
            }
        }
    }
    let counters = pair.ends[1].engine.counters();
    assert_eq!(counters.half_open, 10);
    assert!(cookies > 0 && counters.limited > 0);
}

#[test]
fn a_wrong_cookie_is_counted_and_answered_with_a_right_one() {
    let settings = Settings { cookie_threshold: 0, ..Settings::default() };
    let mut pair = Pair::with(settings, connection(0), connection(1));
    let path = from(pair.ends[0].address, &pair);
    pair.ends[1].engine.handle_datagram(pair.now, path, &request(1, Some(&[0; 33])));
    let counters = pair.ends[1].engine.counters();
    assert_eq!((counters.cookies_wrong, counters.cookies_sent, counters.half_open), (1, 1, 0));
}

#[test]
fn a_message_for_nobody_is_refused_in_the_clear() {
    let mut pair = up();
    let (_, last) = pair.sent.last().cloned().unwrap();
    let mut strange = last.clone();
    strange.payload[3] ^= 1;
    strange.payload[19] = 0x08;
    let path = from(pair.ends[0].address, &pair);
    pair.ends[1].engine.handle_datagram(pair.now, path, &strange.payload);
    let Some(Transmit { payload, .. }) = pair.ends[1].engine.poll_transmit() else {
        panic!("not answered");
    };
    let Ok(Datagram::Clear(message)) = read(&payload) else { panic!("unreadable") };
    assert!(matches!(
        &message.payloads[..],
        [Payload::Notify(Notify { kind: notify::INVALID_IKE_SPI, .. })]
    ));
    assert_eq!(pair.ends[1].engine.counters().unknown_spi, 1);
    // Not more than some in a second.
    for _ in 0..1000 {
        pair.ends[1].engine.handle_datagram(pair.now, path, &strange.payload);
    }
    let mut answers = 0;
    while pair.ends[1].engine.poll_transmit().is_some() {
        answers += 1;
    }
    assert!(answers <= 100, "{answers}");
    pair.assert_up();
}

#[test]
fn a_forged_unknown_spi_only_asks_for_a_sign_of_life() {
    let mut pair = up();
    pair.pass(5 * SECOND);
    let (_, last) = pair.sent.last().cloned().unwrap();
    let Ok(datagram) = read(&last.payload) else { panic!("unreadable") };
    let header = Header { response: true, ..*datagram.header() };
    let refusal = Message {
        header,
        payloads: vec![Payload::Notify(Notify::new(notify::INVALID_IKE_SPI, Vec::new()))],
    };
    let path = Path { local: pair.ends[0].address, remote: pair.ends[1].address };
    let before = pair.sent.len();
    pair.ends[0].engine.handle_datagram(pair.now, path, &refusal.encode());
    pair.settle();
    assert_eq!(pair.sent.len(), before + 2, "asked and answered");
    pair.assert_up();
}

#[test]
fn ikev1_is_told_once_and_answered() {
    let mut pair = Pair::new(connection(0), connection(1));
    pair.settle();
    let mut old = request(7, None);
    old[17] = 0x10;
    old[18] = 2;
    let path = from(pair.ends[0].address, &pair);
    for _ in 0..3 {
        pair.ends[1].engine.handle_datagram(pair.now, path, &old);
    }
    pair.settle();
    assert_eq!(pair.failures(1), [Failure::OldVersion]);
    assert_eq!(pair.ends[1].engine.counters().old_version, 3);
    let (_, answer) = pair.sent.last().unwrap();
    let Ok(Datagram::Clear(message)) = read(&answer.payload) else { panic!("unreadable") };
    assert!(matches!(
        &message.payloads[..],
        [Payload::Notify(Notify { kind: notify::INVALID_MAJOR_VERSION, .. })]
    ));
    pair.assert_up();
}

#[test]
fn somebody_without_a_connection_is_refused() {
    let mut pair = up();
    let path = from(([203, 0, 113, 9], 500).into(), &pair);
    pair.ends[1].engine.handle_datagram(pair.now, path, &request(7, None));
    let Some(Transmit { payload, .. }) = pair.ends[1].engine.poll_transmit() else {
        panic!("not answered");
    };
    let Ok(Datagram::Clear(message)) = read(&payload) else { panic!("unreadable") };
    assert!(matches!(
        &message.payloads[..],
        [Payload::Notify(Notify { kind: notify::NO_PROPOSAL_CHOSEN, .. })]
    ));
    assert_eq!(pair.ends[1].engine.counters().unknown_peer, 1);
    assert_eq!(pair.state(1), State::Up);
}
