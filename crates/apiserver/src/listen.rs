//! Accepting connections, and being gone.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::faults::Gone;
use crate::serve::Shared;

/// Serves until told to stop.
pub(crate) async fn run(
    listener: std::net::TcpListener,
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
) {
    let mut gone = shared.faults.gone.subscribe();
    let mut listener = match TcpListener::from_std(listener) {
        Ok(listener) => Some(listener),
        Err(error) => {
            warn!(%error, "no listener");
            return;
        }
    };
    loop {
        // Connections of one presence end together.
        let presence = stop.child_token();
        if let Some(listener) = listener.take() {
            tokio::select! {
                () = accept(&listener, &shared, &presence) => {}
                _ = gone.wait_for(|gone| *gone != Gone::Here) => {}
                () = stop.cancelled() => return,
            }
        }
        presence.cancel();
        // Connections see it when they are polled next.
        tokio::task::yield_now().await;
        shared.faults.set_here(false);
        tokio::select! {
            () = away(&mut gone) => {}
            () = stop.cancelled() => return,
        }
        shared.faults.gone.send_if_modified(|gone| {
            let over = matches!(*gone, Gone::Until(_));
            if over {
                *gone = Gone::Here;
            }
            over
        });
        listener = tokio::select! {
            listener = listen_again(address) => Some(listener),
            () = stop.cancelled() => return,
        };
        shared.faults.set_here(true);
    }
}

/// Waits until it is time to be there again.
async fn away(gone: &mut tokio::sync::watch::Receiver<Gone>) {
    loop {
        let now = *gone.borrow_and_update();
        match now {
            Gone::Here => return,
            Gone::Away => {
                if gone.changed().await.is_err() {
                    return;
                }
            }
            Gone::Until(time) => tokio::select! {
                () = tokio::time::sleep_until(time.into()) => return,
                _ = gone.changed() => {}
            },
        }
    }
}

async fn listen_again(address: SocketAddr) -> TcpListener {
    loop {
        match TcpListener::bind(address).await {
            Ok(listener) => return listener,
            Err(error) => {
                debug!(%error, %address, "the port is not free yet");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

async fn accept(listener: &TcpListener, shared: &Arc<Shared>, presence: &CancellationToken) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let (shared, presence) = (shared.clone(), presence.clone());
                // It ends with the presence.
                tokio::spawn(async move {
                    tokio::select! {
                        biased;
                        () = presence.cancelled() => {}
                        () = connection(stream, peer, shared) => {}
                    }
                });
            }
            Err(error) => {
                warn!(%error, "a connection was not accepted");
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, shared: Arc<Shared>) {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%error, "no TCP_NODELAY");
    }
    let service = service_fn(move |request| shared.clone().handle(request, peer));
    let builder = Builder::new(TokioExecutor::new());
    if let Err(error) = builder.serve_connection(TokioIo::new(stream), service).await {
        debug!(%error, %peer, "the connection ended");
    }
}
