//! A lab of a whole cluster: edges, nodes with pods, a client, a customer's network, and a place
//! for the API server.
//!
//! ```text
//!   client ── public ── edge 1, 2 ── private ── node 1, 2, 3 ── pods (two each)
//!               │                       ├── api
//!   customer gateway ── customer host   └── router (the nodes' default route)
//! ```
//! | who | IPv4 | IPv6 |
//! |---|---|---|
//! | client, `c0` | 203.0.113.10/24 | 2001:db8:1::10/64 |
//! | edge E, `pub0` | 203.0.113.E/24 | 2001:db8:1::E/64 |
//! | edge E, `priv0` | 10.0.0.E/24 | fd00:10::E/64 |
//! | node N, `n0` | 10.0.0.2N/24 | fd00:10::2N/64 |
//! | pod P of node N | 10.244.N.1P/24 | fd00:244:N::1P/64 |
//! | api, `a0` | 10.0.0.100/24 | fd00:10::100/64 |
//! | router, `r0` | 10.0.0.254/24 | fd00:10::254/64 |
//! | customer gateway, `wan0` | 203.0.113.50/24 | 2001:db8:1::50/64 |
//! | customer host | 10.20.0.2/24 | fd00:20::2/64 |
//!
//! 198.51.100.0/24 is for pools: client and customer take it to be on their link. The nodes are as
//! a usual cluster has them: they forward, have routes to each other's pods, masquerade what pods
//! send out of the pod network ([`ClusterLab::MASQUERADE`]), and send what they know no way for to
//! the router, which drops it: what arrives there in the clear has leaked, or came back the wrong
//! way. [`ClusterLab::service`] stands for kube-proxy. Edges don't forward until somebody makes
//! them, and have no route to pods.
//!
//! It needs root. Namespaces are named and deleted as those of [`crate::Lab`].

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::lab::{Capture, Namespace};

/// How many edges there are.
pub const EDGES: u8 = 2;
/// How many nodes there are.
pub const NODES: u8 = 3;
/// How many pods each node has.
pub const PODS: u8 = 2;

/// A node and its pods.
#[derive(Debug)]
struct Node {
    namespace: Namespace,
    pods: Vec<Namespace>,
}

/// All of it, wired.
#[derive(Debug)]
pub struct ClusterLab {
    client: Namespace,
    edges: Vec<Namespace>,
    nodes: Vec<Node>,
    api: Namespace,
    router: Namespace,
    customer_gateway: Namespace,
    customer_host: Namespace,
    switch: Namespace,
}

