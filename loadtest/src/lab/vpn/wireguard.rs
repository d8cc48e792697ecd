//! WireGuard in user space by this program's own commands, each end a process of its own:
//! boringtun from its crate (`wireguard`), and the interface of edges and nodes (`overlay`).

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::SocketAddr;
use std::os::fd::IntoRawFd as _;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;

use anyhow::{Context, bail};
use boringtun::device::{DeviceConfig, DeviceHandle};
use boringtun::x25519::{PublicKey, StaticSecret};

use super::{Kind, Offloads, Site, Sites, Workshop};
use crate::cli;
use crate::lab::START;
use crate::system::child::{Program, Supervised};

const INTERFACE: &str = "wg0";
pub(super) const PORT: u16 = 51820;

/// The version that this program was built with.
pub(super) fn version() -> &'static str {
    const LOCK: &str = include_str!("../../../../Cargo.lock");
    let version = LOCK
        .split_once("name = \"boringtun\"\nversion = \"")
        .and_then(|(_, rest)| rest.split_once('"'));
    version.map_or("unknown", |(version, _)| version)
}

/// The key of a site. Nothing secret goes through these tunnels.
pub(super) fn key(site: Site) -> StaticSecret {
    StaticSecret::from([site.number(); 32])
}

impl Workshop<'_> {
    /// Both gateways; either begins with its first packet.
    pub(super) fn wireguard(
        &self,
        sites: &Sites,
        kind: Kind,
    ) -> anyhow::Result<Vec<(Site, Supervised)>> {
        let device = |site| Ok((site, self.one_device(sites, site, kind)?));
        Site::BOTH.into_iter().map(device).collect()
    }

    fn one_device(&self, sites: &Sites, site: Site, kind: Kind) -> anyhow::Result<Supervised> {
        let folder = self.own_folder(kind.name(), site)?;
        let other = site.other();
        let command: &[&str] = match kind {
            Kind::Overlay(Offloads::On) => &["overlay"],
            Kind::Overlay(Offloads::Off) => &["overlay", "--no-offloads"],
            _ => &["wireguard"],
        };
        let settings = [
            "--interface",
            INTERFACE,
            "--key",
            &hex(&key(site).to_bytes()),
            "--peer",
            &hex(PublicKey::from(&key(other)).as_bytes()),
            "--listen",
            &PORT.to_string(),
            "--endpoint",
            &SocketAddr::new(other.outside().into(), PORT).to_string(),
            "--allowed",
            &other.network(),
        ]
        .map(str::to_owned);
        let program = Program {
            path: PathBuf::from("/proc/self/exe"),
            arguments: command.iter().map(|word| (*word).to_owned()).chain(settings).collect(),
        };
        let namespace = sites.gateway(site);
        let mut device = {
            let _inside = namespace.enter()?;
            let log = folder.join("output.log");
            Supervised::start(kind.name(), &program, site.core(self.cores), &log, &log)?
        };
        {
            let _inside = namespace.enter()?;
            device.wait_until("its interface", START, || is_there(INTERFACE))?;
        }
        namespace.ip(&format!(
            "link set {INTERFACE} up\nroute add {} dev {INTERFACE}\n",
            other.network()
        ))?;
        Ok(device)
    }
}

/// The `wireguard` command: one end, until it is told to stop. One thread, as all others have one
/// worker, and a connected socket, as by default.
pub(crate) fn run(arguments: &cli::Wireguard) -> anyhow::Result<()> {
    let (ours, theirs) = UnixStream::pair().context("a pair of sockets")?;
    let config = DeviceConfig {
        n_threads: 1,
        use_connected_socket: true,
        use_multi_queue: false,
        uapi_fd: theirs.into_raw_fd(),
    };
    let mut device = match DeviceHandle::new(&arguments.interface, config) {
        Ok(device) => device,
        Err(error) => bail!("{}: {error}: it needs CAP_NET_ADMIN", arguments.interface),
    };
    let cli::Wireguard { key, peer, listen, endpoint, allowed, .. } = arguments;
    write!(
        &ours,
        "set=1\nprivate_key={key}\nlisten_port={listen}\npublic_key={peer}\nendpoint={endpoint}\n\
         allowed_ip={allowed}\n\n"
    )
    .context("boringtun's settings")?;
    let mut answer = String::new();
    BufReader::new(&ours).read_line(&mut answer).context("boringtun's answer")?;
    if answer.trim() != "errno=0" {
        bail!("boringtun refuses its settings: {answer:?}");
    }
    device.wait();
    drop(ours);
    Ok(())
}

/// Whether the namespace of this thread has the interface.
pub(super) fn is_there(interface: &str) -> bool {
    let all = std::fs::read_to_string("/proc/thread-self/net/dev").unwrap_or_default();
    all.lines().any(|line| {
        line.trim_start().strip_prefix(interface).is_some_and(|rest| rest.starts_with(':'))
    })
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_version_is_known() {
        assert!(version().starts_with("0."), "{}", version());
    }
}
