//! What stands on an edge of a [`Network`]: nothing, the gateway's L4 plane, or HAProxy in TCP mode.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::network::{Edge, Network};
use super::{START, answers, find_program, text, write};
use crate::system::child::{Program, Supervised};

/// Where the backend listens, on all its addresses.
pub(crate) const BACKEND: u16 = 8000;
/// The port of all services.
pub(crate) const SERVICE: u16 = 80;
/// The gateway's admin side, inside its namespace.
const ADMIN: ([u8; 4], u16) = ([127, 0, 0, 1], 9901);
/// Time for many Services to be loaded.
const LOAD: Duration = Duration::from_secs(120);

/// How the gateway's Services are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Path4 {
    /// By the kernel.
    Kernel,
    /// By the process.
    UserSpace,
}

/// An edge with what stands on it.
#[derive(Debug)]
pub(crate) struct Station {
    /// Its name in tables.
    pub(crate) name: String,
    /// The edge.
    pub(crate) edge: Edge,
    /// Where clients connect.
    pub(crate) address: SocketAddr,
    /// The program, if there is one.
    pub(crate) process: Option<Supervised>,
    folder: PathBuf,
}

impl Station {
    /// An edge that only forwards.
    pub(crate) fn routing(network: &mut Network) -> anyhow::Result<Self> {
        let edge = network.edge()?;
        let address = edge.backend(BACKEND);
        let folder = PathBuf::new();
        Ok(Self { name: "routing".to_owned(), edge, address, process: None, folder })
    }

    /// HAProxy in TCP mode; with `splice`, moving bytes within the kernel.
    pub(crate) fn haproxy(
        network: &mut Network,
        folder: &Path,
        core: usize,
        splice: bool,
    ) -> anyhow::Result<Self> {
        let name = if splice { "haproxy-splice" } else { "haproxy" };
        let edge = network.edge()?;
        let folder = own_folder(folder, name, &edge)?;
        let (listen, server) = (edge.public(SERVICE), edge.backend(BACKEND));
        let splice = if splice { "option splice-auto" } else { "" };
        let configuration = folder.join("haproxy.cfg");
        let log = folder.join("access.log");
        write(
            &configuration,
            format!(
                "global
    nbthread 1
    maxconn 4000
    log stdout format raw local0 info

defaults
    mode tcp
    log global
    option tcplog
    {splice}
    timeout connect 5s
    timeout client 60s
    timeout server 60s

frontend service
    bind {listen} backlog 4096
    default_backend backend

backend backend
    server origin {server}
"
            ),
        )?;
        let program = Program {
            path: find_program("haproxy")
                .context("HAProxy is not installed: `apt-get install haproxy`")?,
            arguments: ["-db", "-f", &text(&configuration)?].map(str::to_owned).into(),
        };
        let process = {
            let _inside = edge.namespace.enter()?;
            Supervised::start(name, &program, core, &log, &folder.join("stderr.log"))?
        };
        let name = name.to_owned();
        let mut station = Self { name, edge, address: listen, process: Some(process), folder };
        station.wait_for_backend(network)?;
        Ok(station)
    }

