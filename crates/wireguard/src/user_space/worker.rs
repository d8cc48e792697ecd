//! One thread of an interface: waits, and moves packets both ways.

use std::io;
use std::os::fd::AsFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use netdev::tun::{FRAME, Queue};
use netdev::udp::Inbox;
use netdev::wait::Waker;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::inbound::Opener;
use super::outbound::Sealer;
use super::{Shared, Sockets};

/// Frames that are read from the TUN before sockets get their turn.
const FRAMES: usize = 64;
/// Buffers for datagrams, each for up to 64 of them.
const BUFFERS: usize = 16;

const WAKER: u64 = 0;
const TUN: u64 = 1;
/// And the other sockets after it.
const SOCKET: u64 = 2;

/// One thread of an interface.
pub(super) struct Worker {
    shared: Arc<Shared>,
    queue: Queue,
    sockets: Arc<Sockets>,
    waker: Waker,
    epoll: Epoll,
    frame: Vec<u8>,
    inbox: Inbox,
    sealer: Sealer,
    opener: Opener,
}

impl Worker {
    pub(super) fn new(
        number: usize,
        shared: Arc<Shared>,
        queue: Queue,
        sockets: Arc<Sockets>,
        waker: Waker,
    ) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let add = |fd: &dyn AsFd, source: u64| {
            epoll.add(fd.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, source))
        };
        add(&waker, WAKER)?;
        add(&queue, TUN)?;
        for (socket, source) in sockets.0.iter().zip(SOCKET..) {
            add(socket, source)?;
        }
        Ok(Self {
            sealer: Sealer::new(number, Arc::clone(&shared)),
            opener: Opener::new(number, Arc::clone(&shared)),
            shared,
            queue,
            sockets,
            waker,
            epoll,
            frame: vec![0; FRAME],
            inbox: Inbox::new(BUFFERS),
        })
    }

    /// Works until it is to stop.
    pub(super) fn run(&mut self) {
        loop {
            match catch_unwind(AssertUnwindSafe(|| self.turns())) {
                Ok(Ok(())) => return,
                Ok(Err(error)) => {
                    self.shared.broken.store(true, Ordering::Relaxed);
                    tracing::error!(%error, "wireguard: a worker has ended");
                    return;
                }
                // It was logged by the panic hook; what was under way is lost.
                Err(_) => tracing::error!("wireguard: a worker begins anew"),
            }
        }
    }

    fn turns(&mut self) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); 8];
        while !self.shared.stopping.load(Ordering::Relaxed) {
            let ready = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(ready) => ready,
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            let now = Instant::now();
            for event in events.iter().take(ready) {
                match event.data() {
                    WAKER => {
                        self.waker.clear();
                    }
                    TUN => self.read_tun(now)?,
                    source => self.read_socket(source, now),
                }
            }
        }
        Ok(())
    }

    fn read_tun(&mut self, now: Instant) -> io::Result<()> {
        let peers = self.shared.peers.load();
        for _ in 0..FRAMES {
            match self.queue.receive(&mut self.frame) {
                Ok(length) => {
                    let frame = self.frame.get_mut(..length).unwrap_or_default();
                    self.sealer.frame(&peers, &self.sockets, frame, now);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // The interface is gone: nothing can be carried.
                Err(error) => return Err(error),
            }
        }
        self.sealer.send(&self.sockets);
        Ok(())
    }

    fn read_socket(&mut self, source: u64, now: Instant) {
        let peers = self.shared.peers.load();
        let place = usize::try_from(source - SOCKET).unwrap_or(usize::MAX);
        let Some(socket) = self.sockets.0.get(place) else { return };
        // Nothing there, or an error of the past that is of no interest: the next turn looks again.
        if socket.receive(&mut self.inbox).is_ok() {
            for (received, datagrams) in self.inbox.received() {
                let (sockets, queue) = (&*self.sockets, &self.queue);
                self.opener.datagrams(&peers, sockets, queue, &received, datagrams, now);
            }
        }
        self.opener.flush(&self.queue);
    }
}
