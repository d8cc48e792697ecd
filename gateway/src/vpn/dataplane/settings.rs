//! What a data path is told at its start, and why there may be none.

use std::net::IpAddr;

use netdev::esp_socket::EspSocketError;
use netdev::tun::TunError;
use netdev::udp::UdpError;
use netdev::xfrm::XfrmError;

/// What a data path is told at its start.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The name of the interface that packets for tunnels are routed into.
    pub interface: String,
    /// Its MTU. Packets that are too big for a tunnel are answered by the data path, so that it is
    /// not below the tunnels' own.
    pub mtu: u16,
    /// The largest outer packet; none for the one that its path has.
    pub path_mtu: Option<u16>,
    /// Threads; one at least.
    pub workers: usize,
    /// The port for IKE, 500.
    pub port: u16,
    /// The port for IKE and ESP behind NAT, 4500.
    pub nat_port: u16,
    /// The mark of all that is sent (`SO_MARK`), so that it isn't routed into the tunnels.
    pub mark: u32,
    /// Where it listens. Empty: on all addresses, those of IPv6 if there is IPv6.
    pub addresses: Vec<IpAddr>,
    /// Many packets for one system call, where the kernel can.
    pub offloads: bool,
    /// Outer headers have the DSCP of inner ones; otherwise 0.
    pub copy_dscp: bool,
    /// Routers must not fragment outer packets. By default they may, and inner packets are kept
    /// small enough that they need not.
    pub dont_fragment: bool,
    /// Octets that may wait in a socket.
    pub socket_buffer: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            interface: "tidegate-vpn".to_owned(),
            mtu: 1500,
            path_mtu: None,
            workers: 1,
            port: 500,
            nat_port: 4500,
            mark: 0x5447,
            addresses: Vec::new(),
            offloads: true,
            copy_dscp: false,
            dont_fragment: false,
            socket_buffer: 4 << 20,
        }
    }
}

/// Why there is no data path.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The TUN interface.
    #[error("vpn: {0}")]
    Tun(#[from] TunError),
    /// A socket for IKE and ESP in UDP.
    #[error("vpn: {0}")]
    Udp(#[from] UdpError),
    /// The kernel's SAs, policies and interface.
    #[error("vpn: {0}")]
    Xfrm(#[from] XfrmError),
    /// A raw socket for ESP.
    #[error("vpn: {0}")]
    Esp(#[from] EspSocketError),
    /// A thread, or what one waits with.
    #[error("vpn: {step}: {source}; raise the limits on threads and open files")]
    Thread {
        /// What was being done.
        step: &'static str,
        /// The reason.
        source: std::io::Error,
    },
}
