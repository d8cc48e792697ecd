use std::future::poll_fn;
use std::io::{Read, Write};
use std::thread::JoinHandle;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::ServerName;
use rustls::sign::SingleCertAndKey;
use rustls::{ClientConnection, StreamOwned};
use testkit::TlsSettings;
use tokio::net::TcpListener;

use super::*;
use crate::l7::tls::self_made_certificate;

const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
const ANSWER: &[u8] = b"HTTP/1.1 204 No Content\r\n\r\n";

fn server_config() -> Arc<ServerConfig> {
    let certificate = SingleCertAndKey::from(self_made_certificate().unwrap());
    let config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_no_client_auth();
    Arc::new(config.with_cert_resolver(Arc::new(certificate)))
}

/// A client whose request leaves with the last of its handshake, in one piece. Answers what the
/// server sent up to its close.
fn client(address: std::net::SocketAddr) -> JoinHandle<Vec<u8>> {
    let settings = TlsSettings::trusting_anyone_with(&[&rustls::version::TLS13]);
    std::thread::spawn(move || {
        let name = ServerName::try_from("a.test").unwrap();
        let mut session = ClientConnection::new(Arc::clone(settings.config()), name).unwrap();
        // Kept by rustls until it has the keys.
        session.writer().write_all(REQUEST).unwrap();
        let tcp = std::net::TcpStream::connect(address).unwrap();
        tcp.set_read_timeout(Some(std::time::Duration::from_secs(20))).unwrap();
        let mut answer = Vec::new();
        StreamOwned::new(session, tcp).read_to_end(&mut answer).unwrap();
        answer
    })
}

/// Memory of an idle connection: it may hold keys and little else, however its first request came.
#[tokio::test]
async fn no_buffer_is_held_between_requests() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = client(listener.local_addr().unwrap());
    let (tcp, _) = listener.accept().await.unwrap();
    let mut stream = TlsStream::new(tcp, server_config()).unwrap();
    let mut plain = Buf::default();
    poll_fn(|cx| stream.poll_handshake(cx, &mut plain)).await.unwrap();
    assert_eq!(plain.filled(), REQUEST, "came along with the handshake");
    assert!(stream.incoming.is_released(), "ciphertext in, after the handshake");
    let sent = poll_fn(|cx| stream.poll_write(cx, [ANSWER, b"", b""])).await.unwrap();
    assert_eq!(sent, ANSWER.len());
    poll_fn(|cx| stream.poll_flush(cx)).await.unwrap();
    assert!(stream.incoming.is_released() && stream.outgoing.is_released());
    poll_fn(|cx| stream.poll_shutdown(cx)).await.unwrap();
    // The client's thread waits for this end.
    drop(stream);
    assert_eq!(client.join().unwrap(), ANSWER);
}

/// What an idle connection holds beside its task; most of it is rustls' own state.
#[test]
fn a_stream_stays_small() {
    assert!(size_of::<TlsStream>() <= 1280, "{}", size_of::<TlsStream>());
}
