//! The open loop, mixes, phases and retries.

use std::net::IpAddr;
use std::sync::Mutex;

use super::super::mix;
use super::super::pace::{Phase, Profile};
use super::super::plan::{Entry, Hold, Plan, Retries};
use super::*;

fn phase(seconds: f64, from: f64, to: f64) -> Phase {
    let length = Duration::from_secs_f64(seconds);
    Phase { name: "p".to_owned(), length, from, to, counted: true }
}

fn open(address: SocketAddr, phases: Vec<Phase>) -> Plan {
    Plan {
        pace: Pace::Open { rate: Profile::new(phases), connections: 2, max_connections: 64 },
        slice: Some(Duration::from_millis(100)),
        ..Plan::from(load(address, Reuse::KeepAlive))
    }
}

fn run(plan: Plan) -> Generator {
    let end = Duration::from_nanos(plan.profile().end());
    let mut generator = Generator::new(plan).expect("a generator");
    generator.drive(end).expect("the load runs");
    generator.drain(Duration::from_secs(10)).expect("the rest comes");
    generator
}

fn total(generator: &Generator) -> Stats {
    generator.accounts.as_ref().expect("accounts").total().expect("they add up")
}

/// Answers all requests, counting them by path; stops once, at the first request after `pause_at`
/// requests, for a time.
fn pausing_server(
    pause_at: u64,
    pause: Duration,
) -> (SocketAddr, Arc<Mutex<BTreeMap<String, u64>>>) {
    let counts = Arc::new(Mutex::new(BTreeMap::new()));
    let counted = counts.clone();
    let all = Arc::new(AtomicU64::new(0));
    let resumed = Arc::new(Mutex::new(()));
    let address = server(move |mut stream| {
        let mut buffer = [0; 4096];
        while let Ok(size @ 1..) = stream.read(&mut buffer) {
            let text = String::from_utf8_lossy(&buffer[..size]).into_owned();
            let path = text.split(' ').nth(1).unwrap_or_default().to_owned();
            *counted.lock().expect("counts").entry(path).or_default() += 1;
            {
                // All connections stand still while one pauses, as in a process that is stopped.
                let _guard = resumed.lock().expect("not poisoned");
                if all.fetch_add(1, Ordering::SeqCst) == pause_at {
                    thread::sleep(pause);
                }
            }
            if stream.write_all(OK).is_err() {
                return;
            }
        }
    });
    (address, counts)
}

#[test]
fn an_open_loop_sees_a_pause_in_every_request_that_was_due_in_it() {
    let (address, counts) = pausing_server(100, Duration::from_millis(300));
    let generator = run(open(address, vec![phase(1.0, 500.0, 500.0)]));
    let stats = total(&generator);
    assert_eq!((stats.requests, stats.failure_count()), (500, 0), "{}", stats.failure_text());
    assert_eq!(counts.lock().expect("counts").values().sum::<u64>(), 500);
    // 150 of 500 requests were due in the pause; half of them waited for over half of it.
    assert!(stats.latency_us(0.99) > 250_000.0, "p99 {} µs", stats.latency_us(0.99));
    assert!(stats.latency_us(0.86) > 100_000.0, "p86 {} µs", stats.latency_us(0.86));
}

#[test]
fn a_closed_loop_hides_the_same_pause() {
    // What the correction is for: the same target, and one slow request only on each connection.
    let (address, _) = pausing_server(100, Duration::from_millis(300));
    let plan = Plan {
        pace: Pace::Closed { connections: Profile::new([phase(1.0, 2.0, 2.0)]) },
        slice: Some(Duration::from_millis(100)),
        ..Plan::from(load(address, Reuse::KeepAlive))
    };
    let stats = total(&run(plan));
    assert!(stats.requests > 500, "{}", stats.requests);
    assert!(stats.latency_us(0.99) < 250_000.0, "p99 {} µs", stats.latency_us(0.99));
    assert!(stats.latency.max() > 250_000_000, "max {} ns", stats.latency.max());
}

#[test]
fn a_mix_in_an_open_loop_is_exact_to_the_request_at_both_ends() {
    let (address, counts) = pausing_server(u64::MAX, Duration::ZERO);
    let paths = ["/a", "/b", "/c"];
    let entries = paths.map(|path| Entry::from(Request::get("x", path, Some(5)).expect("one")));
    let plan = Plan {
        entries: entries.to_vec(),
        order: mix::round(&[6, 3, 1]).expect("a round"),
        ..open(address, vec![phase(0.2, 0.0, 500.0), phase(0.3, 500.0, 500.0)])
    };
    let generator = run(plan);
    let accounts = generator.accounts.as_ref().expect("accounts");
    let by_entry: Vec<u64> = accounts.entries.iter().map(|stats| stats.requests).collect();
    assert_eq!(by_entry, [120, 60, 20]);
    let by_phase: Vec<u64> = accounts.phases.iter().map(|stats| stats.requests).collect();
    assert_eq!(by_phase, [50, 150]);
    let counts = counts.lock().expect("counts");
    let at_server: Vec<u64> = paths.iter().map(|path| counts[*path]).collect();
    assert_eq!(at_server, by_entry);
    drop(counts);
    let mut accounts = generator.accounts.expect("accounts");
    let series = accounts.series(500_000_000);
    assert_eq!(series.iter().map(|slice| slice.due).sum::<u64>(), 200);
    assert!(series.len() >= 5 && series[4].due > series[0].due, "{series:?}");
}

