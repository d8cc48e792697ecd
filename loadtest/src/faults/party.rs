//! A party's processes: started, signalled, ended.

use std::fs::{self, OpenOptions};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::duty::Duty;
use super::plan::{Move, PartyForm, Ready};
use crate::system::child::{last_words, send};
use crate::system::tree;

/// Time for a party to end after SIGTERM, before SIGKILL.
const GRACE: Duration = Duration::from_secs(10);
/// Time for what was started to end when all is over.
const LAST_GRACE: Duration = Duration::from_secs(3);
/// How often a party that is ending or starting is looked at.
const LOOK: Duration = Duration::from_millis(20);
/// How long a try to connect may hold up the load.
const TRY: Duration = Duration::from_millis(5);
/// How long a party that was started again is watched for accepting connections.
const WATCH: Duration = Duration::from_secs(60);
/// How often a tree of processes is listed until nothing new appears in it.
const LISTINGS: usize = 8;

/// What a tick has to tell.
#[derive(Debug, PartialEq)]
pub(super) enum News {
    /// The end of a fault.
    IsBack(String),
    /// Something else.
    Other(String),
}

#[derive(Debug)]
enum Source {
    Command(Vec<String>),
    Pid(Pid),
    Pidfile(PathBuf),
    Nothing,
}

#[derive(Debug, PartialEq)]
enum State {
    /// As it should be, or down for good.
    Still,
    Slowed(Duty),
    /// SIGTERM was sent.
    Ending {
        kill_at: Duration,
        start_at: Duration,
        next: Duration,
    },
    /// Started again, and not yet ready.
    Coming {
        since: Duration,
        next: Duration,
    },
}

/// A party as it stands.
#[derive(Debug)]
pub(super) struct Party {
    name: String,
    source: Source,
    /// Where a connection shows that it is ready.
    probe: Option<SocketAddr>,
    log: PathBuf,
    child: Option<Child>,
    /// Whether the end of the child is none of our doing.
    should_run: bool,
    stopped: Vec<Pid>,
    state: State,
}

impl Party {
    /// A party of which nothing was started yet.
    pub(super) fn new(form: &PartyForm, folder: &Path) -> anyhow::Result<Self> {
        let source = match (form.command.is_empty(), form.pid, &form.pidfile) {
            (false, ..) => Source::Command(form.command.clone()),
            (_, Some(pid), _) => Source::Pid(Pid::from_raw(pid)),
            (_, _, Some(file)) => Source::Pidfile(file.clone()),
            (true, None, None) => Source::Nothing,
        };
        let party = Self {
            name: form.name.clone(),
            source,
            probe: match form.ready {
                Some(Ready::Started) => None,
                _ => form.addresses.iter().find_map(|address| address.socket()),
            },
            log: folder.join(format!("{}.log", form.name)),
            child: None,
            should_run: false,
            stopped: Vec::new(),
            state: State::Still,
        };
        if matches!(party.source, Source::Pid(_) | Source::Pidfile(_)) {
            let pid = party.root()?;
            kill(pid, None).with_context(|| {
                format!("party {}: process {pid} is not there, or not ours to signal", party.name)
            })?;
        }
        Ok(party)
    }

    /// Starts the program, if the party is one.
    pub(super) fn bring_up(&mut self, now: Duration) -> anyhow::Result<()> {
        let Source::Command(words) = &self.source else { return Ok(()) };
        let (program, arguments) = words.split_first().context("command: is empty")?;
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)
            .with_context(|| format!("{}", self.log.display()))?;
        let child = command(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(log.try_clone().context("log")?)
            .stderr(log)
            // Of its own, so that a key pressed on the terminal ends the run in order.
            .process_group(0)
            .spawn()
            .with_context(|| format!("party {}: {program} can't be started", self.name))?;
        self.child = Some(child);
        self.should_run = true;
        self.state = State::Coming { since: now, next: now + LOOK };
        Ok(())
    }

