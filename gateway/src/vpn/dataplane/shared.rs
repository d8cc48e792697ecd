//! What the workers read and the control side writes.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::SyncSender;
use std::time::Instant;

use arc_swap::ArcSwap;
use ipsec::ike::event::Transmit;
use netdev::esp_socket::EspSocket;
use netdev::tun::Offloads;
use netdev::udp::{Outgoing, UdpSocket, Unsent};

use super::FromNetwork;
use super::policies::Policies;
use super::sa::{Sa, Way};
use super::tally::{Drops, Reason};

/// A NAT keepalive (RFC 3948, 2.3).
const KEEPALIVE: u8 = 0xff;

/// SAs by what stands in the packets that come.
pub(super) type BySpi = HashMap<u32, Arc<Sa>, foldhash::fast::RandomState>;

/// What the workers read and the control side writes.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) policies: ArcSwap<Policies>,
    pub(super) by_spi: ArcSwap<BySpi>,
    pub(super) drops: Drops,
    pub(super) stopping: AtomicBool,
    /// A worker has ended, or the TUN interface is gone.
    pub(super) broken: AtomicBool,
    pub(super) offloads: Offloads,
    pub(super) copy_dscp: bool,
    pub(super) port: u16,
    pub(super) nat_port: u16,
    pub(super) sender: SyncSender<FromNetwork>,
    pub(super) began: Instant,
}

impl Shared {
    /// Tells the IKE side; whether there was room.
    pub(super) fn tell(&self, told: FromNetwork) -> bool {
        self.sender.try_send(told).is_ok()
    }

    /// Tells that an SA is nearly used up; later, if there is no room now.
    pub(super) fn tell_worn(&self, sa: &Sa) {
        if !self.tell(FromNetwork::Worn { sa: sa.sa.id }) {
            sa.worn.store(false, Ordering::Relaxed);
        }
    }

    /// Milliseconds since the start.
    pub(super) fn milliseconds(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.began).as_millis()).unwrap_or(u64::MAX)
    }
}

/// What one worker sends and takes with.
#[derive(Debug)]
pub(super) struct Sockets {
    /// On the port for IKE and ESP behind NAT.
    pub(super) nat: Vec<UdpSocket>,
    /// On the port for IKE. Of the first worker only.
    pub(super) ike: Vec<UdpSocket>,
    /// For ESP without UDP. Of the first worker only; others send with them too.
    pub(super) raw: Arc<Vec<EspSocket>>,
}

impl Sockets {
    /// The UDP socket that sends from an address.
    pub(super) fn udp(&self, from: SocketAddr) -> Option<&UdpSocket> {
        let fits = |socket: &&UdpSocket| {
            let bound = socket.address();
            bound.port() == from.port() && is_for(bound.ip(), from.ip())
        };
        self.nat.iter().chain(&self.ike).find(fits)
    }

    /// Sends an IKE message, with the non-ESP marker on the port that IKE shares with ESP, or a NAT
    /// keepalive.
    pub(super) fn transmit(&self, message: &Transmit, nat_port: u16) {
        let Some(socket) = self.udp(message.path.local) else {
            tracing::debug!(local = %message.path.local, "no socket for an IKE message");
            return;
        };
        let local = message.path.local;
        let is_marked = local.port() == nat_port && message.payload != [KEEPALIVE];
        let marked: Vec<u8>;
        let contents = if is_marked {
            marked = [&[0; 4], message.payload.as_slice()].concat();
            &marked
        } else {
            &message.payload
        };
        let outgoing = Outgoing {
            from: Some(local.ip()).filter(|ip| !ip.is_unspecified()),
            to: message.path.remote,
            tos: 0,
            contents,
            segment: contents.len(),
        };
        if let Err(unsent) = socket.send(&outgoing)
            && unsent.datagrams > 0
        {
            let path = message.path;
            tracing::debug!(local = %path.local, remote = %path.remote, %unsent, "IKE message");
        }
    }

    fn raw(&self, from: IpAddr) -> Option<&EspSocket> {
        self.raw.iter().find(|socket| is_for(socket.address(), from))
    }

    /// Sends ESP packets of one size (the last may be shorter) on a way.
    pub(super) fn send(
        &self,
        way: &Way,
        tos: u8,
        contents: &[u8],
        segment: usize,
    ) -> Result<(), Unsent> {
        let local = way.path.local;
        let from = Some(local.ip()).filter(|ip| !ip.is_unspecified());
        let outgoing = Outgoing { from, to: way.path.remote, tos, contents, segment };
        let none = || {
            let source = std::io::ErrorKind::AddrNotAvailable.into();
            Err(Unsent { datagrams: contents.len().div_ceil(segment.max(1)), source })
        };
        if way.udp {
            self.udp(local).map_or_else(none, |socket| socket.send(&outgoing))
        } else {
            self.raw(local.ip()).map_or_else(none, |socket| socket.send(&outgoing))
        }
    }
}

fn is_for(bound: IpAddr, ip: IpAddr) -> bool {
    bound == ip || (bound.is_unspecified() && bound.is_ipv4() == ip.is_ipv4())
}

/// Why something was not sent.
pub(super) fn reason(unsent: &Unsent) -> Reason {
    match unsent.source.kind() {
        std::io::ErrorKind::WouldBlock => Reason::SendQueueFull,
        _ if unsent.source.raw_os_error() == Some(nix::libc::ENOBUFS) => Reason::SendQueueFull,
        _ => Reason::SendFailed,
    }
}
