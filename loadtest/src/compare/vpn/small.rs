//! Small datagrams to host B and back, many under way.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::{Meter, Window};
use crate::compare::Settings;
use crate::lab::vpn::{Party, Site};
use crate::system::{self, interrupt};

const PORT: u16 = 5003;
/// Octets of a datagram's payload.
const PAYLOAD: usize = 64;
/// Headers of a packet: IPv4 and UDP.
const HEADERS: u32 = 20 + 8;
/// Datagrams under way.
const UNDER_WAY: u32 = 64;
/// When nothing has come for so long, what was under way is lost.
const LOST: Duration = Duration::from_millis(100);

/// What a window of it showed. Those lost cost what the others are charged for.
pub(super) fn window(party: &Party, settings: &Settings) -> anyhow::Result<Window> {
    let socket = |site: Site, port: u16| -> anyhow::Result<UdpSocket> {
        let _inside = party.sites.host(site).enter()?;
        let socket = UdpSocket::bind((site.host(), port)).context("a host's socket")?;
        socket.set_read_timeout(Some(LOST)).context("a host's socket")?;
        Ok(socket)
    };
    let (asking, answering) = (socket(Site::A, 0)?, socket(Site::B, PORT)?);
    asking.connect((Site::B.host(), PORT)).context("host A")?;
    let stop = AtomicBool::new(false);
    let meter = Meter::of(party)?;
    std::thread::scope(|scope| {
        let echo = scope.spawn(|| echo(&answering, settings.cores.target, &stop));
        let measured = || -> anyhow::Result<Window> {
            ask(&asking, settings.warm_up)?;
            let before = meter.read()?;
            let answers = ask(&asking, settings.window)?;
            let after = meter.read()?;
            let packets = answers as f64 * 2.0;
            Ok(Window {
                kind: party.kind,
                pass: 0,
                packets,
                bits: packets * PAYLOAD as f64 * 8.0,
                packet: PAYLOAD as u32 + HEADERS,
                spent: Meter::spent(&before, &after),
                latency: None,
            })
        };
        let measured = measured();
        stop.store(true, Ordering::Relaxed);
        match echo.join() {
            Ok(ended) => ended.context("host B")?,
            Err(_) => bail!("host B: its thread panicked"),
        }
        let window = measured?;
        if window.packets < 1.0 {
            bail!("nothing came back within {:?}", settings.window);
        }
        Ok(window)
    })
}

/// Asks for so long; how many answers came.
fn ask(socket: &UdpSocket, time: Duration) -> anyhow::Result<u64> {
    let until = Instant::now() + time;
    let (mut answers, mut under_way) = (0, 0);
    let mut datagram = [0x55; PAYLOAD];
    while Instant::now() < until {
        interrupt::check()?;
        while under_way < UNDER_WAY {
            match socket.send(&datagram) {
                Ok(_) => under_way += 1,
                Err(error) if is_full(error.kind()) => break,
                Err(error) => return Err(error).context("host A sends"),
            }
        }
        match socket.recv(&mut datagram) {
            Ok(_) => {
                answers += 1;
                under_way = under_way.saturating_sub(1);
            }
            Err(error) if is_full(error.kind()) => under_way = 0,
            Err(error) => return Err(error).context("host A receives"),
        }
    }
    Ok(answers)
}

fn echo(socket: &UdpSocket, core: usize, stop: &AtomicBool) -> anyhow::Result<()> {
    system::pin(core)?;
    let mut datagram = [0; PAYLOAD];
    while !stop.load(Ordering::Relaxed) {
        match socket.recv_from(&mut datagram) {
            Ok((size, from)) => {
                let answer = datagram.get(..size).unwrap_or_default();
                match socket.send_to(answer, from) {
                    Err(error) if !is_full(error.kind()) => {
                        return Err(error).context("answering");
                    }
                    _ => {}
                }
            }
            Err(error) if is_full(error.kind()) => {}
            Err(error) => return Err(error).context("waiting for a question"),
        }
    }
    Ok(())
}

/// Nothing came, or there is no room for another one: that passes.
fn is_full(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted)
}
