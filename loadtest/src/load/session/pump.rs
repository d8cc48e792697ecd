//! Sessions over real sockets and over canned bytes, for tests.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::*;

/// How long a test waits for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A session on a socket, one operation after the other or as many as it takes at once.
#[derive(Debug)]
pub(crate) struct Pumped<S> {
    stream: TcpStream,
    /// The session.
    pub(crate) session: S,
    out: Vec<u8>,
    /// What has happened and was not looked at.
    pub(crate) events: Vec<Event>,
}

impl<S: Session> Pumped<S> {
    /// Opens the session on a connected socket.
    pub(crate) fn open(stream: TcpStream, mut session: S) -> Self {
        stream.set_nonblocking(true).expect("a socket");
        let (mut out, mut events) = (Vec::new(), Vec::new());
        session.open(&mut out, &mut events);
        Self { stream, session, out, events }
    }

    /// Starts an operation.
    pub(crate) fn start(&mut self, ticket: Ticket, operation: &Operation) {
        assert!(self.session.capacity() > 0, "no room for operation {ticket}");
        self.session.start(ticket, operation, &mut self.out);
    }

    /// Sends and receives until the events are as wished.
    pub(crate) fn run_until(&mut self, wished: impl Fn(&[Event]) -> bool) -> Result<(), Failed> {
        let deadline = Instant::now() + PATIENCE;
        let mut buffer = vec![0; 64 * 1024];
        while !wished(&self.events) {
            assert!(Instant::now() < deadline, "{:?} {:?}", self.events, self.session);
            let mut idle = true;
            match self.stream.write(&self.out) {
                Ok(size) => {
                    idle = size == 0;
                    self.out.drain(..size);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => self.session.closed(&mut self.events)?,
            }
            if self.out.is_empty() {
                self.session.refill(&mut self.out);
                if self.out.is_empty() {
                    self.session.sent(&mut self.events);
                }
            }
            match self.stream.read(&mut buffer) {
                Ok(0) => self.session.closed(&mut self.events)?,
                Ok(size) => {
                    idle = false;
                    self.session.receive(&buffer[..size], &mut self.out, &mut self.events)?;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => self.session.closed(&mut self.events)?,
            }
            if idle {
                std::thread::yield_now();
            }
        }
        Ok(())
    }

    /// Runs until so many operations are over, and takes what came of them.
    pub(crate) fn take_done(&mut self, count: usize) -> Result<Vec<(Ticket, Received)>, Failed> {
        let is_over = |event: &&Event| matches!(event, Event::Done(..) | Event::Failed(..));
        self.run_until(|events| events.iter().filter(is_over).count() >= count)?;
        let mut done = Vec::new();
        for event in self.events.drain(..) {
            match event {
                Event::Done(ticket, received) => done.push((ticket, received)),
                Event::Failed(_, failed) => return Err(failed),
                Event::Ready | Event::Closing => {}
            }
        }
        Ok(done)
    }
}

/// Gives a session bytes in pieces of one size; what it says and what it sends.
pub(crate) fn feed(
    session: &mut impl Session,
    bytes: &[u8],
    piece: usize,
) -> Result<(Vec<Event>, Vec<u8>), Failed> {
    let (mut out, mut events) = (Vec::new(), Vec::new());
    for part in bytes.chunks(piece) {
        session.receive(part, &mut out, &mut events)?;
    }
    Ok((events, out))
}
