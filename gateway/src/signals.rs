//! The signals that the gateway listens to.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// From the gateway's start to its end.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    /// From now on they no longer end the process.
    ///
    /// # Errors
    /// As sigaction(2).
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop,
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.hangup.recv() => Told::Reopen,
        }
    }

    /// Waits until the gateway is told to stop.
    pub async fn stop(&mut self) {
        while !matches!(self.next().await, Told::Stop) {}
    }
}

/// What a signal asks for.
pub enum Told {
    /// SIGTERM, SIGINT: stop.
    Stop,
    /// SIGHUP: open the access log anew, and announce the VIPs.
    Reopen,
}
