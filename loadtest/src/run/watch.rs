//! CPU time and memory of processes while a load runs, from the system's own accounting.

use std::collections::BTreeMap;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::unistd::Pid;

use crate::faults::Stage;
use crate::load::outcome::Process;
use crate::scenario::{Watch, Which};
use crate::system;

/// How often CPU time is read.
pub(super) const EVERY: Duration = Duration::from_millis(250);
/// Every so many of those times, memory and child processes are looked at too: both cost more.
const THOROUGH: u32 = 4;
/// How often, at most, it is looked for who listens on an address: that reads the open files of
/// all processes, and would disturb the load.
const SEARCH: Duration = Duration::from_secs(1);

/// All processes that are watched, the generator first.
#[derive(Debug)]
pub(super) struct Watched {
    all: Vec<Watching>,
    turn: u32,
    last: Duration,
}

#[derive(Debug)]
struct Watching {
    which: Which,
    /// CPU time of each process of the tree, as last seen; of ended ones, too.
    clocks: BTreeMap<i32, Duration>,
    counted: Duration,
    pss: u64,
    /// Who listened when it was last looked for.
    found: Option<Found>,
    /// When that was, on the clock of the load.
    searched: Option<Duration>,
    report: Process,
}

/// A process that was found, told from a later one of its number by when it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Found {
    pid: i32,
    /// Clock ticks from the system's start.
    began: u64,
}

impl Found {
    /// The process as it stands; nothing if it has ended.
    fn of(pid: i32) -> Option<Self> {
        // proc(5): behind the name's parenthesis come the state (field 3) and more; 22 is the start.
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace();
        let state = fields.next()?;
        let began = fields.nth(18)?.parse().ok()?;
        (!matches!(state, "Z" | "X")).then_some(Self { pid, began })
    }

    fn lives(self) -> bool {
        Self::of(self.pid) == Some(self)
    }
}

impl Watched {
    /// Finds the processes.
    ///
    /// # Errors
    ///
    /// One of them is not there.
    pub(super) fn begin(watches: &[Watch], stage: Option<&Stage>) -> anyhow::Result<Self> {
        let own = Watch { name: "generator".to_owned(), which: Which::Pid(Pid::this().as_raw()) };
        let mut all = Vec::new();
        for watch in std::iter::once(&own).chain(watches) {
            let mut watching = Watching {
                which: watch.which.clone(),
                clocks: BTreeMap::new(),
                counted: Duration::ZERO,
                pss: 0,
                found: None,
                searched: None,
                report: Process { name: watch.name.clone(), ..Process::default() },
            };
            watching
                .look(Duration::ZERO, stage)
                .with_context(|| format!("process {}", watch.name))?;
            all.push(watching);
        }
        Ok(Self { all, turn: 0, last: Duration::ZERO })
    }

    /// Reads the clocks. `now` counts from the beginning of the load; `counted` says whether the
    /// time since the last call is part of what the report counts.
    pub(super) fn sample(&mut self, now: Duration, counted: bool, stage: Option<&Stage>) {
        let elapsed = now.saturating_sub(self.last);
        self.last = now;
        let thorough = self.turn.is_multiple_of(THOROUGH);
        self.turn = self.turn.wrapping_add(1);
        for watching in &mut self.all {
            let used = watching.read();
            if counted {
                watching.counted += used;
            }
            if thorough {
                // A process that is away just now is found again later.
                let _ = watching.look(now, stage);
            }
            if elapsed > Duration::ZERO {
                let share = used.as_secs_f64() / elapsed.as_secs_f64();
                watching.report.series.push([now.as_secs_f64(), share, watching.pss as f64]);
            }
        }
    }

    /// What was seen, for so many operations.
    pub(super) fn finish(self, operations: u64) -> Vec<Process> {
        let report = |watching: Watching| {
            let seconds = watching.counted.as_secs_f64();
            Process {
                cpu_seconds: seconds,
                cpu_us_per_operation: seconds * 1e6 / operations.max(1) as f64,
                ..watching.report
            }
        };
        self.all.into_iter().map(report).collect()
    }
}

