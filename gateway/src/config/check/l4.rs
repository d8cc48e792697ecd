//! The `l4` section: what must hold within it.

use std::net::SocketAddr;

use model::Protocol::{Tcp, Udp};
use model::settings::FailSafe;
use model::{L4Settings, Protocol};

use super::Checker;
use crate::config::values::OwnPort;
use crate::config::{ConfigError, L4, Overlay, file};

/// Longest name of an interface: Linux's IFNAMSIZ without the end mark.
const MAX_INTERFACE: usize = 15;

/// Calico's fail-safe ports as far as an edge has them (neither etcd nor Typha runs here, nor an
/// API server), IKE (RFC 7296) and WireGuard.
const INBOUND: [(Protocol, u16); 6] =
    [(Tcp, 22), (Udp, 68), (Tcp, 179), (Udp, 500), (Udp, 4500), (Udp, 51820)];
const OUTBOUND: [(Protocol, u16); 7] =
    [(Udp, 53), (Udp, 67), (Tcp, 179), (Udp, 500), (Udp, 4500), (Udp, 51820), (Tcp, 6443)];

impl Checker<'_> {
    /// The L4 plane, if it is enabled. A node's name that is written is checked in any case.
    pub(super) fn l4(
        &self,
        l4: file::L4,
        node_name: Option<String>,
        admin: Option<SocketAddr>,
        overlay: Option<&Overlay>,
    ) -> Result<Option<L4>, ConfigError> {
        let node_name = node_name.map(|name| self.node_name(&name, false)).transpose()?;
        self.interfaces("public", &l4.interfaces.public)?;
        self.interfaces("private", &l4.interfaces.private)?;
        if l4.load_balancer_class.is_empty() {
            return Err(self
                .error("l4.loadBalancerClass", "is empty")
                .remedy("write a class such as tidegate.io/edge"));
        }
        if !l4.enabled {
            return Ok(None);
        }
        if l4.interfaces.public.is_empty() && l4.interfaces.private.is_empty() {
            return Err(self
                .error("l4.interfaces", "names no interface")
                .remedy("write the interfaces that face each network, such as {public: [eth0]}"));
        }
        let node_name = self.own_name(node_name)?;
        let settings = L4Settings {
            node_name,
            public: l4.interfaces.public,
            private: l4.interfaces.private,
            node_ports: l4.node_port_range.0,
            snat: l4.snat,
            load_balancer_class: l4.load_balancer_class,
            default_class: l4.default_class,
            fail_safe: fail_safe(l4.fail_safe, admin, overlay),
        };
        Ok(Some(L4 { settings, on_stop: l4.on_stop }))
    }

    /// This machine's name: as written, or the host's.
    pub(super) fn own_name(&self, written: Option<String>) -> Result<String, ConfigError> {
        match written {
            Some(name) => self.node_name(&name, false),
            None => {
                let host = rustix::system::uname();
                self.node_name(&host.nodename().to_string_lossy(), true)
            }
        }
    }

    /// A node's name, lower-case, as the kubelet makes it of the host's.
    fn node_name(&self, text: &str, of_host: bool) -> Result<String, ConfigError> {
        let name = text.to_ascii_lowercase();
        if is_subdomain(&name) {
            return Ok(name);
        }
        let whose = if of_host { "is missing, and the host name" } else { "is no node's name:" };
        Err(self
            .error("nodeName", format!("{whose} {text:?} has other than a-z, 0-9, '-' and '.'"))
            .remedy("write the node's name, such as edge-1"))
    }

    fn interfaces(&self, side: &str, names: &[String]) -> Result<(), ConfigError> {
        let key = || format!("l4.interfaces.{side}");
        for (index, name) in names.iter().enumerate() {
            if !is_interface(name) {
                return Err(self
                    .error(&key(), format!("{name:?} can't be an interface's name"))
                    .remedy("write a name that `ip link` shows, such as eth0"));
            }
            if names.iter().take(index).any(|other| other == name) {
                return Err(self.error(&key(), format!("has {name:?} twice")).remedy("remove one"));
            }
        }
        Ok(())
    }
}

fn fail_safe(
    written: file::FailSafe,
    admin: Option<SocketAddr>,
    overlay: Option<&Overlay>,
) -> FailSafe {
    let ports = |written: Option<Vec<_>>, default: &[(Protocol, u16)]| {
        let mut ports: Vec<_> = match written {
            Some(ports) => ports.into_iter().map(|port: OwnPort| (port.0, port.1)).collect(),
            None => default.to_vec(),
        };
        ports.sort();
        ports.dedup();
        ports
    };
    let admin = admin.filter(|admin| !admin.ip().is_loopback() && admin.port() != 0);
    let overlay = overlay.map(|overlay| &overlay.settings);
    let overlay = overlay.map(|own| [own.port, own.port.saturating_add(1), own.probe_port]);
    let inbound: Vec<_> = INBOUND
        .into_iter()
        .chain(admin.map(|admin| (Tcp, admin.port())))
        .chain(overlay.into_iter().flatten().map(|port| (Udp, port)))
        .collect();
    FailSafe {
        inbound: ports(written.inbound, &inbound),
        outbound: ports(written.outbound, &OUTBOUND),
    }
}

/// As the kernel has it (dev_valid_name), and without what would have to be quoted in rules: `"`
/// and `*`.
pub(super) fn is_interface(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b':' | b'"' | b'*');
    (1..=MAX_INTERFACE).contains(&name.len())
        && name != "."
        && name != ".."
        && name.bytes().all(allowed)
}

/// RFC 1123: labels of lower-case letters, digits and inner hyphens.
fn is_subdomain(name: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    name.len() <= 253
        && name.split('.').all(|label| {
            (1..=63).contains(&label.len())
                && label.bytes().all(inner)
                && !label.starts_with('-')
                && !label.ends_with('-')
        })
}
