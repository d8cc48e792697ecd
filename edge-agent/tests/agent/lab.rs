//! A node with its agent, two edges, and a remote network behind them.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Duration;

use apiserver::{Double, Options};
use edge_agent::view::Status;
use testkit::{ClusterLab, Namespace, Program, eventually};

use super::edge::{Edge, Identity};

pub(crate) const ADMIN: &str = "127.0.0.1:9902";
/// A host behind the edge that holds the connection.
pub(crate) const REMOTE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(10, 20, 0, 2));
pub(crate) const CONNECTION: &str = "office/hq";
const VPN: &str = "---
apiVersion: tidegate.io/v1alpha1
kind: VpnConnection
metadata: {name: hq, namespace: office}
spec: {local: {subnets: [10.244.0.0/16]}, remote: {subnets: [10.20.0.0/16]}}
";

/// All of it.
pub(crate) struct Site {
    pub(crate) agent: Program,
    pub(crate) edges: Vec<Option<Edge>>,
    /// Where objects come from, if not from a directory.
    pub(crate) double: Option<Double>,
    identities: Vec<Identity>,
    objects: String,
    /// The last to be dropped: what runs in it goes first.
    pub(crate) lab: ClusterLab,
}

impl Site {
    /// The agent runs, and no edge yet.
    #[track_caller]
    pub(crate) fn new(mode: &'static str, more: &str) -> Self {
        Self::with(mode, more, "manifests: objects", |_, _| None)
    }

    /// The same with an API server on the node's loopback for a source.
    #[track_caller]
    pub(crate) fn with_api(mode: &'static str) -> Self {
        Self::with(mode, "", "kubernetes: {kubeconfig: objects/kubeconfig}", |lab, objects| {
            let listen = "127.0.0.1:6443".parse().unwrap();
            let options = Options { listen, ..Options::default() };
            let double = lab.node(1).run(|| Double::start(options).unwrap());
            for crd in ["edgegateways", "vpnconnections"] {
                let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../helm/tidegate/crds");
                double.load(format!("{folder}/{crd}.yaml").as_ref()).unwrap();
            }
            double.put_yaml(objects).unwrap();
            Some(double)
        })
    }

    #[track_caller]
    fn with(
        mode: &'static str,
        more: &str,
        source: &str,
        api: impl FnOnce(&ClusterLab, &str) -> Option<Double>,
    ) -> Self {
        let lab = ClusterLab::new();
        let identities = vec![Identity::new(1, mode), Identity::new(2, mode)];
        for number in [1, 2] {
            let edge = lab.edge(number);
            edge.set("ipv4/ip_forward", "1");
            edge.set("ipv6/conf/all/forwarding", "1");
            edge.ip(&format!("addr add {REMOTE}/32 dev lo\n"));
        }
        let edges: String = identities.iter().map(Identity::yaml).collect();
        let objects = format!("{edges}{VPN}");
        let config = format!(
            "apiVersion: tidegate.io/v1alpha1\nkind: AgentConfig\nnodeName: node-1\nsource: \
             {{{source}}}\nstate: state\nadmin: {{listen: \"{ADMIN}\"}}\n{more}"
        );
        let all = format!("{}{objects}", ClusterLab::nodes_yaml());
        let double = api(&lab, &all);
        let file = match &double {
            Some(double) => ("objects/kubeconfig", double.kubeconfig(None)),
            None => ("objects/all.yaml", all),
        };
        let files = [("agent.yaml", config.as_str()), (file.0, file.1.as_str())];
        let exe = env!("CARGO_BIN_EXE_edge-agent");
        let arguments = ["--log", "debug,hyper=info", "run", "--config", "agent.yaml"];
        let mut agent = Program::start(exe, lab.node(1), &arguments, &files);
        agent.wait_ready(ADMIN.parse().unwrap(), "/readyz");
        Self { agent, edges: vec![None, None], double, identities, objects, lab }
    }

