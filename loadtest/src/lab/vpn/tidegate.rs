//! Our own gateway, from VpnConnections as its users write them.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::{Kind, Site, Sites, Workshop};
use crate::lab::network::Namespace;
use crate::lab::{START, answers, text, write};
use crate::system::Memory;
use crate::system::child::{Program, Supervised};

/// Both ends' admin sides, each inside its namespace.
const ADMIN: ([u8; 4], u16) = ([127, 0, 0, 1], 9901);
/// Time for an answer of the admin side.
const ANSWER: Duration = Duration::from_secs(20);
/// How often it is looked how many connections are up: a look costs CPU time that they need.
const LOOK: Duration = Duration::from_millis(250);
/// The connections' namespace.
const NAMESPACE: &str = "bench";

/// Whether many packets may go through one system call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offloads {
    /// As by default.
    On,
    /// One packet each.
    Off,
}

impl Workshop<'_> {
    /// The gateway of a site, with one connection.
    pub(super) fn gateway(
        &self,
        sites: &Sites,
        site: Site,
        offloads: Offloads,
    ) -> anyhow::Result<(Site, Supervised)> {
        let folder = self.own_folder(Kind::Gateway(offloads).name(), site)?;
        configure(&folder, site, offloads, 1)?;
        Ok((site, self.run(&folder, sites.gateway(site), site)?))
    }

    fn run(&self, folder: &Path, namespace: &Namespace, site: Site) -> anyhow::Result<Supervised> {
        let binary = self.gateway.context("invariant: the gateway takes part")?;
        let program = Program {
            path: std::path::absolute(binary).context("the gateway's path")?,
            arguments: ["run", "--config", &text(&folder.join("gateway.yaml"))?]
                .map(str::to_owned)
                .into(),
        };
        let _inside = namespace.enter()?;
        let (log, errors) = (folder.join("stdout.log"), folder.join("stderr.log"));
        Supervised::start("gateway", &program, site.core(self.cores), &log, &errors)
    }
}

/// Writes what a site's gateway is started with: so many connections to the other one.
fn configure(
    folder: &Path,
    site: Site,
    offloads: Offloads,
    connections: u16,
) -> anyhow::Result<()> {
    let manifests = folder.join("manifests");
    fs::create_dir(&manifests).with_context(|| format!("{}", manifests.display()))?;
    // JSON is YAML. What is not said here is at its default.
    let mut config = json!({
        "apiVersion": "tidegate.io/v1alpha1",
        "kind": "GatewayConfig",
        "source": { "manifests": text(&manifests)? },
        "alb": { "public": { "enabled": false } },
        "vpn": {
            "enabled": true,
            "dataplane": "userspace",
            "workers": 1,
            "offloads": offloads == Offloads::On,
        },
        "admin": { "listen": SocketAddr::from(ADMIN) },
        "workers": 1,
        "state": text(&folder.join("state"))?,
        "accessLog": { "path": text(&folder.join("access.log"))? },
    });
    if let (true, Some(vpn)) = (connections > 1, config["vpn"].as_object_mut()) {
        // All of them come from one address here; by default ten may be half open.
        vpn.insert("halfOpen".to_owned(), json!({ "perSource": connections }));
    }
    write(
        &folder.join("gateway.yaml"),
        serde_json::to_vec_pretty(&config).context("the configuration")?,
    )?;
    let mut items = vec![secret()];
    items.extend((0..connections).map(|number| connection(site, number, connections)));
    let list = json!({ "apiVersion": "v1", "kind": "List", "items": items });
    write(&manifests.join("connections.json"), serde_json::to_vec(&list).context("manifests")?)
}

fn secret() -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": { "name": "psk", "namespace": NAMESPACE },
        "stringData": { "psk": "a shared key for measurements" },
    })
}

/// One connection of several. ESP goes in UDP, as with the others; A begins.
fn connection(site: Site, number: u16, of: u16) -> Value {
    let other = site.other();
    let id = |site: Site| match of {
        1 => site.id(),
        _ => format!("{}{number}.test", site.letter()),
    };
    let network = |site: Site| match of {
        1 => site.network(),
        _ => numbered_network(site, number),
    };
    json!({
        "apiVersion": "tidegate.io/v1alpha1",
        "kind": "VpnConnection",
        "metadata": { "name": format!("site-{number:05}"), "namespace": NAMESPACE },
        "spec": {
            "auto": if site == Site::A { "start" } else { "add" },
            "ike": ["aes128-sha256-x25519"],
            "esp": ["aes128gcm16"],
            "encapsulation": "udp",
            "auth": { "psk": { "secretName": "psk", "key": "psk" } },
            "local": {
                "address": site.outside(),
                "id": id(site),
                "subnets": [network(site)],
            },
            "remote": {
                "gateway": other.outside(),
                "id": id(other),
                "subnets": [network(other)],
            },
        },
    })
}

