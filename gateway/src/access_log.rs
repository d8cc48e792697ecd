//! The access log: one JSON object a line, formatted and written off the workers' threads.
//!
//! A worker only appends the raw facts to a batch of its own. Batches go to the writer's thread
//! when they are full and at every tick. A writer that can't keep up, or a full disk, costs log
//! lines (counted), never requests.

use std::cell::RefCell;
use std::fmt;
use std::fs::OpenOptions;
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::metrics::Metrics;

mod format;

/// Bytes of raw facts that go over together.
const BATCH: usize = 64 * 1024;
/// O_NONBLOCK of open(2).
const NONBLOCK: i32 = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
/// Room beyond that for the record that fills a batch.
const SLACK: usize = 16 * 1024;
/// Batches that may wait for the writer.
const QUEUE: usize = 64;
/// Empty batches that are kept for further use.
const SPARE: usize = 8;

/// Where lines go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Standard output.
    Stdout,
    /// A file, appended to.
    File(PathBuf),
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stdout => f.write_str("standard output"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// One request's facts.
#[derive(Debug)]
pub struct Entry<'a> {
    /// The client: behind trusted proxies, the one that they name.
    pub client: IpAddr,
    /// `http` or `https`.
    pub tls: bool,
    /// As sent, or empty where the request could not be read.
    pub method: &'a [u8],
    /// As sent.
    pub host: &'a [u8],
    /// Path and query as sent.
    pub path: &'a [u8],
    /// HTTP/1.0 or HTTP/1.1.
    pub http10: bool,
    /// The status sent to the client; 499 where it went away before, 0 where none was sent.
    pub status: u16,
    /// Request body bytes.
    pub received: u64,
    /// Response body bytes.
    pub sent: u64,
    /// When the response's last byte was sent.
    pub at: Instant,
    /// From the request's first byte to the response's last.
    pub duration: Duration,
    /// The endpoint that answered.
    pub upstream: Option<SocketAddr>,
    /// From sending the request to the response's head.
    pub upstream_duration: Duration,
    /// Ingress and Service, as [`labels`] makes them.
    pub labels: &'a str,
    /// X-Request-ID.
    pub request_id: &'a [u8],
    /// User-Agent as sent.
    pub user_agent: &'a [u8],
    /// What went wrong, empty where nothing did.
    pub error: &'a str,
}

/// Ingress and Service as members of a JSON object, each with a comma before it and left out
/// where it is empty. Made once for each route.
pub fn labels(ingress: &str, service: &str) -> String {
    format::labels(ingress, service)
}

#[derive(Default)]
struct Batch {
    bytes: Vec<u8>,
    lines: u64,
    /// One moment by both clocks, so that a request's is found without asking the system.
    clock: Option<(Instant, u64)>,
}

impl Batch {
    /// A moment in microseconds since the epoch.
    fn unix_us(&mut self, at: Instant) -> u64 {
        let (known, unix_us) = *self.clock.get_or_insert_with(|| (Instant::now(), unix_us()));
        let us = |d: Duration| u64::try_from(d.as_micros()).unwrap_or(0);
        match at.checked_duration_since(known) {
            Some(after) => unix_us.saturating_add(us(after)),
            None => unix_us.saturating_sub(us(known.duration_since(at))),
        }
    }
}

thread_local! {
    static BATCHES: RefCell<Batch> = RefCell::default();
}

/// A worker's end of the log.
#[derive(Clone, Debug)]
pub struct AccessLog(Option<Sender>);

#[derive(Clone, Debug)]
struct Sender {
    batches: SyncSender<(Vec<u8>, u64)>,
    spare: Spare,
}

/// Empty batches on their way back: their memory is in the cache, and mapped.
#[derive(Clone, Debug, Default)]
struct Spare(Arc<Mutex<Vec<Vec<u8>>>>);

impl Spare {
    fn take(&self) -> Vec<u8> {
        // Whoever holds the lock holds it for a moment; new memory costs less than to wait.
        let spare = self.0.try_lock().ok().and_then(|mut spare| spare.pop());
        spare.unwrap_or_else(|| Vec::with_capacity(BATCH + SLACK))
    }

    fn give_back(&self, mut batch: Vec<u8>) {
        batch.clear();
        let mut spare = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A record may be larger than the slack, and then its memory is not for keeping.
        if spare.len() < SPARE && batch.capacity() <= BATCH + SLACK {
            spare.push(batch);
        }
    }
}

/// The writer's thread.
#[derive(Debug)]
pub struct Writer {
    thread: JoinHandle<()>,
    reopen: Arc<AtomicBool>,
}

impl AccessLog {
    /// A log that drops everything.
    pub fn off() -> Self {
        Self(None)
    }