    /// Starts an edge.
    #[track_caller]
    pub(crate) fn start_edge(&mut self, number: u8) -> &Edge {
        let place = usize::from(number) - 1;
        let mut node = self.agent.folder().join("state/node.yaml");
        if let Some(double) = &self.double {
            let told = eventually("the node's key is told", || {
                let object = double.get("nodes", "", "node-1")?;
                let keys = &object["metadata"]["annotations"]["tidegate.io/wireguard-public-keys"];
                keys.is_string().then_some(object)
            });
            node = self.agent.folder().join("node-1.yaml");
            std::fs::write(&node, told.to_string()).unwrap();
        }
        let edge =
            Edge::start(self.lab.edge(number), &self.identities[place], &self.objects, &node);
        self.edges[place].insert(edge)
    }

    #[track_caller]
    pub(crate) fn status(&self) -> Status {
        let answer = self.agent.get(ADMIN.parse().unwrap(), "/api/v1/status");
        serde_json::from_slice(&answer.body).unwrap()
    }

    /// Waits until the connection goes by this edge, or none.
    #[track_caller]
    pub(crate) fn wait_for_holder(&self, edge: Option<&str>) {
        eventually("the connection goes by the edge", || {
            let status = self.status();
            (status.connections.get(CONNECTION)?.as_deref() == edge).then_some(())
        });
    }

    /// Starts both edges; the first one holds the connection.
    #[track_caller]
    pub(crate) fn start_both(&mut self) {
        self.start_edge(1).hold(CONNECTION, 1);
        self.start_edge(2);
        self.wait_for_holder(Some("edge-1"));
        eventually("both edges answer", || {
            let status = self.status();
            status.edges.values().all(|edge| edge.state == "alive").then_some(())
        });
    }

    #[track_caller]
    pub(crate) fn pod(&self) -> &Namespace {
        self.lab.pod(1, 0)
    }

    /// Whether an echo request from the pod to the remote host is answered.
    #[track_caller]
    pub(crate) fn pings(&self) -> Result<String, String> {
        self.pod().try_command("ping", &["-n", "-c1", "-W1", &REMOTE.to_string()], "")
    }

    /// Waits until the pod reaches the remote host.
    #[track_caller]
    pub(crate) fn wait_for_remote(&self) {
        eventually("the pod reaches the remote host", || self.pings().ok());
    }

    /// What others see of the node's state that the agent may change.
    pub(crate) fn state(&self) -> String {
        state(self.lab.node(1))
    }
}

/// Rules, routes, tables and interfaces of a machine.
pub(crate) fn state(machine: &Namespace) -> String {
    let commands: [&[&str]; 6] = [
        &["ip", "rule", "show"],
        &["ip", "-6", "rule", "show"],
        &["ip", "route", "show", "table", "all"],
        &["ip", "-6", "route", "show", "table", "all"],
        &["nft", "list", "ruleset"],
        &["ip", "-br", "link"],
    ];
    let text = commands.map(|words| machine.command(words[0], &words[1..])).join("\n");
    // What the kernel adds by itself comes when it comes.
    let lines = text.lines().filter(|line| !line.contains("proto kernel"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Sends a datagram from one place to another, which answers; the source that it saw.
#[track_caller]
pub(crate) fn seen_source(from: &Namespace, to: &Namespace, address: SocketAddr) -> IpAddr {
    let server = to.run(|| UdpSocket::bind(address).unwrap());
    let client = from.run(|| UdpSocket::bind("0.0.0.0:0").unwrap());
    server.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    client.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    let mut buffer = [0; 16];
    eventually("a datagram and its answer", || {
        client.send_to(b"ask", address).ok()?;
        let (_, source) = server.recv_from(&mut buffer).ok()?;
        server.send_to(b"answer", source).ok()?;
        let (length, _) = client.recv_from(&mut buffer).ok()?;
        assert_eq!(&buffer[..length], b"answer");
        Some(source.ip())
    })
}
