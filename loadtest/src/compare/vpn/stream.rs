//! One TCP stream from host A to host B, as fast as it goes.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, bail};
use socket2::SockRef;

use super::{Meter, Window, pass_time};
use crate::compare::Settings;
use crate::lab::vpn::{Party, Site};
use crate::system;

const PORT: u16 = 5001;
/// Octets of a read or a write.
const BLOCK: usize = 256 << 10;
/// A stream that stands still for so long is broken.
const STILL: Duration = Duration::from_secs(10);
/// Headers of a packet: IPv4, and TCP with its timestamps.
const HEADERS: u32 = 20 + 32;

/// What a window of the stream showed: octets count when host B has read them.
pub(super) fn window(party: &Party, settings: &Settings) -> anyhow::Result<Window> {
    let listener = party.listener(PORT)?;
    let mut sending = {
        let _inside = party.sites.host(Site::A).enter()?;
        TcpStream::connect_timeout(&SocketAddr::new(Site::B.host(), PORT), STILL)
            .context("host A connects to host B")?
    };
    let (mut receiving, _) = listener.accept().context("host B accepts")?;
    sending.set_write_timeout(Some(STILL)).context("host A")?;
    receiving.set_read_timeout(Some(STILL)).context("host B")?;
    // Or what is still under way would be so in the next one's window.
    SockRef::from(&sending).set_linger(Some(Duration::ZERO)).context("host A")?;
    let segments = SockRef::from(&sending).try_clone().context("host A")?;

    let (received, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let meter = Meter::of(party)?;
    std::thread::scope(|scope| {
        let sender = scope.spawn(|| send(&mut sending, settings.cores.load, &stop));
        let receiver =
            scope.spawn(|| receive(&mut receiving, settings.cores.target, &received, &stop));
        let measured = || -> anyhow::Result<Window> {
            pass_time(settings.warm_up)?;
            let segment = segments.tcp_mss().context("the segments' size")?;
            let (before, bytes_before) = (meter.read()?, received.load(Ordering::Relaxed));
            pass_time(settings.window)?;
            let (after, bytes_after) = (meter.read()?, received.load(Ordering::Relaxed));
            let bytes = (bytes_after - bytes_before) as f64;
            Ok(Window {
                kind: party.kind,
                pass: 0,
                packets: bytes / f64::from(segment),
                bits: bytes * 8.0,
                packet: segment + HEADERS,
                spent: Meter::spent(&before, &after),
                latency: None,
            })
        };
        let measured = measured();
        stop.store(true, Ordering::Relaxed);
        for (who, thread) in [("host A", sender), ("host B", receiver)] {
            match thread.join() {
                Ok(ended) => ended.context(who)?,
                Err(_) => bail!("{who}: its thread panicked"),
            }
        }
        let window = measured?;
        if window.packets < 1.0 {
            bail!("nothing came through within {:?}", settings.window);
        }
        Ok(window)
    })
}

fn send(stream: &mut TcpStream, core: usize, stop: &AtomicBool) -> anyhow::Result<()> {
    system::pin(core)?;
    let block = vec![0x55; BLOCK];
    while !stop.load(Ordering::Relaxed) {
        if let Err(error) = stream.write_all(&block) {
            return ended(error, stop);
        }
    }
    Ok(())
}

fn receive(
    stream: &mut TcpStream,
    core: usize,
    received: &AtomicU64,
    stop: &AtomicBool,
) -> anyhow::Result<()> {
    system::pin(core)?;
    let mut block = vec![0; BLOCK];
    while !stop.load(Ordering::Relaxed) {
        match stream.read(&mut block) {
            Ok(0) => return ended(ErrorKind::UnexpectedEof.into(), stop),
            Ok(size) => {
                received.fetch_add(size as u64, Ordering::Relaxed);
            }
            Err(error) => return ended(error, stop),
        }
    }
    Ok(())
}

/// An end is no error when it was asked for: the other side may have been faster.
fn ended(error: std::io::Error, stop: &AtomicBool) -> anyhow::Result<()> {
    if stop.load(Ordering::Relaxed) {
        return Ok(());
    }
    Err(error).context("the stream ended, or stood still")
}
