//! The gateway's configuration file.
//!
//! [`mod@file`] says what may stand in it; here is what the gateway works with, once everything
//! in it has been found to hold together. `gateway schema` prints its JSON schema.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use ipnet::IpNet;
use model::{AlbKind, AlbSettings, L4Settings, ObjectKey, OverlaySettings, Settings, VpnSettings};
use plan::l4::AlbPorts;
use schemars::JsonSchema;
use serde::Deserialize;
use settings::document;

use crate::access_log::Target;

mod check;
pub mod file;

pub use file::{Ejection, HalfOpen, Limits, Retransmit, Timeouts, Upstream};
pub use settings::values::{self, Period, ServicePort, Workers};
pub use settings::{ConfigError, error};

/// A configuration that holds together. Paths in it are absolute or relative to the current
/// directory, no longer to the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// This machine's name among edges, where objects come from the Kubernetes API.
    pub node_name: Option<String>,
    /// Where objects come from.
    pub source: Source,
    /// The two ALBs; at least one of them is enabled unless the L4 or the VPN plane
    /// is.
    pub alb: Albs,
    /// The L4 plane, if it is enabled.
    pub l4: Option<L4>,
    /// The VPN plane, if it is enabled.
    pub vpn: Option<Vpn>,
    /// The overlay, if it is enabled.
    pub overlay: Option<Overlay>,
    /// The admin side.
    pub admin: Admin,
    /// How many threads serve.
    pub workers: Workers,
    /// The directory for keys and allocations.
    pub state: PathBuf,
    /// The access log.
    pub access_log: AccessLog,
    /// How long requests under way may take to end once the gateway is told to stop.
    pub drain: Period,
}

/// The L4 plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct L4 {
    /// What rules depend on.
    pub settings: L4Settings,
    /// What becomes of the kernel's rules and addresses when the gateway stops as told to.
    pub on_stop: OnStop,
}

/// The VPN plane.
#[derive(Clone, Debug, PartialEq)]
pub struct Vpn {
    /// What rules depend on.
    pub settings: VpnSettings,
    /// Where packets are encrypted.
    pub dataplane: Dataplane,
    /// How many threads carry packets.
    pub workers: Workers,
    /// Whether many packets go through one system call where the kernel can do that.
    pub offloads: bool,
    /// The largest packet on the way to the other end; none for the one that its route has.
    pub mtu: Option<u16>,
    /// What becomes of the tunnel interface and routes when the gateway stops as told to; the
    /// guard table stays in any case.
    pub on_stop: OnStop,
    /// Limits on connections that others begin.
    pub half_open: HalfOpen,
    /// How messages are repeated that nobody answers.
    pub retransmit: Retransmit,
}

/// The overlay.
#[derive(Clone, Debug, PartialEq)]
pub struct Overlay {
    /// What rules depend on.
    pub settings: OverlaySettings,
    /// Where packets are encrypted.
    pub backend: file::Backend,
    /// How many threads carry packets in user space.
    pub workers: Workers,
    /// Whether many packets go through one system call in user space.
    pub offloads: bool,
    /// The edge's addresses towards nodes, the preferred one first; none to find them out.
    pub underlay: Vec<IpAddr>,
    /// Interfaces that face the internet; none for those of the L4 plane.
    pub outside: Option<Vec<String>>,
    /// How old a key becomes; none for as old as it may.
    pub key_rotation: Option<Period>,
    /// What becomes of tunnels and routes when the gateway stops as told to.
    pub on_stop: OnStop,
}

/// Where packets are encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Dataplane {
    /// In the better one of those that work here.
    #[default]
    Auto,
    /// In user space.
    Userspace,
    /// In the kernel.
    Xfrm,
}

/// What becomes of the kernel's rules and addresses on a clean stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OnStop {
    /// They stay, so that traffic goes on.
    #[default]
    Keep,
    /// They go.
    Remove,
}

/// Where objects come from: one of these.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The directory of manifests.
    pub manifests: Option<PathBuf>,
    /// The Kubernetes API.
    pub kubernetes: Option<Kubernetes>,
}

/// How to reach the Kubernetes API.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Kubernetes {
    /// A kubeconfig; none within the cluster.
    pub kubeconfig: Option<PathBuf>,
    /// One of its contexts; none for the current one.
    pub context: Option<String>,
    /// Where Leases and the like are; none for the service account's, or `tidegate`.
    pub namespace: Option<String>,
    /// Whose Secrets are read; none for all.
    pub secret_namespaces: Vec<String>,
}

/// The two ALBs.
#[derive(Clone, Debug, PartialEq)]
pub struct Albs {
    /// Facing the internet.
    pub public: Alb,
    /// Facing the private network.
    pub private: Alb,
}

