//! The admin side: health, metrics and what is in force, on a listener of its own. Whoever reaches
//! it may read; what changes something is done for this machine's own users alone.

use std::convert::Infallible;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use cluster::watch::SourceState;
use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use model::Diagnostic;
use plan::l4::L4Plan;
use plan::policy::Compiled;
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::edges;
use crate::l4::Plane;
use crate::l4::traffic::Traffic;
use crate::l4::view::{Report, View};
use crate::l7::Listeners;
use crate::l7::table::Shared;
use crate::metrics::render;
use crate::vpn::Handle;

mod services;
pub mod status;
pub mod vpn;

/// Connections at once: this side is for a scraper and a few people.
const CONNECTIONS: usize = 64;
/// For a request's head.
const HEAD: Duration = Duration::from_secs(5);
/// For a whole connection: longer than the longest debug capture.
const CONNECTION: Duration = Duration::from_secs(60);

/// What the admin side shows.
#[derive(Debug)]
pub struct State {
    /// The table in force and the counters.
    pub shared: Arc<Shared>,
    /// The findings about the objects in force.
    pub diagnostics: ArcSwap<Vec<Diagnostic>>,
    /// The first objects are in force, and the gateway isn't going down.
    pub ready: AtomicBool,
    /// The L4 plane; none where there is none.
    l4: Option<L4>,
    /// The VPN plane; none where there is none.
    vpn: Option<Handle>,
    streams: OnceLock<Arc<Listeners>>,
    /// Of the Kubernetes API, where objects come from there.
    source: OnceLock<watch::Receiver<Arc<SourceState>>>,
    /// Of the overlay, where there is one.
    overlay: OnceLock<watch::Receiver<Arc<crate::overlay::View>>>,
    /// Of the edges, where there are several.
    edges: OnceLock<(watch::Receiver<Arc<edges::Report>>, Arc<edges::Counts>)>,
}

/// What is known of the L4 plane.
#[derive(Debug)]
struct L4 {
    view: watch::Receiver<Arc<View>>,
    traffic: Arc<Traffic>,
    planned: ArcSwap<Planned>,
}

/// What the L4 plane is to do.
#[derive(Debug, Default)]
struct Planned {
    plan: Arc<L4Plan>,
    policy: Arc<Compiled>,
}

impl State {
    /// Before the first objects.
    pub fn new(
        shared: Arc<Shared>,
        plane: Option<&Plane>,
        vpn: Option<&crate::vpn::Plane>,
    ) -> Self {
        let l4 = plane.map(|plane| L4 {
            view: plane.view(),
            traffic: plane.traffic(),
            planned: ArcSwap::default(),
        });
        Self {
            shared,
            diagnostics: ArcSwap::default(),
            ready: AtomicBool::new(false),
            l4,
            vpn: vpn.map(crate::vpn::Plane::handle),
            streams: OnceLock::new(),
            source: OnceLock::new(),
            overlay: OnceLock::new(),
            edges: OnceLock::new(),
        }
    }

    /// What the L4 plane is to do from now on.
    pub fn l4_planned(&self, plan: Arc<L4Plan>, policy: Arc<Compiled>) {
        if let Some(l4) = &self.l4 {
            l4.planned.store(Arc::new(Planned { plan, policy }));
        }
    }

    /// Where connections that go through user space are counted.
    pub fn streams(&self, listeners: &Arc<Listeners>) {
        let _ = self.streams.set(Arc::clone(listeners));
    }

    /// Where objects come from the Kubernetes API: how that goes.
    pub fn source(&self, state: watch::Receiver<Arc<SourceState>>) {
        let _ = self.source.set(state);
    }

    /// How the overlay is, where there is one.
    pub fn overlay(&self, view: watch::Receiver<Arc<crate::overlay::View>>) {
        let _ = self.overlay.set(view);
    }

