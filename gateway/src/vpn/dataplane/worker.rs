//! One thread of the data path: waits, and moves packets both ways.

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
use super::shared::{Shared, Sockets};

/// Frames that are read from the TUN before sockets get their turn.
const FRAMES: usize = 64;
/// Buffers for datagrams, each for up to 64 of them.
const BUFFERS: usize = 16;

/// One thread of the data path.
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

/// What can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Waker,
    Tun,
    Nat(usize),
    Ike(usize),
    Raw(usize),
}

impl Source {
    fn number(self) -> u64 {
        match self {
            Self::Waker => 0,
            Self::Tun => 1,
            Self::Nat(place) => 2 + 3 * place as u64,
            Self::Ike(place) => 3 + 3 * place as u64,
            Self::Raw(place) => 4 + 3 * place as u64,
        }
    }

    fn new(number: u64) -> Self {
        let place = (number.saturating_sub(2) / 3) as usize;
        match (number, number % 3) {
            (0, _) => Self::Waker,
            (1, _) => Self::Tun,
            (_, 2) => Self::Nat(place),
            (_, 0) => Self::Ike(place),
            _ => Self::Raw(place),
        }
    }
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
        let add = |fd: &dyn AsFd, source: Source| {
            epoll.add(fd.as_fd(), EpollEvent::new(EpollFlags::EPOLLIN, source.number()))
        };
        add(&waker, Source::Waker)?;
        add(&queue, Source::Tun)?;
        for (place, socket) in sockets.nat.iter().enumerate() {
            add(socket, Source::Nat(place))?;
        }
        for (place, socket) in sockets.ike.iter().enumerate() {
            add(socket, Source::Ike(place))?;
        }
        if number == 0 {
            for (place, socket) in sockets.raw.iter().enumerate() {
                add(socket, Source::Raw(place))?;
            }
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
                    tracing::error!(%error, "vpn: a worker of the data path has ended");
                    return;
                }
                // It was logged by the panic hook; what was under way is lost.
                Err(_) => tracing::error!("vpn: a worker of the data path begins anew"),
            }
        }
    }

    fn turns(&mut self) -> io::Result<()> {
        let mut events = [EpollEvent::empty(); 16];
        while !self.shared.stopping.load(Ordering::Relaxed) {
            let ready = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Ok(ready) => ready,
                Err(Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            let now = Instant::now();
            for event in &events[..ready] {
                match Source::new(event.data()) {
                    Source::Waker => {
                        self.waker.clear();
                    }
                    Source::Tun => self.read_tun(now)?,
                    source => self.read_socket(source, now),
                }
            }
        }
        Ok(())
    }

    fn read_tun(&mut self, now: Instant) -> io::Result<()> {
        let policies = self.shared.policies.load();
        for _ in 0..FRAMES {
            match self.queue.receive(&mut self.frame) {
                Ok(length) => {
                    let frame = self.frame.get_mut(..length).unwrap_or_default();
                    self.sealer.frame(&policies, &self.sockets, frame, now);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // The interface is gone: nothing can be carried, but IKE goes on.
                    self.shared.broken.store(true, Ordering::Relaxed);
                    tracing::error!(%error, "vpn: the TUN interface can't be read any more");
                    self.epoll.delete(&self.queue)?;
                    break;
                }
            }
        }
        self.sealer.flush(&self.sockets, &self.queue);
        Ok(())
    }

    fn read_socket(&mut self, source: Source, now: Instant) {
        let (inbox, sockets) = (&mut self.inbox, &*self.sockets);
        let by_spi = self.shared.by_spi.load();
        // Nothing there, or an error of the past that is of no interest: the next turn looks again.
        match source {
            Source::Nat(place) | Source::Ike(place) => {
                let all =
                    if matches!(source, Source::Nat(_)) { &sockets.nat } else { &sockets.ike };
                let Some(socket) = all.get(place) else { return };
                if socket.receive(inbox).is_ok() {
                    for (received, datagrams) in inbox.received() {
                        let local = socket.address();
                        self.opener.udp(&by_spi, &self.queue, local, &received, datagrams, now);
                    }
                }
            }
            Source::Raw(place) => {
                let Some(socket) = sockets.raw.get(place) else { return };
                if socket.receive(inbox).is_ok() {
                    for (received, packet) in inbox.received() {
                        let local = socket.address();
                        self.opener.raw(&by_spi, &self.queue, local, &received, packet, now);
                    }
                }
            }
            Source::Waker | Source::Tun => {}
        }
        self.opener.flush(&self.queue);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_have_numbers_of_their_own() {
        let all = [
            Source::Waker,
            Source::Tun,
            Source::Nat(0),
            Source::Ike(0),
            Source::Raw(0),
            Source::Nat(7),
            Source::Ike(7),
            Source::Raw(7),
        ];
        for source in all {
            assert_eq!(Source::new(source.number()), source);
        }
    }
}
