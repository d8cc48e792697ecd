//! A client, edges and a backend in network namespaces, for what needs a network of its own.
//!
//! ```text
//! client 10.N.0.2 … 10.N.0.41 ── 10.N.0.1 edge N 10.N.1.1 ── 10.N.1.2 backend
//! ```
//! Each edge has links of its own, so that what one does to packets costs the others nothing.
//! The addresses 10.N.64.0/18 are for services: the client sends them to edge N.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use nix::sched::{CloneFlags, setns};

/// Addresses that connections begin at: ports of one would soon be used up.
const SOURCES: u8 = 40;
/// What all namespaces are told. Connections come faster than ports are given back otherwise.
const SETTINGS: [(&str, &str); 4] = [
    ("ipv4/ip_local_port_range", "1024 65535"),
    ("ipv4/tcp_tw_reuse", "1"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
];

/// A network namespace; deleted when dropped.
#[derive(Debug)]
pub(crate) struct Namespace {
    name: String,
    file: File,
}

/// This thread, and processes that it starts, are in a namespace until it is dropped.
#[derive(Debug)]
pub(crate) struct Inside {
    before: File,
}

impl Namespace {
    /// Its name.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// A new one of this role, unique to this process.
    pub(crate) fn create(role: &str) -> anyhow::Result<Self> {
        let name = format!("loadtest-{}-{role}", std::process::id());
        let output = Command::new("ip").args(["netns", "add", &name]).output().context("ip")?;
        if !output.status.success() {
            bail!(
                "ip netns add {name}: {}: the suite needs root (CAP_SYS_ADMIN, CAP_NET_ADMIN)",
                String::from_utf8_lossy(&output.stderr).trim()
            );
        }
        let path = Path::new("/run/netns").join(&name);
        let file = File::open(&path).with_context(|| format!("{}", path.display()))?;
        let namespace = Self { name, file };
        for (key, value) in SETTINGS {
            namespace.set(key, value)?;
        }
        Ok(namespace)
    }

    /// Enters it.
    pub(crate) fn enter(&self) -> anyhow::Result<Inside> {
        const OWN: &str = "/proc/thread-self/ns/net";
        let before = File::open(OWN).context(OWN)?;
        setns(&self.file, CloneFlags::CLONE_NEWNET).with_context(|| self.name.clone())?;
        Ok(Inside { before })
    }

    /// Writes a setting below /proc/sys/net.
    pub(crate) fn set(&self, key: &str, value: &str) -> anyhow::Result<()> {
        let _inside = self.enter()?;
        let path = Path::new("/proc/sys/net").join(key);
        fs::write(&path, value).with_context(|| format!("{}", path.display()))
    }

    /// Runs commands of `ip`, a line each.
    pub(crate) fn ip(&self, lines: &str) -> anyhow::Result<()> {
        let mut child = Command::new("ip")
            .args(["-n", &self.name, "-batch", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("ip")?;
        if let Some(mut input) = child.stdin.take() {
            input.write_all(lines.as_bytes()).context("ip")?;
        }
        let output = child.wait_with_output().context("ip")?;
        if !output.status.success() {
            bail!("{}: ip: {}", self.name, String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(())
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // Nothing can be done about it here; its name says whose it was.
        _ = Command::new("ip").args(["netns", "del", &self.name]).output();
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        if let Err(error) = setns(&self.before, CloneFlags::CLONE_NEWNET) {
            // Whatever came next would measure something else.
            eprintln!("loadtest: can't leave the namespace: {error}");
            std::process::abort();
        }
    }
}

/// Client and backend, and the edges between them.
#[derive(Debug)]
pub(crate) struct Network {
    /// Where the load begins.
    pub(crate) client: Namespace,
    /// Where the backend is.
    pub(crate) backend: Namespace,
    edges: u8,
}

/// An edge with its links.
#[derive(Debug)]
pub(crate) struct Edge {
    /// Its namespace, with the interfaces `pub0` and `priv0`.
    pub(crate) namespace: Namespace,
    number: u8,
}

impl Network {
    /// Without an edge.
    pub(crate) fn set_up() -> anyhow::Result<Self> {
        let (client, backend) = (Namespace::create("client")?, Namespace::create("backend")?);
        client.ip("link set lo up\n")?;
        backend.ip("link set lo up\n")?;
        Ok(Self { client, backend, edges: 0 })
    }

    /// Another edge, which forwards.
    pub(crate) fn edge(&mut self) -> anyhow::Result<Edge> {
        self.edges += 1;
        let n = self.edges;
        let namespace = Namespace::create(&format!("edge{n}"))?;
        let Namespace { name, .. } = &namespace;
        let mut client =
            format!("link add c{n} type veth peer name pub0 netns {name}\nlink set c{n} up\n");
        for last in 2..2 + SOURCES {
            let _ = writeln!(client, "addr add 10.{n}.0.{last}/24 dev c{n}");
        }
        let mut backend =
            format!("link add b{n} type veth peer name priv0 netns {name}\nlink set b{n} up\n");
        let _ = writeln!(backend, "addr add 10.{n}.1.2/24 dev b{n}");
        self.client.ip(&client)?;
        self.backend.ip(&backend)?;
        namespace.ip(&format!(
            "link set lo up\nlink set pub0 up\nlink set priv0 up
addr add 10.{n}.0.1/24 dev pub0\naddr add 10.{n}.1.1/24 dev priv0\n"
        ))?;
        // Routes need the other side to be up.
        self.client.ip(&format!(
            "route add 10.{n}.1.0/24 via 10.{n}.0.1\nroute add 10.{n}.64.0/18 via 10.{n}.0.1\n"
        ))?;
        self.backend.ip(&format!("route add 10.{n}.0.0/24 via 10.{n}.1.1\n"))?;
        namespace.set("ipv4/ip_forward", "1")?;
        Ok(Edge { namespace, number: n })
    }
}

impl Edge {
    /// The client's addresses on its link.
    pub(crate) fn sources(&self) -> Vec<IpAddr> {
        (2..2 + SOURCES).map(|last| Ipv4Addr::new(10, self.number, 0, last).into()).collect()
    }

    /// Its own address towards the client.
    pub(crate) fn public(&self, port: u16) -> SocketAddr {
        (Ipv4Addr::new(10, self.number, 0, 1), port).into()
    }

    /// The backend's address on its link.
    pub(crate) fn backend(&self, port: u16) -> SocketAddr {
        (Ipv4Addr::new(10, self.number, 1, 2), port).into()
    }

    /// All addresses for services.
    pub(crate) fn pool(&self) -> String {
        format!("10.{}.64.0/18", self.number)
    }

    /// One of the addresses for services.
    pub(crate) fn service(&self, number: u16) -> Ipv4Addr {
        let [high, low] = number.to_be_bytes();
        Ipv4Addr::new(10, self.number, 64 + (high & 0x3f), low)
    }
}
