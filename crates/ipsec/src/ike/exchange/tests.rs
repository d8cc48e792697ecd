//! An other end that has proven itself and then sends nonsense: nothing of it may make this end
//! panic, leak SPIs or lose count of what the data path has.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use model::suite::{Encryption, Esn, Group, Prf, Proposal, Purpose};

use super::*;
use crate::crypto::rng::SeededRng;
use crate::ike::config::{Auth, Child, Close, Connection, Settings, Start};
use crate::ike::event::{Command, Event, Rekey};
use crate::ike::followup::Work;
use crate::ike::identity::Identity;
use crate::ike::message::{self, Header};
use crate::sa::{ChildSaId, Spi};
use crate::selector::TrafficSelector;

fn proposal(groups: &[Group], additional: &[Group]) -> Proposal {
    Proposal {
        encryption: vec![Encryption::Aes128Gcm16],
        prf: vec![Prf::HmacSha256],
        groups: groups.to_vec(),
        additional: additional.iter().map(|group| vec![*group]).collect(),
        esn: vec![Esn::Yes, Esn::No],
        ..Proposal::default()
    }
}

fn selectors(text: &str) -> Vec<TrafficSelector> {
    vec![TrafficSelector::network(text.parse().unwrap())]
}

fn engine(end: usize, now: Instant, seed: u64, additional: &[Group]) -> Engine {
    let addresses: [IpAddr; 2] = ["10.0.0.1".parse().unwrap(), "10.0.0.2".parse().unwrap()];
    let ids = ["a.example", "b.example"];
    let networks = ["10.1.0.0/16", "10.2.0.0/16"];
    let child = |number: u8| Child {
        name: format!("child{number}").into(),
        local: selectors(networks[end]),
        remote: selectors(networks[1 - end]),
        proposals: vec![
            Proposal { prf: Vec::new(), ..proposal(&[Group::X25519], additional) },
            Proposal { prf: Vec::new(), ..proposal(&[], &[]) },
        ],
        lifetime: Duration::from_secs(3600),
    };
    let connection = Connection {
        name: "ns/c".into(),
        local: Some(addresses[end]),
        remote: vec![SocketAddr::new(addresses[1 - end], 500)],
        local_id: Identity::parse(ids[end]).unwrap(),
        remote_id: Some(Identity::parse(ids[1 - end]).unwrap()),
        auth: Auth::Psk(Arc::new(b"a key that is long enough for it".to_vec().into())),
        ppk: None,
        proposals: vec![proposal(&[Group::X25519], additional)],
        children: vec![child(0), child(1)],
        start: if end == 0 { Start::Now } else { Start::Wait },
        dpd_delay: Duration::from_secs(30),
        dpd_timeout: Duration::from_secs(120),
        dpd_action: Close::Clear,
        close_action: Close::Restart,
        ike_lifetime: Duration::from_secs(4 * 3600),
        reauthentication: false,
        force_udp: false,
        fragmentation: true,
        mobike: true,
        childless: false,
        replay_window: 64,
    };
    let rng = Box::new(SeededRng::new(seed * 2 + end as u64));
    let mut engine = Engine::new(Settings::default(), rng, (now, Duration::ZERO));
    engine.configure(now, [(connection.name.clone(), Arc::new(connection))].into());
    engine
}

/// Lets both talk until neither has anything to say.
fn talk(now: Instant, engines: &mut [Engine; 2]) {
    loop {
        let mut is_quiet = true;
        for end in 0..2 {
            while let Some(transmit) = engines[end].poll_transmit() {
                is_quiet = false;
                let path = Path { local: transmit.path.remote, remote: transmit.path.local };
                engines[1 - end].handle_datagram(now, path, &transmit.payload);
            }
        }
        if is_quiet {
            return;
        }
    }
}