    /// The gateway with so many Services, each at an address of its own with so many endpoints. The
    /// first is the one that clients connect to, and its only endpoint is the backend.
    pub(crate) fn gateway(
        network: &mut Network,
        folder: &Path,
        core: usize,
        binary: &Path,
        estate: Services,
    ) -> anyhow::Result<Self> {
        let edge = network.edge()?;
        // Or the table of connections would be full of those that have ended: they come faster
        // here, from one client, than on any edge. As an operator would set it.
        edge.namespace.set("netfilter/nf_conntrack_tcp_timeout_time_wait", "5")?;
        let name = estate.name.to_owned();
        let folder = own_folder(folder, &name, &edge)?;
        let manifests = folder.join("manifests");
        fs::create_dir(&manifests).with_context(|| format!("{}", manifests.display()))?;
        let configuration = folder.join("gateway.yaml");
        let config = json!({
            "apiVersion": "tidegate.io/v1alpha1",
            "kind": "GatewayConfig",
            "source": { "manifests": text(&manifests)? },
            "alb": { "public": { "listen": {
                "addresses": ["127.0.0.1"], "http": 8080, "https": 8443,
            } } },
            "l4": {
                "enabled": true,
                "interfaces": { "public": ["pub0"], "private": ["priv0"] },
            },
            "admin": { "listen": SocketAddr::from(ADMIN) },
            "workers": 1,
            "state": text(&folder.join("state"))?,
            "accessLog": { "path": text(&folder.join("access.log"))? },
        });
        write(&configuration, serde_json::to_vec_pretty(&config).context("the configuration")?)?;
        let address = SocketAddr::new(edge.service(1).into(), SERVICE);
        let mut station = Self { name, edge, address, process: None, folder };
        station.write_objects(estate)?;
        let program = Program {
            path: std::path::absolute(binary).context("the gateway's path")?,
            arguments: ["run", "--config", &text(&configuration)?].map(str::to_owned).into(),
        };
        {
            let (log, errors) =
                (station.folder.join("stdout.log"), station.folder.join("stderr.log"));
            let _inside = station.edge.namespace.enter()?;
            let mut process = Supervised::start(&station.name, &program, core, &log, &errors)?;
            let admin = SocketAddr::from(ADMIN);
            process.wait_until("200 from /readyz", LOAD, || answers(admin, "admin", "/readyz"))?;
            station.process = Some(process);
        }
        station.wait_for_backend(network)?;
        Ok(station)
    }

    fn write_objects(&self, estate: Services) -> anyhow::Result<()> {
        let pool = json!({
            "apiVersion": "tidegate.io/v1alpha1",
            "kind": "AddressPool",
            "metadata": { "name": "pool" },
            "spec": { "addresses": [self.edge.pool()], "announce": "none" },
        });
        let backend = self.edge.backend(BACKEND).ip();
        let mut first = vec![pool];
        first.push(self.service(1, estate.path));
        self.put("first.json", first)?;
        self.put("endpoints.json", vec![slice(1, &[backend])])?;
        let many: Vec<Value> = (2..=estate.services)
            .flat_map(|number| {
                let addresses: Vec<IpAddr> = (0..estate.endpoints)
                    .map(|endpoint| endpoint_address(number, endpoint))
                    .collect();
                [self.service(number, estate.path), slice(number, &addresses)]
            })
            .collect();
        match many.is_empty() {
            true => Ok(()),
            false => self.put("many.json", many),
        }
    }

    /// Changes one Service: its endpoints are these.
    pub(crate) fn set_endpoints(&self, number: u16, addresses: &[IpAddr]) -> anyhow::Result<()> {
        self.put("endpoints.json", vec![slice(number, addresses)])
    }

    /// Writes a manifest in one step.
    fn put(&self, name: &str, items: Vec<Value>) -> anyhow::Result<()> {
        let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
        let hidden = self.folder.join("manifests").join(format!(".{name}.new"));
        write(&hidden, serde_json::to_vec(&list).context("manifests")?)?;
        fs::rename(&hidden, self.folder.join("manifests").join(name)).context("manifests")
    }

    fn service(&self, number: u16, path: Path4) -> Value {
        let address = self.edge.service(number).to_string();
        let mut annotations = json!({ "tidegate.io/addresses": address });
        if let (Path4::UserSpace, Some(map)) = (path, annotations.as_object_mut()) {
            map.insert("tidegate.io/user-space".to_owned(), json!("true"));
        }
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": format!("service-{number:05}"),
                "namespace": "bench",
                "annotations": annotations,
            },
            "spec": {
                "type": "LoadBalancer",
                "allocateLoadBalancerNodePorts": false,
                "ports": [{ "name": "tcp", "port": SERVICE, "targetPort": BACKEND }],
            },
        })
    }

    /// Waits until the backend answers a client.
    fn wait_for_backend(&mut self, network: &Network) -> anyhow::Result<()> {
        let address = self.address;
        let process = self.process.as_mut().context("invariant: a program runs")?;
        let _inside = network.client.enter()?;
        process.wait_until("200 from the backend", START, || answers(address, "backend", "/"))
    }

    /// A sum of the gateway's metric, over all series whose labels contain this.
    pub(crate) fn metric(&self, name: &str, label: &str) -> anyhow::Result<f64> {
        let _inside = self.edge.namespace.enter()?;
        let page = metrics()?;
        let mut values = page.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']))
                && line.contains(label)
        });
        let first = values.next().with_context(|| format!("no metric {name} {label}"))?;
        let value = |line: &str| line.rsplit(' ').next().and_then(|word| word.parse::<f64>().ok());
        let mut sum = value(first).with_context(|| first.to_owned())?;
        for line in values {
            sum += value(line).with_context(|| line.to_owned())?;
        }
        Ok(sum)
    }

    /// Ends the program.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        if let Some(process) = &mut self.process {
            process.stop()?;
        }
        Ok(())
    }
}

