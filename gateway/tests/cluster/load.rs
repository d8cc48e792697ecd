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
    started: Instant,
    /// When the last one was sent.
    last: Instant,
    /// When each was sent that was answered, and when it was.
    answered: Vec<(Instant, Instant)>,
    sent: u64,
}

impl Record {
    fn sends(&mut self, at: Instant) {
        self.sent += 1;
        self.last = at;
    }

    /// How many got no answer.
    pub(crate) fn lost(&self) -> u64 {
        self.sent - self.answered.len() as u64
    }

    /// How many got one.
    pub(crate) fn answered(&self) -> usize {
        self.answered.len()
    }

    /// The longest time in which nothing was sent that was answered.
    pub(crate) fn gap(&self) -> Duration {
        let mut times: Vec<Instant> = self.answered.iter().map(|(sent, _)| *sent).collect();
        times.push(self.last);
        times.sort();
        let mut last = self.started;
        let gap = |at: Instant| at.duration_since(std::mem::replace(&mut last, at));
        times.into_iter().map(gap).max().unwrap_or_default()
    }

    /// The longest time that one took that was answered.
    pub(crate) fn slowest(&self) -> Duration {
        let times = self.answered.iter().map(|(sent, at)| at.duration_since(*sent));
        times.max().unwrap_or_default()
    }
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { what, sent, .. } = self;
        let (took, gap) = (self.last - self.started, self.gap().as_millis());
        let (lost, slowest) = (self.lost(), self.slowest().as_millis());
        write!(
            f,
            "{what}: {lost} of {sent} lost in {took:.1?}, longest gap {gap} ms, slowest answer \
             {slowest} ms"
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
                    record.sends(sent);
                    if ask(to).is_ok() {
                        record.answered.push((sent, Instant::now()));
                    }
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
                record.sends(sent);
                match flow.say(MARKER) {
                    Ok(_) => record.answered.push((sent, Instant::now())),
                    Err(error) => {
                        println!("{}: {error}", record.what);
                        return;
                    }
                }
                std::thread::sleep(Duration::from_millis(10).saturating_sub(sent.elapsed()));
            }
        })
    }

    fn start(what: &str, work: impl FnOnce(&AtomicBool, &mut Record) + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, what) = (Arc::clone(&stop), what.to_owned());
        let thread = std::thread::spawn(move || {
            let started = Instant::now();
            let mut record = Record { what, started, last: started, answered: Vec::new(), sent: 0 };
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
            record.sends(sent);
            let next = started + Duration::from_millis(10) * u32::try_from(times.len()).unwrap();
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
        std::thread::sleep(Duration::from_millis(300));
        ended.store(true, Ordering::SeqCst);
        (times, heard.join().unwrap())
    });
    let pairs = heard.into_iter().filter_map(|(number, at)| Some((*times.get(number)?, at)));
    record.answered.extend(pairs);
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