    /// Opens the target and starts the writer.
    ///
    /// # Errors
    /// Where the file can't be opened for appending.
    pub fn start(target: Target, metrics: Arc<Metrics>) -> io::Result<(Self, Writer)> {
        let output = open(&target)?;
        let (batches, receiver) = sync_channel(QUEUE);
        let spare = Spare::default();
        let emptied = spare.clone();
        let reopen = Arc::new(AtomicBool::new(false));
        let flag = Arc::clone(&reopen);
        let thread = std::thread::Builder::new()
            .name("access-log".into())
            .spawn(move || write_all(&receiver, &emptied, &target, output, &flag, &metrics))?;
        Ok((Self(Some(Sender { batches, spare })), Writer { thread, reopen }))
    }

    /// Notes a request.
    #[inline]
    pub fn record(&self, entry: &Entry<'_>, worker: &crate::metrics::WorkerShard) {
        if self.0.is_none() {
            return;
        }
        BATCHES.with_borrow_mut(|batch| {
            let unix_us = batch.unix_us(entry.at);
            format::pack(entry, unix_us, &mut batch.bytes);
            batch.lines += 1;
            if batch.bytes.len() >= BATCH {
                self.send(batch, worker);
            }
        });
    }

    /// Hands over what has been noted. To be called at every tick.
    pub fn flush(&self, worker: &crate::metrics::WorkerShard) {
        BATCHES.with_borrow_mut(|batch| {
            // The system's clock may have been set meanwhile.
            batch.clock = None;
            if !batch.bytes.is_empty() {
                self.send(batch, worker);
            }
        });
    }

    fn send(&self, batch: &mut Batch, worker: &crate::metrics::WorkerShard) {
        let Some(sender) = &self.0 else { return };
        let lines = std::mem::take(&mut batch.lines);
        let bytes = std::mem::replace(&mut batch.bytes, sender.spare.take());
        match sender.batches.try_send((bytes, lines)) {
            Ok(()) => {}
            Err(TrySendError::Full((bytes, _)) | TrySendError::Disconnected((bytes, _))) => {
                worker.log_dropped.add(lines);
                sender.spare.give_back(bytes);
            }
        }
    }
}

impl Writer {
    /// Opens the file again before the next line, as log rotation needs it.
    pub fn reopen(&self) {
        self.reopen.store(true, Ordering::Relaxed);
    }

    /// Waits until everything is written, or until the writer is stuck for this long. Every
    /// [`AccessLog`] must be gone.
    pub fn join(self, limit: Duration) {
        let end = Instant::now() + limit;
        while !self.thread.is_finished() {
            if Instant::now() >= end {
                tracing::error!("access log not written to its end: whoever reads it is stuck");
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

fn unix_us() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_micros()).unwrap_or(u64::MAX)
}

fn open(target: &Target) -> io::Result<Box<dyn Write + Send>> {
    Ok(match target {
        Target::Stdout => Box::new(io::stdout()),
        // Without O_NONBLOCK a FIFO that nobody reads would hold the gateway up for ever.
        Target::File(path) => Box::new(
            OpenOptions::new().create(true).append(true).custom_flags(NONBLOCK).open(path)?,
        ),
    })
}

fn write_all(
    receiver: &Receiver<(Vec<u8>, u64)>,
    spare: &Spare,
    target: &Target,
    mut output: Box<dyn Write + Send>,
    reopen: &AtomicBool,
    metrics: &Metrics,
) {
    let mut text = Vec::with_capacity(4 * BATCH);
    let mut failing = false;
    // The file may end amid a line.
    let mut torn = false;
    loop {
        let received = receiver.recv_timeout(Duration::from_secs(1));
        if reopen.swap(false, Ordering::Relaxed) {
            match open(target) {
                Ok(file) => {
                    output = file;
                    tracing::info!(%target, "access log opened anew");
                }
                Err(error) => {
                    metrics.control.log_reopen_failures.increment();
                    tracing::error!(
                        %target, %error,
                        "access log not opened anew: the old file is written on; make the folder \
                         writable and send SIGHUP again"
                    );
                }
            }
        }
        let (packed, lines) = match received {
            Ok(batch) => batch,
            Err(RecvTimeoutError::Timeout) => continue,
            Err(RecvTimeoutError::Disconnected) => return,
        };
        text.clear();
        if torn {
            // What is there of a line ends here, so that the next one can be read.
            text.push(b'\n');
        }
        format::unpack(&packed, &mut text);
        spare.give_back(packed);
        let (written, result) = write_out(&mut *output, &text);
        torn = match written {
            0 => torn,
            n => text.get(n - 1) != Some(&b'\n'),
        };
        if let Err(error) = result {
            metrics.control.log_lost.add(lines);
            if !failing {
                tracing::error!(%target, %error, "access log not written");
            }
            failing = true;
        } else if failing {
            tracing::info!("access log is written again");
            failing = false;
        }
    }
}

/// Writes as much as it can; answers how much that was.
fn write_out(output: &mut dyn Write, text: &[u8]) -> (usize, io::Result<()>) {
    let mut written = 0;
    while written < text.len() {
        match output.write(&text[written..]) {
            Ok(0) => return (written, Err(io::ErrorKind::WriteZero.into())),
            Ok(n) => written += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return (written, Err(error)),
        }
    }
    (written, output.flush())
}