#[test]
fn a_warm_up_is_not_counted() {
    let (address, counts) = pausing_server(u64::MAX, Duration::ZERO);
    let warm_up = Phase { counted: false, ..phase(0.1, 300.0, 300.0) };
    let generator = run(open(address, vec![warm_up, phase(0.2, 200.0, 200.0)]));
    assert_eq!(total(&generator).requests, 40);
    assert_eq!(counts.lock().expect("counts").values().sum::<u64>(), 70);
}

#[test]
fn more_connections_are_made_when_all_are_busy_up_to_the_most() {
    // Each connection is busy for 50 ms with each request: 200 a second need ten at least.
    let address = server(|mut stream| {
        let mut buffer = [0; 4096];
        while stream.read(&mut buffer).is_ok_and(|size| size > 0) {
            thread::sleep(Duration::from_millis(50));
            if stream.write_all(OK).is_err() {
                return;
            }
        }
    });
    let enough = run(open(address, vec![phase(0.5, 200.0, 200.0)]));
    assert_eq!(total(&enough).requests, 100);
    assert!((10..=64).contains(&enough.stats.connections), "{}", enough.stats.connections);
    let plan = open(address, vec![phase(0.5, 200.0, 200.0)]);
    let few = Plan {
        pace: Pace::Open { rate: plan.profile().clone(), connections: 2, max_connections: 4 },
        ..plan
    };
    let few = run(few);
    assert_eq!((total(&few).requests, few.stats.connections), (100, 4));
    assert!(few.starved > 0);
    // 4 of 10 needed: requests wait, and their latency shows it.
    assert!(total(&few).latency_us(0.9) > 300_000.0, "{}", total(&few).latency_us(0.9));
}

#[test]
fn each_request_has_a_connection_of_its_own_in_an_open_loop_too() {
    let (address, _) = pausing_server(u64::MAX, Duration::ZERO);
    let plan = Plan { reuse: Reuse::Never, ..open(address, vec![phase(0.3, 100.0, 100.0)]) };
    let generator = run(plan);
    assert_eq!(total(&generator).requests, 30, "{}", total(&generator).failure_text());
    assert_eq!(generator.stats.connections, 30);
}

#[test]
fn what_failed_is_tried_again_and_counted() {
    // Every third connection is ended at its first request.
    let connections = AtomicU64::new(0);
    let address = server(move |stream| {
        if connections.fetch_add(1, Ordering::SeqCst).is_multiple_of(3) {
            let mut stream = stream;
            let _ = stream.read(&mut [0; 4096]);
            return;
        }
        answer(stream, OK);
    });
    for pace in ["open", "closed"] {
        let plan = Plan {
            reuse: Reuse::Never,
            retries: Retries { times: 9, on: vec![Failure::Closed] },
            ..open(address, vec![phase(0.3, 200.0, 200.0)])
        };
        let plan = match pace {
            "open" => plan,
            _ => Plan {
                pace: Pace::Closed { connections: Profile::new([phase(0.3, 3.0, 3.0)]) },
                ..plan
            },
        };
        let generator = run(plan);
        let stats = total(&generator);
        assert!(stats.requests >= 10 && stats.retried >= 3, "{pace}: {stats:?}");
        if pace == "open" {
            assert_eq!((stats.requests, stats.failure_count()), (60, 0));
        }
    }
}

#[test]
fn a_target_that_is_overrun_gives_time_outs_and_none_is_lost() {
    let address = server(|mut stream| {
        let mut buffer = [0; 4096];
        while stream.read(&mut buffer).is_ok_and(|size| size > 0) {
            thread::sleep(Duration::from_millis(20));
            if stream.write_all(OK).is_err() {
                return;
            }
        }
    });
    let plan = open(address, vec![phase(0.4, 500.0, 500.0)]);
    let plan = Plan {
        timeout: Duration::from_millis(150),
        pace: Pace::Open { rate: plan.profile().clone(), connections: 2, max_connections: 2 },
        ..plan
    };
    let stats = total(&run(plan));
    assert_eq!(stats.requests + stats.failure_count(), 200);
    assert!(stats.failures.contains_key(&Failure::Timeout) && stats.requests >= 10, "{stats:?}");
}

