use model::snapshot::{Algorithm, ProxyVersion, TlsPair};

use super::super::super::{Frontend, Path, Stream, StreamTls};
use super::*;

fn frontends(service: &ServicePlan) -> Vec<String> {
    let all = service.ports.iter().flat_map(|port| &port.frontends);
    all.map(|frontend| match frontend {
        Frontend::Vip(socket) => format!("vip {socket}"),
        Frontend::External(socket) => format!("external {socket}"),
        Frontend::NodePort(number) => format!("node {number}"),
    })
    .collect()
}

#[test]
fn frontends_are_vips_external_addresses_and_node_ports() {
    let mut world = World::with_pool(&["192.0.2.0/29"]);
    let mut web = port(Protocol::Tcp, 80);
    web.node_port = Some(30080);
    world.service("a").ports = vec![web, port(Protocol::Udp, 53)];
    world.exposure("a").external_ips = vec![ip("203.0.113.7"), ip("192.0.2.0")];
    let (service, diagnostics) = world.planned("a");
    assert_eq!(
        frontends(&service),
        [
            "vip 192.0.2.0:80",
            "external 203.0.113.7:80",
            "node 30080",
            "vip 192.0.2.0:53",
            "external 203.0.113.7:53"
        ]
    );
    assert_eq!(diagnostics, [] as [String; 0]);
}

#[test]
fn an_external_address_and_port_is_the_older_services() {
    let mut world = World::new();
    for (name, created) in [("a", 2), ("b", 1)] {
        let exposure = world.exposure(name);
        exposure.load_balancer = false;
        exposure.created = Some(created);
        exposure.external_ips = vec![ip("203.0.113.7")];
    }
    let (service, diagnostics) = world.planned("a");
    assert_eq!(frontends(&service), [] as [String; 0]);
    assert_eq!(
        diagnostics,
        [
            "error: Service shop/a: spec.externalIPs \"203.0.113.7\": 203.0.113.7: Service shop/b has \
          TCP port 80 of it already; give them different ports, or choose another address"
        ]
    );
    assert_eq!(frontends(&world.planned("b").0), ["external 203.0.113.7:80"]);
}

#[test]
fn external_addresses_are_not_taken_out_of_pools() {
    let mut world = World::with_pool(&["192.0.2.0/29"]);
    world.pool("public").reserved = vec![ip("192.0.2.7")];
    let exposure = world.exposure("a");
    exposure.load_balancer = false;
    exposure.external_ips = vec![ip("192.0.2.3"), ip("192.0.2.7")];
    let (service, diagnostics) = world.planned("a");
    assert_eq!(frontends(&service), ["external 192.0.2.7:80"]);
    assert!(
        diagnostics[0].starts_with("error: Service shop/a: spec.externalIPs \"192.0.2.3\": it is an address of AddressPool public and not this Service's"),
        "{diagnostics:?}"
    );
}

#[test]
fn a_fail_safe_port_of_the_machine_s_own_address_stays_its_own() {
    let mut world = World::with_pool(&["192.0.2.0/29"]);
    let network = "10.1.0.1/24".parse().unwrap();
    world.host = vec![HostAddress { interface: "eth0".into(), network }];
    let settings = world.settings.l4.as_mut().unwrap();
    settings.fail_safe.inbound = vec![(Protocol::Tcp, 80)];
    let exposure = world.exposure("a");
    exposure.load_balancer = false;
    exposure.external_ips = vec![ip("10.1.0.1"), ip("203.0.113.7")];
    world.service("a").ports.push(port(Protocol::Tcp, 81));
    let (service, diagnostics) = world.planned("a");
    assert_eq!(
        frontends(&service),
        ["external 203.0.113.7:80", "external 10.1.0.1:81", "external 203.0.113.7:81"]
    );
    assert!(diagnostics[0].contains("TCP port 80 always stays its own"), "{diagnostics:?}");
}

