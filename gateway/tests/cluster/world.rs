//! The cluster, made and running.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use apiserver::{Double, Options};
use testkit::cluster_lab::{EDGES, NODES};
use testkit::lab::Server;
use testkit::{Backend, ClusterLab, Namespace, Program, StrongSwan, SwanConnection, sibling};

use super::objects::{self, ALB, CLUSTER_IP, KEY, VIPS, pods};

/// Where pods answer lines and datagrams.
pub(crate) const LINES: u16 = 8080;
/// Where pods speak HTTP.
pub(crate) const HTTP: u16 = 8000;
/// The gateways' admin side.
pub(crate) const GATEWAY: &str = "127.0.0.1:9901";
/// The agents' admin side.
pub(crate) const AGENT: &str = "127.0.0.1:9902";
/// How long the whole cluster may take to come to rest, on a machine with few cores.
const SETTLES: Duration = Duration::from_secs(30);

/// All of it. Dropped in this order.
pub(crate) struct World {
    /// By edge, from 0.
    pub(crate) gateways: Vec<Program>,
    /// By node, from 0.
    pub(crate) agents: Vec<Program>,
    pub(crate) swan: StrongSwan,
    pub(crate) api: Double,
    _servers: Vec<Server>,
    _webs: Vec<Web>,
    pub(crate) lab: ClusterLab,
}

/// An HTTP server in a pod. It answers with what it was sent.
struct Web {
    namespace: Namespace,
    backend: Option<Backend>,
}

impl Web {
    #[track_caller]
    fn start(namespace: &Namespace, address: IpAddr) -> Self {
        let at = SocketAddr::new(address, HTTP);
        let backend = namespace.run(|| {
            Backend::start_at(at, move |connection| {
                while let Some(request) = connection.request() {
                    let text = String::from_utf8_lossy(&request.raw).into_owned();
                    connection.send_ok(&format!("{address}\n{text}"));
                }
            })
        });
        Self { namespace: namespace.clone(), backend: Some(backend) }
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        // It wakes its thread by a connection, which has to be made in there.
        let backend = self.backend.take();
        self.namespace.run(|| drop(backend));
    }
}

impl World {
    /// Everything is started, and the way between all of them is open.
    #[track_caller]
    pub(crate) fn new(mode: &str) -> Self {
        let world = Self::starting(mode);
        world.settle();
        world
    }

    /// Everything is started.
    #[track_caller]
    pub(crate) fn starting(mode: &str) -> Self {
        Self::starting_with(mode, |_| ())
    }

    /// The same; `before` has the lab before anything runs in it.
    #[track_caller]
    pub(crate) fn starting_with(mode: &str, before: impl FnOnce(&ClusterLab)) -> Self {
        let lab = ClusterLab::new();
        before(&lab);
        let line: Vec<SocketAddr> =
            pods().map(|(n, p)| SocketAddr::new(ClusterLab::pod_address(n, p), LINES)).collect();
        lab.service(1, SocketAddr::new(CLUSTER_IP.parse().unwrap(), 80), &line);
        let server = |(n, p)| Server::start(lab.pod(n, p), LINES, &format!("pod-{n}-{p}"));
        let mut servers: Vec<Server> = pods().map(server).collect();
        servers.push(Server::start(lab.customer_host(), LINES, "customer"));
        let web = |(n, p)| Web::start(lab.pod(n, p), ClusterLab::pod_address(n, p));
        let webs = pods().map(web).collect();
        let swan = customer(&lab);
        let options = Options { listen: ClusterLab::api_address(), ..Options::default() };
        let api = lab.api().run(|| Double::start(options)).unwrap();
        api.put_yaml(&objects::all()).unwrap();
        let kubeconfig = api.kubeconfig(None);
        let gateways: Vec<Program> =
            (1..=EDGES).map(|n| gateway(&lab, n, mode, &kubeconfig)).collect();
        let agents = (1..=NODES).map(|n| agent(&lab, n, mode, &kubeconfig)).collect();
        Self { gateways, agents, swan, api, _servers: servers, _webs: webs, lab }
    }

