//! The gateway at site A, strongSwan at site B.

use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use testkit::lab::Server;
use testkit::vpn_lab::Site;
use testkit::{Gateway, Namespace, StrongSwan, SwanBuilder, SwanConnection, VpnLab, eventually};

/// The preshared key.
pub(crate) const KEY: &str = "a key for tests, long enough";

/// What both ends are told.
#[derive(Clone)]
pub(crate) struct Ends {
    pub(crate) ike: String,
    pub(crate) esp: String,
    /// Whether the gateway begins, or strongSwan.
    pub(crate) we_begin: bool,
    /// The gateway's networks and strongSwan's, as the gateway is told.
    pub(crate) ours: [String; 2],
    /// strongSwan's networks and the gateway's, as strongSwan is told.
    pub(crate) theirs: [String; 2],
    /// Further keys of the VpnConnection's `spec`, a line each.
    pub(crate) spec: String,
    /// Its `auth`.
    pub(crate) auth: String,
    /// Further objects.
    pub(crate) objects: String,
    /// Lines of strongSwan's connection.
    pub(crate) lines: String,
    /// Lines of its `local` and `remote`.
    pub(crate) swan_auth: [String; 2],
    /// Files of strongSwan.
    pub(crate) files: Vec<(String, String)>,
}

impl Default for Ends {
    fn default() -> Self {
        let networks = |site: Site| [site.network(), site.other().network()];
        Self {
            ike: "aes128gcm16-prfsha256-x25519".to_owned(),
            esp: "aes128gcm16".to_owned(),
            we_begin: true,
            ours: networks(Site::A),
            theirs: networks(Site::B),
            spec: String::new(),
            auth: "psk: {secretName: site-psk, key: psk}".to_owned(),
            objects: String::new(),
            lines: String::new(),
            swan_auth: ["auth = psk\nid = b.test".into(), "auth = psk\nid = a.test".into()],
            files: Vec::new(),
        }
    }
}

