//! The gateway as a process.

use std::fmt::Write as _;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;

use rustix::fs::{CWD, Mode, OFlags, mkfifoat};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::client::{Client, get};
use crate::lab::Namespace;
use crate::message::Response;
use crate::net::{eventually, unique_address};

const HTTP: u16 = 8080;
const HTTPS: u16 = 8443;
const PRIVATE_HTTP: u16 = 8081;
const ADMIN: u16 = 9901;

/// O_NONBLOCK of open(2).
const NONBLOCK: i32 = OFlags::NONBLOCK.bits().cast_signed();

/// Who reads a FIFO that the access log goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FifoReader {
    /// Nobody has it open.
    Missing,
    /// It is open, but nothing is ever read from it.
    Stuck,
}

/// What a gateway is started with. The access log goes to a file, and the rest is the default,
/// until something is added.
#[derive(Debug)]
pub struct GatewayBuilder {
    alb: String,
    config: String,
    workers: String,
    private: bool,
    fifo_log: Option<FifoReader>,
    manifests: Vec<(String, String)>,
    place: Place,
}

/// Where and how the process runs.
#[derive(Clone, Debug)]
struct Place {
    exe: PathBuf,
    /// Words of a command that runs the one after it.
    wrapper: Vec<String>,
    namespace: Option<Namespace>,
}

impl Place {
    /// A command of the binary.
    fn command(&self) -> Command {
        match self.wrapper.split_first() {
            None => Command::new(&self.exe),
            Some((first, rest)) => {
                let mut command = Command::new(first);
                command.args(rest).arg(&self.exe);
                command
            }
        }
    }

    /// Calls a function where the process is.
    #[track_caller]
    fn run<T: Send>(&self, function: impl FnOnce() -> T + Send) -> T {
        match &self.namespace {
            Some(namespace) => namespace.run(function),
            None => function(),
        }
    }

