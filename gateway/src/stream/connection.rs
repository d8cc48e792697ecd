//! A TCP connection from a client to an endpoint.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use socket2::SockRef;
use tokio::net::TcpStream;

use super::hello::{self, Hello};
use super::port::{Port, Tls};
use super::proxy::{self, Ends};
use super::table::{Front, Routes};
use crate::l7::buffer::Buf;
use crate::l7::relay::{End, relay};
use crate::l7::timer::{Timer, timer};
use crate::l7::tls::stream::TlsStream;
use crate::l7::transport::{Client, Stream};
use crate::l7::upstream::{self, Ejection, InFlight, Upstream};

/// Endpoints that are tried for a connection.
const TRIES: usize = 3;
/// An endpoint that refuses so often in a row is left out for a while.
pub(super) const EJECTION: Ejection = Ejection { failures: 3, time_ms: 1_000, max_time_ms: 30_000 };

/// What all streams share.
#[derive(Debug)]
pub(crate) struct Common {
    /// For the PROXY protocol header, a ClientHello, a TLS handshake.
    pub(crate) head: Duration,
    /// For a TCP connection to an endpoint.
    pub(crate) connect: Duration,
    /// The process' clock for health and affinity starts here.
    pub(crate) epoch: Instant,
}

impl Common {
    pub(crate) fn now_ms(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// What the connections of one listener on one worker have in common.
#[derive(Debug)]
pub(crate) struct StreamContext {
    pub(crate) front: Arc<Front>,
    pub(crate) common: Arc<Common>,
    pub(crate) worker: usize,
}

/// Why a client gets no further.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("this address is a VIP, and the Service's NodePort is not on it")]
    Vip,
    #[error("closed before it said enough")]
    Closed,
    #[error("too slow")]
    Late,
    #[error(transparent)]
    Proxy(#[from] proxy::ProxyError),
    #[error(transparent)]
    Hello(#[from] hello::HelloError),
    #[error("no Service is for the name {0:?}")]
    Name(Option<String>),
    #[error("the Secret has no usable certificate")]
    Certificate,
    #[error("TLS: {0}")]
    Tls(#[source] io::Error),
    #[error("no endpoint")]
    NoEndpoint,
    #[error("no endpoint could be reached: {0}")]
    Unreachable(#[source] io::Error),
}

/// Counts the connection off when it ends, however it ends.
pub(super) struct Open(pub(super) Arc<Port>, pub(super) usize);

impl Drop for Open {
    fn drop(&mut self) {
        self.0.shard(self.1).closed.increment();
    }
}

/// Serves a client until it or its endpoint closes.
pub(crate) async fn serve(tcp: TcpStream, peer: SocketAddr, context: Arc<StreamContext>) {
    let timer = timer().await;
    // What is only needed until both ends are there takes no memory afterwards.
    if let Some(passage) = Box::pin(begin(tcp, peer, &context, &timer)).await {
        passage.pass(&context, &timer).await;
    }
}

/// All that comes before bytes pass.
async fn begin(
    mut tcp: TcpStream,
    peer: SocketAddr,
    context: &StreamContext,
    timer: &Timer,
) -> Option<Passage> {
    let mut inbound = Buf::default();
    let routes = context.front.routes.load_full();
    let local = tcp.local_addr().unwrap_or(peer);
    let mut ends = Ends { source: peer, destination: local };
    let limit = context.common.head;
    let port = match find(&mut tcp, &mut inbound, &routes, timer, limit, &mut ends).await {
        Ok(port) => port,
        Err(refusal) => {
            tracing::debug!(%peer, %local, %refusal, "stream refused");
            if let Some(first) = &routes.first {
                let shard = first.shard(context.worker);
                shard.accepted.increment();
                shard.closed.increment();
                shard.refused.increment();
            }
            match refusal {
                Refusal::Name(_) => unrecognized(tcp, timer).await,
                _ => reset(&tcp),
            }
            return None;
        }
    };
    port.shard(context.worker).accepted.increment();
    let open = Open(Arc::clone(&port), context.worker);
    let connected = Connected { port: &port, context, timer, ends };
    match connected.begin(tcp, &mut inbound).await {
        Ok((client, (upstream, in_flight))) => {
            let mut first = Buf::default();
            if let Some(version) = port.send_proxy {
                proxy::write(version, &ends, &mut first);
            }
            Some(Passage { client, inbound, first, upstream, _in_flight: in_flight, open })
        }
        Err(refusal) => {
            tracing::debug!(
                %peer, %local, service = %port.service, port = port.number, %refusal,
                "stream refused"
            );
            None
        }
    }
}

/// Finds out which Service the client is for.
async fn find(
    tcp: &mut TcpStream,
    inbound: &mut Buf,
    routes: &Routes,
    timer: &Timer,
    limit: Duration,
    ends: &mut Ends,
) -> Result<Arc<Port>, Refusal> {
    let first = routes.first.as_ref().ok_or(Refusal::NoEndpoint)?;
    if let Some(except) = &routes.except
        && except.contains(&ends.destination.ip().to_canonical())
    {
        return Err(Refusal::Vip);
    }
    if first.accept_proxy {
        let header = gather(tcp, inbound, timer, limit, |bytes| Ok(proxy::parse(bytes)?)).await?;
        inbound.consume(header.len);
        *ends = header.ends.unwrap_or(*ends);
    }
    if !routes.by_name() {
        return Ok(Arc::clone(first));
    }
    let name = gather(tcp, inbound, timer, limit, |bytes| match hello::read(bytes)? {
        Hello::More => Ok(None),
        Hello::Name(name) => Ok(Some(name)),
    })
    .await?;
    let port = name.as_deref().and_then(|name| routes.named(name));
    port.cloned().ok_or(Refusal::Name(name))
}

/// Reads until `parse` has found what it looks for.
async fn gather<T>(
    tcp: &mut TcpStream,
    inbound: &mut Buf,
    timer: &Timer,
    limit: Duration,
    mut parse: impl FnMut(&[u8]) -> Result<Option<T>, Refusal>,
) -> Result<T, Refusal> {
    // Both bound themselves.
    const _: () = assert!(hello::MOST >= proxy::MOST);
    let mut fresh = !inbound.is_empty();
    timer
        .within(limit, |cx| {
            loop {
                if fresh {
                    match parse(inbound.filled()) {
                        Ok(Some(found)) => return Poll::Ready(Ok(found)),
                        Ok(None) => {}
                        Err(refusal) => return Poll::Ready(Err(refusal)),
                    }
                }
                match Stream::poll_read(tcp, cx, inbound) {
                    Poll::Pending => {
                        inbound.release_if_empty();
                        return Poll::Pending;
                    }
                    Poll::Ready(Ok(n)) if n > 0 => fresh = true,
                    Poll::Ready(_) => return Poll::Ready(Err(Refusal::Closed)),
                }
            }
        })
        .await
        .unwrap_or(Err(Refusal::Late))
}

/// A client whose Service is known.
struct Connected<'a> {
    port: &'a Port,
    context: &'a StreamContext,
    timer: &'a Timer,
    ends: Ends,
}

impl Connected<'_> {
    /// TLS with the client, where it ends here, and a connection to an endpoint.
    async fn begin(
        &self,
        tcp: TcpStream,
        inbound: &mut Buf,
    ) -> Result<(Client, (Upstream, InFlight)), Refusal> {
        let shard = self.port.shard(self.context.worker);
        // No handshake for nothing.
        if self.port.choice.is_empty() {
            shard.without_endpoint.increment();
            reset(&tcp);
            return Err(Refusal::NoEndpoint);
        }
        let client = match &self.port.tls {
            Tls::Off | Tls::Passthrough(_) => Client::Plain(tcp),
            Tls::Terminate(None) => {
                shard.refused.increment();
                reset(&tcp);
                return Err(Refusal::Certificate);
            }
            Tls::Terminate(Some(config)) => {
                let mut stream = TlsStream::new(tcp, Arc::clone(config))
                    .map_err(|error| Refusal::Tls(io::Error::other(error)))?
                    .after(std::mem::take(inbound));
                let limit = self.context.common.head;
                let shaken =
                    self.timer.within(limit, |cx| stream.poll_handshake(cx, inbound)).await;
                if let Err(refusal) =
                    shaken.map_err(|_| Refusal::Late).and_then(|r| r.map_err(Refusal::Tls))
                {
                    shard.refused.increment();
                    return Err(refusal);
                }
                Client::Tls(Box::new(stream))
            }
        };
        match self.connect().await {
            Ok(upstream) => Ok((client, upstream)),
            Err(refusal) => {
                shard.failed.increment();
                reset(client.socket());
                Err(refusal)
            }
        }
    }

    /// Connects to one endpoint after the other.
    async fn connect(&self) -> Result<(Upstream, InFlight), Refusal> {
        let mut tried = Vec::with_capacity(TRIES);
        let mut last = io::Error::from(io::ErrorKind::NotConnected);
        let client = self.ends.source;
        while tried.len() < TRIES {
            let now_ms = self.context.common.now_ms();
            let Some((endpoint, guard)) = self.port.pick(client, &tried, now_ms) else { break };
            match upstream::connect(&endpoint, self.timer, self.context.common.connect).await {
                Ok(upstream) => {
                    endpoint.succeeded();
                    return Ok((upstream, guard));
                }
                Err(error) => {
                    self.port.shard(self.context.worker).connect_failures.increment();
                    tracing::debug!(endpoint = %endpoint.address, %error, "not reached");
                    endpoint.failed(&EJECTION, self.context.common.now_ms());
                    tried.push(endpoint.id);
                    last = error;
                }
            }
        }
        Err(Refusal::Unreachable(last))
    }
}

/// Both ends, connected.
struct Passage {
    client: Client,
    /// What was read from the client already.
    inbound: Buf,
    /// What the endpoint is sent before that.
    first: Buf,
    upstream: Upstream,
    _in_flight: InFlight,
    open: Open,
}

impl Passage {
    /// Passes bytes both ways until both ends have closed. A reset of one becomes one of the
    /// other.
    async fn pass(mut self, context: &StreamContext, timer: &Timer) {
        let mut outbound = Buf::default();
        let first = std::mem::take(&mut self.first);
        let mut up = End::new(&mut self.client, &mut self.inbound, first);
        let mut down = End::new(&mut self.upstream.stream, &mut outbound, Buf::default());
        let port = &self.open.0;
        let shard = port.shard(context.worker);
        let mut counted = (0, 0);
        let result = relay(&mut up, &mut down, timer, port.idle, |received, sent| {
            shard.received.add(received - counted.0);
            shard.sent.add(sent - counted.1);
            counted = (received, sent);
        })
        .await;
        if let Err(error) = result {
            tracing::debug!(
                service = %port.service, endpoint = %self.upstream.endpoint.address, ?error,
                "stream broke"
            );
            reset(self.client.socket());
            reset(&self.upstream.stream);
        }
    }
}

/// Has the connection reset when it is closed.
fn reset(tcp: &TcpStream) {
    let _ = SockRef::from(tcp).set_linger(Some(Duration::ZERO));
}

/// Says in TLS that nobody has the name, and closes.
async fn unrecognized(mut tcp: TcpStream, timer: &Timer) {
    let _ = timer
        .within(Duration::from_secs(1), |cx| {
            // It fits into an empty socket's buffer.
            let alert = &hello::UNRECOGNIZED_NAME;
            match Stream::poll_write(&mut tcp, cx, [alert, b"", b""]) {
                Poll::Ready(_) => Stream::poll_shutdown(&mut tcp, cx),
                Poll::Pending => Poll::Pending,
            }
        })
        .await;
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection holds its task's whole future, so its size is memory per connection.
    #[test]
    fn a_streams_future_stays_small() {
        fn size<F>(_: fn(TcpStream, SocketAddr, Arc<StreamContext>) -> F) -> usize {
            size_of::<F>()
        }
        assert!(size(serve) <= 1300, "{}", size(serve));
    }
}