impl Watching {
    fn find(&mut self, now: Duration, stage: Option<&Stage>) -> anyhow::Result<i32> {
        match &self.which {
            Which::Pid(pid) => Ok(*pid),
            Which::Pidfile(path) => {
                let text =
                    fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
                let pid = text.trim().parse();
                pid.with_context(|| format!("{}: {text:?} is no process", path.display()))
            }
            Which::Listens(address) => {
                let address = *address;
                self.listening(address, now)
            }
            Which::Party(party) => {
                let stage = stage.context("there are no parties")?;
                Ok(stage.process(party)?.as_raw())
            }
        }
    }

    /// Who listens on an address: the process last found while it lives, and else another, looked
    /// for once in [`SEARCH`].
    fn listening(&mut self, address: SocketAddr, now: Duration) -> anyhow::Result<i32> {
        if let Some(found) = self.found.filter(|found| found.lives()) {
            return Ok(found.pid);
        }
        self.found = None;
        if self.searched.is_some_and(|searched| now < searched + SEARCH) {
            bail!("nobody listened on {address} a moment ago");
        }
        self.searched = Some(now);
        let pid = listener(address)?;
        self.found = Found::of(pid);
        Ok(pid)
    }

    /// CPU time used since the last look at the clocks.
    fn read(&mut self) -> Duration {
        let mut used = Duration::ZERO;
        for (pid, last) in &mut self.clocks {
            // A process that has ended keeps the last that was seen of it.
            if let Ok(now) = system::cpu_time(&[Pid::from_raw(*pid)]) {
                used += now.saturating_sub(*last);
                *last = now;
            }
        }
        used
    }

    /// Looks for child processes, and for the root again if it has ended; reads the memory.
    fn look(&mut self, now: Duration, stage: Option<&Stage>) -> anyhow::Result<()> {
        let root = self.find(now, stage)?;
        let is_first = self.clocks.is_empty();
        // What this program starts is watched by its own name, if at all.
        let tree = match root == Pid::this().as_raw() {
            true => vec![Pid::this()],
            false => system::tree(Pid::from_raw(root))?,
        };
        for pid in &tree {
            let Ok(now) = system::cpu_time(&[*pid]) else { continue };
            // What comes up later has used all its time since then.
            let since = if is_first { now } else { Duration::ZERO };
            self.clocks.entry(pid.as_raw()).or_insert(since);
        }
        if self.clocks.is_empty() {
            bail!("there is no process {root}: start it, or correct its number");
        }
        let memory = tree.iter().filter_map(|pid| system::memory(&[*pid]).ok());
        self.pss = memory.map(|memory| memory.pss).sum();
        self.report.peak_pss = self.report.peak_pss.max(self.pss);
        Ok(())
    }
}

/// The process that listens on an address.
fn listener(address: SocketAddr) -> anyhow::Result<i32> {
    let mut inodes = Vec::new();
    for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text = fs::read_to_string(table).unwrap_or_default();
        inodes.extend(text.lines().skip(1).filter_map(|line| listens(line, address)));
    }
    if inodes.is_empty() {
        bail!("nobody listens on {address}: start it, or correct the address");
    }
    let mut found: Vec<i32> = Vec::new();
    for entry in fs::read_dir("/proc").context("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if holds(&entry.path().join("fd"), &inodes) {
            found.push(pid);
        }
    }
    // Workers that share a socket: the oldest is the one that made it.
    let root = found.iter().find(|pid| {
        let tree = system::tree(Pid::from_raw(**pid)).unwrap_or_default();
        found.iter().all(|other| tree.contains(&Pid::from_raw(*other)))
    });
    root.or(found.first()).copied().with_context(|| {
        format!("who listens on {address} can't be seen: run as its user or root, or write its pid")
    })
}