    /// Starts the gateway with the configuration in a folder.
    #[track_caller]
    fn spawn(&self, folder: &Path) -> Child {
        let errors = folder.join("stderr");
        let stderr = fs::OpenOptions::new().append(true).create(true).open(errors).unwrap();
        let mut command = self.command();
        command
            .args(["run", "--config"])
            .arg(folder.join("gateway.yaml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(stderr);
        self.run(|| command.spawn())
            .unwrap_or_else(|e| panic!("starting {}: {e}", self.exe.display()))
    }
}

impl GatewayBuilder {
    /// Further keys of `alb.public`, as YAML lines without indent.
    #[must_use]
    pub fn alb(mut self, yaml: &str) -> Self {
        for line in yaml.lines() {
            let _ = writeln!(self.alb, "    {line}");
        }
        self
    }

    /// Further keys of the configuration, as YAML lines.
    #[must_use]
    pub fn config(mut self, yaml: &str) -> Self {
        self.config.push_str(yaml);
        self.config.push('\n');
        self
    }

    /// Enables the private ALB too, for HTTP.
    #[must_use]
    pub fn private(mut self) -> Self {
        self.private = true;
        self
    }

    /// Makes the access log a FIFO.
    #[must_use]
    pub fn log_to_fifo(mut self, reader: FifoReader) -> Self {
        self.fifo_log = Some(reader);
        self
    }

    /// The number of workers; 2 unless said.
    #[must_use]
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers.to_string();
        self
    }

    /// Runs it in a namespace. All its own listeners are on loopback there.
    #[must_use]
    pub fn within(mut self, namespace: &Namespace) -> Self {
        self.place.namespace = Some(namespace.clone());
        self
    }

    /// Has it run by another command, as in `setpriv … gateway`.
    #[must_use]
    pub fn run_by(mut self, command: &[&str]) -> Self {
        self.place.wrapper = command.iter().map(|&word| word.to_owned()).collect();
        self
    }

    /// A file in the manifests folder.
    #[must_use]
    pub fn manifest(mut self, file: &str, yaml: impl Into<String>) -> Self {
        self.manifests.push((file.to_owned(), yaml.into()));
        self
    }

    /// Starts the process and waits until it is ready.
    #[track_caller]
    pub fn start(self) -> Gateway {
        let mut gateway = self.spawn();
        gateway.wait_ready();
        gateway
    }

    /// Starts the process.
    #[track_caller]
    pub fn spawn(self) -> Gateway {
        let folder = tempfile::tempdir().unwrap();
        let address = unique_address();
        fs::create_dir(folder.path().join("manifests")).unwrap();
        for (file, text) in &self.manifests {
            fs::write(folder.path().join("manifests").join(file), text).unwrap();
        }
        let log_reader = self.fifo_log.and_then(|reader| {
            let path = folder.path().join("access.log");
            mkfifoat(CWD, &path, Mode::RUSR | Mode::WUSR).unwrap();
            // O_NONBLOCK: without it, opening waits for the writer.
            let open = || fs::OpenOptions::new().read(true).custom_flags(NONBLOCK).open(&path);
            (reader == FifoReader::Stuck).then(|| open().unwrap())
        });
        let config = folder.path().join("gateway.yaml");
        fs::write(&config, self.yaml(address)).unwrap();
        let child = self.place.spawn(folder.path());
        let place = self.place;
        Gateway { child, folder, address, place, exited: None, _log_reader: log_reader }
    }

    fn yaml(&self, address: IpAddr) -> String {
        let private = match self.private {
            true => format!(
                "  private: {{enabled: true, listen: {{addresses: [\"{address}\"], http: {PRIVATE_HTTP}}}}}\n"
            ),
            false => String::new(),
        };
        format!(
            "apiVersion: tidegate.io/v1alpha1
kind: GatewayConfig
source:
  manifests: manifests/
alb:
  public:
    listen: {{addresses: [\"{address}\"], http: {HTTP}, https: {HTTPS}}}
{}{private}admin: {{listen: \"{address}:{ADMIN}\"}}
workers: {}
state: state
accessLog: {{path: access.log}}
{}",
            self.alb, self.workers, self.config
        )
    }
}

/// A gateway that runs. It is killed when dropped, and its log printed if the test has failed.
#[derive(Debug)]
pub struct Gateway {
    child: Child,
    folder: TempDir,
    address: IpAddr,
    place: Place,
    exited: Option<ExitStatus>,
    /// The FIFO stays open on this side for as long as the gateway may write to it.
    _log_reader: Option<fs::File>,
}

impl Gateway {
    /// Starts to put one together. `exe` is `env!("CARGO_BIN_EXE_gateway")`.
    pub fn builder(exe: impl Into<PathBuf>) -> GatewayBuilder {
        GatewayBuilder {
            alb: String::new(),
            config: String::new(),
            workers: "2".to_owned(),
            private: false,
            fifo_log: None,
            manifests: Vec::new(),
            place: Place { exe: exe.into(), wrapper: Vec::new(), namespace: None },
        }
    }

    /// Starts one with the defaults and these manifests.
    #[track_caller]
    pub fn start(exe: impl Into<PathBuf>, manifests: &[&str]) -> Self {
        Self::builder(exe).manifest("all.yaml", manifests.concat()).start()
    }

    #[track_caller]
    fn wait_ready(&mut self) {
        let admin = self.admin();
        eventually("gateway is ready", || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("gateway ended with {status}: {}", self.stderr());
            }
            self.place.run(|| {
                // Connecting can fail, also for a moment after it was possible: where the first
                // routing rule of a namespace comes, its local addresses can't be reached.
                let stream = std::net::TcpStream::connect(admin).ok()?;
                let mut client = Client::over(stream);
                (client.get("admin", "/readyz").status == 200).then_some(())
            })
        });
    }

    /// Where the public ALB listens for HTTP.
    pub fn http(&self) -> SocketAddr {
        SocketAddr::new(self.address, HTTP)
    }

    /// Where the public ALB listens for HTTPS.
    pub fn https(&self) -> SocketAddr {
        SocketAddr::new(self.address, HTTPS)
    }

    /// Where the private ALB listens for HTTP.
    pub fn private_http(&self) -> SocketAddr {
        SocketAddr::new(self.address, PRIVATE_HTTP)
    }

    /// Where the admin API listens.
    pub fn admin(&self) -> SocketAddr {
        SocketAddr::new(self.address, ADMIN)
    }

    /// A connection to the HTTP listener.
    #[track_caller]
    pub fn client(&self) -> Client {
        self.place.run(|| Client::connect(self.http()))
    }

    /// One GET to the HTTP listener on a connection of its own.
    #[track_caller]
    pub fn get(&self, host: &str, path: &str) -> Response {
        self.place.run(|| get(self.http(), host, path))
    }

    /// One GET to the admin API.
    #[track_caller]
    pub fn admin_get(&self, path: &str) -> Response {
        self.place.run(|| get(self.admin(), &self.admin().to_string(), path))
    }

    /// The sum over all series of a metric whose labels contain each of these pairs; 0 for none.
    #[track_caller]
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let text = self.admin_get("/metrics").text();
        text.lines()
            .filter(|line| {
                let rest = line.strip_prefix(name).unwrap_or("?");
                rest.starts_with(['{', ' '])
                    && labels.iter().all(|(k, v)| line.contains(&format!("{k}=\"{v}\"")))
            })
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }

    /// The folder of its configuration.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a manifest in one step, by renaming.
    #[track_caller]
    pub fn apply(&self, file: &str, yaml: impl AsRef<str>) {
        let manifests = self.folder.path().join("manifests");
        let hidden = manifests.join(format!(".{file}.new"));
        fs::write(&hidden, yaml.as_ref()).unwrap();
        fs::rename(hidden, manifests.join(file)).unwrap();
    }

    /// Removes a manifest.
    #[track_caller]
    pub fn remove(&self, file: &str) {
        fs::remove_file(self.folder.path().join("manifests").join(file)).unwrap();
    }

    /// What it has logged.
    pub fn stderr(&self) -> String {
        fs::read_to_string(self.folder.path().join("stderr")).unwrap_or_default()
    }

    /// The access log's lines so far, each of which must be a JSON object.
    #[track_caller]
    pub fn access_log(&self) -> Vec<serde_json::Value> {
        let text = fs::read_to_string(self.folder.path().join("access.log")).unwrap_or_default();
        // A last line without its end is still being written.
        let whole = text.rfind('\n').map_or("", |end| text.get(..end).unwrap());
        whole
            .lines()
            .map(|line| {
                let value: serde_json::Value = serde_json::from_str(line)
                    .unwrap_or_else(|e| panic!("access log line {line:?}: {e}"));
                assert!(value.is_object(), "access log line {line:?}");
                value
            })
            .collect()
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its resident memory in bytes.
    #[track_caller]
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Asks it to end in order.
    #[track_caller]
    pub fn terminate(&self) {
        kill_process(Pid::from_child(&self.child), Signal::TERM).unwrap();
    }

    /// Asks it to open its log files anew.
    #[track_caller]
    pub fn hang_up(&self) {
        kill_process(Pid::from_child(&self.child), Signal::HUP).unwrap();
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
        eventually("gateway ends", || self.exit_status())
    }

    /// Kills it at once (SIGKILL) and waits until it has ended.
    #[track_caller]
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.wait();
    }

    /// Starts it again, once it has ended, with everything as it was left, and waits until it is
    /// ready.
    #[track_caller]
    pub fn start_again(&mut self) {
        assert!(self.exit_status().is_some(), "the gateway still runs");
        self.child = self.place.spawn(self.folder.path());
        self.exited = None;
        self.wait_ready();
    }

    /// Runs another subcommand of the same binary on the same configuration: exit code, stdout,
    /// stderr.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> (Option<i32>, String, String) {
        let mut command = self.place.command();
        command.args(arguments).arg("--config").arg(self.folder.path().join("gateway.yaml"));
        let output = self.place.run(|| command.output()).unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
        if thread::panicking() {
            // The test harness shows it with the failure.
            eprintln!("gateway's log:\n{}", self.stderr());
        }
    }
}
