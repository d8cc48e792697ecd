//! One network namespace, and doing things in it.

use std::fs::{self, File};
use std::io::Write as _;
use std::os::fd::AsFd as _;
use std::panic::resume_unwind;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Once};
use std::thread;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// Where iproute2 keeps the names.
const FOLDER: &str = "/run/netns";
/// What all names begin with.
const PREFIX: &str = "tg-";

/// A network namespace. It is deleted with the last clone of this.
#[derive(Clone, Debug)]
pub struct Namespace(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    name: String,
    file: File,
}

impl Namespace {
    #[track_caller]
    fn create(lab: u32, role: &str) -> Self {
        let name = format!("{PREFIX}{}-{lab}-{role}", std::process::id());
        let output = run(Command::new("ip").args(["netns", "add", &name]), "");
        assert!(
            output.status.success(),
            "the lab needs root (CAP_SYS_ADMIN and CAP_NET_ADMIN) and iproute2: \
             ip netns add {name}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        let file = File::open(Path::new(FOLDER).join(&name)).unwrap();
        Self(Arc::new(Inner { name, file }))
    }

    /// One that belongs to no [`super::Lab`], without interfaces but `lo`.
    #[track_caller]
    pub fn alone(role: &str) -> Self {
        remove_leftovers();
        Self::configured(super::number(), role)
    }

    #[track_caller]
    pub(super) fn configured(lab: u32, role: &str) -> Self {
        let namespace = Self::create(lab, role);
        for (key, value) in super::SETTINGS {
            namespace.set(key, value);
        }
        namespace
    }

    /// Its name, as `ip netns` has it.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// Calls a function on a thread that is in here. Sockets that it opens stay in here, wherever
    /// they are used.
    #[track_caller]
    pub fn run<T: Send>(&self, function: impl FnOnce() -> T + Send) -> T {
        let file = &self.0.file;
        let result = thread::scope(|scope| {
            let inside = || {
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(file.as_fd(), kind).unwrap();
                function()
            };
            scope.spawn(inside).join()
        });
        result.unwrap_or_else(|panic| resume_unwind(panic))
    }

    /// Starts a process in here.
    ///
    /// # Errors
    /// The system's, as where there is no such program.
    pub fn spawn(&self, command: &mut Command) -> std::io::Result<Child> {
        // A child is where the thread is that forks it.
        self.run(|| command.spawn())
    }

    /// Runs a command in here and returns what it printed. It must succeed.
    #[track_caller]
    pub fn command(&self, program: &str, arguments: &[&str]) -> String {
        self.command_with(program, arguments, "")
    }

    /// The same with an input.
    #[track_caller]
    pub fn command_with(&self, program: &str, arguments: &[&str], input: &str) -> String {
        self.try_command(program, arguments, input)
            .unwrap_or_else(|error| panic!("{}: {program} {arguments:?}: {error}", self.name()))
    }

    /// Runs a command in here.
    ///
    /// # Errors
    /// What it printed on standard error, where it fails.
    #[track_caller]
    pub fn try_command(
        &self,
        program: &str,
        arguments: &[&str],
        input: &str,
    ) -> Result<String, String> {
        let output = self.run(|| run(Command::new(program).args(arguments), input));
        match output.status.success() {
            true => Ok(String::from_utf8_lossy(&output.stdout).into_owned()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// Runs commands of `ip`, a line each.
    #[track_caller]
    pub fn ip(&self, lines: &str) {
        self.command_with("ip", &["-batch", "-"], lines);
    }

    /// Writes a setting below /proc/sys/net. One that this kernel hasn't is passed over.
    #[track_caller]
    pub fn set(&self, key: &str, value: &str) {
        let path = Path::new("/proc/sys/net").join(key);
        self.run(|| {
            if path.exists() {
                fs::write(&path, value).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
            }
        });
    }

    /// Reads a setting below /proc/sys/net.
    #[track_caller]
    pub fn setting(&self, key: &str) -> String {
        let path = Path::new("/proc/sys/net").join(key);
        self.run(|| fs::read_to_string(&path).unwrap().trim().to_owned())
    }

    /// Whether an address stands on one of its interfaces.
    #[track_caller]
    pub fn has_address(&self, address: std::net::IpAddr) -> bool {
        let text = self.command("ip", &["-o", "addr", "show", "to", &address.to_string()]);
        !text.trim().is_empty()
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

/// Runs a command to its end.
#[track_caller]
fn run(command: &mut Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|e| panic!("{}: {e}", command.get_program().display()));
    // A program that has ended without reading it all says why on standard error.
    _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

/// Deletes namespaces of processes that are no more. Once a process.
pub(super) fn remove_leftovers() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let Ok(entries) = fs::read_dir(FOLDER) else { return };
        for entry in entries.flatten() {
            let name = entry.file_name();
            let pid = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.split('-').next());
            let Some(pid) = pid.and_then(|pid| pid.parse::<u32>().ok()) else { continue };
            if !Path::new("/proc").join(pid.to_string()).exists() {
                // Another process may be doing the same.
                _ = Command::new("ip").args(["netns", "del"]).arg(&name).output();
            }
        }
    });
}
