//! What a packet costs: `cargo test --release -p gateway --test dataplane -- --ignored --nocapture
//! costs`.

use std::fs;
use std::time::Instant;

use gateway::vpn::dataplane::Settings;

use crate::lab::{Lab, Options};

/// CPU time of the threads of both data paths, in seconds: from their start, user and system.
fn cpu() -> f64 {
    let mut ticks = 0_u64;
    for task in fs::read_dir("/proc/self/task").unwrap().flatten() {
        let Ok(text) = fs::read_to_string(task.path().join("schedstat")) else { continue };
        let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
        if name.starts_with("vpn-") {
            ticks += text.split(' ').next().unwrap().parse::<u64>().unwrap();
        }
    }
    ticks as f64 / 1e9
}

#[test]
#[ignore = "a measurement, of a release build alone"]
fn costs() {
    let megabytes: usize =
        std::env::var("MEGABYTES").ok().and_then(|text| text.parse().ok()).unwrap_or(1000);
    for (name, offloads, udp) in [
        ("offloads, UDP", true, true),
        ("offloads, raw ESP", true, false),
        ("no offloads, UDP", false, true),
    ] {
        let options = Options::default();
        let settings = Settings { offloads, ..options.settings.clone() };
        let lab = Lab::up(Options { udp, settings, ..options });
        lab.bulk("10.2.0.1", 50 << 20);
        let (before, child) = (cpu(), lab.left.child());
        let took = lab.bulk("10.2.0.1", megabytes << 20);
        let (after, right, left) = (cpu(), lab.right.child(), lab.left.child());
        let data = left.sent_packets - child.sent_packets;
        let all = data + right.sent_packets;
        let cpu = (after - before) * 1e6 / 2.0;
        println!(
            "{name}: {:.2} Gb/s, {:.2} µs CPU per data packet and side ({:.2} with ACKs counted), \
             {data} data packets, {} ACKs, dropped {:?} {:?}",
            megabytes as f64 * 8.388_608 / 1000.0 / took.as_secs_f64(),
            cpu / data as f64,
            cpu / all as f64,
            all - data,
            lab.left.counters().dropped.iter().filter(|(_, count)| **count > 0).collect::<Vec<_>>(),
            lab.right
                .counters()
                .dropped
                .iter()
                .filter(|(_, count)| **count > 0)
                .collect::<Vec<_>>(),
        );
    }
}

/// Resident memory of the process, in KiB.
fn memory() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
#[ignore = "a measurement, of a release build alone"]
fn a_thousand_tunnels() {
    let lab = Lab::without_sas(Options::default());
    lab.install(0x1000);
    let (before, begin) = (memory(), Instant::now());
    for number in 0..1000 {
        lab.install(0x2000 + 2 * number);
    }
    println!(
        "1,000 SA pairs on both ends: {:.1} µs and {:.1} KiB each",
        begin.elapsed().as_micros() as f64 / 2000.0,
        (memory() - before) as f64 / 2000.0
    );
    assert!(lab.left.pings("10.2.0.1"));
}
