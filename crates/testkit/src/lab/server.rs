//! Servers that say who they are and whom they see.

use std::io::{BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::{Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::lab::Namespace;
use crate::net::eventually;

/// How soon the threads see that they are to end.
const TICK: Duration = Duration::from_millis(50);

/// A server in a namespace, on a port of all its addresses, IPv4 and IPv6, TCP and UDP. It answers
/// every line, and every datagram, with `NAME CLIENT TEXT`: its name, the client's address as it
/// sees it, and what it was sent. It ends when dropped.
#[derive(Debug)]
pub struct Server {
    port: u16,
    shared: Arc<Shared>,
    running: Arc<AtomicUsize>,
}

#[derive(Debug)]
struct Shared {
    name: String,
    stopping: AtomicBool,
    /// No connection is accepted any more.
    closed: AtomicBool,
    accepted: AtomicUsize,
    open: AtomicUsize,
    prefaces: Mutex<Vec<Vec<u8>>>,
}

impl Server {
    /// Starts one.
    #[track_caller]
    pub fn start(namespace: &Namespace, port: u16, name: &str) -> Self {
        let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            stopping: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            accepted: AtomicUsize::new(0),
            open: AtomicUsize::new(0),
            prefaces: Mutex::default(),
        });
        let running = Arc::new(AtomicUsize::new(2));
        let (listener, socket) =
            namespace.run(|| (TcpListener::bind(any).unwrap(), UdpSocket::bind(any).unwrap()));
        socket.set_read_timeout(Some(TICK)).unwrap();
        {
            let (shared, running) = (Arc::clone(&shared), Arc::clone(&running));
            thread::spawn(move || {
                accept(&listener, &shared);
                drop(listener);
                running.fetch_sub(1, Ordering::SeqCst);
            });
        }
        {
            let (shared, running) = (Arc::clone(&shared), Arc::clone(&running));
            thread::spawn(move || {
                answer_datagrams(&socket, &shared);
                drop(socket);
                running.fetch_sub(1, Ordering::SeqCst);
            });
        }
        Self { port, shared, running }
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Stops accepting, as a pod does that is told to end; connections go on.
    #[track_caller]
    pub fn stop_accepting(&self) {
        self.shared.closed.store(true, Ordering::SeqCst);
        eventually("it accepts no more", || {
            (self.running.load(Ordering::SeqCst) < 2).then_some(())
        });
    }

    /// How many TCP connections it has accepted.
    pub fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }

    /// How many of them are still open.
    pub fn open(&self) -> usize {
        self.shared.open.load(Ordering::SeqCst)
    }

    /// PROXY protocol headers that connections began with, in order.
    pub fn prefaces(&self) -> Vec<Vec<u8>> {
        self.shared.prefaces.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        if !thread::panicking() {
            eventually("server ends", || (self.running.load(Ordering::SeqCst) == 0).then_some(()));
        }
    }
}

fn accept(listener: &TcpListener, shared: &Arc<Shared>) {
    // A time-out for reading holds for accepting too.
    socket2::SockRef::from(listener).set_read_timeout(Some(TICK)).unwrap();
    let ended = || shared.stopping.load(Ordering::SeqCst) || shared.closed.load(Ordering::SeqCst);
    while !ended() {
        let Ok((stream, client)) = listener.accept() else { continue };
        shared.accepted.fetch_add(1, Ordering::SeqCst);
        shared.open.fetch_add(1, Ordering::SeqCst);
        let shared = Arc::clone(shared);
        thread::spawn(move || {
            _ = converse(&stream, client, &shared);
            shared.open.fetch_sub(1, Ordering::SeqCst);
        });
    }
}

/// Answers lines until the client is done or the server stops.
fn converse(stream: &TcpStream, client: SocketAddr, shared: &Shared) -> std::io::Result<()> {
    // Closes the connection's copy of the namespace soon after the server is dropped.
    stream.set_read_timeout(Some(TICK))?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream);
    let mut line = Vec::new();
    loop {
        match reader.read_until(b'\n', &mut line) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if shared.stopping.load(Ordering::SeqCst) {
                    return Ok(());
                }
                continue;
            }
            Err(error) => return Err(error),
        }
        if line == b"\r\n" || line.starts_with(b"PROXY ") {
            // The signature of version 2 is CR LF CR LF NUL CR LF QUIT LF.
            if line == b"\r\n" {
                for _ in 0..3 {
                    reader.read_until(b'\n', &mut line)?;
                }
                let mut rest = [0; 4];
                std::io::Read::read_exact(&mut reader, &mut rest)?;
                line.extend_from_slice(&rest);
                let mut body = vec![0; usize::from(u16::from_be_bytes([rest[2], rest[3]]))];
                std::io::Read::read_exact(&mut reader, &mut body)?;
                line.extend_from_slice(&body);
            }
            shared.prefaces.lock().unwrap().push(std::mem::take(&mut line));
            continue;
        }
        let mut answer = greeting(shared, client);
        answer.extend_from_slice(&line);
        (&mut &*stream).write_all(&answer)?;
        line.clear();
    }
}

fn answer_datagrams(socket: &UdpSocket, shared: &Shared) {
    let mut buf = vec![0; 64 * 1024];
    while !shared.stopping.load(Ordering::SeqCst) {
        let Ok((len, client)) = socket.recv_from(&mut buf) else { continue };
        let mut answer = greeting(shared, client);
        answer.extend_from_slice(buf.get(..len).unwrap());
        _ = socket.send_to(&answer, client);
    }
}

fn greeting(shared: &Shared, client: SocketAddr) -> Vec<u8> {
    let client = SocketAddr::new(client.ip().to_canonical(), client.port());
    format!("{} {client} ", shared.name).into_bytes()
}
