//! What goes over an interface, by tcpdump.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use crate::lab::Namespace;
use crate::net::eventually;

/// tcpdump at work. It ends when dropped.
#[derive(Debug)]
pub struct Capture {
    child: Child,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Capture {
    /// Starts to capture what matches the filter (pcap-filter(7)).
    #[track_caller]
    pub fn start(namespace: &Namespace, interface: &str, filter: &str) -> Self {
        let mut command = Command::new("tcpdump");
        command.args(["-l", "-n", "-e", "--immediate-mode", "-i", interface, filter]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = namespace.spawn(&mut command).unwrap_or_else(|e| panic!("tcpdump: {e}"));
        // It says when it is listening.
        let mut errors = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut said = Vec::new();
        while !said.last().is_some_and(|line: &String| line.starts_with("listening on")) {
            match errors.next() {
                Some(Ok(line)) => said.push(line),
                _ => panic!("tcpdump: {said:?}"),
            }
        }
        let lines = Arc::<Mutex<Vec<String>>>::default();
        let record = Arc::clone(&lines);
        let output = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                record.lock().unwrap().push(line);
            }
        });
        thread::spawn(move || errors.for_each(drop));
        Self { child, lines }
    }

    /// What it has seen, a line a packet.
    pub fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }

    /// Waits for a packet whose line contains all of these.
    #[track_caller]
    pub fn wait_for(&self, parts: &[&str]) -> String {
        let matches = |line: &String| parts.iter().all(|part| line.contains(part));
        eventually(&format!("a packet with {parts:?}"), || self.lines().into_iter().find(matches))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