/// A network of a site's own for each connection: 10.64.0.0/24 and on, 10.128.0.0/24 and on.
fn numbered_network(site: Site, number: u16) -> String {
    let [high, low] = number.to_be_bytes();
    let first = Ipv4Addr::new(10, 64 * site.number() + (high & 0x3f), low, 0);
    format!("{first}/24")
}

/// How long many connections took to come up, and what they hold.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tunnels {
    /// From the start of both gateways until all are up on both.
    pub(crate) took: Duration,
    /// CPU time of both until then.
    pub(crate) cpu: Duration,
    /// Memory of each gateway then: A's and B's.
    pub(crate) memory: [Memory; 2],
}

/// Starts two gateways with so many connections between them, waits until all are up, and ends
/// them.
pub(crate) fn tunnels_up(
    workshop: &Workshop<'_>,
    connections: u16,
    within: Duration,
    settle: Duration,
) -> anyhow::Result<Tunnels> {
    let sites = Sites::set_up("tunnels")?;
    for site in Site::BOTH {
        let folder = workshop.folder.join(format!("tunnels-{}", site.letter()));
        if folder.exists() {
            fs::remove_dir_all(&folder).context("a pass of before")?;
        }
        fs::create_dir(&folder).with_context(|| format!("{}", folder.display()))?;
        configure(&folder, site, Offloads::On, connections)?;
    }
    let start = std::time::Instant::now();
    let run = |site: Site| {
        let folder = workshop.folder.join(format!("tunnels-{}", site.letter()));
        workshop.run(&folder, sites.gateway(site), site)
    };
    let (mut b, mut a) = (run(Site::B)?, run(Site::A)?);
    for (site, process) in [(Site::A, &mut a), (Site::B, &mut b)] {
        let _inside = sites.gateway(site).enter()?;
        process.wait_until("200 from /readyz", START, || {
            answers(SocketAddr::from(ADMIN), "admin", "/healthz")
        })?;
        let mut seen = 0;
        let all = process.wait_until_every(LOOK, "tunnels", within, || {
            seen = up().unwrap_or(0);
            seen == usize::from(connections)
        });
        all.with_context(|| format!("{seen} of {connections} connections are up"))?;
    }
    let took = start.elapsed();
    let cpu = a.cpu_time_of_all()? + b.cpu_time_of_all()?;
    std::thread::sleep(settle);
    let memory = |process: &Supervised| crate::system::memory(&process.processes()?);
    let memory = [memory(&a)?, memory(&b)?];
    for process in [&mut a, &mut b] {
        process.stop()?;
    }
    Ok(Tunnels { took, cpu, memory })
}

/// How many connections are up at the gateway of this thread's namespace.
fn up() -> anyhow::Result<usize> {
    let page = admin("/api/v1/vpn")?;
    let (_, body) = page.split_once("\r\n\r\n").context("an answer")?;
    let report: Value = serde_json::from_str(body).context("/api/v1/vpn")?;
    let Some(all) = report["connections"].as_array() else { bail!("/api/v1/vpn: no connections") };
    Ok(all.iter().filter(|one| one["state"] == "up").count())
}

/// An answer of the admin side, however long.
fn admin(path: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(SocketAddr::from(ADMIN)).context("the admin side")?;
    stream.set_read_timeout(Some(ANSWER)).context("the admin side")?;
    // In HTTP/1.0, so that the body isn't cut into chunks.
    write!(stream, "GET {path} HTTP/1.0\r\nHost: admin\r\n\r\n")?;
    let mut page = String::new();
    stream.read_to_string(&mut page).context("the admin side")?;
    Ok(page)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn manifests_of_many_connections_are_accepted() {
        for site in Site::BOTH {
            let folder = tempfile::tempdir().expect("a folder");
            configure(folder.path(), site, Offloads::On, 1000).expect("a configuration");
            let file = folder.path().join("manifests/connections.json");
            let text = fs::read_to_string(file).expect("manifests");
            let parsed = ingest::manifest::parse("connections.json", &text);
            assert_eq!(parsed.diagnostics, []);
            let mut set = ingest::ObjectSet::default();
            parsed.objects.into_iter().for_each(|entry| entry.insert_into(&mut set));
            let vpn = Some(model::VpnSettings::default());
            let settings = model::Settings { vpn, ..model::Settings::default() };
            let (snapshot, complaints) = ingest::ingest(&set, &settings);
            assert_eq!(complaints, []);
            assert_eq!(snapshot.vpn.len(), 1000);
        }
    }

    #[test]
    fn connections_have_networks_and_names_of_their_own() {
        let all: Vec<Value> = (0..1000).map(|number| connection(Site::A, number, 1000)).collect();
        for pointer in ["/spec/local/id", "/spec/local/subnets/0", "/spec/remote/subnets/0"] {
            let different: BTreeSet<_> =
                all.iter().filter_map(|one| one.pointer(pointer)?.as_str()).collect();
            assert_eq!(different.len(), 1000, "{pointer}");
        }
    }
}