impl ClusterLab {
    /// What nodes do with packets that leave the pod network, as flannel and others write it.
    pub const MASQUERADE: &str = "\
table ip lab-cni {
 chain post {
  type nat hook postrouting priority srcnat
  ip saddr 10.244.0.0/16 ip daddr != 10.244.0.0/16 ip daddr != 224.0.0.0/4 masquerade
 }
}
table ip6 lab-cni {
 chain post {
  type nat hook postrouting priority srcnat
  ip6 saddr fd00:244::/32 ip6 daddr != fd00:244::/32 ip6 daddr != ff00::/8 masquerade
 }
}
";

    /// Two edges, three nodes with two pods each, a client, a customer, the API's place.
    #[allow(clippy::new_without_default)] // reason: it does a lot more than a default value
    #[track_caller]
    pub fn new() -> Self {
        let alone = |role: &str| Namespace::alone(role);
        let node = |n: u8| Node {
            namespace: alone(&format!("node{n}")),
            pods: (0..PODS).map(|p| alone(&format!("pod{n}{p}"))).collect(),
        };
        let lab = Self {
            client: alone("client"),
            edges: (1..=EDGES).map(|n| alone(&format!("edge{n}"))).collect(),
            nodes: (1..=NODES).map(node).collect(),
            api: alone("api"),
            router: alone("router"),
            customer_gateway: alone("cgw"),
            customer_host: alone("chost"),
            switch: alone("switch"),
        };
        lab.wire_bridges();
        lab.wire_outside();
        (1..=NODES).for_each(|n| lab.wire_node(n));
        lab
    }

    #[track_caller]
    fn wire_bridges(&self) {
        without_bridge_netfilter(&self.switch);
        let mut text = String::new();
        for bridge in ["public", "private"] {
            let _ = writeln!(text, "link add {bridge} type bridge mcast_snooping 0");
            let _ = writeln!(text, "link set {bridge} up");
        }
        let mut port = 0;
        let mut plug = |bridge: &str, namespace: &Namespace, interface: &str| {
            port += 1;
            let name = namespace.name();
            let _ = writeln!(
                text,
                "link add port{port} type veth peer name {interface} netns {name}\n\
                 link set port{port} master {bridge} up"
            );
        };
        plug("public", &self.client, "c0");
        plug("public", &self.customer_gateway, "wan0");
        for edge in &self.edges {
            plug("public", edge, "pub0");
            plug("private", edge, "priv0");
        }
        for node in &self.nodes {
            plug("private", &node.namespace, "n0");
        }
        plug("private", &self.api, "a0");
        plug("private", &self.router, "r0");
        self.switch.ip(&text);
    }

    #[track_caller]
    fn wire_outside(&self) {
        for (namespace, interface) in [(&self.client, "c0"), (&self.customer_gateway, "wan0")] {
            // A neighbour that isn't there is given up after 0.3 s, not 3.
            namespace.set(&format!("ipv4/neigh/{interface}/retrans_time_ms"), "100");
            namespace.set(&format!("ipv6/neigh/{interface}/retrans_time_ms"), "100");
        }
        self.client.ip(&host("c0", "203.0.113.10/24", "2001:db8:1::10/64"));
        self.client.ip("route add 198.51.100.0/24 dev c0 src 203.0.113.10\n");
        for (n, edge) in (1..).zip(&self.edges) {
            let (v4, v6) = (format!("203.0.113.{n}/24"), format!("2001:db8:1::{n}/64"));
            edge.ip(&host("pub0", &v4, &v6));
            edge.ip(&host("priv0", &format!("10.0.0.{n}/24"), &format!("fd00:10::{n}/64")));
        }
        self.api.ip(&host("a0", "10.0.0.100/24", "fd00:10::100/64"));
        self.router.ip(&host("r0", "10.0.0.254/24", "fd00:10::254/64"));
        let gateway = &self.customer_gateway;
        gateway.ip(&format!(
            "link add lan0 type veth peer name h0 netns {}\n",
            self.customer_host.name()
        ));
        gateway.ip(&host("wan0", "203.0.113.50/24", "2001:db8:1::50/64"));
        gateway.ip(&host("lan0", "10.20.0.1/24", "fd00:20::1/64"));
        gateway.ip("route add 198.51.100.0/24 dev wan0 src 203.0.113.50\n");
        forward(gateway);
        self.customer_host.ip(&host("h0", "10.20.0.2/24", "fd00:20::2/64"));
        self.customer_host
            .ip("route add default via 10.20.0.1\nroute add default via fd00:20::1\n");
    }

    #[track_caller]
    fn wire_node(&self, n: u8) {
        let Node { namespace, pods } = self.site(n);
        without_bridge_netfilter(namespace);
        namespace.ip(&host("n0", &format!("10.0.0.2{n}/24"), &format!("fd00:10::2{n}/64")));
        namespace.ip("link add cni0 type bridge mcast_snooping 0\n");
        namespace.ip(&host("cni0", &format!("10.244.{n}.1/24"), &format!("fd00:244:{n}::1/64")));
        for (p, pod) in pods.iter().enumerate() {
            let name = pod.name();
            namespace.ip(&format!(
                "link add pod{p} type veth peer name eth0 netns {name}\n\
                 link set pod{p} master cni0 up\n"
            ));
            let (v4, v6) = (format!("10.244.{n}.1{p}/24"), format!("fd00:244:{n}::1{p}/64"));
            pod.ip(&host("eth0", &v4, &v6));
            pod.ip(&format!(
                "route add default via 10.244.{n}.1\nroute add default via fd00:244:{n}::1\n"
            ));
        }
        let mut routes =
            String::from("route add default via 10.0.0.254\nroute add default via fd00:10::254\n");
        for other in (1..=NODES).filter(|other| *other != n) {
            let _ = writeln!(routes, "route add 10.244.{other}.0/24 via 10.0.0.2{other}");
            let _ = writeln!(routes, "route add fd00:244:{other}::/64 via fd00:10::2{other}");
        }
        namespace.ip(&routes);
        forward(namespace);
        namespace.command_with("nft", &["-f", "-"], Self::MASQUERADE);
    }

    /// Stands for kube-proxy on every node: a Service's cluster address leads to these pods, by
    /// chance.
    #[track_caller]
    pub fn service(&self, number: u8, address: SocketAddr, pods: &[SocketAddr]) {
        let all: Vec<String> = (0..)
            .zip(pods)
            .map(|(slot, pod): (u32, _)| format!("{slot} : {} . {}", pod.ip(), pod.port()))
            .collect();
        let (at, port, count) = (address.ip(), address.port(), pods.len());
        let text = format!(
            "table ip lab-proxy-{number}\ndelete table ip lab-proxy-{number}\n\
             table ip lab-proxy-{number} {{\n chain pre {{\n  \
             type nat hook prerouting priority dstnat\n  ip daddr {at} tcp dport {port} \
             dnat ip to numgen random mod {count} map {{ {} }}\n }}\n}}\n",
            all.join(", ")
        );
        for node in &self.nodes {
            node.namespace.command_with("nft", &["-f", "-"], &text);
        }
    }

    /// Where clients are.
    pub fn client(&self) -> &Namespace {
        &self.client
    }

    /// An edge, from 1.
    #[track_caller]
    pub fn edge(&self, number: u8) -> &Namespace {
        self.edges.get(usize::from(number) - 1).expect("there are two edges")
    }

    /// A node, from 1.
    #[track_caller]
    pub fn node(&self, number: u8) -> &Namespace {
        &self.site(number).namespace
    }

    /// A pod of a node: its node from 1, the pod from 0.
    #[track_caller]
    pub fn pod(&self, node: u8, pod: u8) -> &Namespace {
        self.site(node).pods.get(usize::from(pod)).expect("a node has two pods")
    }

    /// Where the API server is to be.
    pub fn api(&self) -> &Namespace {
        &self.api
    }

    /// Where nodes send what they know no way for.
    pub fn router(&self) -> &Namespace {
        &self.router
    }

    /// The customer's gateway.
    pub fn customer_gateway(&self) -> &Namespace {
        &self.customer_gateway
    }

    /// The customer's host.
    pub fn customer_host(&self) -> &Namespace {
        &self.customer_host
    }

    #[track_caller]
    fn site(&self, number: u8) -> &Node {
        self.nodes.get(usize::from(number) - 1).expect("there are three nodes")
    }

    /// An edge's address towards clients.
    pub fn edge_address(number: u8) -> IpAddr {
        Ipv4Addr::new(203, 0, 113, number).into()
    }

    /// An edge's address towards nodes.
    pub fn edge_underlay(number: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, number).into()
    }

    /// A node's address.
    pub fn node_address(number: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, 20 + number).into()
    }

    /// A pod's address.
    pub fn pod_address(node: u8, pod: u8) -> IpAddr {
        Ipv4Addr::new(10, 244, node, 10 + pod).into()
    }

    /// The client's address.
    pub fn client_address() -> IpAddr {
        Ipv4Addr::new(203, 0, 113, 10).into()
    }

    /// Where the API server is to listen.
    pub fn api_address() -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 100], 6443))
    }

    /// The customer's gateway.
    pub fn customer_gateway_address() -> IpAddr {
        Ipv4Addr::new(203, 0, 113, 50).into()
    }

    /// The customer's host.
    pub fn customer_host_address() -> IpAddr {
        Ipv4Addr::new(10, 20, 0, 2).into()
    }

    /// The nodes as Kubernetes has them.
    pub fn nodes_yaml() -> String {
        let mut text = String::new();
        for n in 1..=NODES {
            let _ = write!(
                text,
                "---\napiVersion: v1\nkind: Node\nmetadata:\n  name: node-{n}\n  \
                 labels: {{topology.kubernetes.io/zone: zone-{n}}}\nspec:\n  \
                 podCIDR: 10.244.{n}.0/24\n  \
                 podCIDRs: [10.244.{n}.0/24, \"fd00:244:{n}::/64\"]\nstatus:\n  addresses:\n  \
                 - {{type: InternalIP, address: 10.0.0.2{n}}}\n  \
                 - {{type: Hostname, address: node-{n}}}\n  \
                 conditions: [{{type: Ready, status: \"True\"}}]\n"
            );
        }
        text
    }

    /// Packets that some interface of the private link has, from now on, as seen by an edge.
    #[track_caller]
    pub fn capture_private(&self, edge: u8, filter: &str) -> Capture {
        Capture::start(self.edge(edge), "priv0", filter)
    }
}