/// Payloads of all sorts, some of which mean something here.
fn soup(random: &mut fastrand::Rng, engine: &Engine, links: &[Vec<u8>]) -> Vec<Payload> {
    let children: Vec<_> = engine.sas.values().flat_map(|sa| &sa.children).collect();
    let some_spi = |random: &mut fastrand::Rng, outbound: bool| match random.choice(&children) {
        Some(child) if random.u8(0..4) > 0 => {
            if outbound {
                child.sa.outbound_spi.get()
            } else {
                child.sa.inbound_spi.get()
            }
        }
        _ => random.u32(..),
    };
    let octets = |random: &mut fastrand::Rng, most: usize| -> Vec<u8> {
        let length = random.usize(0..=most);
        std::iter::repeat_with(|| random.u8(..)).take(length).collect()
    };
    let mut payloads = Vec::new();
    for _ in 0..random.usize(0..9) {
        payloads.push(match random.u8(0..16) {
            0..=2 => {
                let (purpose, length) = match random.u8(0..4) {
                    0 => (Purpose::Ike, 8),
                    _ => (Purpose::Esp, 4),
                };
                let mut spi = octets(random, 9);
                if random.u8(0..5) > 0 {
                    spi = std::iter::repeat_with(|| random.u8(..)).take(length).collect();
                }
                let ours = proposal(
                    if random.bool() { &[Group::X25519, Group::P256] } else { &[] },
                    if random.bool() { &[Group::MlKem768] } else { &[] },
                );
                let mut wire = message::offer(&[ours], purpose, &spi);
                if random.u8(0..4) == 0 {
                    wire.extend(wire.clone());
                }
                if let (0, Some(one)) = (random.u8(0..6), wire.first_mut()) {
                    one.transforms.truncate(random.usize(0..4));
                    one.number = random.u8(..);
                }
                Payload::Sa(wire)
            }
            3..=4 => Payload::Nonce(vec![random.u8(..); random.usize(14..40)]),
            5..=6 => Payload::KeyExchange {
                group: *random.choice(&[31, 19, 36, 2, 0, 40000]).unwrap(),
                data: match random.u8(0..3) {
                    0 => octets(random, 1300),
                    _ => std::iter::repeat_with(|| random.u8(..)).take(32).collect(),
                },
            },
            7..=8 => {
                let text = *random.choice(&["10.1.0.0/16", "10.2.0.0/16", "0.0.0.0/0"]).unwrap();
                let mut both = selectors(text);
                if random.u8(0..8) == 0 {
                    both.clear();
                }
                if random.bool() { Payload::TsInitiator(both) } else { Payload::TsResponder(both) }
            }
            9 => Payload::Notify(Notify {
                protocol: 3,
                kind: notify::REKEY_SA,
                spi: some_spi(random, true).to_be_bytes()[..random.usize(3..5)].to_vec(),
                data: Vec::new(),
            }),
            10 => Payload::Delete {
                protocol: if random.u8(0..40) == 0 { 1 } else { 3 },
                spis: (0..random.usize(0..5)).map(|_| some_spi(random, true)).collect(),
            },
            11 => Payload::Notify(Notify::new(
                notify::ADDITIONAL_KEY_EXCHANGE,
                random.choice(links).cloned().unwrap_or_else(|| octets(random, 9)),
            )),
            12 => {
                let kind = *random
                    .choice(&[
                        notify::UPDATE_SA_ADDRESSES,
                        notify::COOKIE2,
                        notify::NAT_DETECTION_SOURCE_IP,
                        notify::NAT_DETECTION_DESTINATION_IP,
                        notify::ADDITIONAL_IP4_ADDRESS,
                        notify::ADDITIONAL_IP6_ADDRESS,
                        notify::NO_ADDITIONAL_ADDRESSES,
                        notify::INITIAL_CONTACT,
                        notify::SET_WINDOW_SIZE,
                    ])
                    .unwrap();
                Payload::Notify(Notify::new(kind, octets(random, 24)))
            }
            13 if random.u8(0..3) == 0 => {
                let kind = *random
                    .choice(&[
                        notify::INVALID_KE_PAYLOAD,
                        notify::TEMPORARY_FAILURE,
                        notify::CHILD_SA_NOT_FOUND,
                        notify::NO_PROPOSAL_CHOSEN,
                        notify::TS_UNACCEPTABLE,
                        notify::STATE_NOT_FOUND,
                        notify::NO_ADDITIONAL_SAS,
                        notify::UNACCEPTABLE_ADDRESSES,
                    ])
                    .unwrap();
                let data = if random.bool() { vec![0, 19] } else { octets(random, 3) };
                Payload::Notify(Notify::new(kind, data))
            }
            14 => Payload::Other(random.u8(..), octets(random, 20)),
            _ => Payload::VendorId(octets(random, 20)),
        });
    }
    payloads
}

