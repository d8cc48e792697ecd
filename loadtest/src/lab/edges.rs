//! Client, edges and backend in network namespaces of their own, for what forwards packets.
//!
//! Each edge lies between the client and the backend with links of its own, so that what one edge
//! does (tracking connections, say) costs the others nothing. Of edge *i*, counted from 1: the
//! client has 10.201.*i*.1 and .11 to .30, the edge 10.201.*i*.2 and, towards the backend,
//! 10.202.*i*.2; the backend is 10.202.*i*.1:8080, and 10.203.*i*.0/24 is routed to the edge, for
//! VIPs.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use nix::sched::{CloneFlags, setns};
use serde_json::json;

use super::{Cores, answers, find_program, text, write};
use crate::system::child::{Program, Supervised};

/// The backend's port.
const PORT: u16 = 8080;
/// The admin listener of gateways, on the edge's address towards the client.
const ADMIN: u16 = 9901;
/// Time for a program to serve.
const START: Duration = Duration::from_secs(60);
/// Client addresses of each edge besides the first.
const MORE_CLIENTS: std::ops::RangeInclusive<u8> = 11..=30;

/// The namespaces. The calling thread is in the client's as long as this lives.
#[derive(Debug)]
pub(crate) struct Edges {
    home: File,
    folder: PathBuf,
    cores: Cores,
    backend: Supervised,
    /// Last, so that they go last.
    namespaces: Namespaces,
}

/// What serves on an edge.
#[derive(Debug)]
pub(crate) struct Serving {
    /// Its process; none where only the kernel forwards.
    pub(crate) process: Option<Supervised>,
    /// Where clients connect.
    pub(crate) address: SocketAddr,
    /// Client addresses to connect from.
    pub(crate) sources: Vec<IpAddr>,
    /// The edge.
    pub(crate) edge: u8,
}

