//! wireguard-go: WireGuard in user space, as its distribution package has it.

use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use boringtun::x25519::PublicKey;

use super::wireguard::{PORT, is_there as has_interface, key};
use super::{Kind, Site, Sites, Workshop};
use crate::lab::{START, find_program, first_line, text, write};
use crate::system::child::{Program, Supervised};

/// How to get it.
pub(crate) const REMEDY: &str =
    "it is not installed: `apt-get install wireguard-go wireguard-tools`";

/// Whether it is installed, with wg(8), which configures it.
pub(crate) fn is_there() -> bool {
    find_program("wireguard-go").is_some() && find_program("wg").is_some()
}

/// What it says its version is.
pub(super) fn version() -> anyhow::Result<String> {
    let line = first_line(&find_program("wireguard-go").context(REMEDY)?, "--version")?;
    Ok(line.trim_start_matches("wireguard-go ").to_owned())
}

impl Workshop<'_> {
    /// Both gateways; either begins with its first packet.
    pub(super) fn wireguard_go(&self, sites: &Sites) -> anyhow::Result<Vec<(Site, Supervised)>> {
        Site::BOTH.into_iter().map(|site| Ok((site, self.one_in_go(sites, site)?))).collect()
    }

    fn one_in_go(&self, sites: &Sites, site: Site) -> anyhow::Result<Supervised> {
        let folder = self.own_folder(Kind::WireguardGo.name(), site)?;
        // Its socket is named like this, in one folder for all namespaces.
        let interface = format!("lt{}{}", std::process::id(), site.letter());
        let other = site.other();
        let program = Program {
            path: find_program("wireguard-go").context(REMEDY)?,
            arguments: vec!["-f".to_owned(), interface.clone()],
        };
        let secret = folder.join("key");
        write(&secret, STANDARD.encode(key(site).to_bytes()))?;
        let namespace = sites.gateway(site);
        let inside = namespace.enter()?;
        let log = folder.join("output.log");
        let mut process =
            Supervised::start("wireguard-go", &program, site.core(self.cores), &log, &log)?;
        let socket = std::path::Path::new("/var/run/wireguard").join(format!("{interface}.sock"));
        process
            .wait_until("its interface", START, || has_interface(&interface) && socket.exists())?;
        let told = Command::new(find_program("wg").context(REMEDY)?)
            .args(["set", &interface, "listen-port", &PORT.to_string(), "private-key"])
            .arg(text(&secret)?)
            .args(["peer", &STANDARD.encode(PublicKey::from(&key(other)).as_bytes())])
            .args(["endpoint", &format!("{}:{PORT}", other.outside())])
            .args(["allowed-ips", &other.network()])
            .stdin(Stdio::null())
            .output()
            .context("wg")?;
        if !told.status.success() {
            bail!("wg set: {}", String::from_utf8_lossy(&told.stderr).trim());
        }
        drop(inside);
        namespace.ip(&format!(
            "link set {interface} up\nroute add {} dev {interface}\n",
            other.network()
        ))?;
        Ok(process)
    }
}