/// What an end in its right mind would send for a child SA or an IKE SA, often with a fault in it.
fn sensible(
    random: &mut fastrand::Rng,
    engine: &Engine,
    additional: &[Group],
    links: &[Vec<u8>],
    is_response: bool,
) -> Vec<Payload> {
    let nonce = std::iter::repeat_with(|| random.u8(..)).take(32).collect();
    let public = std::iter::repeat_with(|| random.u8(..)).take(32).collect();
    let is_ike = random.u8(0..5) == 0;
    let with_exchange = is_ike || random.bool();
    let groups: &[Group] = if with_exchange { &[Group::X25519] } else { &[] };
    let more = if with_exchange { additional } else { &[] };
    let purpose = if is_ike { Purpose::Ike } else { Purpose::Esp };
    let spi: Vec<u8> =
        std::iter::repeat_with(|| random.u8(..)).take(if is_ike { 8 } else { 4 }).collect();
    let mut wire = message::offer(&[proposal(groups, more)], purpose, &spi);
    if let Some(one) = wire.first_mut() {
        // The answer has one of each kind, and may be our second proposal.
        let mut seen = BTreeSet::new();
        one.transforms.retain(|transform| !is_response || seen.insert(transform.kind));
        if is_response && !with_exchange {
            one.number = 2;
        }
    }
    let mut payloads = vec![Payload::Sa(wire), Payload::Nonce(nonce)];
    if with_exchange {
        payloads.push(Payload::KeyExchange { group: 31, data: public });
    }
    if !is_ike {
        let (own, other) = (selectors("10.1.0.0/16"), selectors("10.2.0.0/16"));
        let (initiator, responder) = if is_response { (own, other) } else { (other, own) };
        payloads.push(Payload::TsInitiator(initiator));
        payloads.push(Payload::TsResponder(responder));
    }
    let children: Vec<_> = engine.sas.values().flat_map(|sa| &sa.children).collect();
    if let (Some(child), false, true) = (random.choice(&children), is_response, random.bool()) {
        payloads.push(Payload::Notify(Notify {
            protocol: 3,
            kind: notify::REKEY_SA,
            spi: child.sa.outbound_spi.get().to_be_bytes().to_vec(),
            data: Vec::new(),
        }));
    }
    if is_response && random.bool() {
        payloads.push(Payload::Notify(Notify::new(notify::ADDITIONAL_KEY_EXCHANGE, vec![1, 2])));
    }
    for _ in 0..random.usize(0..8).saturating_sub(5) {
        if random.bool() {
            payloads.extend(soup(random, engine, links).pop());
        } else if !payloads.is_empty() {
            payloads.swap_remove(random.usize(0..payloads.len()));
        }
    }
    payloads
}

/// What the data path believes is there.
#[derive(Default)]
struct Known {
    installed: BTreeSet<ChildSaId>,
}

impl Known {
    fn learn(&mut self, engine: &mut Engine) {
        while let Some(event) = engine.poll_event() {
            match event {
                Event::ChildInstall { sa, .. } => assert!(self.installed.insert(sa.id)),
                Event::ChildRemove { sa, .. } => assert!(self.installed.remove(&sa)),
                Event::ChildSend { sa } => assert!(self.installed.contains(&sa)),
                _ => {}
            }
        }
        let children = engine.sas.values().flat_map(|sa| &sa.children);
        let children: BTreeSet<_> = children.map(|child| child.sa.id).collect();
        assert_eq!(self.installed, children);
        assert_eq!(engine.by_child.len(), children.len());
    }
}

