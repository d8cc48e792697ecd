//! TCP servers, and clients, that say what they saw.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use testkit::{DEADLINE, unique_address};

/// A server with a thread for each connection. It lives until the process ends.
pub(crate) struct Server {
    pub(crate) address: SocketAddr,
    accepted: Arc<AtomicUsize>,
}

impl Server {
    /// Each connection is given to `serve`.
    pub(crate) fn start(serve: impl Fn(TcpStream) + Send + Clone + 'static) -> Self {
        let listener = TcpListener::bind((unique_address(), 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let counted = Arc::clone(&accepted);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, serve) = (stream.unwrap(), serve.clone());
                counted.fetch_add(1, Ordering::Relaxed);
                stream.set_read_timeout(Some(DEADLINE)).unwrap();
                thread::spawn(move || serve(stream));
            }
        });
        Self { address, accepted }
    }

    /// Sends back what comes, and ends when the client has.
    pub(crate) fn echo() -> Self {
        Self::start(|mut stream| {
            let mut to = stream.try_clone().unwrap();
            let _ = std::io::copy(&mut stream, &mut to);
            let _ = stream.shutdown(Shutdown::Write);
        })
    }

    /// Says its name at once, then echoes.
    pub(crate) fn named(name: &'static str) -> Self {
        Self::start(move |mut stream| {
            stream.write_all(name.as_bytes()).unwrap();
            let mut to = stream.try_clone().unwrap();
            let _ = std::io::copy(&mut stream, &mut to);
        })
    }

    pub(crate) fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }
}

/// A connection to the edge.
#[track_caller]
pub(crate) fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Exactly so many bytes, as text.
#[track_caller]
pub(crate) fn read(stream: &mut impl Read, len: usize) -> String {
    let mut bytes = vec![0; len];
    stream.read_exact(&mut bytes).unwrap();
    String::from_utf8(bytes).unwrap()
}

/// Sends and awaits the same.
#[track_caller]
pub(crate) fn echoes(stream: &mut (impl Read + Write), text: &str) {
    stream.write_all(text.as_bytes()).unwrap();
    assert_eq!(read(stream, text.len()), text);
}

/// Whether the next thing is a reset.
#[track_caller]
pub(crate) fn is_reset(stream: &mut TcpStream) -> bool {
    let mut bytes = [0; 100];
    match stream.read(&mut bytes) {
        Err(error) if error.kind() == ErrorKind::ConnectionReset => true,
        Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("neither data nor an end"),
        _ => false,
    }
}

/// Which of the named servers a new connection comes to.
#[track_caller]
pub(crate) fn name_at(address: SocketAddr, len: usize) -> (String, TcpStream) {
    let mut stream = connect(address);
    (read(&mut stream, len), stream)
}
