//! The same as [`crate::lab::Server`], over TLS.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use rustls::crypto::aws_lc_rs;
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject as _;

use crate::lab::Namespace;
use crate::net::DEADLINE;
use crate::tls::Pair;

/// Answers every line that comes over TLS with `NAME CLIENT TEXT`.
#[derive(Debug)]
pub struct TlsServer {
    stopping: Arc<AtomicBool>,
}

impl TlsServer {
    /// Starts one that shows this certificate.
    #[track_caller]
    pub fn start(namespace: &Namespace, port: u16, name: &str, pair: &Pair) -> Self {
        let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
        let provider = Arc::new(aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![pair.der.clone()], key)
            .unwrap();
        let config = Arc::new(config);
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let listener = namespace.run(|| TcpListener::bind(any).unwrap());
        let time_out = Some(Duration::from_millis(50));
        socket2::SockRef::from(&listener).set_read_timeout(time_out).unwrap();
        let stopping = Arc::new(AtomicBool::new(false));
        let server = Self { stopping: Arc::clone(&stopping) };
        let name = name.to_owned();
        thread::spawn(move || {
            while !stopping.load(Ordering::SeqCst) {
                let Ok((stream, client)) = listener.accept() else { continue };
                let (config, name) = (Arc::clone(&config), name.clone());
                // A client that goes away is no failure here.
                thread::spawn(move || _ = converse(stream, client, config, &name));
            }
        });
        server
    }
}

impl Drop for TlsServer {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
    }
}

fn converse(
    stream: TcpStream,
    client: SocketAddr,
    config: Arc<ServerConfig>,
    name: &str,
) -> Option<()> {
    stream.set_read_timeout(Some(6 * DEADLINE)).ok()?;
    let session = ServerConnection::new(config).ok()?;
    let mut reader = BufReader::new(StreamOwned::new(session, stream));
    let client = SocketAddr::new(client.ip().to_canonical(), client.port());
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).ok()? == 0 {
            return Some(());
        }
        reader.get_mut().write_all(format!("{name} {client} {line}").as_bytes()).ok()?;
        reader.get_mut().flush().ok()?;
    }
}