/// The SPIs that something still stands for.
fn spis(engine: &Engine) -> BTreeSet<Spi> {
    let mut all = BTreeSet::new();
    let of_work = |work: &Work| work.inbound_spi();
    for sa in engine.sas.values() {
        all.extend(sa.children.iter().map(|child| child.sa.inbound_spi));
        all.extend(sa.upkeep.half_done.as_ref().and_then(|half| of_work(&half.work)));
        match sa.pending.as_ref().map(|pending| &pending.ongoing) {
            Some(Ongoing::CreateChild(waiting)) => {
                all.insert(waiting.spi);
            }
            Some(Ongoing::FollowupKe(waiting)) => all.extend(of_work(&waiting.work)),
            Some(Ongoing::Auth(waiting)) => all.extend(waiting.offered_spi()),
            _ => {}
        }
    }
    all
}

#[test]
fn an_authentic_end_that_talks_nonsense_does_no_harm() {
    let mut made = 0;
    for seed in 0..60 {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut now = Instant::now();
        let additional: &[Group] = if seed % 2 == 0 { &[] } else { &[Group::MlKem768] };
        let mut engines = [engine(0, now, seed, additional), engine(1, now, seed, additional)];
        talk(now, &mut engines);
        let [engine, _] = &mut engines;
        let mut known = Known::default();
        known.learn(engine);
        assert_eq!(known.installed.len(), 2, "seed {seed}");
        let mut links: Vec<Vec<u8>> = Vec::new();
        for _ in 0..300 {
            now += Duration::from_millis(random.u64(0..700));
            if random.u8(0..6) == 0 {
                let what = if random.bool() { Rekey::Children } else { Rekey::Ike };
                engine.command(now, Command::Rekey { connection: "ns/c".into(), what });
            }
            let ids: Vec<_> = {
                let mut ids: Vec<_> = engine.sas.keys().copied().collect();
                ids.sort_unstable();
                ids
            };
            let Some(id) = random.choice(&ids).copied() else { break };
            let is_response = random.u8(0..3) == 0;
            let payloads = if random.u8(0..3) == 0 {
                soup(&mut random, engine, &links)
            } else {
                sensible(&mut random, engine, additional, &links, is_response)
            };
            let exchange = *random
                .choice(&[
                    Exchange::CreateChildSa,
                    Exchange::CreateChildSa,
                    Exchange::Informational,
                    Exchange::FollowupKe,
                    Exchange::Auth,
                ])
                .unwrap();
            let told = format!(
                "{payloads:?} {}",
                engine.sas[&id].pending.as_ref().map_or("-".to_owned(), |p| p.exchange.to_string())
            );
            engine.with_sa(now, id, |engine, sa| {
                let header = Header {
                    initiator_spi: sa.spi_i,
                    responder_spi: sa.spi_r,
                    exchange,
                    from_initiator: !sa.initiator,
                    response: is_response,
                    message_id: sa.receive_id,
                };
                let plain = Vec::new().into();
                let received = Received { path: sa.path, header, payloads, inner: 0, plain };
                if !is_response {
                    sa.receive_id += 1;
                    let answers = answer(engine, now, sa, &received);
                    let link =
                        super::super::sa::find_notify(&answers, notify::ADDITIONAL_KEY_EXCHANGE);
                    links.extend(link.map(|link| link.data.clone()));
                } else if matches!(sa.phase, Phase::Established)
                    && let Some(pending) = sa.pending.take()
                {
                    response(engine, now, sa, pending.ongoing, &received);
                }
            });
            while engine.poll_transmit().is_some() {}
            if engine.poll_timeout().is_some_and(|at| at <= now) {
                engine.handle_timeout(now);
            }
            let before = known.installed.len();
            known.learn(engine);
            made += usize::from(known.installed.len() > before);
            let taken: BTreeSet<_> = engine.inbound_spis.iter().copied().collect();
            assert_eq!(
                taken,
                spis(engine),
                "seed {seed}: an SPI has leaked: {exchange} {is_response} {told}"
            );
            assert!(known.installed.len() < 80, "seed {seed}");
            assert!(engine.sas.len() < 200, "seed {seed}");
        }
    }
    assert!(made > 100, "the nonsense has hardly any sense in it: {made}");
}
