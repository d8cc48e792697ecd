//! What is seen on the link between edges and nodes.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use testkit::{ClusterLab, Namespace, eventually};

use super::load::{MARKER, Train};
use super::objects::VIPS;
use super::reach;
use super::world::{AGENT, LINES, World, at};

/// Addresses that stand in tunnels only.
const WITHIN: &str = "net 10.244.0.0/16 or net 10.96.0.0/16 or net 10.20.0.0/24 or net \
                      203.0.113.0/24 or net 198.51.100.0/24";

/// Tunnels, probes (between edges, too), the API, ARP, neighbour discovery and the like. A kernel
/// whose edge has died answers a tunnel's packets by ICMP, with what it got of them: port 51821.
const USUAL: &str = "udp portrange 51820-51830 or host 10.0.0.100 or arp or icmp6 or \
                     ip6 multicast or (icmp[0] = 3 and icmp[30:2] >= 51820 and icmp[30:2] <= \
                     51830)";

/// All that an interface has, byte for byte.
struct Recording {
    child: Child,
    folder: tempfile::TempDir,
}

impl Recording {
    #[track_caller]
    fn start(at: &Namespace, interface: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("all.pcap");
        let mut command = Command::new("tcpdump");
        command.args(["-U", "--immediate-mode", "-Z", "root", "-i", interface, "-w"]).arg(&file);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = at.spawn(&mut command).unwrap();
        // Its header is written once it listens.
        eventually("tcpdump listens", || (length(&file) >= 24).then_some(()));
        Self { child, folder }
    }

    /// How many bytes there are, and how often these are among them.
    fn count(&self, text: &str) -> (u64, usize) {
        let all = std::fs::read(self.folder.path().join("all.pcap")).unwrap();
        let found = all.windows(text.len()).filter(|part| *part == text.as_bytes()).count();
        (all.len() as u64, found)
    }
}

impl Drop for Recording {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn length(file: &Path) -> u64 {
    std::fs::metadata(file).map_or(0, |data| data.len())
}

#[test]
fn nothing_is_in_the_clear_between_edges_and_nodes_not_at_start_and_not_while_an_edge_dies() {
    let mut captures = Vec::new();
    let mut recordings = Vec::new();
    let mut world = World::starting_with("wireguard", |lab| {
        for edge in [1, 2] {
            // Not what a bridge floods among others.
            let own = format!("ether host {}", reach::link_address(lab.edge(edge), "priv0"));
            captures.push(lab.capture_private(edge, &format!("{own} and ({WITHIN})")));
            let filter = format!("{own} and not ({USUAL})");
            captures.push(lab.capture_private(edge, &filter));
            recordings.push(Recording::start(lab.edge(edge), "priv0"));
        }
    });
    // Before a node's first agent nothing keeps packets back. From then on, though there is no way
    // to any edge yet:
    for agent in &mut world.agents {
        agent.wait_ready(AGENT.parse().unwrap(), "/readyz");
    }
    let astray = reach::astray(&world);
    let customer = std::net::SocketAddr::new(ClusterLab::customer_host_address(), LINES);
    let trains = [
        Train::datagrams("client → VIP", world.lab.client(), at(VIPS[0], 80)),
        Train::datagrams("pod → customer", world.lab.pod(1, 0), customer),
        Train::datagrams("pod → customer", world.lab.pod(3, 1), customer),
    ];
    world.settle();
    reach::client_reaches_pods(&world);
    reach::customer_and_pods_reach_each_other(&world);
    let vip = world.vpn_vip();
    let holder = world.holder(&vip).unwrap();
    world.gateways[usize::from(holder) - 1].kill();
    world.within("another edge has the connection", Duration::from_secs(10), || {
        (world.holder(&vip)? == 3 - holder).then_some(())
    });
    world.within("the pods reach the customer", Duration::from_secs(10), || {
        world.lab.pod(2, 0).attempt(customer).ok()
    });
    let records = trains.map(Train::stop);
    assert!(records.iter().all(|record| record.answered() > 30), "{records:?}");
    for capture in &captures {
        reach::none("in the clear", capture);
    }
    reach::none("at the router", &astray);
    for recording in &recordings {
        let (bytes, found) = recording.count(MARKER);
        println!("priv0: {bytes} bytes recorded, what was within was seen {found} times");
        assert!(bytes > 50_000, "{bytes}");
        assert_eq!(found, 0);
    }
}
