//! The compiled policies, in a real kernel, and the judgement from the model agree on policies and
//! packets by chance. Needs root, iproute2 and nftables; `POLICY_SEED` repeats a failure.

// Helpers of tests fail as tests do; clippy only exempts the tests themselves.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use model::settings::FailSafe;
use model::{HostAddress, L4Settings, PortRange, Protocol};
use plan::policy::{self, Packet, Path, Stage, State, Verdict};

#[path = "policy_property/lab.rs"]
mod lab;
#[path = "policy_property/random.rs"]
mod random;
#[path = "policy_property/wire.rs"]
mod wire;

use lab::Lab;
use random::Chance;

const ROUNDS: u64 = 60;
const PACKETS: u16 = 250;

#[test]
fn kernel_and_model_agree_on_policies_and_packets_by_chance() {
    let seed = std::env::var("POLICY_SEED").map_or_else(
        |_| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() * ROUNDS,
        |text| text.parse().unwrap(),
    );
    let lab = Lab::new();
    let (settings, host) = (settings(), host());
    let mut tally = Tally::default();
    // Numbers are never used twice, so that no connection is another round's.
    for (seed, first) in (seed..seed + ROUNDS).zip((1..).step_by(usize::from(PACKETS))) {
        round(&lab, (seed, first), &settings, &host, &mut tally);
    }
    println!("{tally:?}");
    // Not all of one kind.
    assert!(tally.pairs >= 10_000, "{tally:?}");
    for share in [tally.passed, tally.dropped, tally.dropped_before, tally.ended] {
        assert!(share > 20, "{tally:?}");
    }
}

#[derive(Debug, Default)]
struct Tally {
    pairs: usize,
    passed: usize,
    dropped: usize,
    /// Before translation.
    dropped_before: usize,
    /// Of connections under way.
    ended: usize,
}

fn round(
    lab: &Lab,
    (seed, first): (u64, u16),
    settings: &L4Settings,
    host: &[HostAddress],
    tally: &mut Tally,
) {
    let mut chance = Chance::new(seed);
    let policies = random::policies(&mut chance);
    let packets: Vec<(u16, Packet)> = (first..first + PACKETS)
        .map(|number| (number, random::packet(&mut chance, number)))
        .collect();
    // Connections under way, from before the policies. Ports of one round are not another's.
    lab.load(&plan::nft::Table::default());
    let mut early = 0;
    lab.forget();
    for (number, packet) in &packets {
        if let (State::Established | State::Reply, Path::Forward { from, to }) =
            (packet.state, &packet.path)
        {
            let there = Packet { state: State::New, ..packet.clone() };
            let back = reversed(&there);
            let (first, second) = match packet.state {
                // The packet is the answer: what it answers went the other way.
                State::Reply => ((to, &back), (from, &there)),
                _ => ((from, &there), (to, &back)),
            };
            for (interface, one) in [first, second] {
                lab.send(Some(interface), &wire::bytes(one, *number), one.destination);
                early += 1;
            }
        }
    }
    lab.wait_for(early);
    let (compiled, _) = policy::compile(&policies, settings, host);
    lab.load(&compiled.table);
    lab.forget();
    let mut through = 0;
    for (number, packet) in &packets {
        let interface = match &packet.path {
            Path::Input { from } | Path::Forward { from, .. } => Some(from.as_str()),
            Path::Output { .. } => None,
        };
        through += u64::from(interface.is_some());
        lab.send(interface, &wire::bytes(packet, *number), packet.destination);
    }
    lab.wait_for(through);
    let (mut before, mut after) = (BTreeSet::new(), BTreeSet::new());
    for (number, packet) in &packets {
        let decision = policy::evaluate(&policies, settings, host, packet);
        let dropped = decision.stages.iter().find(|one| one.verdict == Verdict::Drop);
        tally.pairs += 1;
        match dropped {
            None => tally.passed += 1,
            Some(_) => tally.dropped += 1,
        }
        tally.ended += usize::from(dropped.is_some() && packet.state == State::Established);
        let early = decision.stages[0].stage == Stage::Prerouting;
        if early && decision.stages[0].verdict == Verdict::Pass {
            before.insert(*number);
        }
        tally.dropped_before += usize::from(early && decision.stages[0].verdict == Verdict::Drop);
        if decision.allowed {
            after.insert(*number);
        }
    }
    for (what, expected, noted) in
        [("before translation", before, lab.noted("pre")), ("in the end", after, lab.noted("end"))]
    {
        if let Some(number) = expected.symmetric_difference(&noted).next() {
            let packet = &packets[usize::from(*number - first)].1;
            panic!(
                "POLICY_SEED={seed}, {what}: the kernel {} {packet:?}, and the model says:\n{}\n{policies:#?}\n{}",
                if noted.contains(number) { "passes" } else { "drops" },
                policy::evaluate(&policies, settings, host, packet),
                lab::rendered(&compiled.table),
            );
        }
    }
}

fn reversed(packet: &Packet) -> Packet {
    Packet {
        source: packet.destination,
        destination: packet.source,
        source_port: packet.destination_port,
        destination_port: packet.source_port,
        ..packet.clone()
    }
}

fn settings() -> L4Settings {
    L4Settings {
        node_name: "edge-1".into(),
        public: vec!["eth0".into()],
        private: vec!["eth1".into()],
        node_ports: PortRange { first: 30000, last: 32767 },
        snat: false,
        load_balancer_class: "tidegate.io/gateway".into(),
        default_class: true,
        fail_safe: FailSafe {
            inbound: vec![(Protocol::Tcp, 22)],
            outbound: vec![(Protocol::Udp, 53), (Protocol::Tcp, 22)],
        },
    }
}

fn host() -> Vec<HostAddress> {
    ["192.0.2.1/32", "2001:db8::1/128"]
        .map(|network| HostAddress { interface: "eth0".into(), network: network.parse().unwrap() })
        .to_vec()
}
