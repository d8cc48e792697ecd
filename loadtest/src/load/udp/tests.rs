//! The driver against small echo servers, honest and other ones.

use std::net::UdpSocket;
use std::thread;

use super::flow::{Arrival, Arrivals};
use super::*;

/// Answers each datagram with what `answers` makes of it, in a thread that ends with the test's
/// process.
fn server(mut answers: impl FnMut(u64, &[u8]) -> Vec<Vec<u8>> + Send + 'static) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").expect("a port");
    let address = socket.local_addr().expect("an address");
    thread::spawn(move || {
        let mut buffer = [0; 2048];
        for count in 0.. {
            let (size, from) = socket.recv_from(&mut buffer).expect("a datagram");
            for answer in answers(count, &buffer[..size]) {
                let _ = socket.send_to(&answer, from);
            }
        }
    });
    address
}

fn echo() -> SocketAddr {
    server(|_, bytes| vec![bytes.to_vec()])
}

fn config(target: SocketAddr, pace: Pace) -> Config {
    let slice = Duration::from_millis(50);
    Config { target, flows: 3, pace, payload: 100, echo: true, slice }
}

const CLOSED: Pace = Pace::Closed { window: 2, timeout: Duration::from_secs(5) };

/// Drives until so many packets have left, and waits for the last ones.
fn drive(config: Config, packets: u64) -> Driver {
    let mut driver = Driver::new(config).expect("a driver");
    let deadline = Instant::now() + Duration::from_secs(20);
    while driver.counts.sent < packets {
        assert!(Instant::now() < deadline, "{:?}", driver.counts.sent);
        driver.drive(Duration::from_millis(20)).expect("it runs");
    }
    driver.drain(Duration::from_secs(1)).expect("it drains");
    driver
}

#[test]
fn an_open_loop_sends_what_is_due_and_gets_all_of_it_back() {
    let mut driver = Driver::new(config(echo(), Pace::Open { rate: 2000.0 })).expect("a driver");
    let end = Instant::now() + Duration::from_millis(500);
    // In pieces, and with pauses between them: what was due meanwhile is sent late, and not left
    // out.
    for piece in 0..10 {
        driver.drive(Duration::from_millis(25)).expect("it runs");
        assert!(piece > 0 || driver.counts.sent >= 50, "{}", driver.counts.sent);
        thread::sleep(Duration::from_millis(20));
    }
    driver.drive(end.saturating_duration_since(Instant::now())).expect("it runs");
    driver.drain(Duration::from_secs(10)).expect("it drains");
    let counts = &driver.counts;
    // Only a machine that comes to it even later than the end owes, and sends, more.
    assert!(counts.sent >= 999, "{}", counts.sent);
    assert!(counts.lateness.max() > 10_000_000, "{}", counts.lateness.max());
    assert_eq!((counts.received, counts.lost(), counts.duplicated), (counts.sent, 0, 0));
    assert_eq!(counts.sent_bytes, counts.sent * 100);
    assert_eq!(counts.latency.len(), counts.sent);
    assert!(counts.latency.max() > 0);
    assert!(counts.slices.len() >= 9, "{}", counts.slices.len());
    assert_eq!(counts.slices.iter().map(|slice| slice.sent).sum::<u64>(), counts.sent);
    assert_eq!(counts.slices.iter().map(|slice| slice.received).sum::<u64>(), counts.sent);
}

#[test]
fn a_closed_loop_never_has_more_under_way_than_its_window() {
    let driver = drive(config(echo(), CLOSED), 500);
    assert_eq!(driver.counts.received, driver.counts.sent);
    // A server that never answers gets the windows and nothing more.
    let silent = server(|_, _| Vec::new());
    let mut driver = Driver::new(config(silent, CLOSED)).expect("a driver");
    driver.drive(Duration::from_millis(50)).expect("it runs");
    assert_eq!((driver.counts.sent, driver.counts.lost()), (6, 6));
}

#[test]
fn a_closed_loop_replaces_what_it_gives_up() {
    let lossy = server(|count, bytes| if count % 3 == 0 { vec![] } else { vec![bytes.to_vec()] });
    let pace = Pace::Closed { window: 1, timeout: Duration::from_millis(10) };
    let driver = drive(config(lossy, pace), 60);
    let counts = &driver.counts;
    assert!(counts.lost() >= 20 && counts.lost() <= counts.sent / 3 + 1, "{counts:?}");
    assert!(counts.given_up + 3 >= counts.lost(), "{} {}", counts.given_up, counts.lost());
}

