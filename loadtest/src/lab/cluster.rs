//! A gateway that has its objects from a cluster's API, on an edge of a [`Network`].
//!
//! The API is the double that tests have, in this process and in the edge's namespace. Two backends
//! tell which of two endpoints a request went to.

mod objects;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use apiserver::{Double, Options};
use serde_json::{Value, json};

use super::l4::{BACKEND, SERVICE, start_backend_at};
use super::network::{Edge, Network};
use super::{Cores, answers, get, text, write};
use crate::compare::scenario::Estate;
use crate::system::child::{Program, Supervised};
use crate::system::interrupt;
use objects::NAMESPACE;
pub(crate) use objects::Way;

/// The resource that changes.
const SLICES: &str = "endpointslices.discovery.k8s.io";
/// The gateway's admin side, inside its namespace.
const ADMIN: ([u8; 4], u16) = ([127, 0, 0, 1], 9901);
/// Where the gateway serves HTTP and HTTPS.
const HTTP: u16 = 8080;
const HTTPS: u16 = 8443;
/// Time for a large cluster to be read.
const START: Duration = Duration::from_secs(180);
/// How often it is looked whether more of the lists has come.
const LOOK: Duration = Duration::from_millis(2);
/// So many octets between two looks are part of a list; questions and answers of other kinds are
/// shorter.
const LIST: u64 = 16 << 10;
/// The gateway has written all back when it has written nothing for so long,
const WRITTEN: Duration = Duration::from_secs(1);
/// for which so long is waited.
const WRITTEN_WITHIN: Duration = Duration::from_secs(60);

/// Who answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Backend {
    /// Whom all ask at first.
    Origin,
    /// Whom those ask whose endpoint has changed.
    Other,
}

impl Backend {
    fn name(self) -> &'static str {
        match self {
            Self::Origin => "origin",
            Self::Other => "other",
        }
    }
}

/// A cluster's API with all objects, and what is around the gateway.
#[derive(Debug)]
pub(crate) struct Cluster {
    /// How many objects there are.
    pub(crate) estate: Estate,
    // It ends before its namespace does.
    double: Double,
    // Likewise.
    _backends: [Supervised; 2],
    edge: Edge,
    network: Network,
    folder: PathBuf,
    core: usize,
}

/// The gateway, and how it came up.
#[derive(Debug)]
pub(crate) struct Started {
    /// Its process.
    pub(crate) process: Supervised,
    /// From its start until `/readyz`.
    pub(crate) after_start: Duration,
    /// From the last octet of the lists until `/readyz`.
    pub(crate) after_lists: Duration,
}

impl Cluster {
    /// Sets all up in an empty folder; the first so many Services of each way can be looked at.
    pub(crate) fn set_up(
        folder: &Path,
        cores: Cores,
        estate: Estate,
        looked_at: u16,
    ) -> anyhow::Result<Self> {
        let mut network = Network::set_up()?;
        let edge = network.edge()?;
        // Each look is a connection of its own.
        edge.namespace.set("netfilter/nf_conntrack_tcp_timeout_time_wait", "5")?;
        let addresses = [Backend::Origin, Backend::Other].map(|one| backend(&edge, one));
        let device = format!("addr add {}/24 dev b1\n", addresses[1].ip());
        network.backend.ip(&device)?;
        let start = |which: Backend| {
            start_backend_at(&network, folder, cores.backend, which.name(), backend(&edge, which))
        };
        let backends = [start(Backend::Origin)?, start(Backend::Other)?];
        let double = {
            let _inside = edge.namespace.enter()?;
            Double::start(Options::default()).context("the API's double")?
        };
        let cluster = Self {
            estate,
            double,
            _backends: backends,
            edge,
            network,
            folder: folder.to_owned(),
            core: cores.target,
        };
        cluster.fill(looked_at)?;
        Ok(cluster)
    }