    fn overlay_view(&self) -> Option<Arc<crate::overlay::View>> {
        self.overlay.get().map(|view| Arc::clone(&view.borrow()))
    }

    /// Where there are several edges: who holds what.
    pub fn edges(&self, edges: (watch::Receiver<Arc<edges::Report>>, Arc<edges::Counts>)) {
        let _ = self.edges.set(edges);
    }

    fn source_state(&self) -> Option<Arc<SourceState>> {
        self.source.get().map(|state| Arc::clone(&state.borrow()))
    }

    /// The VPN plane as it is now; none where there is none.
    async fn vpn_report(&self) -> Option<crate::vpn::report::Report> {
        self.vpn.as_ref()?.report().await.ok()
    }

    /// The L4 plane as it is now; none where there is none. Asks the kernel, away from the event
    /// loop.
    async fn l4_report(self: &Arc<Self>) -> Option<Report> {
        let l4 = self.l4.as_ref()?;
        let planned = l4.planned.load_full();
        let view = Arc::clone(&l4.view.borrow());
        let (traffic, of) = (Arc::clone(&l4.traffic), Arc::clone(&planned));
        let sums = tokio::task::spawn_blocking(move || traffic.sums(&of.plan, &of.policy));
        let mut sums = sums.await.unwrap_or_default();
        let streams = self.streams.get().map(|listeners| listeners.counters());
        for (key, counters) in streams.unwrap_or_default() {
            let totals = counters.totals();
            let Some(sum) = sums.ports.get_mut(&key) else { continue };
            sum.connections += totals.accepted;
            sum.bytes += totals.received + totals.sent;
        }
        Some(Report { plan: Arc::clone(&planned.plan), view, sums })
    }
}

/// Opens the listener.
///
/// # Errors
/// As bind(2).
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves until `stop`.
pub async fn serve(listener: TcpListener, state: Arc<State>, stop: CancellationToken) {
    let connections = TaskTracker::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, peer)) = accepted else {
            tokio::time::sleep(Duration::from_millis(50)).await;
            continue;
        };
        // Over the limit, a connection is closed at once.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let state = Arc::clone(&state);
        connections.spawn(async move {
            let _place = place;
            let answer = service_fn(|request: Request<Incoming>| {
                let state = Arc::clone(&state);
                async move { Ok::<_, Infallible>(respond(&request, peer.ip(), &state).await) }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .serve_connection(TokioIo::new(stream), answer);
            // Whoever doesn't read its answers must not keep a place for ever.
            match tokio::time::timeout(CONNECTION, served).await {
                Ok(Ok(())) | Err(_) => {}
                Ok(Err(error)) => tracing::debug!(%error, "admin connection"),
            }
        });
    }
}

/// Of answers in words.
const TEXT: &str = "text/plain; charset=utf-8";

