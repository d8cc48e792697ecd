//! Any program of ours as a process in a namespace.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::client::{Client, get};
use crate::lab::Namespace;
use crate::message::Response;
use crate::net::eventually;

/// A program that runs, with a folder of its own as its working directory. It is killed when
/// dropped, and its log printed if the test has failed.
#[derive(Debug)]
pub struct Program {
    exe: PathBuf,
    arguments: Vec<String>,
    namespace: Namespace,
    folder: TempDir,
    child: Child,
    exited: Option<ExitStatus>,
}

/// The path of another program of the workspace, beside `exe` (`env!("CARGO_BIN_EXE_…")`).
#[track_caller]
pub fn sibling(exe: impl AsRef<Path>, name: &str) -> PathBuf {
    let path = exe.as_ref().with_file_name(name);
    assert!(path.exists(), "{} is missing; build it first: cargo build -p {name}", path.display());
    path
}

impl Program {
    /// Starts one, with these files in its folder.
    #[track_caller]
    pub fn start(
        exe: impl Into<PathBuf>,
        namespace: &Namespace,
        arguments: &[&str],
        files: &[(&str, &str)],
    ) -> Self {
        let (exe, folder) = (exe.into(), tempfile::tempdir().unwrap());
        for (name, text) in files {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let arguments: Vec<String> = arguments.iter().map(|&word| word.to_owned()).collect();
        let child = spawn(&exe, &arguments, namespace, folder.path());
        Self { exe, arguments, namespace: namespace.clone(), folder, child, exited: None }
    }

    /// Waits until a path on its admin address answers 200.
    #[track_caller]
    pub fn wait_ready(&mut self, admin: SocketAddr, path: &str) {
        let exe = self.exe.display().to_string();
        eventually(&format!("{exe} is ready"), || {
            if let Some(status) = self.exit_status() {
                panic!("{exe} ended with {status}: {}", self.stderr());
            }
            self.namespace.run(|| {
                let stream = std::net::TcpStream::connect(admin).ok()?;
                (Client::over(stream).get("admin", path).status == 200).then_some(())
            })
        });
    }

    /// One GET from within its namespace.
    #[track_caller]
    pub fn get(&self, at: SocketAddr, path: &str) -> Response {
        self.namespace.run(|| get(at, "admin", path))
    }

    /// Its folder.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// What it has logged.
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    #[track_caller]
    pub fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Asks it to end in order.
    #[track_caller]
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Its exit status, if it has ended.
    #[track_caller]
    pub fn exit_status(&mut self) -> Option<ExitStatus> {
        if self.exited.is_none() {
            self.exited = self.child.try_wait().unwrap();
        }
        self.exited
    }

    /// Waits until it has ended.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let exe = self.exe.display().to_string();
        eventually(&format!("{exe} ends"), || self.exit_status())
    }

    /// Kills it at once (SIGKILL) and waits until it has ended.
    #[track_caller]
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.wait();
    }

    /// Starts it again, once it has ended, with everything as it was left.
    #[track_caller]
    pub fn start_again(&mut self) {
        assert!(self.exit_status().is_some(), "{} still runs", self.exe.display());
        self.child = spawn(&self.exe, &self.arguments, &self.namespace, self.folder.path());
        self.exited = None;
    }

    /// Runs the same program once with other arguments, in the same folder and namespace: exit
    /// code, stdout, stderr.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = Command::new(&self.exe);
        command.args(arguments).current_dir(self.folder.path()).stdin(Stdio::null());
        let output = self.namespace.run(|| command.output()).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }
}

#[track_caller]
fn spawn(exe: &Path, arguments: &[String], namespace: &Namespace, folder: &Path) -> Child {
    let log = fs::OpenOptions::new().append(true).create(true).open(folder.join("stderr")).unwrap();
    let mut command = Command::new(exe);
    command
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log);
    namespace.spawn(&mut command).unwrap_or_else(|e| panic!("starting {}: {e}", exe.display()))
}

impl Drop for Program {
    fn drop(&mut self) {
        if self.exit_status().is_none() {
            _ = self.child.kill();
            _ = self.child.wait();
        }
        if std::thread::panicking() {
            eprintln!("{} logged:\n{}", self.exe.display(), self.stderr());
        }
    }
}