#[test]
fn terminating_endpoints_only_serve_when_no_other_is_left() {
    let mut world = World::with_pool(&["192.0.2.0/29"]);
    let ready = endpoint("10.0.0.1:80");
    let terminating = Endpoint { terminating: true, ..endpoint("10.0.0.2:80") };
    world.service("a").ports[0].endpoints = vec![ready.clone(), terminating.clone()];
    assert_eq!(world.planned("a").0.ports[0].endpoints.to_vec(), vec![ready.clone()]);
    world.service("a").ports[0].endpoints = vec![terminating.clone()];
    assert_eq!(world.planned("a").0.ports[0].endpoints.to_vec(), vec![terminating.clone()]);
    // Of those elsewhere none serves where the policy is Local, and that is told apart.
    let remote = Endpoint { local: false, ..ready };
    world.exposure("a").local_only = true;
    world.service("a").ports[0].endpoints = vec![remote.clone(), terminating.clone()];
    let service = world.planned("a").0;
    assert_eq!(service.ports[0].endpoints.as_ref(), [terminating]);
    assert_eq!((service.ports[0].only_remote, service.local_endpoints), (false, 0));
    world.service("a").ports[0].endpoints = vec![remote];
    let service = world.planned("a").0;
    assert_eq!((service.ports[0].endpoints.len(), service.ports[0].only_remote), (0, true));
    world.service("a").ports[0].endpoints = vec![];
    assert!(!world.planned("a").0.ports[0].only_remote);
}

#[test]
fn local_endpoints_are_counted_by_address() {
    let mut world = World::with_pool(&["192.0.2.0/29"]);
    let (mut web, mut dns) = (port(Protocol::Tcp, 80), port(Protocol::Udp, 53));
    web.endpoints = vec![endpoint("10.0.0.1:80"), endpoint("10.0.0.1:81"), endpoint("10.0.0.2:80")];
    dns.endpoints = vec![endpoint("10.0.0.2:53"), endpoint("10.0.0.3:53")];
    world.service("a").ports = vec![web, dns];
    assert_eq!(world.planned("a").0.local_endpoints, 3);
    world.service("a").ports.pop();
    assert_eq!(world.planned("a").0.local_endpoints, 2);
}

#[test]
fn the_clients_address_is_kept_with_policy_local() {
    let mut world = World::with_pool(&["192.0.2.0/29"]);
    world.settings.l4.as_mut().unwrap().snat = true;
    world.service("a");
    assert!(world.planned("a").0.snat);
    world.exposure("a").snat = Some(false);
    assert!(!world.planned("a").0.snat);
    world.exposure("a").snat = Some(true);
    world.exposure("a").local_only = true;
    let (service, diagnostics) = world.planned("a");
    assert!(!service.snat);
    assert!(
        diagnostics[0]
            .starts_with("warning: Service shop/a: metadata.annotations[\"tidegate.io/snat\"]")
    );
}

#[test]
fn user_space_is_only_for_what_the_kernel_cannot_do() {
    let mut world = World::with_pool(&["192.0.2.0/29"]);
    let ports = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp].map(|protocol| port(protocol, 53));
    world.service("a").ports = ports.into();
    let paths = |world: &mut World| {
        let (service, diagnostics) = world.planned("a");
        let user_space = service.ports.iter().map(|port| port.path != Path::Kernel).collect();
        let algorithms: Vec<Algorithm> = service.ports.iter().map(|port| port.algorithm).collect();
        (user_space, algorithms, diagnostics.len())
    };
    let random = vec![Algorithm::Random; 3];
    assert_eq!(paths(&mut world), (vec![false; 3], random.clone(), 0));
    world.exposure("a").stream.send_proxy = Some(ProxyVersion::V2);
    assert_eq!(paths(&mut world), (vec![true, false, false], random.clone(), 0));
    world.exposure("a").stream.forced = true;
    assert_eq!(paths(&mut world), (vec![true, true, false], random, 0));
    world.exposure("a").stream = Default::default();
    world.exposure("a").algorithm = Algorithm::LeastConnections;
    let algorithms = vec![Algorithm::LeastConnections, Algorithm::Random, Algorithm::Random];
    assert_eq!(paths(&mut world), (vec![true, false, false], algorithms, 1));
}