#[test]
fn the_number_of_connections_follows_a_ramp() {
    let open_now = Arc::new(AtomicU64::new(0));
    let most = Arc::new(AtomicU64::new(0));
    let (now, greatest) = (open_now.clone(), most.clone());
    let address = server(move |stream| {
        let count = now.fetch_add(1, Ordering::SeqCst) + 1;
        greatest.fetch_max(count, Ordering::SeqCst);
        answer(stream, OK);
        now.fetch_sub(1, Ordering::SeqCst);
    });
    let plan = Plan {
        pace: Pace::Closed {
            connections: Profile::new([phase(0.3, 1.0, 20.0), phase(0.2, 3.0, 3.0)]),
        },
        slice: Some(Duration::from_millis(100)),
        ..Plan::from(load(address, Reuse::KeepAlive))
    };
    let mut generator = Generator::new(plan).expect("a generator");
    generator.drive(Duration::from_millis(450)).expect("the load runs");
    let deadline = Instant::now() + Duration::from_secs(20);
    while open_now.load(Ordering::SeqCst) != 3 {
        assert!(Instant::now() < deadline, "{open_now:?} are open");
        generator.drive(Duration::from_millis(10)).expect("the load runs");
    }
    assert_eq!(most.load(Ordering::SeqCst), 20);
    assert_eq!(generator.stats.failure_count(), 0, "{}", generator.stats.failure_text());
}

#[test]
fn held_connections_are_refreshed_and_come_from_several_addresses() {
    let peers = Arc::new(Mutex::new(BTreeMap::<IpAddr, u64>::new()));
    let seen = peers.clone();
    let address = server(move |stream| {
        let peer = stream.peer_addr().expect("a peer").ip();
        *seen.lock().expect("peers").entry(peer).or_default() += 1;
        answer(stream, OK);
    });
    let sources = ["127.0.0.2", "127.0.0.3"].map(|text| text.parse().expect("an address"));
    let plan = Plan {
        sources: sources.to_vec(),
        hold: Hold {
            request: true,
            refresh: Some(Duration::from_millis(20)),
            opened_per_second: 1000.0,
        },
        ..Plan::from(Load { connections: 10, ..load(address, Reuse::Hold) })
    };
    let mut generator = Generator::new(plan).expect("a generator");
    generator.drive_until_held(Duration::from_secs(20)).expect("all are held");
    drive_until(&mut generator, |stats| stats.requests >= 50);
    assert_eq!((generator.held(), generator.stats.connections), (10, 10));
    let expected = sources.map(|source| (source, 5));
    assert_eq!(*peers.lock().expect("peers"), BTreeMap::from(expected));
}

#[test]
fn content_with_another_digest_is_a_failure() {
    let address = server(|stream| answer(stream, OK));
    let with = |digest: [u8; 32]| {
        let mut plan = Plan::from(load(address, Reuse::KeepAlive));
        plan.entries[0].operation.expect.sha256 = Some(digest);
        Generator::new(plan).expect("a generator")
    };
    let mut wrong = with([7; 32]);
    drive_until(&mut wrong, |stats| stats.failure_count() > 0);
    let kinds: Vec<_> = wrong.stats.failures.keys().copied().collect();
    assert_eq!((kinds, wrong.stats.requests), (vec![Failure::Digest], 0));
    let digest = ::aws_lc_rs::digest::digest(&::aws_lc_rs::digest::SHA256, b"hello");
    let mut right = with(digest.as_ref().try_into().expect("32 bytes"));
    drive_until(&mut right, |stats| stats.requests >= 10);
    assert_eq!(right.stats.failure_count(), 0);
}

#[test]
fn with_tls_requests_go_to_connections_of_their_own_name() {
    let server = tls_server();
    let tls = client_config(Trust::Anyone, Offer::OneSuite, false).expect("a client");
    let entries = ["a.test", "b.test", "c.test"]
        .map(|host| Entry::from(Request::get(host, "/", Some(5)).expect("a request")));
    let plan = Plan {
        entries: entries.to_vec(),
        order: mix::round(&[2, 1, 1]).expect("a round"),
        tls: Some(tls),
        ..open(server.address, vec![phase(0.5, 80.0, 80.0)])
    };
    assert!(plan.is_grouped());
    let generator = run(plan);
    let accounts = generator.accounts.as_ref().expect("accounts");
    let by_entry: Vec<u64> = accounts.entries.iter().map(|stats| stats.requests).collect();
    assert_eq!(by_entry, [20, 10, 10], "{}", total(&generator).failure_text());
    assert!(generator.stats.connections >= 3);
}