async fn respond(
    request: &Request<Incoming>,
    peer: IpAddr,
    state: &Arc<State>,
) -> Response<Full<Bytes>> {
    if *request.method() == Method::POST {
        return change(request, peer, state).await;
    }
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut response = reply(
            StatusCode::METHOD_NOT_ALLOWED,
            TEXT,
            "GET and HEAD only, and POST below /api/v1/vpn/\n",
        );
        response.headers_mut().insert(ALLOW, hyper::header::HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/healthz" => reply(StatusCode::OK, TEXT, "ok\n"),
        "/readyz" if state.ready.load(Ordering::Relaxed) => reply(StatusCode::OK, TEXT, "ready\n"),
        "/readyz" => reply(StatusCode::SERVICE_UNAVAILABLE, TEXT, "not ready\n"),
        "/metrics" => reply(
            StatusCode::OK,
            "text/plain; version=0.0.4; charset=utf-8",
            render(
                &state.shared.metrics,
                state.l4_report().await.as_ref(),
                state.vpn_report().await.as_ref(),
                state.source_state().as_deref(),
            ) + &state.overlay_view().map(|view| view.metrics()).unwrap_or_default()
                + &state.edges.get().map(edges::metrics).unwrap_or_default(),
        ),
        "/api/v1/status" => json(&state.status().await),
        "/api/v1/routes" => {
            let table = state.shared.table.load();
            json(&Routes { generation: table.generation, plan: &table.plan })
        }
        "/api/v1/services" => match state.l4_report().await {
            Some(report) => json(&services::of(&report)),
            None => reply(StatusCode::NOT_FOUND, TEXT, "l4 is not enabled, or could not start\n"),
        },
        "/api/v1/vpn" => match state.vpn_report().await {
            Some(report) => json(&vpn::of(&report)),
            None => reply(StatusCode::NOT_FOUND, TEXT, "vpn is not enabled, or could not start\n"),
        },
        "/api/v1/overlay" => match state.overlay_view() {
            Some(view) => json(&*view),
            None => {
                reply(StatusCode::NOT_FOUND, TEXT, "overlay is not enabled, or could not start\n")
            }
        },
        "/api/v1/source" => match state.source_state() {
            Some(source) => json(&*source),
            None => reply(StatusCode::NOT_FOUND, TEXT, "objects come from a directory\n"),
        },
        "/api/v1/edges" => match state.edges.get() {
            Some((report, _)) => json(&**report.borrow()),
            None => reply(StatusCode::NOT_FOUND, TEXT, "objects come from a directory\n"),
        },
        "/api/v1/diagnostics" => json(&**state.diagnostics.load()),
        "/" => reply(
            StatusCode::OK,
            TEXT,
            "/healthz\n/readyz\n/metrics\n/api/v1/status\n/api/v1/routes\n/api/v1/services\n/api/v1/vpn\n/api/v1/overlay\n/api/v1/source\n/api/v1/edges\n/api/v1/diagnostics\n",
        ),
        _ => reply(StatusCode::NOT_FOUND, TEXT, "not found; / lists what there is\n"),
    }
}

/// Requests that change something.
async fn change(
    request: &Request<Incoming>,
    peer: IpAddr,
    state: &Arc<State>,
) -> Response<Full<Bytes>> {
    let path = request.uri().path();
    let Some(rest) = path.strip_prefix("/api/v1/vpn/") else {
        return reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, "nothing of this can be changed\n");
    };
    if let Some(reason) = vpn::forbidden(peer, request.headers()) {
        return reply(StatusCode::FORBIDDEN, TEXT, reason);
    }
    let Some(handle) = &state.vpn else {
        return reply(StatusCode::NOT_FOUND, TEXT, "vpn is not enabled, or could not start\n");
    };
    match vpn::act(handle, rest, request.uri().query()).await {
        Some((status, answer)) => {
            let mut response = json(&answer);
            *response.status_mut() = status;
            response
        }
        None => reply(
            StatusCode::NOT_FOUND,
            TEXT,
            "there is NAMESPACE/NAME/up, /down, /rekey?what=ike|CHILD and /capture?seconds=N\n",
        ),
    }
}

/// Body of `/api/v1/routes`.
#[derive(Serialize)]
struct Routes<'a> {
    /// Of the table that requests are answered from.
    generation: u64,
    /// ALBs with their routes and certificates' names, and backends with their endpoints.
    #[serde(flatten)]
    plan: &'a plan::l7::L7Plan,
}

fn json(value: &impl Serialize) -> Response<Full<Bytes>> {
    match serde_json::to_vec_pretty(value) {
        Ok(body) => reply(StatusCode::OK, "application/json", body),
        Err(error) => reply(StatusCode::INTERNAL_SERVER_ERROR, "text/plain", format!("{error}\n")),
    }
}

fn reply(
    status: StatusCode,
    content_type: &'static str,
    body: impl Into<Bytes>,
) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let content_type = hyper::header::HeaderValue::from_static(content_type);
    response.headers_mut().insert(CONTENT_TYPE, content_type);
    response
}
