//! A network namespace for a test, and one for its peer.

use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns, unshare};

/// Runs a test on a thread in a network namespace of its own, with loopback up.
pub(crate) fn alone(test: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new().name("alone".to_owned()).spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("network namespaces need root");
        run("ip link set lo up");
        test();
    });
    if let Err(panic) = thread.unwrap().join() {
        std::panic::resume_unwind(panic);
    }
}

/// The same with a peer on a link: `edge0` here, `peer0` there.
pub(crate) fn with_peer(test: impl FnOnce(&Peer) + Send + 'static) {
    alone(|| {
        let peer = Peer::new();
        run(&format!("ip link add edge0 type veth peer name peer0 netns {}", peer.name));
        // Addresses of the link are of no interest, and duplicate address detection takes time.
        run("sysctl -qw net.ipv6.conf.edge0.accept_dad=0");
        peer.run("sysctl -qw net.ipv6.conf.peer0.accept_dad=0");
        run("ip link set edge0 up");
        peer.run("ip link set peer0 up");
        peer.run("ip link set lo up");
        eventually("the link is up", || netdev::address::interface("edge0").unwrap().carrier);
        test(&peer);
    });
}

/// The namespace of the peer; it goes with this.
pub(crate) struct Peer {
    pub(crate) name: String,
}

impl Peer {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let peer = Self { name: format!("netdev-{}-{count}", std::process::id()) };
        run(&format!("ip netns add {}", peer.name));
        peer
    }

    /// Runs a command there.
    pub(crate) fn run(&self, command: &str) -> String {
        run(&format!("ip netns exec {} {command}", self.name))
    }

    /// Runs a function on a thread there.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        function: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<T> {
        let namespace = std::fs::File::open(format!("/run/netns/{}", self.name)).unwrap();
        thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
            function()
        })
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.name]).status();
    }
}

/// Runs a command that succeeds; its output.
pub(crate) fn run(command: &str) -> String {
    let Output { status, stdout, stderr } = output(command);
    let errors = String::from_utf8_lossy(&stderr);
    assert!(status.success(), "{command}: {errors}");
    String::from_utf8(stdout).unwrap()
}

fn output(command: &str) -> Output {
    let mut words = command.split_whitespace();
    Command::new(words.next().unwrap()).args(words).output().unwrap()
}

/// Waits until it is so, ten seconds at most.
pub(crate) fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !so() {
        assert!(Instant::now() < deadline, "not within ten seconds: {what}");
        thread::yield_now();
    }
}