#[test]
fn tls_ends_on_the_ports_that_are_named() {
    let mut world = World::with_pool(&["192.0.2.0/29"]);
    world.service("a").ports = vec![port(Protocol::Tcp, 80), port(Protocol::Tcp, 443)];
    let secret = ObjectKey::new("shop", "pair");
    let stream = &mut world.exposure("a").stream;
    (stream.tls_secret, stream.tls_ports) = (Some(secret.clone()), vec![443]);
    let (service, diagnostics) = world.planned("a");
    assert_eq!(service.ports[0].path, Path::Kernel);
    let tls = StreamTls::Terminate { secret: secret.clone(), pair: None };
    let stream = Stream { tls, ..Stream::default() };
    assert_eq!(service.ports[1].path, Path::UserSpace(Box::new(stream)));
    assert_eq!(diagnostics, [] as [String; 0], "ingest has told of the Secret");
    let pair = TlsPair {
        names: Arc::new(vec!["a.test".into()]),
        chain: Arc::default(),
        key: Arc::default(),
        validity: (0, 1),
    };
    world.snapshot.certificates.insert(secret, pair.clone());
    let (service, diagnostics) = world.planned("a");
    assert_eq!(diagnostics, [] as [String; 0]);
    let Path::UserSpace(stream) = &service.ports[1].path else { panic!("TLS needs user space") };
    assert!(
        matches!(&stream.tls, StreamTls::Terminate { pair: Some(found), .. } if *found == pair)
    );
}

#[test]
fn user_space_needs_external_addresses_on_the_machine() {
    let mut world = World::new();
    world.exposure("a").external_ips = vec![ip("203.0.113.1"), ip("203.0.113.2")];
    let own = |text: &str| HostAddress { interface: "lo".into(), network: text.parse().unwrap() };
    world.host = vec![own("203.0.113.1/32")];
    world.exposure("a").load_balancer = false;
    assert_eq!(world.planned("a").1, [] as [String; 0]);
    world.exposure("a").stream.forced = true;
    assert_eq!(
        world.planned("a").1,
        [
            "warning: Service shop/a: spec.externalIPs[1] \"203.0.113.2\": its ports go through user \
          space, where connections to it only arrive if the machine itself has it; put the \
          address on an interface of the edge, such as lo, or use a VIP"
        ]
    );
    world.host.clear();
    assert_eq!(world.planned("a").1, [] as [String; 0], "nobody knows");
}

#[test]
fn policy_local_is_told_where_user_space_hides_the_client() {
    let mut world = World::with_pool(&["192.0.2.0/29"]);
    world.exposure("a").local_only = true;
    assert_eq!(world.planned("a").1, [] as [String; 0]);
    world.exposure("a").algorithm = Algorithm::LeastConnections;
    let (_, diagnostics) = world.planned("a");
    let field = "warning: Service shop/a: metadata.annotations[\"tidegate.io/algorithm\"]: ";
    assert!(diagnostics[0].starts_with(field), "{diagnostics:?}");
    world.exposure("a").stream.idle_ms = Some(1000);
    let (_, diagnostics) = world.planned("a");
    assert!(diagnostics[0].contains("tidegate.io/idle-timeout"), "{diagnostics:?}");
    assert!(diagnostics[0].contains("set tidegate.io/send-proxy-protocol"), "{diagnostics:?}");
    world.exposure("a").stream.send_proxy = Some(ProxyVersion::V2);
    assert_eq!(world.planned("a").1, [] as [String; 0]);
}
