//! Bytes over TCP: echoes, downloads, uploads.

#[cfg(test)]
mod tests;

use super::digest::Digest;
use super::{Event, Operation, Prepared, Received, Session, Ticket, failed};
use crate::load::connection::Failed;
use crate::load::stats::Failure;

/// Bytes left in `out` at once.
const PIECE: u64 = 256 * 1024;

/// A connection's client side: one transfer at a time.
#[derive(Debug, Default)]
pub(crate) struct Tcp {
    transfer: Option<Transfer>,
    closing: bool,
}

#[derive(Debug)]
struct Transfer {
    ticket: Ticket,
    pattern: Vec<u8>,
    /// Bytes sent.
    sent: u64,
    /// Bytes to send.
    send: u64,
    /// Whether the socket has taken all of them.
    taken: bool,
    /// Bytes to wait for.
    receive: u64,
    received: u64,
    digest: Digest,
}

impl Tcp {
    /// Ends the transfer if all has been sent, and all that is waited for has come.
    fn finish_if_complete(&mut self, events: &mut Vec<Event>) {
        let complete = |transfer: &mut Transfer| {
            let has_all = transfer.received >= transfer.receive;
            // An answer proves that the bytes went out; without one the socket has to say so.
            let is_out =
                transfer.taken || (transfer.sent == transfer.send && transfer.received > 0);
            has_all && is_out
        };
        if let Some(transfer) = self.transfer.take_if(complete) {
            events.push(done(transfer));
        }
    }
}

impl Session for Tcp {
    fn open(&mut self, _: &mut Vec<u8>, events: &mut Vec<Event>) {
        events.push(Event::Ready);
    }

    fn capacity(&self) -> usize {
        usize::from(self.transfer.is_none() && !self.closing)
    }

    fn start(&mut self, ticket: Ticket, operation: &Operation, out: &mut Vec<u8>) {
        let Prepared::Tcp { pattern, send, receive } = &operation.prepared else {
            debug_assert!(false, "another protocol's operation");
            return;
        };
        // Nothing can be made of an empty pattern.
        let send = if pattern.is_empty() { 0 } else { *send };
        self.transfer = Some(Transfer {
            ticket,
            pattern: pattern.clone(),
            sent: 0,
            send,
            taken: false,
            receive: receive.unwrap_or(send),
            received: 0,
            digest: Digest::new(operation.expect.sha256.is_some()),
        });
        self.refill(out);
    }

    fn refill(&mut self, out: &mut Vec<u8>) {
        let Some(transfer) = &mut self.transfer else { return };
        let goal = (transfer.send - transfer.sent).min(PIECE.saturating_sub(out.len() as u64));
        let mut left = goal as usize;
        while left > 0 {
            let at = (transfer.sent % transfer.pattern.len() as u64) as usize;
            let piece = transfer.pattern.get(at..).unwrap_or_default();
            let piece = piece.get(..left).unwrap_or(piece);
            out.extend_from_slice(piece);
            transfer.sent += piece.len() as u64;
            left -= piece.len();
        }
    }

    fn sent(&mut self, events: &mut Vec<Event>) {
        if let Some(transfer) = &mut self.transfer {
            transfer.taken = transfer.sent == transfer.send;
        }
        self.finish_if_complete(events);
    }

    fn receive(
        &mut self,
        input: &[u8],
        _: &mut Vec<u8>,
        events: &mut Vec<Event>,
    ) -> Result<(), Failed> {
        let unasked = |size: usize| {
            failed(Failure::Protocol, format!("TCP: {size} bytes that nobody asked for"))
        };
        let Some(transfer) = &mut self.transfer else {
            return if input.is_empty() { Ok(()) } else { Err(unasked(input.len())) };
        };
        transfer.received += input.len() as u64;
        if transfer.received > transfer.receive {
            return Err(unasked((transfer.received - transfer.receive) as usize));
        }
        transfer.digest.update(input);
        self.finish_if_complete(events);
        Ok(())
    }

    fn closed(&mut self, events: &mut Vec<Event>) -> Result<(), Failed> {
        if let Some(transfer) = self.transfer.take() {
            let (received, sent) = (transfer.received, transfer.sent);
            let detail = format!("TCP: ended after {sent} bytes there and {received} back");
            return Err(failed(Failure::Closed, detail));
        }
        if !self.closing {
            self.closing = true;
            events.push(Event::Closing);
        }
        Ok(())
    }
}

fn done(transfer: Transfer) -> Event {
    let received = Received {
        length: transfer.received,
        sha256: transfer.digest.finish(),
        ..Received::default()
    };
    Event::Done(transfer.ticket, received)
}