    fn fill(&self, looked_at: u16) -> anyhow::Result<()> {
        let estate = self.estate;
        let origin = backend(&self.edge, Backend::Origin).ip();
        let is_looked_at = |service: u16| {
            [Way::Ingress, Way::Vip]
                .iter()
                .any(|way| (0..looked_at).any(|number| way.service(estate, number) == service))
        };
        self.put(objects::pool(&self.edge.pool()))?;
        for number in 0..estate.services {
            interrupt::check()?;
            let first = is_looked_at(number).then_some(origin);
            self.put(objects::service(estate, number, |number| self.edge.service(number)))?;
            self.put(objects::slice(estate, number, first))?;
        }
        for number in 0..estate.ingresses {
            self.put(objects::ingress(estate, number))?;
        }
        for number in 0..estate.secrets {
            interrupt::check()?;
            self.put(objects::secret(number)?)?;
        }
        Ok(())
    }

    fn put(&self, object: Value) -> anyhow::Result<()> {
        if let Err(refusal) = self.double.put(object) {
            bail!("the API's double refuses an object: {refusal:?}");
        }
        Ok(())
    }

    /// Starts the gateway and waits until it is ready.
    pub(crate) fn start(&self, binary: &Path) -> anyhow::Result<Started> {
        let program = Program {
            path: std::path::absolute(binary).context("the gateway's path")?,
            arguments: ["run", "--config", &text(&self.configure()?)?].map(str::to_owned).into(),
        };
        let (log, errors) = (self.folder.join("stdout.log"), self.folder.join("stderr.log"));
        let _inside = self.edge.namespace.enter()?;
        let (is_ready, arrival) = (AtomicBool::new(false), Mutex::new(None));
        std::thread::scope(|scope| {
            let watcher = scope.spawn(|| self.watch_lists(&is_ready, &arrival));
            let start = Instant::now();
            let started = || -> anyhow::Result<Supervised> {
                let mut process = Supervised::start("gateway", &program, self.core, &log, &errors)?;
                let admin = SocketAddr::from(ADMIN);
                process.wait_until_every(LOOK, "200 from /readyz", START, || {
                    answers(admin, "admin", "/readyz")
                })?;
                Ok(process)
            };
            let started = started();
            let ready = Instant::now();
            is_ready.store(true, Ordering::Relaxed);
            match watcher.join() {
                Ok(watched) => watched?,
                Err(_) => bail!("the thread that watches the lists panicked"),
            }
            let process = started?;
            let arrival = arrival.lock().ok().and_then(|last| *last).context("no list came")?;
            Ok(Started {
                process,
                after_start: ready - start,
                after_lists: ready.saturating_duration_since(arrival),
            })
        })
    }

    /// Notes when the last of the lists came: nothing else is long on the edge's loopback interface
    /// until the gateway begins to write back.
    fn watch_lists(
        &self,
        is_ready: &AtomicBool,
        arrival: &Mutex<Option<Instant>>,
    ) -> anyhow::Result<()> {
        let _inside = self.edge.namespace.enter()?;
        let mut before = loopback_octets()?;
        while !is_ready.load(Ordering::Relaxed) && self.written() == 0 {
            std::thread::sleep(LOOK);
            let now = loopback_octets()?;
            if now - before >= LIST
                && let Ok(mut arrival) = arrival.lock()
            {
                *arrival = Some(Instant::now());
            }
            before = now;
        }
        Ok(())
    }

    fn configure(&self) -> anyhow::Result<PathBuf> {
        let kubeconfig = self.folder.join("kubeconfig");
        self.double.write_kubeconfig(&kubeconfig, None).context("the kubeconfig")?;
        let configuration = self.folder.join("gateway.yaml");
        let config = json!({
            "apiVersion": "tidegate.io/v1alpha1",
            "kind": "GatewayConfig",
            "source": { "kubernetes": { "kubeconfig": text(&kubeconfig)? } },
            "alb": { "public": {
                "listen": {
                    "addresses": [self.edge.public(0).ip()], "http": HTTP, "https": HTTPS,
                },
                // A request in the clear shows a change as well as one over TLS.
                "sslRedirect": false,
            } },
            "l4": {
                "enabled": true,
                "interfaces": { "public": ["pub0"], "private": ["priv0"] },
            },
            "admin": { "listen": SocketAddr::from(ADMIN) },
            "workers": 1,
            "state": text(&self.folder.join("state"))?,
            "accessLog": { "path": text(&self.folder.join("access.log"))? },
        });
        write(&configuration, serde_json::to_vec_pretty(&config).context("the configuration")?)?;
        Ok(configuration)
    }