impl Edges {
    /// Makes the namespaces and starts the backend.
    pub(crate) fn set_up(folder: &Path, cores: Cores, edges: u8) -> anyhow::Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            bail!("network namespaces take root: run it as root, or leave suite l4 out");
        }
        let home = File::open("/proc/thread-self/ns/net").context("this thread's namespace")?;
        let namespaces = Namespaces { prefix: format!("lt{}", std::process::id()), edges };
        namespaces.make()?;
        let errors = folder.join("l4-backend.err");
        let own = std::env::current_exe().context("this program")?;
        let listen = format!("0.0.0.0:{PORT}");
        let program = within(&namespaces.name("backend"), &own, &["backend", "--listen", &listen]);
        let backend = Supervised::start("backend", &program?, cores.backend, &errors, &errors)?;
        enter(&namespaces.name("client"))?;
        let mut this = Self { home, folder: folder.to_owned(), cores, backend, namespaces };
        let direct = this.backend_address(1);
        this.backend.wait_until("200 over a routed edge", START, || answers(direct, "lab", "/"))?;
        Ok(this)
    }

    /// The backend's process.
    pub(crate) fn backend(&self) -> &Supervised {
        &self.backend
    }

    /// The backend as it is reached over an edge.
    pub(crate) fn backend_address(&self, edge: u8) -> SocketAddr {
        (Ipv4Addr::new(10, 202, edge, 1), PORT).into()
    }

    /// A VIP of an edge.
    pub(crate) fn vip(edge: u8, last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 203, edge, last)
    }

    /// The admin listener of a gateway on an edge.
    pub(crate) fn admin(edge: u8) -> SocketAddr {
        (Ipv4Addr::new(10, 201, edge, 2), ADMIN).into()
    }

    /// An edge where the kernel alone forwards.
    pub(crate) fn routed(&self, edge: u8) -> Serving {
        Serving { process: None, address: self.backend_address(edge), sources: sources(edge), edge }
    }

    /// A gateway on an edge, with these objects; clients connect to `address`.
    pub(crate) fn gateway(
        &self,
        path: &Path,
        edge: u8,
        address: SocketAddr,
        files: &[(String, Vec<serde_json::Value>)],
    ) -> anyhow::Result<Serving> {
        let folder = self.folder.join(format!("l4-gateway-{edge}"));
        if folder.exists() {
            fs::remove_dir_all(&folder).context("a gateway's folder of before")?;
        }
        let manifests = folder.join("manifests");
        fs::create_dir_all(&manifests).with_context(|| format!("{}", manifests.display()))?;
        for (name, objects) in files {
            put_objects(&manifests, name, objects)?;
        }
        let configuration = folder.join("gateway.yaml");
        let config = json!({
            "apiVersion": "tidegate.io/v1alpha1",
            "kind": "GatewayConfig",
            "nodeName": "edge",
            "source": { "manifests": text(&manifests)? },
            "alb": { "public": { "enabled": false } },
            "l4": { "enabled": true, "interfaces": { "public": ["client"], "private": ["back"] } },
            "admin": { "listen": Self::admin(edge) },
            "workers": 1,
            "state": text(&folder.join("state"))?,
            "accessLog": { "path": "off" },
        });
        write(&configuration, serde_json::to_vec_pretty(&config).context("the configuration")?)?;
        let path = std::path::absolute(path).context("the gateway's path")?;
        let program =
            within(&self.edge(edge), &path, &["run", "--config", &text(&configuration)?])?;
        let errors = folder.join("stderr.log");
        let mut process =
            Supervised::start("gateway", &program, self.cores.target, &errors, &errors)?;
        process.wait_until_every(Duration::from_millis(5), "200 from /readyz", START, || {
            answers(Self::admin(edge), "lab", "/readyz")
        })?;
        Ok(Serving { process: Some(process), address, sources: sources(edge), edge })
    }

    /// HAProxy on an edge, in TCP mode.
    pub(crate) fn haproxy(&self, edge: u8) -> anyhow::Result<Serving> {
        let address: SocketAddr = (Self::vip(edge, 1), 80).into();
        let configuration = self.folder.join(format!("l4-haproxy-{edge}.cfg"));
        let backend = self.backend_address(edge);
        write(
            &configuration,
            format!(
                "global
    nbthread 1
    maxconn 8000
defaults
    mode tcp
    option splice-auto
    timeout connect 5s
    timeout client 60s
    timeout server 60s
frontend vip
    bind {address} transparent backlog 4096
    default_backend pods
backend pods
    server pod {backend}
"
            ),
        )?;
        command(
            &["ip", "netns", "exec", &self.edge(edge), "ip", "address", "add"],
            &[&format!("{}/32", address.ip()), "dev", "lo"],
        )?;
        let haproxy = find_program("haproxy")
            .context("HAProxy is not installed: `apt-get install haproxy`")?;
        let program = within(&self.edge(edge), &haproxy, &["-db", "-f", &text(&configuration)?])?;
        let errors = self.folder.join(format!("l4-haproxy-{edge}.err"));
        let mut process =
            Supervised::start("haproxy", &program, self.cores.target, &errors, &errors)?;
        process.wait_until("200 from the backend", START, || answers(address, "lab", "/"))?;
        Ok(Serving { process: Some(process), address, sources: sources(edge), edge })
    }

    /// Replaces one of a gateway's files in one step.
    pub(crate) fn replace(
        &self,
        edge: u8,
        name: &str,
        objects: &[serde_json::Value],
    ) -> anyhow::Result<()> {
        put_objects(&self.folder.join(format!("l4-gateway-{edge}/manifests")), name, objects)
    }

    fn edge(&self, edge: u8) -> String {
        self.namespaces.name(&format!("edge{edge}"))
    }
}

impl Drop for Edges {
    fn drop(&mut self) {
        if let Err(error) = setns(&self.home, CloneFlags::CLONE_NEWNET) {
            eprintln!("loadtest: the way back into the first namespace: {error}");
        }
    }
}

/// The namespaces, removed at the end.
#[derive(Debug)]
struct Namespaces {
    prefix: String,
    edges: u8,
}

impl Namespaces {
    fn name(&self, what: &str) -> String {
        format!("{}-{what}", self.prefix)
    }

    fn names(&self) -> impl Iterator<Item = String> {
        let edges = (1..=self.edges).map(|edge| self.name(&format!("edge{edge}")));
        ["client", "backend"]
            .map(|what| self.name(what))
            .into_iter()
            .chain(edges.collect::<Vec<_>>())
    }

    fn make(&self) -> anyhow::Result<()> {
        for name in self.names() {
            command(&["ip", "netns", "add"], &[&name])?;
            ip(&name, "link set lo up")?;
        }
        let (client, backend) = (self.name("client"), self.name("backend"));
        for edge in 1..=self.edges {
            let name = self.name(&format!("edge{edge}"));
            link(&client, &format!("e{edge}"), &name, "client")?;
            link(&backend, &format!("e{edge}"), &name, "back")?;
            ip(&client, &format!("address add 10.201.{edge}.1/24 dev e{edge}"))?;
            for last in MORE_CLIENTS {
                ip(&client, &format!("address add 10.201.{edge}.{last}/24 dev e{edge}"))?;
            }
            ip(&name, &format!("address add 10.201.{edge}.2/24 dev client"))?;
            ip(&name, &format!("address add 10.202.{edge}.2/24 dev back"))?;
            ip(&backend, &format!("address add 10.202.{edge}.1/24 dev e{edge}"))?;
            ip(&client, &format!("route add 10.202.{edge}.0/24 via 10.201.{edge}.2"))?;
            ip(&client, &format!("route add 10.203.{edge}.0/24 via 10.201.{edge}.2"))?;
            ip(&backend, &format!("route add 10.201.{edge}.0/24 via 10.202.{edge}.2"))?;
            let forward = ["ip", "netns", "exec", &name, "sh", "-c"];
            command(&forward, &["echo 1 > /proc/sys/net/ipv4/ip_forward"])?;
        }
        Ok(())
    }
}

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in self.names() {
            // One that was not made yet is no loss.
            let _ = Command::new("ip").args(["netns", "delete", &name]).output();
        }
    }
}

