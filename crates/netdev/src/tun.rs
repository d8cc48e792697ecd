//! TUN interfaces: packets that the kernel routes into them are read here, and what is written
//! here comes out of them.
//!
//! With offloads a frame is a `virtio_net_hdr` (10 octets) and a packet of up to 64 KiB, which the
//! kernel has not cut into segments yet, or need not to; without, a frame is a packet.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::thread;
use std::time::{Duration, Instant};

use thiserror::Error;
use tun_rs::{DeviceBuilder, SyncDevice};

use crate::address::{self, AddressError};
use crate::sysctl::{self, Family, Key, SysctlError};

/// Octets of a `virtio_net_hdr`, before each frame with offloads.
pub const FRAME_HEADER: usize = 10;
/// The largest frame.
pub const FRAME: usize = FRAME_HEADER + 65_535;
/// How many packets wait in a queue.
const QUEUE_LENGTH: u32 = 1000;
/// An interface goes with the process that had it; one that was killed may take so long.
const GONE: Duration = Duration::from_secs(2);
const LOOK: Duration = Duration::from_millis(20);

/// What is wanted of a TUN interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Its name.
    pub name: String,
    /// The largest packet.
    pub mtu: u16,
    /// How many threads read and write; at least one.
    pub queues: usize,
    /// Frames beyond the MTU, with a header; if the kernel can.
    pub offloads: bool,
}

/// What the frames of an interface may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offloads {
    /// They have a `virtio_net_hdr`, and may have partial checksums and several TCP segments.
    pub header: bool,
    /// They may have several UDP datagrams (Linux 6.2 and later).
    pub udp: bool,
}

/// A TUN interface that can't be made. It names the interface.
#[derive(Debug, Error)]
pub enum TunError {
    /// The name is taken.
    #[error(
        "there is an interface `{name}` already; another gateway may be running in this network \
         namespace, or remove it: `ip link del {name}`"
    )]
    Exists {
        /// Its name.
        name: String,
    },
    /// The kernel refuses.
    #[error("TUN interface `{name}` can't be made: {step}: {source}{}", remedy(.source))]
    Refused {
        /// Its name.
        name: String,
        /// What was being done.
        step: &'static str,
        /// The reason.
        source: io::Error,
    },
    /// The kernel doesn't say what interfaces there are.
    #[error(transparent)]
    List(#[from] AddressError),
    /// A setting of the interface.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
}

fn remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::NotFound => "; /dev/net/tun is missing: load the module `tun`",
        io::ErrorKind::PermissionDenied => {
            "; give the process CAP_NET_ADMIN and access to /dev/net/tun"
        }
        _ => "",
    }
}

/// A TUN interface. It goes when the last of its queues is dropped.
#[derive(Debug)]
pub struct Tun {
    /// Its name.
    pub name: String,
    /// Its number.
    pub index: u32,
    /// What its frames may be.
    pub offloads: Offloads,
    /// As many as were asked for.
    pub queues: Vec<Queue>,
}

/// One queue of an interface. Flows stay on the queue that they were last written to.
pub struct Queue(SyncDevice);

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Queue")
    }
}

/// Makes an interface and switches it on: without addresses, reverse path filter and IPv6
/// autoconfiguration. Its queues don't block.
///
/// # Errors
/// [`TunError`].
pub fn open(settings: &Settings) -> Result<Tun, TunError> {
    let name = &settings.name;
    until_free(name)?;
    let refused = |step| move |source| TunError::Refused { name: name.clone(), step, source };
    let build = |offload: bool| {
        DeviceBuilder::new()
            .name(name.as_str())
            .mtu(settings.mtu)
            .tx_queue_len(QUEUE_LENGTH)
            .enable(false)
            .with(|builder| {
                builder.multi_queue(settings.queues > 1).offload(offload);
            })
            .build_sync()
    };
    // A kernel that lacks the offloads says so here, and the interface is gone again.
    let device = match settings.offloads.then(|| build(true)) {
        Some(Ok(device)) => device,
        Some(Err(source)) if source.kind() == io::ErrorKind::PermissionDenied => {
            return Err(refused("opening it")(source));
        }
        Some(Err(_)) | None => build(false).map_err(refused("opening it"))?,
    };
    let offloads = Offloads { header: device.tcp_gso(), udp: device.udp_gso() };
    configure(name)?;
    device.enabled(true).map_err(refused("switching it on"))?;
    let index = address::interface(name)?.index;
    let mut queues = Vec::with_capacity(settings.queues.max(1));
    for _ in 1..settings.queues {
        queues.push(Queue(device.try_clone().map_err(refused("adding a queue"))?));
    }
    queues.push(Queue(device));
    for Queue(device) in &queues {
        device.set_nonblocking(true).map_err(refused("switching to nonblocking"))?;
    }
    Ok(Tun { name: name.clone(), index, offloads, queues })
}

/// Waits until no interface has the name.
fn until_free(name: &str) -> Result<(), TunError> {
    let deadline = Instant::now() + GONE;
    while address::interfaces()?.iter().any(|interface| interface.name == name) {
        if Instant::now() > deadline {
            return Err(TunError::Exists { name: name.to_owned() });
        }
        thread::sleep(LOOK);
    }
    Ok(())
}

/// What holds for interfaces that tunnels begin at: no reverse path filter, no addresses that the
/// kernel makes up.
///
/// # Errors
/// [`SysctlError`].
pub fn configure(name: &str) -> Result<(), SysctlError> {
    // What comes out of a tunnel has sources that are routed into it only for unmarked packets.
    sysctl::set(&Key::of_interface(Family::V4, name, "rp_filter"), "0")?;
    // Without IPv6 there is nothing to switch off.
    for (setting, value) in [("addr_gen_mode", "1"), ("accept_ra", "0"), ("autoconf", "0")] {
        let key = Key::of_interface(Family::V6, name, setting);
        if sysctl::read(&key).is_ok() {
            sysctl::set(&key, value)?;
        }
    }
    Ok(())
}

impl Queue {
    /// Reads a frame; its length. What is beyond the buffer is lost.
    ///
    /// # Errors
    /// `WouldBlock` if there is none; others when the interface is gone.
    pub fn receive(&self, frame: &mut [u8]) -> io::Result<usize> {
        self.0.recv(frame)
    }

    /// Writes a frame.
    ///
    /// # Errors
    /// `WouldBlock`, a frame that the kernel finds malformed, or an interface that is down or
    /// gone.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.0.send(frame).map(|_| ())
    }

    /// Waits until a frame can be read; for tests and tools.
    ///
    /// # Errors
    /// That of poll(2).
    pub fn wait(&self, timeout: Duration) -> io::Result<bool> {
        Ok(crate::wait::readable(self.as_fd(), timeout)?)
    }
}

impl AsFd for Queue {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