/// One ALB.
#[derive(Clone, Debug, PartialEq)]
pub struct Alb {
    /// Whether it serves at all.
    pub enabled: bool,
    /// The IngressClass whose objects it serves.
    pub ingress_class: String,
    /// Where it listens: if enabled, on at least one address and port; with the L4 plane enabled
    /// there may be no address, and only those out of pools count.
    pub listen: Listen,
    /// Whether hosts with TLS have their HTTP requests redirected.
    pub ssl_redirect: bool,
    /// The Secret of the default certificate, none for a self-made one.
    pub default_certificate: Option<ObjectKey>,
    /// For requests that no rule matches, none for 404.
    pub default_backend: Option<ServicePort>,
    /// Clients whose forwarding headers are believed.
    pub trusted_proxies: Vec<IpNet>,
    /// Time-outs.
    pub timeouts: Timeouts,
    /// Limits on requests and connections.
    pub limits: Limits,
    /// How endpoints are treated.
    pub upstream: Upstream,
}

/// Where an ALB listens.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listen {
    /// On these addresses,
    pub addresses: Vec<IpAddr>,
    /// for HTTP on this port (0 for any),
    pub http: Option<u16>,
    /// for HTTPS on this port (0 for any).
    pub https: Option<u16>,
    /// Clients reach HTTPS at this port, where it isn't the one that is listened on.
    pub public_https: Option<u16>,
    /// On addresses out of pools, for HTTP on this port,
    pub pool_http: Option<u16>,
    /// and for HTTPS on this port.
    pub pool_https: Option<u16>,
}

/// The admin side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    /// Where it listens; none for nowhere.
    pub listen: Option<SocketAddr>,
}

/// The access log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessLog {
    target: Option<Target>,
}

impl AccessLog {
    /// Where lines go; none for nowhere.
    pub fn target(&self) -> Option<&Target> {
        self.target.as_ref()
    }
}

impl Config {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// For the first thing that is wrong with it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let name = path.to_string_lossy();
        let text = document::text(path)?;
        Self::parse(&name, &text, path.parent().unwrap_or(Path::new("")))
    }

    /// Checks a configuration's text. Relative paths in it are taken from `folder`; `name` is for
    /// errors.
    ///
    /// # Errors
    /// For the first thing that is wrong with it.
    pub fn parse(name: &str, text: &str, folder: &Path) -> Result<Self, ConfigError> {
        let (file, document) = file::File::parse(name, text)?;
        check::Checker { name, document: &document, folder }.config(file)
    }

    /// The ALBs that serve.
    pub fn enabled_albs(&self) -> impl Iterator<Item = (AlbKind, &Alb)> {
        [(AlbKind::Public, &self.alb.public), (AlbKind::Private, &self.alb.private)]
            .into_iter()
            .filter(|(_, alb)| alb.enabled)
    }

    /// The ports on which each ALB that is enabled listens on addresses out of pools.
    pub fn alb_ports(&self) -> AlbPorts {
        let ports = |alb: &Alb| {
            let listen = &alb.listen;
            listen.pool_http.into_iter().chain(listen.pool_https).collect()
        };
        self.enabled_albs().map(|(kind, alb)| (kind, ports(alb))).collect()
    }

    /// What ingest and the planners need to know of the ALBs that serve.
    pub fn settings(&self) -> Settings {
        let albs = self.enabled_albs().map(|(kind, alb)| alb.settings(kind)).collect();
        Settings {
            albs,
            l4: self.l4.as_ref().map(|l4| l4.settings.clone()),
            vpn: self.vpn.as_ref().map(|vpn| vpn.settings.clone()),
            overlay: self.overlay.as_ref().map(|overlay| overlay.settings.clone()),
        }
    }
}

impl Alb {
    fn settings(&self, kind: AlbKind) -> AlbSettings {
        AlbSettings {
            kind,
            ingress_class: self.ingress_class.clone(),
            ssl_redirect: self.ssl_redirect,
            default_certificate: self.default_certificate.clone(),
            default_backend: self
                .default_backend
                .as_ref()
                .map(|backend| (backend.service.clone(), backend.port.clone())),
        }
    }
}

/// What rules depend on where there is no configuration: both ALBs, with their default classes, and
/// tunnels.
pub fn default_settings() -> Settings {
    let settings = |kind| AlbSettings {
        kind,
        ingress_class: file::default_class(kind).to_owned(),
        ssl_redirect: true,
        default_certificate: None,
        default_backend: None,
    };
    let albs = vec![settings(AlbKind::Public), settings(AlbKind::Private)];
    Settings { albs, vpn: Some(VpnSettings::default()), ..Settings::default() }
}

#[cfg(test)]
mod tests;
