//! Traffic under way while something fails, and what of it was lost.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use testkit::Namespace;

/// How long a single request may take.
const ATTEMPT: Duration = Duration::from_millis(500);
/// What every datagram holds, so that one in the clear can be found.
pub(crate) const MARKER: &str = "marker-of-what-is-within";

/// What became of the traffic.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    what: String,
    /// When each was sent, in order, and when it was answered.
    sends: Vec<(Instant, Option<Instant>)>,
}

impl Record {
    fn new(what: String) -> Self {
        Self { what, sends: Vec::new() }
    }

    /// How many got no answer.
    pub(crate) fn lost(&self) -> usize {
        self.sends.len() - self.answered()
    }

    /// How many got one.
    pub(crate) fn answered(&self) -> usize {
        self.sends.iter().filter(|(_, answer)| answer.is_some()).count()
    }

    /// The longest time in which all that was sent was lost.
    pub(crate) fn gap(&self) -> Duration {
        let (mut longest, mut first) = (Duration::ZERO, None);
        for (sent, answer) in &self.sends {
            let since: Instant = *first.get_or_insert(*sent);
            if answer.is_none() || since != *sent {
                longest = longest.max(sent.duration_since(since));
            }
            if answer.is_some() {
                first = None;
            }
        }
        longest
    }

    /// The longest time that one took that was answered.
    pub(crate) fn slowest(&self) -> Duration {
        let times =
            self.sends.iter().filter_map(|(sent, at)| Some(at.as_ref()?.duration_since(*sent)));
        times.max().unwrap_or_default()
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ends = self.sends.first().zip(self.sends.last());
        let took = ends.map_or(Duration::ZERO, |((first, _), (last, _))| *last - *first);
        write!(
            f,
            "{}: {} of {} lost in {took:.1?}, longest gap {} ms, slowest answer {} ms",
            self.what,
            self.lost(),
            self.sends.len(),
            self.gap().as_millis(),
            self.slowest().as_millis()
        )
    }
}

/// Traffic under way.
pub(crate) struct Train {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<Record>>,
}

impl Train {
    /// A datagram each 10 ms, all from one port.
    #[track_caller]
    pub(crate) fn datagrams(what: &str, from: &Namespace, to: SocketAddr) -> Self {
        let socket = from.run(|| {
            let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
            socket.connect(to).unwrap();
            socket
        });
        Self::start(what, move |stop, record| datagrams(&socket, stop, record))
    }

    /// A TCP connection of its own with a question each 10 ms, or later if the one before takes
    /// longer.
    #[track_caller]
    pub(crate) fn connections(what: &str, from: &Namespace, to: SocketAddr) -> Self {
        let from = from.clone();
        Self::start(what, move |stop, record| {
            // In there once and for all.
            from.run(|| {
                while !stop.load(Ordering::SeqCst) {
                    let sent = Instant::now();
                    let answer = ask(to).ok().map(|()| Instant::now());
                    record.sends.push((sent, answer));
                    std::thread::sleep(Duration::from_millis(10).saturating_sub(sent.elapsed()));
                }
            });
        })
    }

    /// A question each 10 ms over one connection, which has to last.
    #[track_caller]
    pub(crate) fn flow(what: &str, from: &Namespace, to: SocketAddr) -> Self {
        let mut flow = from.connect(to).unwrap();
        flow.stream().set_read_timeout(Some(Duration::from_secs(8))).unwrap();
        Self::start(what, move |stop, record| {
            while !stop.load(Ordering::SeqCst) {
                let sent = Instant::now();
                let said = flow.say(MARKER);
                record.sends.push((sent, said.as_ref().ok().map(|_| Instant::now())));
                if let Err(error) = said {
                    println!("{}: {error}", record.what);
                    return;
                }
                std::thread::sleep(Duration::from_millis(10).saturating_sub(sent.elapsed()));
            }
        })
    }

    fn start(what: &str, work: impl FnOnce(&AtomicBool, &mut Record) + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, what) = (Arc::clone(&stop), what.to_owned());
        let thread = std::thread::spawn(move || {
            let mut record = Record::new(what);
            work(&stopped, &mut record);
            record
        });
        Self { stop, thread: Some(thread) }
    }

    /// Ends it, and prints what became of it.
    #[track_caller]
    pub(crate) fn stop(mut self) -> Record {
        self.stop.store(true, Ordering::SeqCst);
        let record = self.thread.take().unwrap().join().unwrap();
        println!("  {record}");
        record
    }
}

impl Drop for Train {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            _ = thread.join();
        }
    }
}

fn ask(to: SocketAddr) -> std::io::Result<()> {
    let stream = std::net::TcpStream::connect_timeout(&to, ATTEMPT)?;
    let mut flow = testkit::lab::Flow::over(stream)?;
    flow.stream().set_read_timeout(Some(ATTEMPT))?;
    flow.say(MARKER).map(drop)
}

fn datagrams(socket: &UdpSocket, stop: &AtomicBool, record: &mut Record) {
    let ended = AtomicBool::new(false);
    socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let (times, heard) = std::thread::scope(|scope| {
        let heard = scope.spawn(|| hear(socket, &ended));
        let mut times = Vec::new();
        let started = Instant::now();
        while !stop.load(Ordering::SeqCst) {
            let sent = Instant::now();
            // ICMP errors of earlier ones come here.
            _ = socket.send(format!("{MARKER} {}", times.len()).as_bytes());
            times.push(sent);
            let next = started + Duration::from_millis(10) * u32::try_from(times.len()).unwrap();
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        std::thread::sleep(Duration::from_millis(300));
        ended.store(true, Ordering::SeqCst);
        (times, heard.join().unwrap())
    });
    let sends = times.into_iter().enumerate().map(|(n, sent)| (sent, heard.get(&n).copied()));
    record.sends.extend(sends);
}

/// Answers, by the number of what was sent, each once.
fn hear(socket: &UdpSocket, ended: &AtomicBool) -> BTreeMap<usize, Instant> {
    let mut heard = BTreeMap::new();
    let mut buffer = [0; 256];
    while !ended.load(Ordering::SeqCst) {
        let Ok(length) = socket.recv(&mut buffer) else { continue };
        let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
        let number = text.rsplit(' ').next().and_then(|word| word.parse().ok());
        if let Some(number) = number {
            heard.entry(number).or_insert_with(Instant::now);
        }
    }
    heard
}
