//! After a protocol change (RFC 9110, 7.8) bytes pass both ways unread.

use std::time::Duration;

use super::{Connection, Next, Outcome};
use crate::l7::buffer::Buf;
use crate::l7::relay::{End, RelayError, relay};
use crate::l7::request::Request;
use crate::l7::upstream::{InFlight, Upstream};

impl Connection {
    /// Passes bytes both ways until both ends have closed, one breaks, or nothing moves for long.
    pub(super) async fn tunnel(
        &mut self,
        request: &Request,
        (mut upstream, _in_flight): (Upstream, InFlight),
        mut incoming: Buf,
        reply: Buf,
        idle: Duration,
        mut outcome: Outcome,
    ) -> Next {
        let shard_at = |i: usize| &self.context.shard().tunnels[i];
        shard_at(0).increment();
        let Self { client, inbound, timer, .. } = self;
        let mut up = End::new(client, inbound, Buf::default());
        // The reply came before the tunnel and is still to be sent.
        let mut down = End::new(&mut upstream.stream, &mut incoming, reply);
        let result = relay(&mut up, &mut down, timer, idle, |_, _| {}).await;
        outcome.received = up.bytes();
        outcome.sent = down.bytes();
        if let Err(error) = result {
            outcome.error = match error {
                RelayError::Reading => "tunnel broke while reading",
                RelayError::Writing => "tunnel broke while writing",
                RelayError::Idle => "tunnel idle",
            };
        }
        self.context.shard().tunnels[1].increment();
        self.note(request, &outcome);
        if result.is_ok() { Next::Close } else { Next::Abort }
    }
}
