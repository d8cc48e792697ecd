//! Child processes that can't outlive this one.

use std::fs::{self, File, OpenOptions};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getppid};

use super::{interrupt, pin, raise_open_files, tree};

/// Time for a process to end after SIGTERM, before SIGKILL.
const GRACE: Duration = Duration::from_secs(3);
/// How often a condition without an event is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// A program to start.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// The executable.
    pub(crate) path: PathBuf,
    /// Its arguments.
    pub(crate) arguments: Vec<String>,
}

/// A running process with its children; ended when dropped.
#[derive(Debug)]
pub(crate) struct Supervised {
    name: String,
    child: Child,
    output: PathBuf,
}

impl Supervised {
    /// Starts a program on one core, its standard output and error appended to files.
    ///
    /// It is started through this program's own `exec` command, which pins it, raises its limits
    /// and has it terminated when this process dies, however that comes about.
    pub(crate) fn start(
        name: &str,
        program: &Program,
        core: usize,
        output: &Path,
        errors: &Path,
    ) -> anyhow::Result<Self> {
        let child = bound()
            .args(["--core", &core.to_string(), "--"])
            .arg(&program.path)
            .args(&program.arguments)
            .stdin(Stdio::null())
            .stdout(append(output)?)
            .stderr(append(errors)?)
            .spawn()
            .with_context(|| format!("{name}: can't be started"))?;
        Ok(Self { name: name.to_owned(), child, output: errors.to_owned() })
    }

    /// The process and its descendants.
    pub(crate) fn processes(&self) -> anyhow::Result<Vec<Pid>> {
        tree(self.pid())
    }

    /// Waits until a condition holds; an error with the process's last words if it ends before, or
    /// takes too long.
    pub(crate) fn wait_until(
        &mut self,
        what: &str,
        within: Duration,
        holds: impl FnMut() -> bool,
    ) -> anyhow::Result<()> {
        self.wait_until_every(LOOK, what, within, holds)
    }

    /// The same, looking so often.
    pub(crate) fn wait_until_every(
        &mut self,
        every: Duration,
        what: &str,
        within: Duration,
        mut holds: impl FnMut() -> bool,
    ) -> anyhow::Result<()> {
        let deadline = Instant::now() + within;
        while !holds() {
            interrupt::check()?;
            if let Some(status) = self.child.try_wait().context("child")? {
                bail!("{} ended ({status}) before {what}: {}", self.name, self.last_words());
            }
            if Instant::now() >= deadline {
                bail!("{}: no {what} within {within:?}: {}", self.name, self.last_words());
            }
            std::thread::sleep(every);
        }
        Ok(())
    }

    /// Sends a signal to the process.
    pub(crate) fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        send(self.pid(), signal)
    }

    /// CPU time of the process and all its descendants, those that have ended too.
    pub(crate) fn cpu_time_of_all(&self) -> anyhow::Result<Duration> {
        super::cpu_time_with_ended(self.pid())
    }

    /// Ends the process and its children: SIGTERM, and SIGKILL for what is left after a while.
    pub(crate) fn stop(&mut self) -> anyhow::Result<ExitStatus> {
        if let Some(status) = self.child.try_wait().context("child")? {
            return Ok(status);
        }
        let processes = self.processes()?;
        send(self.pid(), Signal::SIGTERM)?;
        let deadline = Instant::now() + GRACE;
        let status = loop {
            if let Some(status) = self.child.try_wait().context("child")? {
                break status;
            }
            if Instant::now() >= deadline {
                for pid in &processes {
                    send(*pid, Signal::SIGKILL)?;
                }
                break self.child.wait().context("child")?;
            }
            std::thread::sleep(LOOK);
        };
        Ok(status)
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    fn last_words(&self) -> String {
        last_words(&self.output)
    }
}

impl Drop for Supervised {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("loadtest: {}: can't be ended: {error:#}", self.name);
        }
    }
}

/// The last lines of a program's output.
pub(crate) fn last_words(output: &Path) -> String {
    let said = fs::read(output).unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<&str> = said.lines().rev().take(5).collect();
    match lines.is_empty() {
        true => "it said nothing".to_owned(),
        false => lines.into_iter().rev().collect::<Vec<_>>().join(" | "),
    }
}

/// The `exec` command: becomes another program, pinned if a core is named, and bound to its
/// parent's life.
pub(crate) fn exec(
    core: Option<usize>,
    parent: u32,
    program: &Path,
    arguments: &[String],
) -> anyhow::Result<()> {
    die_with(parent)?;
    if let Some(core) = core {
        pin(core)?;
    }
    raise_open_files()?;
    let error = Command::new(program).args(arguments).exec();
    Err(error).with_context(|| format!("{}", program.display()))
}

/// Has the kernel terminate this process when its parent ends.
fn die_with(parent: u32) -> anyhow::Result<()> {
    prctl::set_pdeathsig(Signal::SIGTERM).context("signal at the parent's end")?;
    // The parent may have ended before the line above; then no signal will come.
    if getppid().as_raw() != parent.cast_signed() {
        bail!("the parent has ended");
    }
    Ok(())
}

fn append(path: &Path) -> anyhow::Result<File> {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("{}", path.display()))
}

/// This program's `exec` command for a child of this process; further options, `--` and the program
/// are still to come.
pub(crate) fn bound() -> Command {
    // Not by its path, where a newer program may stand by now.
    let mut command = Command::new("/proc/self/exe");
    command.arg0("loadtest").args(["exec", "--parent", &std::process::id().to_string()]);
    command
}

/// Sends a signal to a process; none is needed if it has ended.
pub(crate) fn send(pid: Pid, signal: Signal) -> anyhow::Result<()> {
    match kill(pid, signal) {
        Ok(()) | Err(Errno::ESRCH) => Ok(()),
        Err(error) => Err(error).with_context(|| format!("{signal} to {pid}")),
    }
}