/// The inode of the listening socket that a line of /proc/net/tcp (proc(5)) describes, if its port
/// is the address's and its address the same or any.
fn listens(line: &str, address: SocketAddr) -> Option<String> {
    let mut fields = line.split_ascii_whitespace();
    let (host, port) = fields.nth(1)?.split_once(':')?;
    if fields.nth(1)? != "0A" || u16::from_str_radix(port, 16).ok()? != address.port() {
        return None;
    }
    let is_any = host.bytes().all(|byte| byte == b'0');
    let own = match address.ip() {
        std::net::IpAddr::V4(ip) => format!("{:08X}", u32::from_le_bytes(ip.octets())),
        std::net::IpAddr::V6(ip) => {
            let words = ip.octets();
            let words = words.chunks_exact(4);
            words
                .filter_map(|word| word.try_into().ok())
                .map(|word: [u8; 4]| format!("{:08X}", u32::from_le_bytes(word)))
                .collect()
        }
    };
    if !is_any && host != own {
        return None;
    }
    fields.nth(5).map(str::to_owned)
}

fn holds(folder: &Path, inodes: &[String]) -> bool {
    let Ok(files) = fs::read_dir(folder) else { return false };
    files.flatten().filter_map(|file| fs::read_link(file.path()).ok()).any(|link| {
        let link = link.to_string_lossy();
        let inode = link.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
        inode.is_some_and(|inode| inodes.iter().any(|of_socket| of_socket == inode))
    })
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn the_process_that_listens_is_found() {
        for host in ["127.0.0.1:0", "0.0.0.0:0"] {
            let socket = TcpListener::bind(host).expect("a port");
            let port = socket.local_addr().expect("an address").port();
            let address = SocketAddr::from(([127, 0, 0, 1], port));
            assert_eq!(listener(address).expect("found"), Pid::this().as_raw());
            drop(socket);
            let error = listener(address).expect_err("nobody is left");
            assert!(error.to_string().contains("nobody listens"), "{error}");
        }
    }

    #[test]
    fn who_listens_is_looked_for_again_only_once_it_is_gone() {
        let socket = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = socket.local_addr().expect("an address");
        let watch = Watch { name: "it".to_owned(), which: Which::Listens(address) };
        let mut watched = Watched::begin(&[watch], None).expect("it is there");
        let watching = &mut watched.all[1];
        let own = Pid::this().as_raw();
        // It lives, so that nobody looks at the address again.
        drop(socket);
        let later = Duration::from_secs(5);
        assert_eq!(watching.listening(address, later).expect("kept"), own);
        assert_eq!(watching.searched, Some(Duration::ZERO));
        // Another process of the same number is another one.
        watching.found = watching.found.map(|found| Found { began: found.began + 1, ..found });
        let error = watching.listening(address, later).expect_err("nobody is left");
        assert!(error.to_string().contains("nobody listens"), "{error}");
        let error = watching.listening(address, later + SEARCH / 2).expect_err("too early");
        assert!(error.to_string().contains("a moment ago"), "{error}");
        let _again = TcpListener::bind(address).expect("the port is free");
        assert_eq!(watching.listening(address, later + SEARCH).expect("found"), own);
    }

    #[test]
    fn a_process_is_watched_with_what_it_used() {
        let mut child = std::process::Command::new("sh")
            .args(["-c", "while :; do :; done"])
            .spawn()
            .expect("sh starts");
        let watch = Watch { name: "busy".to_owned(), which: Which::Pid(child.id().cast_signed()) };
        let mut watched = Watched::begin(&[watch], None).expect("it is there");
        let mut time = Duration::ZERO;
        let deadline = std::time::Instant::now() + Duration::from_secs(20);
        while watched.all[1].counted < Duration::from_millis(20) {
            assert!(std::time::Instant::now() < deadline, "no CPU time is seen");
            time += Duration::from_millis(1);
            watched.sample(time, true, None);
        }
        child.kill().expect("ended");
        child.wait().expect("ended");
        watched.sample(time + EVERY, true, None);
        let reports = watched.finish(10);
        assert_eq!((reports[0].name.as_str(), reports[1].name.as_str()), ("generator", "busy"));
        assert!(reports[1].cpu_us_per_operation >= 2000.0 && reports[1].peak_pss > 0);
        assert!(!reports[1].series.is_empty());
    }
}
