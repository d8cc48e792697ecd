//! A `loadtest backend` of a test's own, and `loadtest` as its users run it.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The built program.
pub(crate) const LOADTEST: &str = env!("CARGO_BIN_EXE_loadtest");
/// Time for what a test waits for.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A backend, ended when dropped.
pub(crate) struct Backend {
    process: Child,
    /// Where it answers over HTTP and WebSocket.
    pub(crate) address: SocketAddr,
    /// Where it echoes over TCP.
    pub(crate) tcp: SocketAddr,
    /// Where it echoes datagrams.
    pub(crate) udp: SocketAddr,
}

impl Backend {
    /// One that has bound its addresses.
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let announce = folder.path().join("address");
        let any = "127.0.0.1:0";
        let process = Command::new(LOADTEST)
            .args(["backend", "--name", "tested", "--listen", any])
            .args(["--tcp-echo", any, "--udp-echo", any, "--announce"])
            .arg(&announce)
            .spawn()
            .expect("the backend starts");
        let none = SocketAddr::from(([0, 0, 0, 0], 0));
        // Made before anything can fail, so that the process ends in any case.
        let mut backend = Self { process, address: none, tcp: none, udp: none };
        eventually("the backend announces no address", || announce.exists());
        let text = fs::read_to_string(&announce).expect("addresses");
        let mut lines = text.lines();
        let mut next = |what: &str| {
            let line = lines.next().and_then(|line| line.strip_prefix(what));
            line.and_then(|address| address.parse().ok()).expect("an address of each listener")
        };
        (backend.address, backend.tcp, backend.udp) =
            (next(""), next("tcp-echo "), next("udp-echo "));
        backend
    }

    /// Sends a request on a connection of its own and returns all that comes.
    pub(crate) fn ask(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).expect("a connection");
        stream.write_all(request.as_bytes()).expect("sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        answer
    }

    /// All that it has counted so far; this question is a request on a connection of its own.
    pub(crate) fn counts(&self) -> Value {
        let answer = self.ask("GET /count.json HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let body = answer.split_once("\r\n\r\n").expect("a body").1;
        serde_json::from_str(body).expect("JSON")
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Runs `loadtest` to its end.
pub(crate) fn loadtest(arguments: &[&str]) -> Output {
    Command::new(LOADTEST).args(arguments).stdin(Stdio::null()).output().expect("loadtest runs")
}

/// What was printed, as text.
pub(crate) fn said(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs a scenario that keeps to its limits; its report, and what it printed.
#[track_caller]
pub(crate) fn run_scenario(scenario: &Path, flags: &[&str]) -> (Value, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let json = folder.path().join("report.json");
    let (scenario, json) = (scenario.to_str().expect("UTF-8"), json.to_str().expect("UTF-8"));
    let output = loadtest(&[&["run", scenario, "--json", json], flags].concat());
    assert!(output.status.success(), "{scenario}: {}", said(&output.stderr));
    let report = serde_json::from_slice(&fs::read(json).expect("a report")).expect("JSON");
    (report, said(&output.stdout))
}

/// Waits for a condition.
#[track_caller]
pub(crate) fn eventually(otherwise: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "{otherwise}");
        std::thread::yield_now();
    }
}