/// How many Services a gateway is started with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Services {
    /// The name in tables.
    pub(crate) name: &'static str,
    /// How many.
    pub(crate) services: u16,
    /// Endpoints of each but the first.
    pub(crate) endpoints: u8,
    /// How they are served.
    pub(crate) path: Path4,
}

/// Starts the origin server in the backend's namespace.
pub(crate) fn start_backend(
    network: &Network,
    folder: &Path,
    core: usize,
) -> anyhow::Result<Supervised> {
    start_backend_at(network, folder, core, "origin", ([0, 0, 0, 0], BACKEND).into())
}

/// Starts an origin server of this name, which its answers carry, at an address there.
pub(super) fn start_backend_at(
    network: &Network,
    folder: &Path,
    core: usize,
    name: &str,
    listen: SocketAddr,
) -> anyhow::Result<Supervised> {
    let announce = folder.join(format!("l4-{name}.address"));
    let listen = listen.to_string();
    let announced = text(&announce)?;
    let arguments = ["backend", "--name", name, "--listen", &listen, "--announce", &announced];
    let program = Program {
        path: PathBuf::from("/proc/self/exe"),
        arguments: arguments.map(str::to_owned).into(),
    };
    let errors = folder.join(format!("l4-{name}.err"));
    let _inside = network.backend.enter()?;
    let mut backend = Supervised::start("backend", &program, core, &errors, &errors)?;
    backend.wait_until("address", START, || announce.exists())?;
    fs::remove_file(&announce).context("the backend's address")?;
    Ok(backend)
}

fn own_folder(folder: &Path, name: &str, edge: &Edge) -> anyhow::Result<PathBuf> {
    let own = folder.join(format!("l4-{}-{}", name.replace(' ', "-"), edge.public(0).ip()));
    fs::create_dir(&own).with_context(|| format!("{}", own.display()))?;
    Ok(own)
}

fn slice(number: u16, addresses: &[IpAddr]) -> Value {
    let endpoints: Vec<_> = addresses
        .iter()
        .map(|address| json!({ "addresses": [address], "conditions": { "ready": true } }))
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("service-{number:05}-1"),
            "namespace": "bench",
            "labels": { "kubernetes.io/service-name": format!("service-{number:05}") },
        },
        "addressType": "IPv4",
        "ports": [{ "name": "tcp", "port": BACKEND, "protocol": "TCP" }],
        "endpoints": endpoints,
    })
}

/// An address where nobody is, another one for each endpoint.
fn endpoint_address(service: u16, endpoint: u8) -> IpAddr {
    let [high, low] = service.to_be_bytes();
    IpAddr::from([172, 16 + (endpoint & 0x0f), high, low])
}

/// The page of the gateway's metrics, of its namespace. It is long with many Services.
fn metrics() -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(SocketAddr::from(ADMIN)).context("/metrics")?;
    stream.set_read_timeout(Some(START)).context("/metrics")?;
    write!(stream, "GET /metrics HTTP/1.1\r\nHost: admin\r\nConnection: close\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page).context("/metrics")?;
    Ok(page)
}

/// How long something takes to come about.
pub(crate) fn until(within: Duration, mut holds: impl FnMut() -> bool) -> anyhow::Result<Duration> {
    let start = Instant::now();
    while !holds() {
        crate::system::interrupt::check()?;
        if start.elapsed() > within {
            bail!("not within {within:?}");
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(start.elapsed())
}
