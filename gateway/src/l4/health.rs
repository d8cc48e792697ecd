//! The ports that tell load balancers in front whether a Service with
//! `externalTrafficPolicy: Local` has endpoints here (`spec.healthCheckNodePort`), answering as
//! kube-proxy does.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use model::{Diagnostic, ObjectKey, ObjectRef};
use plan::l4::L4Plan;
use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Connections at once to one port.
const CONNECTIONS: usize = 64;
/// For a request's head.
const HEAD: Duration = Duration::from_secs(5);
/// For a whole connection.
const CONNECTION: Duration = Duration::from_secs(60);
/// Rest after a failure to accept.
const ACCEPT_REST: Duration = Duration::from_millis(50);

/// What a port tells.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Told {
    service: ObjectKey,
    endpoints: usize,
}

/// A port that answers.
#[derive(Debug)]
struct Port {
    told: Arc<ArcSwap<Told>>,
    stop: CancellationToken,
}

/// All of them.
#[derive(Debug, Default)]
pub struct HealthPorts {
    open: BTreeMap<u16, Port>,
    tasks: TaskTracker,
    diagnostics: Vec<Diagnostic>,
}

impl HealthPorts {
    /// Opens, closes and changes ports as a plan wants. Those that can't be opened are tried again
    /// the next time.
    pub fn apply(&mut self, plan: &L4Plan) {
        self.diagnostics.clear();
        let mut wanted: BTreeMap<u16, Told> = BTreeMap::new();
        for service in &plan.services {
            let Some(port) = service.health_check_node_port else { continue };
            let told =
                Told { service: service.service.clone(), endpoints: service.local_endpoints };
            if let Some(first) = wanted.get(&port) {
                let reason = format!("Service {} has this port already", first.service);
                self.diagnostics.push(refused(&told.service, port, reason));
                continue;
            }
            wanted.insert(port, told);
        }
        self.open.retain(|port, open| {
            let stays = wanted.contains_key(port);
            if !stays {
                open.stop.cancel();
            }
            stays
        });
        for (port, told) in wanted {
            if let Some(open) = self.open.get(&port) {
                open.told.store(Arc::new(told));
                continue;
            }
            match listen(port) {
                Ok(listener) => {
                    let stop = CancellationToken::new();
                    let told = Arc::new(ArcSwap::from_pointee(told));
                    self.tasks.spawn(serve(listener, Arc::clone(&told), stop.clone()));
                    self.open.insert(port, Port { told, stop });
                }
                Err(error) => {
                    let reason = format!("it can't be opened: {error}");
                    self.diagnostics.push(refused(&told.service, port, reason));
                }
            }
        }
    }

    /// What is wrong with them.
    pub fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }

    /// Closes all.
    pub fn close(&mut self) {
        self.open.values().for_each(|port| port.stop.cancel());
        self.open.clear();
    }
}

fn refused(service: &ObjectKey, port: u16, reason: String) -> Diagnostic {
    Diagnostic::error(ObjectRef::namespaced("Service", service), "spec.healthCheckNodePort", reason)
        .value(port.to_string())
        .remedy("give another port, or stop what listens there")
}

/// On all addresses of both families, or of IPv4 where the machine has no IPv6.
fn listen(port: u16) -> io::Result<TcpListener> {
    let open = |address: IpAddr| {
        let domain = if address.is_ipv6() { Domain::IPV6 } else { Domain::IPV4 };
        let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
        if address.is_ipv6() {
            socket.set_only_v6(false)?;
        }
        socket.set_reuse_address(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::new(address, port).into())?;
        socket.listen(128)?;
        TcpListener::from_std(socket.into())
    };
    match open(Ipv6Addr::UNSPECIFIED.into()) {
        Err(error) if error.kind() != io::ErrorKind::AddrInUse => {
            open(Ipv4Addr::UNSPECIFIED.into())
        }
        opened => opened,
    }
}

async fn serve(listener: TcpListener, told: Arc<ArcSwap<Told>>, stop: CancellationToken) {
    let connections = TaskTracker::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_REST).await;
            continue;
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let (told, stop) = (Arc::clone(&told), stop.clone());
        connections.spawn(async move {
            let _place = place;
            let answer = service_fn(|_| {
                let response = respond(&told.load());
                async move { Ok::<_, Infallible>(response) }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .serve_connection(TokioIo::new(stream), answer);
            tokio::select! {
                () = stop.cancelled() => {}
                _ = tokio::time::timeout(CONNECTION, served) => {}
            }
        });
    }
}

/// The body, with kube-proxy's names.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Body<'a> {
    service: &'a ObjectKey,
    local_endpoints: usize,
    service_proxy_healthy: bool,
}

fn respond(told: &Told) -> Response<Full<Bytes>> {
    let body = Body {
        service: &told.service,
        local_endpoints: told.endpoints,
        service_proxy_healthy: true,
    };
    let body = serde_json::to_vec(&body).unwrap_or_default();
    let mut response = Response::new(Full::new(body.into()));
    if told.endpoints == 0 {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("x-content-type-options", HeaderValue::from_static("nosniff"));
    headers.insert("x-load-balancing-endpoint-weight", HeaderValue::from(told.endpoints));
    response
}

#[cfg(test)]
mod tests;