    /// Waits until the gateway has written back what it has to; whether that was in time.
    pub(crate) fn wait_until_written(&self) -> anyhow::Result<bool> {
        let end = Instant::now() + WRITTEN_WITHIN;
        let (mut count, mut since) = (self.written(), Instant::now());
        while since.elapsed() < WRITTEN {
            interrupt::check()?;
            if Instant::now() >= end {
                return Ok(false);
            }
            std::thread::sleep(WRITTEN / 20);
            let now = self.written();
            if now != count {
                (count, since) = (now, Instant::now());
            }
        }
        Ok(true)
    }

    /// What the gateway has written back so far.
    pub(crate) fn written(&self) -> u64 {
        let all = self.double.counters();
        let writes = all.iter().filter(|one| {
            ["create", "update", "patch"].contains(&one.verb.as_str())
                && (one.resource.ends_with("/status") || one.resource.contains("events"))
        });
        writes.map(|one| one.count).sum()
    }

    /// Moves the first endpoint of a Service to the other backend.
    pub(crate) fn move_endpoint(&self, way: Way, number: u16) -> anyhow::Result<()> {
        let to = backend(&self.edge, Backend::Other).ip();
        self.change(way.service(self.estate, number), |endpoints| {
            endpoints[0]["addresses"][0] = to.to_string().into();
        })
    }

    /// Changes an endpoint that nobody is at: its address, or whether it is ready.
    pub(crate) fn change_any(&self, service: u16, random: u64) -> anyhow::Result<()> {
        let place = random % u64::from(self.estate.endpoints);
        let endpoint = u8::try_from(place).unwrap_or_default();
        let address = objects::nobody(service, endpoint, 1 + (random >> 8) as u8 % 2);
        self.change(service, |endpoints| {
            let endpoint = &mut endpoints[usize::from(endpoint)];
            if random & (1 << 32) == 0 {
                endpoint["addresses"][0] = address.to_string().into();
            } else {
                let ready = !endpoint["conditions"]["ready"].as_bool().unwrap_or_default();
                endpoint["conditions"]["ready"] = ready.into();
                endpoint["conditions"]["serving"] = ready.into();
            }
        })
    }

    fn change(&self, service: u16, change: impl FnOnce(&mut Value)) -> anyhow::Result<()> {
        let name = objects::slice_name(service);
        let changed = self.double.change(SLICES, NAMESPACE, &name, |slice| {
            change(&mut slice["endpoints"]);
        });
        changed.map(drop).with_context(|| format!("EndpointSlice {name} is gone"))
    }

    /// Whether a client is answered by this backend, from the client's namespace.
    pub(crate) fn is_answered_by(&self, which: Backend, way: Way, number: u16) -> bool {
        let service = way.service(self.estate, number);
        let address = match way {
            Way::Ingress => self.edge.public(HTTP),
            Way::Vip => SocketAddr::new(self.edge.service(service).into(), SERVICE),
        };
        let field = format!("\r\nx-backend: {}\r\n", which.name());
        get(address, &objects::host(service), "/").is_ok_and(|answer| {
            answer.starts_with("HTTP/1.1 200 ") && answer.to_ascii_lowercase().contains(&field)
        })
    }

    /// The client's namespace.
    pub(crate) fn network(&self) -> &Network {
        &self.network
    }
}

/// Where a backend listens.
fn backend(edge: &Edge, which: Backend) -> SocketAddr {
    let origin = edge.backend(BACKEND);
    match (which, origin.ip()) {
        (Backend::Other, IpAddr::V4(ip)) => {
            SocketAddr::new(Ipv4Addr::from(u32::from(ip) + 1).into(), BACKEND)
        }
        _ => origin,
    }
}

/// Octets that the loopback interface of this thread's namespace has received.
fn loopback_octets() -> anyhow::Result<u64> {
    const PATH: &str = "/proc/thread-self/net/dev";
    let all = fs::read_to_string(PATH).context(PATH)?;
    let line = all.lines().find_map(|line| line.trim_start().strip_prefix("lo:"));
    let octets = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
    octets.with_context(|| format!("{PATH}: no interface lo"))
}