    /// Whether a started program is ready; an error if it has ended instead.
    pub(super) fn is_ready(&mut self) -> anyhow::Result<bool> {
        if let Some(child) = &mut self.child
            && let Some(status) = child.try_wait().context("child")?
        {
            self.should_run = false;
            bail!("party {}: ended ({status}): {}", self.name, self.last_words());
        }
        let accepts = |address| TcpStream::connect_timeout(&address, TRY).is_ok();
        let is_ready = self.child.is_none() || self.probe.is_none_or(accepts);
        if is_ready {
            self.state = State::Still;
        }
        Ok(is_ready)
    }

    /// The last lines of the log.
    pub(super) fn last_words(&self) -> String {
        last_words(&self.log)
    }

    /// The first of the party's processes.
    pub(super) fn root(&self) -> anyhow::Result<Pid> {
        match &self.source {
            Source::Command(_) => {
                let child = self.child.as_ref().context("it does not run")?;
                Ok(Pid::from_raw(child.id().cast_signed()))
            }
            Source::Pid(pid) => Ok(*pid),
            Source::Pidfile(file) => {
                let text =
                    fs::read_to_string(file).with_context(|| format!("{}", file.display()))?;
                match text.trim().parse::<i32>() {
                    Ok(pid) if pid > 1 && pid.cast_unsigned() != std::process::id() => {
                        Ok(Pid::from_raw(pid))
                    }
                    _ => bail!("{}: holds no process number but {text:?}", file.display()),
                }
            }
            Source::Nothing => bail!("it has no process"),
        }
    }

    /// Does one thing to the party; returns what was done, for the report.
    pub(super) fn make(&mut self, movement: Move, now: Duration) -> anyhow::Result<String> {
        match movement {
            Move::Kill => {
                self.should_run = false;
                let processes = self.stop()?;
                for pid in processes {
                    send(pid, Signal::SIGKILL)?;
                }
                self.stopped.clear();
                self.state = State::Still;
                Ok("killed".to_owned())
            }
            Move::Start => {
                self.reap(Instant::now() + Duration::from_millis(200))?;
                self.bring_up(now)?;
                Ok("started again".to_owned())
            }
            Move::Stop => {
                self.stop()?;
                Ok("paused".to_owned())
            }
            Move::Continue => {
                self.go_on()?;
                Ok("continued".to_owned())
            }
            Move::Restart(after) => {
                self.should_run = false;
                if self.child.is_some() {
                    send(self.root()?, Signal::SIGTERM)?;
                }
                let (kill_at, start_at) = (now + GRACE, now + after);
                self.state = State::Ending { kill_at, start_at, next: now + LOOK };
                Ok("restarting".to_owned())
            }
            Move::Slow(share) => {
                self.stop()?;
                self.state = State::Slowed(Duty::new(share, now));
                Ok(format!("slowed to {:.0} % of the time", share * 100.0))
            }
            Move::FullSpeed => {
                self.state = State::Still;
                self.go_on()?;
                Ok("at full speed".to_owned())
            }
            Move::CutOff | Move::Reconnect => bail!("partitions are not the party's own"),
        }
    }

    /// When [`Self::tick`] has something to do.
    pub(super) fn next_due(&self) -> Option<Duration> {
        match &self.state {
            State::Still => None,
            State::Slowed(duty) => Some(duty.due()),
            State::Ending { next, .. } | State::Coming { next, .. } => Some(*next),
        }
    }

    /// Goes on with what takes its time.
    pub(super) fn tick(&mut self, now: Duration) -> anyhow::Result<Option<News>> {
        if self.next_due().is_none_or(|due| now < due) {
            return Ok(None);
        }
        let result = self.advance(now);
        if result.is_err() {
            // Said once, and not on each tick.
            self.state = State::Still;
        }
        result
    }