    /// Waits until all of it works together.
    #[track_caller]
    pub(crate) fn settle(&self) {
        let started = Instant::now();
        self.within("each VIP is on one edge", SETTLES, || {
            let all = VIPS.into_iter().chain([ALB]);
            all.map(|vip| self.holder(vip)).all(|holder| holder.is_some()).then_some(())
        });
        self.within("the connection is up", SETTLES, || (self.swan.installed() > 0).then_some(()));
        self.within("the client reaches the pods", SETTLES, || {
            let client = self.lab.client();
            let ask = |vip: &str| client.attempt(at(vip, 80)).ok();
            VIPS.into_iter().map(ask).collect::<Option<Vec<_>>>()
        });
        self.within("the pods reach the customer", SETTLES, || {
            let customer = SocketAddr::new(ClusterLab::customer_host_address(), LINES);
            let ask = |(n, p)| self.lab.pod(n, p).attempt(customer).ok();
            pods().map(ask).collect::<Option<Vec<_>>>()
        });
        println!("settled after {:?}", started.elapsed());
    }

    /// Waits until both edges have VIPs: a new one has to have lived for a while.
    #[track_caller]
    pub(crate) fn spread(&self) {
        let mut all: Vec<String> = VIPS.into_iter().chain([ALB]).map(str::to_owned).collect();
        all.push(self.vpn_vip());
        self.within("VIPs are on both edges", SETTLES, || {
            let holders: Option<Vec<u8>> = all.iter().map(|vip| self.holder(vip)).collect();
            let holders = holders?;
            (1..=EDGES).all(|edge| holders.contains(&edge)).then_some(())
        });
        self.settle();
    }

