//! NAT detection (RFC 7296, 2.23).

use std::net::{IpAddr, SocketAddr};

use aws_lc_rs::digest;

use super::config::Settings;
use super::message::{Notify, Payload, notify};
use crate::crypto::rng::Rng;
use crate::sa::Path;

/// Says where this end sends from and to. If `hidden`, the source is one that can't be true, so
/// that the other end puts ESP into UDP.
pub(super) fn payloads(
    rng: &mut dyn Rng,
    spis: (u64, u64),
    path: Path,
    hidden: bool,
) -> Vec<Payload> {
    let mut source = hash(spis, path.local);
    if hidden {
        rng.fill(&mut source);
    }
    vec![
        Payload::Notify(Notify::new(notify::NAT_DETECTION_SOURCE_IP, source)),
        Payload::Notify(Notify::new(notify::NAT_DETECTION_DESTINATION_IP, hash(spis, path.remote))),
    ]
}

/// Whether there is NAT before this end and before the other, by what the other end says and by
/// the path that its message came on. None if it doesn't know of NAT.
pub(super) fn detect(payloads: &[Payload], spis: (u64, u64), path: Path) -> Option<(bool, bool)> {
    let of = |wanted: u16| {
        payloads.iter().filter_map(move |payload| match payload {
            Payload::Notify(notify) if notify.kind == wanted => Some(&notify.data),
            _ => None,
        })
    };
    of(notify::NAT_DETECTION_SOURCE_IP).next()?;
    of(notify::NAT_DETECTION_DESTINATION_IP).next()?;
    let here = hash(spis, path.local);
    let there = hash(spis, path.remote);
    Some((
        of(notify::NAT_DETECTION_DESTINATION_IP).all(|one| *one != here),
        of(notify::NAT_DETECTION_SOURCE_IP).all(|one| *one != there),
    ))
}

fn hash(spis: (u64, u64), address: SocketAddr) -> Vec<u8> {
    let mut context = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
    context.update(&spis.0.to_be_bytes());
    context.update(&spis.1.to_be_bytes());
    match address.ip() {
        IpAddr::V4(v4) => context.update(&v4.octets()),
        IpAddr::V6(v6) => context.update(&v6.octets()),
    }
    context.update(&address.port().to_be_bytes());
    context.finish().as_ref().to_vec()
}

/// The same path on the port for IKE and ESP behind NAT. Another port than IKE's own was meant as
/// it is.
pub(super) fn to_nat_port(settings: &Settings, path: Path) -> Path {
    let moved = |mut address: SocketAddr| {
        if address.port() == settings.port {
            address.set_port(settings.nat_port);
        }
        address
    };
    Path { local: moved(path.local), remote: moved(path.remote) }
}