impl Ends {
    fn yaml(&self) -> String {
        let spec: String = self.spec.lines().map(|line| format!("  {line}\n")).collect();
        let [local, remote] = &self.ours;
        format!(
            "apiVersion: tidegate.io/v1alpha1
kind: VpnConnection
metadata: {{name: site, namespace: default}}
spec:
  auto: {}
  allowLegacy: true
  ike: [{}]
  esp: [{}]
  auth: {{{}}}
  local: {{address: 192.0.2.1, id: a.test, subnets: [{local}]}}
  remote: {{gateway: 192.0.2.2, id: b.test, subnets: [{remote}]}}
  dpd: {{delay: 1s, timeout: 3s, action: restart}}
{spec}---
apiVersion: v1
kind: Secret
metadata: {{name: site-psk, namespace: default}}
stringData: {{psk: \"{KEY}\"}}
{}",
            if self.we_begin { "start" } else { "add" },
            self.ike,
            self.esp,
            self.auth,
            self.objects
        )
    }

    fn swan(&self) -> SwanBuilder {
        let [local, remote] = &self.swan_auth;
        let lines = format!(
            "version = 2\nlocal_addrs = 192.0.2.2\nremote_addrs = 192.0.2.1\nproposals = {}\n\
             dpd_delay = 1s\ndpd_timeout = 4s\n{}\nlocal {{\n{local}\n}}\nremote {{\n{remote}\n}}",
            self.ike, self.lines
        );
        let [mine, yours] = &self.theirs;
        let child = format!(
            "local_ts = {mine}\nremote_ts = {yours}\nesp_proposals = {}\nstart_action = {}",
            self.esp,
            if self.we_begin { "none" } else { "start" },
        );
        let connection = SwanConnection {
            name: "edge".to_owned(),
            lines,
            children: vec![("net".to_owned(), child)],
        };
        let builder = StrongSwan::builder().connection(connection).psk("a.test", "b.test", KEY);
        self.files.iter().fold(builder, |builder, (name, content)| builder.file(name, content))
    }

    /// Starts both, and waits until they are connected.
    #[track_caller]
    pub(crate) fn up(&self) -> Mixed {
        let mixed = self.start();
        mixed.wait_up();
        mixed
    }

    /// Starts both.
    #[track_caller]
    pub(crate) fn start(&self) -> Mixed {
        self.start_in(VpnLab::new())
    }

    /// The same in a lab that was changed.
    #[track_caller]
    pub(crate) fn start_in(&self, lab: VpnLab) -> Mixed {
        lab.gateway(Site::B).set("ipv4/ip_forward", "1");
        let ours = || {
            Gateway::builder(env!("CARGO_BIN_EXE_gateway"))
                .alb("enabled: false")
                .config("vpn: {enabled: true, dataplane: userspace, workers: 1}")
                .manifest("site.yaml", self.yaml())
                .within(lab.gateway(Site::A))
                .start()
        };
        // Whoever waits is there first.
        let (gateway, swan) = if self.we_begin {
            let swan = self.swan().start(lab.gateway(Site::B));
            (ours(), swan)
        } else {
            let gateway = ours();
            (gateway, self.swan().start(lab.gateway(Site::B)))
        };
        Mixed { gateway, swan, lab }
    }
}

/// Both, running.
pub(crate) struct Mixed {
    // Dropped in this order.
    pub(crate) gateway: Gateway,
    pub(crate) swan: StrongSwan,
    pub(crate) lab: VpnLab,
}

impl Mixed {
    #[track_caller]
    pub(crate) fn wait_up(&self) {
        eventually("the connection is up", || {
            let up = self.connection().get("state")? == "up" && self.swan.installed() > 0;
            up.then_some(())
        });
    }

    /// What the API says of `default/site`.
    #[track_caller]
    pub(crate) fn connection(&self) -> Value {
        let text = self.gateway.admin_get("/api/v1/vpn").text();
        let value: Value = serde_json::from_str(&text).unwrap();
        value.pointer("/connections/0").cloned().unwrap_or_default()
    }

    /// TCP from a host to an address of the other site's host: the source that it sees there.
    /// A long answer comes back whole.
    #[track_caller]
    pub(crate) fn source_seen(&self, from: Site, to: &str) -> IpAddr {
        let server = self.lab.host(from.other());
        let _server = Server::start(server, 8080, "host");
        let to: IpAddr = to.parse().unwrap();
        let at = SocketAddr::new(to, 8080);
        let mut flow =
            eventually("a connection through the tunnel", || self.lab.host(from).connect(at).ok());
        let long = "x".repeat(50_000);
        let answer = flow.say(&long).unwrap();
        assert_eq!(answer.text, long);
        answer.client.ip()
    }

    /// Megabits a second from a host to the other site's, by iperf3 for a second.
    #[track_caller]
    pub(crate) fn iperf(&self, from: Site) -> f64 {
        let server = self.lab.host(from.other());
        let mut listening = Command::new("iperf3");
        listening.args(["-s", "-1", "-p", "5201"]).stdin(Stdio::null()).stdout(Stdio::null());
        let mut listening = server.spawn(&mut listening).unwrap();
        let to = from.other().host_address().to_string();
        let arguments = ["-c", &to, "-p", "5201", "-t", "1", "-J"];
        // It says on standard output that the other one doesn't listen yet.
        let rate = eventually("iperf3 has run", || {
            let text = self.lab.host(from).try_command("iperf3", &arguments, "").ok()?;
            let value: Value = serde_json::from_str(&text).ok()?;
            value.pointer("/end/sum_received/bits_per_second").and_then(Value::as_f64)
        });
        _ = listening.kill();
        _ = listening.wait();
        rate / 1e6
    }
}

/// Whether an echo request is answered within half a second.
#[track_caller]
pub(crate) fn pings(from: &Namespace, to: &str) -> bool {
    from.try_command("ping", &["-n", "-c1", "-W0.5", to], "").is_ok()
}

/// Waits until one is answered; how long that took.
#[track_caller]
pub(crate) fn wait_ping(from: &Namespace, to: &str) -> Duration {
    let started = Instant::now();
    eventually(&format!("{to} answers a ping"), || pings(from, to).then_some(()));
    started.elapsed()
}