    /// Polls until there is an answer; if there is none, says what each part knows.
    #[track_caller]
    pub(crate) fn within<T>(
        &self,
        what: &str,
        limit: Duration,
        mut poll: impl FnMut() -> Option<T>,
    ) -> T {
        let started = Instant::now();
        loop {
            if let Some(found) = poll() {
                return found;
            }
            if started.elapsed() > limit {
                panic!("not within {limit:?}: {what}\n{}", self.state());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The edge that has a VIP on an interface, from 1. The edges are looked at one after the other:
    /// while it moves there may seem to be two, and then none is answered. That there never are is
    /// what [`super::holders::Holders`] tells.
    #[track_caller]
    pub(crate) fn holder(&self, vip: &str) -> Option<u8> {
        let address = vip.parse().unwrap();
        let mut with = (1..=EDGES).filter(|n| self.lab.edge(*n).has_address(address));
        with.next().filter(|_| with.next().is_none())
    }

    /// The VIP of the connection.
    #[track_caller]
    pub(crate) fn vpn_vip(&self) -> String {
        let all = VIPS.into_iter().chain([ALB]);
        let others: Vec<String> = all.map(str::to_owned).collect();
        let ours = |text: &str| -> Option<String> {
            let address = text.split_whitespace().nth(3)?.split('/').next()?.to_owned();
            (address.starts_with("198.51.100.") && !others.contains(&address)).then_some(address)
        };
        self.within("the connection has a VIP", SETTLES, || {
            let show = |n| self.lab.edge(n).command("ip", &["-o", "-4", "addr", "show"]);
            (1..=EDGES).find_map(|n| show(n).lines().find_map(ours))
        })
    }

    /// The client's request to the ALB: who answered, and what it was sent.
    pub(crate) fn over_http(&self, path: &str) -> Option<(u16, String)> {
        use std::io::{Read as _, Write as _};
        let vip = at(ALB, 80);
        let patience = Duration::from_millis(500);
        let mut stream =
            self.lab.client().run(|| std::net::TcpStream::connect_timeout(&vip, patience)).ok()?;
        stream.set_read_timeout(Some(patience)).unwrap();
        let text =
            format!("GET {path} HTTP/1.1\r\nHost: shop.example.com\r\nConnection: close\r\n\r\n");
        stream.write_all(text.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let code = answer.split(' ').nth(1)?.parse().ok()?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        Some((code, body.to_owned()))
    }

    /// What each part knows, for whoever looks for a reason.
    pub(crate) fn state(&self) -> String {
        let mut text = String::new();
        for n in 1..=EDGES {
            let edge = self.lab.edge(n);
            for words in [
                &["ip", "-br", "addr"][..],
                &["ip", "rule"],
                &["ip", "route", "show", "table", "all"],
            ] {
                let said = edge.try_command(words[0], &words[1..], "").unwrap_or_else(|e| e);
                text += &format!("-- edge {n}: {words:?}\n{said}");
            }
        }
        for n in 1..=NODES {
            let program = &self.agents[usize::from(n) - 1];
            let (_, said, _) = program.run(&["status", "--config", "agent.yaml"]);
            text += &format!("-- node {n}\n{said}");
            for words in [&["ip", "rule"][..], &["ip", "route", "show", "table", "all"]] {
                let said = self.lab.node(n).try_command(words[0], &words[1..], "");
                text += &format!("-- node {n}: {words:?}\n{}", said.unwrap_or_else(|e| e));
            }
        }
        text +=
            &format!("-- customer\n{}", self.swan.try_swanctl(&["--list-sas"]).unwrap_or_default());
        for kind in ["leases.coordination.k8s.io", "edgegateways.tidegate.io"] {
            for object in self.api.list(kind) {
                let part = match kind.starts_with("leases") {
                    true => &object["spec"],
                    false => &object["status"],
                };
                text += &format!("-- {kind} {} {part}\n", object["metadata"]["name"]);
            }
        }
        text
    }
}

/// An address with a port.
#[track_caller]
pub(crate) fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().unwrap(), port)
}

fn gateway(lab: &ClusterLab, number: u8, mode: &str, kubeconfig: &str) -> Program {
    let config = format!(
        "apiVersion: tidegate.io/v1alpha1
kind: GatewayConfig
nodeName: edge-{number}
source: {{kubernetes: {{kubeconfig: kubeconfig, namespace: tidegate}}}}
alb: {{public: {{listen: {{addresses: []}}}}}}
l4: {{enabled: true, interfaces: {{public: [pub0], private: [priv0]}}}}
vpn: {{enabled: true, workers: 1}}
overlay: {{enabled: true, mode: {mode}, serviceSubnets: [10.96.0.0/16], workers: 1}}
admin: {{listen: \"{GATEWAY}\"}}
workers: 1
state: state
accessLog: {{path: \"off\"}}
drain: 1s
"
    );
    let files = [("gateway.yaml", config.as_str()), ("kubeconfig", kubeconfig)];
    let exe = env!("CARGO_BIN_EXE_gateway");
    Program::start(exe, lab.edge(number), &["run", "--config", "gateway.yaml"], &files)
}

fn agent(lab: &ClusterLab, number: u8, mode: &str, kubeconfig: &str) -> Program {
    let config = format!(
        "apiVersion: tidegate.io/v1alpha1
kind: AgentConfig
nodeName: node-{number}
source: {{kubernetes: {{kubeconfig: kubeconfig}}}}
overlay: {{mode: {mode}}}
state: state
admin: {{listen: \"{AGENT}\"}}
"
    );
    let files = [("agent.yaml", config.as_str()), ("kubeconfig", kubeconfig)];
    let exe = sibling(env!("CARGO_BIN_EXE_gateway"), "edge-agent");
    Program::start(exe, lab.node(number), &["run", "--config", "agent.yaml"], &files)
}

/// The customer's gateway, which waits for the edge.
fn customer(lab: &ClusterLab) -> StrongSwan {
    let lines = "version = 2\nlocal_addrs = 203.0.113.50\nremote_addrs = %any\n\
                 proposals = aes128gcm16-prfsha256-x25519\ndpd_delay = 1s\ndpd_timeout = 4s\n\
                 unique = replace\nlocal {\nauth = psk\nid = hq.test\n}\n\
                 remote {\nauth = psk\nid = edge.test\n}";
    let child = "local_ts = 10.20.0.0/24\nremote_ts = 10.244.0.0/16,10.96.0.0/16\n\
                 esp_proposals = aes128gcm16\nstart_action = none";
    let connection = SwanConnection {
        name: "edge".to_owned(),
        lines: lines.to_owned(),
        children: vec![("net".to_owned(), child.to_owned())],
    };
    let builder = StrongSwan::builder().connection(connection);
    builder.psk("hq.test", "edge.test", KEY).start(lab.customer_gateway())
}
