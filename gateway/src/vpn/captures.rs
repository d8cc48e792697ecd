//! Debug captures: decrypted IKE messages of one connection, kept for a while.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Instant, SystemTime};

use ipsec::ike::Captured as Message;
use tokio::sync::oneshot;

use super::mailbox::{Captured, Refused};

/// At one time.
const CAPTURES: usize = 4;
/// Messages that one of them keeps.
const MESSAGES: usize = 10_000;

/// Those under way.
#[derive(Debug, Default)]
pub(super) struct Captures {
    all: Vec<Capture>,
}

#[derive(Debug)]
struct Capture {
    until: Instant,
    remotes: BTreeSet<IpAddr>,
    kept: Vec<Captured>,
    reply: oneshot::Sender<Result<Vec<Captured>, Refused>>,
}

impl Captures {
    /// Keeps messages with these other ends from now on.
    pub(super) fn begin(
        &mut self,
        until: Instant,
        remotes: BTreeSet<IpAddr>,
        reply: oneshot::Sender<Result<Vec<Captured>, Refused>>,
    ) {
        if self.all.len() >= CAPTURES {
            _ = reply.send(Err(Refused::Capturing));
            return;
        }
        self.all.push(Capture { until, remotes, kept: Vec::new(), reply });
    }

    /// A message has come or gone.
    pub(super) fn keep(&mut self, message: &Message) {
        let path = &message.path;
        for capture in &mut self.all {
            // Without an address, as of `%any`, whoever comes.
            let is_its = capture.remotes.is_empty() || capture.remotes.contains(&path.remote.ip());
            if !is_its || capture.kept.len() >= MESSAGES {
                continue;
            }
            let (source, destination) = match message.outbound {
                true => (path.local, path.remote),
                false => (path.remote, path.local),
            };
            let at = SystemTime::now() - message.at.elapsed();
            let at = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
            capture.kept.push(Captured { at, source, destination, message: message.plain.clone() });
        }
    }

    /// When the next one ends.
    pub(super) fn next(&self) -> Option<Instant> {
        self.all.iter().map(|capture| capture.until).min()
    }

    /// Hands over what is over; whether there was one, and none is left.
    pub(super) fn finish(&mut self, now: Instant) -> bool {
        let over = |capture: &Capture| capture.until <= now || capture.reply.is_closed();
        let mut ended = false;
        while let Some(at) = self.all.iter().position(over) {
            let capture = self.all.swap_remove(at);
            _ = capture.reply.send(Ok(capture.kept));
            ended = true;
        }
        ended && self.all.is_empty()
    }
}