#[test]
fn loss_duplicates_and_disorder_are_told_apart() {
    let mut held: Option<Vec<u8>> = None;
    // Of ten in a row on one flow: the first is lost, the second comes twice, the third comes
    // behind the fourth.
    let bad = server(move |count, bytes| match count % 10 {
        0 => vec![],
        1 => vec![bytes.to_vec(), bytes.to_vec()],
        2 => {
            held = Some(bytes.to_vec());
            vec![]
        }
        3 => std::iter::once(bytes.to_vec()).chain(held.take()).collect(),
        4 => vec![b"noise".to_vec(), bytes.to_vec()],
        _ => vec![bytes.to_vec()],
    });
    let config = Config { flows: 1, ..config(bad, Pace::Open { rate: 2000.0 }) };
    let driver = drive(config, 100);
    let counts = &driver.counts;
    let tens = counts.sent / 10;
    let near = |count: u64| (tens..=tens + 1).contains(&count);
    assert!(near(counts.lost()) || counts.sent % 10 == 3, "{counts:?}");
    assert!(near(counts.duplicated) && near(counts.reordered), "{counts:?}");
    assert!(near(counts.foreign), "{counts:?}");
}

#[test]
fn a_stall_of_the_target_shows_in_the_latencies_of_all_that_was_due() {
    let stall = Duration::from_millis(200);
    let slow = server(move |count, bytes| {
        if count == 0 {
            thread::sleep(stall);
        }
        vec![bytes.to_vec()]
    });
    let config = Config { flows: 1, ..config(slow, Pace::Open { rate: 1000.0 }) };
    let driver = drive(config, 250);
    let latency = &driver.counts.latency;
    // Packets due in the stall's first half waited for its second half at the least.
    let slow = latency.count_between(100_000_000, 60_000_000_000);
    assert!(slow >= 80, "{slow} of {}", latency.len());
}

#[test]
fn one_way_packets_are_marked_and_only_counted_as_sent() {
    let (say, hear) = std::sync::mpsc::channel();
    let sink = server(move |_, bytes| {
        say.send(bytes[..4].to_vec()).expect("the test listens");
        Vec::new()
    });
    let config = Config { echo: false, ..config(sink, Pace::Open { rate: 1000.0 }) };
    let driver = drive(config, 50);
    assert_eq!(hear.recv().expect("a packet"), [b'T', b'G', b'U', NO_ECHO]);
    assert_eq!((driver.counts.received, driver.counts.latency.len()), (0, 0));
}

#[test]
fn a_target_that_is_not_there_is_named() {
    let gone = UdpSocket::bind("127.0.0.1:0").and_then(|s| s.local_addr()).expect("an address");
    let mut driver = Driver::new(config(gone, Pace::Open { rate: 5000.0 })).expect("a driver");
    let error = driver.drive(Duration::from_secs(20)).expect_err("nobody listens").to_string();
    assert!(error.contains(&gone.to_string()) && error.contains("start the target"), "{error}");
}

#[test]
fn configurations_that_make_no_sense_are_refused_with_the_remedy() {
    let proper = config("127.0.0.1:9".parse().expect("an address"), CLOSED);
    let open = |rate| Pace::Open { rate };
    for (config, expected) in [
        (Config { payload: 23, ..proper.clone() }, "payload: 23 bytes; write 24"),
        (Config { flows: 0, ..proper.clone() }, "flows: 0; write 1"),
        (Config { pace: open(0.0), ..proper.clone() }, "rate: 0"),
        (Config { pace: open(f64::NAN), ..proper.clone() }, "rate: NaN"),
        (Config { slice: Duration::ZERO, ..proper.clone() }, "slice: 0"),
        (Config { echo: false, ..proper.clone() }, "use a rate"),
        (
            Config { pace: Pace::Closed { window: 0, timeout: SWEEP }, ..proper.clone() },
            "window: 0",
        ),
    ] {
        let error = Driver::new(config).expect_err(expected).to_string();
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn arrivals_are_remembered_over_gaps_and_for_a_bounded_time() {
    let due = Duration::from_secs(1);
    let mut arrivals = Arrivals::default();
    let new = |reordered| Arrival::New { due, reordered };
    for number in 0..200 {
        assert_eq!(arrivals.take(number, due), new(false));
    }
    assert_eq!(arrivals.take(5, due), Arrival::Duplicate);
    assert_eq!(arrivals.take(199, due), Arrival::Duplicate);
    assert_eq!(arrivals.take(300, due), new(false));
    assert_eq!(arrivals.take(250, due), new(true));
    assert!(arrivals.has(250) && !arrivals.has(251) && arrivals.has(5));
    // Far ahead: what lies before is forgotten, not counted twice.
    assert_eq!(arrivals.take(10_000_000, due), new(false));
    assert_eq!(arrivals.take(251, due), Arrival::Stale);
    assert_eq!(arrivals.take(9_999_999, due), new(true));
    assert_eq!(arrivals.take(9_999_999, due), Arrival::Duplicate);
}
