//! The admin side: health, metrics and status. Whoever reaches it may read; nothing can be changed
//! over it.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CONTENT_TYPE, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::metrics;
use crate::view::View;

/// Connections at once: this side is for a scraper, the kubelet and a few people.
const CONNECTIONS: usize = 32;
/// For a request's head.
const HEAD: Duration = Duration::from_secs(5);
/// For a whole connection.
const CONNECTION: Duration = Duration::from_secs(30);
/// The rest after a connection that could not be taken.
const REST: Duration = Duration::from_millis(50);

const TEXT: &str = "text/plain; charset=utf-8";
const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Opens the listener.
///
/// # Errors
/// As bind(2).
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves until `stop`.
pub async fn serve(listener: TcpListener, view: View, stop: CancellationToken) {
    let connections = TaskTracker::new();
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(REST).await;
            continue;
        };
        // Over the limit, a connection is closed at once.
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else { continue };
        let view = view.clone();
        connections.spawn(async move {
            let _place = place;
            let answer = service_fn(|request: Request<Incoming>| {
                let answer = respond(request.method(), request.uri().path(), &view);
                async move { Ok::<_, Infallible>(answer) }
            });
            let served = hyper::server::conn::http1::Builder::new()
                .timer(TokioTimer::new())
                .header_read_timeout(HEAD)
                .serve_connection(TokioIo::new(stream), answer);
            if let Ok(Err(error)) = tokio::time::timeout(CONNECTION, served).await {
                tracing::debug!(%error, "admin connection");
            }
        });
    }
}

fn respond(method: &Method, path: &str, view: &View) -> Response<Full<Bytes>> {
    if !matches!(*method, Method::GET | Method::HEAD) {
        let mut response =
            reply(StatusCode::METHOD_NOT_ALLOWED, TEXT, "GET and HEAD only\n".to_owned());
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let shown = view.shown();
    match path {
        "/healthz" => reply(StatusCode::OK, TEXT, "ok\n".to_owned()),
        "/readyz" => {
            let (status, word) = match shown.status.ready {
                true => (StatusCode::OK, "ready"),
                false => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
            };
            let mut text = format!("{word}\n");
            for condition in &shown.status.conditions {
                let _ = writeln!(text, "{condition}");
            }
            reply(status, TEXT, text)
        }
        "/metrics" => reply(StatusCode::OK, METRICS, metrics::render(&shown)),
        "/api/v1/status" => match serde_json::to_string(&*shown.status) {
            Ok(text) => reply(StatusCode::OK, "application/json", text),
            Err(error) => reply(StatusCode::INTERNAL_SERVER_ERROR, TEXT, format!("{error}\n")),
        },
        _ => reply(
            StatusCode::NOT_FOUND,
            TEXT,
            "there are /healthz, /readyz, /metrics and /api/v1/status\n".to_owned(),
        ),
    }
}

fn reply(status: StatusCode, kind: &'static str, text: String) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(text)));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    response
}