/// Everything of a Service of type LoadBalancer: itself and its endpoints.
pub(crate) fn service(
    name: &str,
    address: Ipv4Addr,
    port: u16,
    annotations: &[(&str, &str)],
    endpoints: &[SocketAddr],
) -> Vec<serde_json::Value> {
    let mut all: serde_json::Map<String, serde_json::Value> =
        annotations.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect();
    all.insert("tidegate.io/addresses".to_owned(), json!(address));
    all.insert("tidegate.io/sharing-key".to_owned(), json!(address.to_string()));
    let target = endpoints.first().map_or(PORT, SocketAddr::port);
    let addresses: Vec<_> =
        endpoints.iter().map(|endpoint| json!({ "addresses": [endpoint.ip()] })).collect();
    vec![
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": { "name": name, "annotations": all },
            "spec": {
                "type": "LoadBalancer",
                "ports": [{ "port": port, "targetPort": target, "protocol": "TCP" }],
            },
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": format!("{name}-1"),
                "labels": { "kubernetes.io/service-name": name },
            },
            "addressType": "IPv4",
            "ports": [{ "port": target, "protocol": "TCP" }],
            "endpoints": addresses,
        }),
    ]
}

/// The pool of an edge: all its VIPs, routed to it.
pub(crate) fn pool(edge: u8) -> serde_json::Value {
    json!({
        "apiVersion": "tidegate.io/v1alpha1",
        "kind": "AddressPool",
        "metadata": { "name": "vips" },
        "spec": { "addresses": [format!("10.203.{edge}.0/24")], "announce": "none" },
    })
}

fn sources(edge: u8) -> Vec<IpAddr> {
    MORE_CLIENTS.map(|last| IpAddr::from([10, 201, edge, last])).collect()
}

fn put_objects(folder: &Path, name: &str, objects: &[serde_json::Value]) -> anyhow::Result<()> {
    let staged = folder.with_extension("staged");
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": objects });
    write(&staged, serde_json::to_vec(&list).context("manifests")?)?;
    let place = folder.join(name);
    fs::rename(&staged, &place).with_context(|| format!("{}", place.display()))
}

/// A program in a namespace.
fn within(namespace: &str, program: &Path, arguments: &[&str]) -> anyhow::Result<Program> {
    let path = find_program("ip").context("ip is not installed: `apt-get install iproute2`")?;
    let front = ["netns", "exec", namespace, &text(program)?].map(str::to_owned);
    let arguments = arguments.iter().map(|argument| (*argument).to_owned());
    Ok(Program { path, arguments: front.into_iter().chain(arguments).collect() })
}

fn enter(namespace: &str) -> anyhow::Result<()> {
    let path = format!("/run/netns/{namespace}");
    let file = File::open(&path).with_context(|| path.clone())?;
    setns(file, CloneFlags::CLONE_NEWNET).with_context(|| format!("entering {path}"))
}

fn link(one: &str, name: &str, other: &str, other_name: &str) -> anyhow::Result<()> {
    let line = format!("link add {name} type veth peer name {other_name} netns {other}");
    ip(one, &line)?;
    ip(one, &format!("link set {name} up"))?;
    ip(other, &format!("link set {other_name} up"))
}

fn ip(namespace: &str, line: &str) -> anyhow::Result<()> {
    let words: Vec<_> = line.split(' ').collect();
    command(&["ip", "-netns", namespace], &words)
}

fn command(front: &[&str], rest: &[&str]) -> anyhow::Result<()> {
    let (program, arguments) = front.split_first().context("invariant: there is a program")?;
    let output = Command::new(program)
        .args(arguments)
        .args(rest)
        .output()
        .with_context(|| (*program).to_owned())?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{} {}: {}", front.join(" "), rest.join(" "), said.trim());
    }
    Ok(())
}
