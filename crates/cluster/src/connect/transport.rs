//! What carries requests: the stack that kube would build, but for its retries (who asks knows
//! better when), its log of every failure, and sockets that find out by themselves when the other
//! end is gone.
//!
//! After the API has refused the credentials they are read anew, so that others in their place are
//! taken up without a restart.

use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use http_body_util::combinators::UnsyncBoxBody;
use hyper_timeout::TimeoutConnector;
use hyper_util::client::legacy::Builder;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use kube::client::{Body, ConfigExt};
use kube::config::Config;
use tower::util::{BoxCloneService, ServiceExt};
use tower::{BoxError, Service, ServiceBuilder};

use super::Options;
use super::fault::{Fault, Places};

/// What was sent and isn't acknowledged for so long was sent into nothing.
const UNACKNOWLEDGED: Duration = Duration::from_secs(5);
/// A silent connection is asked for life after so long, and then so often.
const KEEPALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(2));
/// Connections that nobody uses are kept for the next request so long.
const IDLE: Duration = Duration::from_secs(60);
/// Credentials that were refused are read anew at most so often.
const AGAIN: Duration = Duration::from_secs(1);

type Incoming = UnsyncBoxBody<bytes::Bytes, BoxError>;
type Stack = BoxCloneService<Request<Body>, Response<Incoming>, BoxError>;

/// Carries requests, with credentials that may change.
#[derive(Clone)]
pub(super) struct Transport {
    options: Arc<Options>,
    places: Arc<Places>,
    /// Where the API is: another place isn't taken up.
    url: http::Uri,
    current: Arc<Mutex<Current>>,
}

struct Current {
    stack: Stack,
    /// When it was made.
    made: Instant,
    /// Whether the API has refused its credentials.
    refused: bool,
}

impl Transport {
    pub(super) fn new(
        config: &Config,
        options: &Options,
        places: Places,
    ) -> Result<Self, kube::Error> {
        let current = Current { stack: stack(config)?, made: Instant::now(), refused: false };
        Ok(Self {
            options: Arc::new(options.clone()),
            places: Arc::new(places),
            url: config.cluster_url.clone(),
            current: Arc::new(Mutex::new(current)),
        })
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The stack to use, made anew if need be.
    async fn stack(&self) -> Stack {
        {
            let mut current = self.lock();
            if !current.refused || current.made.elapsed() < AGAIN {
                return current.stack.clone();
            }
            // The others go on with the present one meanwhile.
            current.made = Instant::now();
        }
        let made = match super::config(&self.options).await {
            Ok(mut config) => {
                config.cluster_url = self.url.clone();
                stack(&config).map_err(|error| super::chain(&error))
            }
            Err(error) => Err(error.to_string()),
        };
        let mut current = self.lock();
        match made {
            Ok(stack) => (current.stack, current.refused) = (stack, false),
            Err(error) => tracing::debug!(error, "credentials can't be read anew"),
        }
        current.stack.clone()
    }

    async fn carry(self, request: Request<Body>) -> Result<Response<Incoming>, BoxError> {
        let stack = self.stack().await;
        match stack.oneshot(request).await {
            Ok(answer) if answer.status() == StatusCode::UNAUTHORIZED => {
                self.lock().refused = true;
                let place = self.places.credentials.clone();
                Err(Fault::Unauthorized { place }.into())
            }
            Ok(answer) => Ok(answer),
            Err(error) => {
                let fault = self.places.fault(&*error);
                if let Fault::Credentials { .. } | Fault::Certificate { .. } = fault {
                    self.lock().refused = true;
                }
                Err(fault.into())
            }
        }
    }
}

impl Service<Request<Body>> for Transport {
    type Response = Response<Incoming>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        Box::pin(self.clone().carry(request))
    }
}

fn stack(config: &Config) -> Result<Stack, kube::Error> {
    // Two may set it at once; it is the same one.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    if let Some(proxy) = &config.proxy_url {
        return Err(kube::Error::ProxyProtocolUnsupported { proxy_url: Box::new(proxy.clone()) });
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_keepalive(Some(KEEPALIVE.0));
    tcp.set_keepalive_interval(Some(KEEPALIVE.1));
    tcp.set_keepalive_retries(Some(3));
    #[cfg(target_os = "linux")]
    tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    let mut connector = TimeoutConnector::new(config.rustls_https_connector_with_connector(tcp)?);
    connector.set_connect_timeout(config.connect_timeout);
    let client: hyper_util::client::legacy::Client<_, Body> = Builder::new(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .build(connector);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .map_response(|answer: Response<_>| {
            answer.map(|body| BodyExt::boxed_unsync(BodyExt::map_err(body, BoxError::from)))
        })
        .service(client);
    Ok(BoxCloneService::new(service))
}
