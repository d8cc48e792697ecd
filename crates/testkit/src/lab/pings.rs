//! Echo requests under way.

use std::io::Read as _;
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::lab::Namespace;

/// Echo requests under way.
#[derive(Debug)]
pub struct Pings {
    child: Child,
}

impl Pings {
    /// Echo requests from a namespace to an address, one every `interval` seconds, until
    /// [`Pings::stop`].
    #[track_caller]
    pub fn start(from: &Namespace, to: IpAddr, interval: &str) -> Self {
        let mut command = Command::new("ping");
        command.args(["-n", "-q", "-i", interval, "-W", "1", &to.to_string()]);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let child = from.spawn(&mut command).unwrap_or_else(|e| panic!("ping: {e}"));
        Self { child }
    }

    /// Ends them: how many were sent, and how many answered.
    #[track_caller]
    pub fn stop(mut self) -> (u64, u64) {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        let mut text = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut text).unwrap();
        let line = text.lines().find(|line| line.contains("transmitted"));
        let line = line.unwrap_or_else(|| panic!("ping printed {text:?}"));
        let number = |word: &str| -> u64 {
            let part = line.split(", ").find(|part| part.contains(word));
            let part = part.and_then(|part| part.split_whitespace().next());
            part.and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("ping printed {line:?}"))
        };
        (number("transmitted"), number("received"))
    }
}

impl Drop for Pings {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