    fn advance(&mut self, now: Duration) -> anyhow::Result<Option<News>> {
        match &mut self.state {
            State::Still => Ok(None),
            State::Slowed(duty) => {
                match duty.turn(now) {
                    Some(true) => self.go_on()?,
                    Some(false) => drop(self.stop()?),
                    None => {}
                }
                Ok(None)
            }
            State::Ending { kill_at, start_at, next } => {
                *next = now + LOOK;
                let (kill_at, start_at) = (*kill_at, *start_at);
                let has_ended = match &mut self.child {
                    Some(child) => child.try_wait().context("child")?.is_some(),
                    None => true,
                };
                if !has_ended && now >= kill_at {
                    for pid in self.stop()? {
                        send(pid, Signal::SIGKILL)?;
                    }
                    self.stopped.clear();
                }
                if has_ended && now >= start_at {
                    self.child = None;
                    self.bring_up(now)?;
                    return Ok(Some(News::IsBack("started again".to_owned())));
                }
                Ok(None)
            }
            State::Coming { since, next } => {
                *next = now + LOOK;
                let since = *since;
                if self.is_ready()? {
                    let said =
                        self.probe.map(|address| format!("accepts connections at {address}"));
                    return Ok(said.map(News::Other));
                }
                if now >= since + WATCH {
                    bail!("accepts no connection {WATCH:?} after its start");
                }
                Ok(None)
            }
        }
    }

    /// Undoes what was done and ends what was started; says so if the program had ended by itself.
    pub(super) fn end(&mut self) -> anyhow::Result<Option<String>> {
        self.state = State::Still;
        let went_on = self.go_on();
        let Some(child) = &mut self.child else { return went_on.map(|()| None) };
        if let Some(status) = child.try_wait().context("child")? {
            let said = format!("had ended by itself ({status})");
            return went_on.map(|()| self.should_run.then_some(said));
        }
        let root = Pid::from_raw(child.id().cast_signed());
        let processes = tree(root)?;
        send(root, Signal::SIGTERM)?;
        if !self.reap(Instant::now() + LAST_GRACE)? {
            for pid in self.stop()? {
                send(pid, Signal::SIGKILL)?;
            }
            if !self.reap(Instant::now() + LAST_GRACE)? {
                bail!("process {root} does not end");
            }
        }
        // What it leaves behind, of those that it had started.
        for pid in processes.into_iter().filter(|pid| belongs_to(*pid, root)) {
            send(pid, Signal::SIGKILL)?;
        }
        went_on.map(|()| None)
    }

    /// Waits for the child's end; false if it has not come by then.
    fn reap(&mut self, deadline: Instant) -> anyhow::Result<bool> {
        let Some(child) = &mut self.child else { return Ok(true) };
        while child.try_wait().context("child")?.is_none() {
            if Instant::now() >= deadline {
                return Ok(false);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(true)
    }

    /// Stops all processes; returns them.
    fn stop(&mut self) -> anyhow::Result<Vec<Pid>> {
        let root = self.root()?;
        if let Some(child) = &mut self.child
            && let Some(status) = child.try_wait().context("child")?
        {
            bail!("it has ended ({status}): {}", self.last_words());
        }
        kill(root, None).with_context(|| format!("process {root}"))?;
        self.stopped.clear();
        // Until nothing new appears: a stopped process starts no other.
        for _ in 0..LISTINGS {
            let new: Vec<Pid> =
                tree(root)?.into_iter().filter(|pid| !self.stopped.contains(pid)).collect();
            if new.is_empty() {
                break;
            }
            for pid in new {
                send(pid, Signal::SIGSTOP)?;
                self.stopped.push(pid);
            }
        }
        Ok(self.stopped.clone())
    }

    /// Continues what was stopped, children first.
    fn go_on(&mut self) -> anyhow::Result<()> {
        let mut result = Ok(());
        for pid in std::mem::take(&mut self.stopped).into_iter().rev() {
            result = send(pid, Signal::SIGCONT).and(result);
        }
        result
    }
}

/// Whether a process is of the group that a party's first process leads.
fn belongs_to(pid: Pid, root: Pid) -> bool {
    nix::unistd::getpgid(Some(pid)) == Ok(root)
}

/// A program that is terminated when this one ends, however that comes about.
#[cfg(not(test))]
fn command(program: &str) -> Command {
    let mut command = crate::system::child::bound();
    command.args(["--", program]);
    command
}

/// The program itself: the tests' own has no `exec`.
#[cfg(test)]
fn command(program: &str) -> Command {
    Command::new(program)
}
