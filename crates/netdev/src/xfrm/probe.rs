//! Whether the kernel can be the data path of tunnels, found out by trying.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use nix::errno::Errno;
use thiserror::Error;

use super::{Algorithms, Encap, Limits, Replay, Sa, SaId, Xfrm, XfrmError, create, remove};
use crate::sysctl::{self, Family, Key};
use crate::udp::{self, UdpError, UdpSocket};

/// What the kernel lacks.
#[derive(Debug, Error)]
pub enum Unable {
    /// All of it.
    #[error("the kernel doesn't speak XFRM ({0}); load the module `xfrm_user`")]
    Xfrm(XfrmError),
    /// The interface.
    #[error("the kernel makes no xfrm interface ({0}); load the module `xfrm_interface`")]
    Interface(XfrmError),
    /// ESP in UDP.
    #[error("the kernel takes no ESP in UDP ({0}); load the module `xfrm_user`")]
    Encap(UdpError),
    /// An SA.
    #[error("the kernel takes no ESP with AES-GCM over {family} ({source}); load {modules}")]
    Esp {
        /// Over what.
        family: &'static str,
        /// The reason.
        source: XfrmError,
        /// What to load.
        modules: &'static str,
    },
}

/// Tries all that the data path needs, in the network namespace of the caller, and takes it away
/// again: an xfrm interface, ESP in UDP, an SA of AES-GCM over IPv4, and over IPv6 unless the
/// kernel has none.
///
/// # Errors
/// [`Unable`]: what is missing.
pub fn probe() -> Result<(), Unable> {
    let mut xfrm = Xfrm::open().map_err(Unable::Xfrm)?;
    let process = std::process::id();
    let name = format!("tgp{process}");
    // No other program has one of this kind by accident.
    let if_id = 0x5447_0000 | (process & 0xffff);
    create(&name, 1400, if_id).map_err(Unable::Interface)?;
    let tried = try_encap().and_then(|()| try_sas(&mut xfrm, if_id));
    let removed = remove(&name).map_err(Unable::Interface);
    tried.and(removed)
}

fn try_encap() -> Result<(), Unable> {
    let settings = udp::Settings { mark: 0, dont_fragment: false, offloads: false, buffer: 4096 };
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let socket = UdpSocket::bind(address, &settings).map_err(Unable::Encap)?;
    socket.leave_esp_to_kernel().map_err(Unable::Encap)
}

fn try_sas(xfrm: &mut Xfrm, if_id: u32) -> Result<(), Unable> {
    let v4: IpAddr = Ipv4Addr::LOCALHOST.into();
    try_sa(xfrm, v4, if_id).map_err(|source| Unable::Esp {
        family: "IPv4",
        source,
        modules: "the modules `esp4`, `gcm` and `seqiv`",
    })?;
    if sysctl::read(&Key::of_interface(Family::V6, "lo", "disable_ipv6")).is_err() {
        return Ok(());
    }
    let v6: IpAddr = Ipv6Addr::LOCALHOST.into();
    try_sa(xfrm, v6, if_id).map_err(|source| Unable::Esp {
        family: "IPv6",
        source,
        modules: "the modules `esp6`, `gcm` and `seqiv`",
    })
}

/// An SA that is never used, from this machine to itself.
fn try_sa(xfrm: &mut Xfrm, ip: IpAddr, if_id: u32) -> Result<(), XfrmError> {
    let id = SaId { destination: ip, spi: if_id };
    let sa = Sa {
        id,
        source: ip,
        reqid: if_id,
        if_id,
        algorithms: Algorithms::Aead { name: "rfc4106(gcm(aes))", key: &[0x54; 20], tag: 16 },
        esn: true,
        replay: Replay::New(64),
        encap: ip.is_ipv4().then_some(Encap { source: 4500, destination: 4500 }),
        mark: 1,
        limits: Limits::default(),
        copy_dscp: false,
        fragments: true,
    };
    match xfrm.add(&sa) {
        // Left by another probe.
        Err(XfrmError::Sa { source, .. }) if source.errno == Errno::EEXIST => {}
        other => other?,
    }
    xfrm.remove(&id)
}
