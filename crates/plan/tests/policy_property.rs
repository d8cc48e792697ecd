//! The compiled policies, in a real kernel, and the judgement from the model agree on policies and
//! packets by chance. Needs root, iproute2 and nftables; `POLICY_SEED` repeats a failure.

// Helpers of tests fail as tests do; clippy only exempts the tests themselves.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::time::{SystemTime, UNIX_EPOCH};

use ingest::ObjectSet;
use model::settings::FailSafe;
use model::snapshot::policy::{Action, Policies};
use model::{HostAddress, L4Settings, PortRange, Protocol, Settings};
use plan::policy::{self, Counted, Counter, Packet, Path, Reason, Stage, State, Verdict};

#[path = "policy_property/lab.rs"]
mod lab;
#[path = "policy_property/random.rs"]
mod random;
#[path = "policy_property/wire.rs"]
mod wire;

use lab::Lab;
use random::Chance;

const ROUNDS: u64 = 45;
const PACKETS: u16 = 250;
/// Seeds that once found something: nft 1.0.6 makes one comparison of `sport != 80` and `dport != 443`.
const FOUND: [u64; 1] = [80_786_953_290];

#[test]
fn kernel_and_model_agree_on_policies_and_packets_by_chance() {
    let seed = std::env::var("POLICY_SEED").map_or_else(
        |_| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() * ROUNDS,
        |text| text.parse().unwrap(),
    );
    let lab = Lab::new("p");
    let (settings, host) = (settings(), host());
    let mut tally = Tally::default();
    // Numbers are never used twice, so that no connection is another round's.
    for (seed, first) in (seed..seed + ROUNDS).chain(FOUND).zip((1..).step_by(usize::from(PACKETS)))
    {
        round(&lab, (seed, first), &settings, &host, &mut tally);
    }
    println!("{tally:?}");
    // Not all of one kind.
    assert!(tally.pairs >= 10_000, "{tally:?}");
    for share in [tally.passed, tally.dropped, tally.dropped_before] {
        assert!(share > 100, "{tally:?}");
    }
    assert!(tally.ended > 0, "{tally:?}");
}

#[test]
fn the_samples_close_what_they_say_in_the_kernel() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/samples-l4/policies");
    let mut set = ObjectSet::default();
    for file in std::fs::read_dir(folder).unwrap() {
        let path = file.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let parsed = ingest::manifest::parse(&path.display().to_string(), &text);
        assert_eq!(parsed.diagnostics, []);
        parsed.objects.into_iter().for_each(|entry| entry.insert_into(&mut set));
    }
    let all = Settings { l4: Some(settings()), ..Settings::default() };
    let (snapshot, diagnostics) = ingest::ingest(&set, &all);
    assert_eq!(diagnostics, []);
    let (compiled, diagnostics) = policy::compile(&snapshot.policies, &settings(), &host());
    // The lab's eth1 has no address.
    let found: Vec<_> = diagnostics.iter().map(|one| (&*one.field, one.value.as_deref())).collect();
    assert_eq!(found, [("spec.interfaceName", Some("eth1"))]);
    let lab = Lab::new("s");
    lab.load(&compiled.table);
    lab.forget();
    let cases = [
        // NodePorts of the public interface, and the office.
        (6, "198.51.100.200", "192.0.2.1", 30080, "eth0", false),
        (17, "198.51.100.200", "192.0.2.1", 32767, "eth0", false),
        (6, "203.0.113.9", "192.0.2.1", 30080, "eth0", true),
        (6, "203.0.113.9", "192.0.2.1", 30081, "eth0", false),
        (6, "2001:db8:77::9", "2001:db8::1", 30080, "eth0", true),
        (6, "198.51.100.200", "192.0.2.1", 30080, "eth1", true),
        // Ports of the edge itself.
        (6, "198.51.100.200", "192.0.2.1", 22, "eth0", true),
        (6, "198.51.100.200", "192.0.2.1", 52311, "eth0", true),
        (6, "198.51.100.200", "192.0.2.1", 80, "eth0", false),
        (6, "198.51.100.7", "192.0.2.1", 48001, "eth0", true),
        // The VIP, which is forwarded to eth1: only what is on its list.
        (6, "203.0.113.7", "192.0.2.10", 443, "eth0", true),
        (6, "203.0.113.8", "192.0.2.10", 443, "eth0", false),
    ];
    let mut expected = BTreeSet::new();
    for (number, (protocol, source, destination, port, from, passes)) in (1..).zip(cases) {
        let packet = Packet {
            path: Path::Input { from: from.into() },
            protocol,
            source: source.parse().unwrap(),
            destination: destination.parse().unwrap(),
            source_port: Some(40000 + number),
            destination_port: Some(port),
            icmp: None,
            state: State::New,
            translated: None,
        };
        lab.send(Some(from), &wire::bytes(&packet, number), packet.destination);
        if passes {
            expected.insert(number);
        }
    }
    lab.wait_for(cases.len() as u64);
    assert_eq!(lab.noted("end"), expected);
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
    let mut decided: BTreeMap<Counted, u64> = BTreeMap::new();
    for (number, packet) in &packets {
        let decision = policy::evaluate(&policies, settings, host, packet);
        for stage in &decision.stages {
            // Of connections under way only what is dropped is counted.
            let counts = packet.state == State::New || stage.verdict == Verdict::Drop;
            if let (Reason::Rule { policy, direction, index, .. }, true) = (&stage.reason, counts) {
                let (policy, direction, index) = (policy.clone(), *direction, *index);
                *decided.entry(Counted::Rule { policy, direction, index }).or_default() += 1;
            }
        }
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
    let counters = compiled.counters(&lab.counters());
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
    assert_counted(seed, &policies, &decided, &counters);
}

/// Every rule that decides has counted the packets that it decided, without those of a Pass for
/// which there is no profile, and of Log.
fn assert_counted(
    seed: u64,
    policies: &Policies,
    decided: &BTreeMap<Counted, u64>,
    counters: &BTreeMap<Counted, Counter>,
) {
    for (counted, counter) in counters {
        let Counted::Rule { policy, direction, index } = counted else { continue };
        let rules = policies.policies[policy].rules(*direction).unwrap();
        if [Action::Allow, Action::Deny].contains(&rules[*index].action) {
            let expected = decided.get(counted).copied().unwrap_or_default();
            assert_eq!(counter.packets, expected, "POLICY_SEED={seed} {counted:?}");
        }
    }
}

fn reversed(packet: &Packet) -> Packet {
    Packet {
        source: packet.translated.map_or(packet.destination, |to| to.address),
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
