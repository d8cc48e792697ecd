//! HTTP/1.1: one request under way, the next as soon as its response is complete (RFC 9112).

use super::{Event, Operation, Prepared, Received, Session, Ticket};
use crate::load::connection::Failed;
use crate::load::response::{Progress, ResponseReader};
use crate::load::stats::Failure;

/// The client's side of a connection.
#[derive(Debug)]
pub(crate) struct Http1 {
    reader: ResponseReader,
    under_way: Option<Ticket>,
    closing: bool,
}

impl Http1 {
    /// A connection on which nothing was sent yet.
    pub(crate) fn new() -> Self {
        Self { reader: ResponseReader::new(false), under_way: None, closing: false }
    }

    /// Notes that a request is under way; the caller sends its bytes, which are returned.
    pub(crate) fn begin<'a>(&mut self, ticket: Ticket, operation: &'a Operation) -> &'a [u8] {
        let Prepared::Http1 { bytes, is_head } = &operation.prepared else { return &[] };
        let expect = &operation.expect;
        self.reader.restart(*is_head, expect.sha256.is_some(), expect.counted_header.as_deref());
        self.under_way = Some(ticket);
        bytes
    }

    fn complete(&mut self, received: crate::load::response::Received, events: &mut Vec<Event>) {
        let Some(ticket) = self.under_way.take() else { return };
        let received_content = Received {
            status: received.status,
            length: received.length,
            sha256: self.reader.take_sha256(),
            counted: self.reader.take_counted(),
        };
        events.push(Event::Done(ticket, received_content));
        if !received.keep_alive {
            self.closing = true;
            events.push(Event::Closing);
        }
    }
}

impl Session for Http1 {
    fn open(&mut self, _out: &mut Vec<u8>, events: &mut Vec<Event>) {
        events.push(Event::Ready);
    }

    fn capacity(&self) -> usize {
        usize::from(self.under_way.is_none() && !self.closing)
    }

    fn start(&mut self, ticket: Ticket, operation: &Operation, out: &mut Vec<u8>) {
        out.extend_from_slice(self.begin(ticket, operation));
    }

    fn refill(&mut self, _out: &mut Vec<u8>) {}

    fn receive(
        &mut self,
        input: &[u8],
        _out: &mut Vec<u8>,
        events: &mut Vec<Event>,
    ) -> Result<(), Failed> {
        let protocol = |detail: String| Failed { kind: Failure::Protocol, detail };
        if self.under_way.is_none() {
            return Err(protocol(format!("{} bytes that nobody asked for", input.len())));
        }
        match self.reader.feed(input).map_err(|error| protocol(error.to_string()))? {
            Progress::More => Ok(()),
            Progress::Done(used, received) if used == input.len() => {
                self.complete(received, events);
                Ok(())
            }
            Progress::Done(used, _) => {
                Err(protocol(format!("{} bytes behind the response", input.len() - used)))
            }
        }
    }

    fn closed(&mut self, events: &mut Vec<Event>) -> Result<(), Failed> {
        self.closing = true;
        if self.under_way.is_none() {
            return Ok(());
        }
        if let Some(received) = self.reader.closed() {
            self.complete(received, events);
            return Ok(());
        }
        let place =
            if self.reader.is_untouched() { "before the response" } else { "within a response" };
        Err(Failed { kind: Failure::Closed, detail: place.to_owned() })
    }
}