/// An interface with its addresses, up.
fn host(interface: &str, v4: &str, v6: &str) -> String {
    format!(
        "link set lo up\nlink set {interface} up\naddr add {v4} dev {interface}\n\
         addr add {v6} dev {interface} nodad\n"
    )
}

#[track_caller]
fn forward(namespace: &Namespace) {
    namespace.set("ipv4/ip_forward", "1");
    namespace.set("ipv6/conf/all/forwarding", "1");
}

#[track_caller]
fn without_bridge_netfilter(namespace: &Namespace) {
    for key in ["iptables", "ip6tables", "arptables"] {
        namespace.set(&format!("bridge/bridge-nf-call-{key}"), "0");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_reach_each_other_and_services_and_nothing_reaches_edges_unasked() {
        let lab = ClusterLab::new();
        let ping = |from: &Namespace, to: IpAddr| {
            from.try_command("ping", &["-n", "-c1", "-W1", &to.to_string()], "").is_ok()
        };
        assert!(ping(lab.pod(1, 0), ClusterLab::pod_address(3, 1)));
        assert!(ping(lab.node(1), ClusterLab::node_address(2)));
        assert!(ping(lab.edge(1), ClusterLab::node_address(2)));
        assert!(ping(lab.customer_host(), ClusterLab::customer_gateway_address()));
        assert!(ping(lab.api(), ClusterLab::edge_underlay(2)));
        assert!(!ping(lab.edge(1), ClusterLab::pod_address(1, 0)));

        let pod = SocketAddr::new(ClusterLab::pod_address(2, 0), 8080);
        let service = SocketAddr::from(([10, 96, 0, 10], 80));
        lab.service(1, service, &[pod]);
        let _server = crate::lab::Server::start(lab.pod(2, 0), 8080, "two");
        let stream = lab.pod(1, 0).run(|| std::net::TcpStream::connect(service));
        assert!(stream.is_ok(), "{stream:?}");
    }
}
