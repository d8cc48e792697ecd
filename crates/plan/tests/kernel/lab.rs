//! A client, an edge and three backends in network namespaces.

#![allow(clippy::unwrap_used)]

use std::io::{self, Read as _, Write as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use nix::sched::{CloneFlags, setns};
use socket2::{Domain, Protocol, Socket, Type};

/// The client's addresses.
pub(crate) const CLIENT: &str = "198.51.100.7";
pub(crate) const CLIENT6: &str = "2001:db8:1::7";
/// The edge's own addresses, on the client's side.
pub(crate) const EDGE: &str = "198.51.100.1";
pub(crate) const EDGE6: &str = "2001:db8:1::1";
/// The VIPs.
pub(crate) const VIP: &str = "203.0.113.10";
pub(crate) const VIP6: &str = "2001:db8:10::10";
/// Where the backends listen.
pub(crate) const PORT: u16 = 8080;

static LABS: AtomicU32 = AtomicU32::new(0);

/// The namespaces; they go when it is dropped.
pub(crate) struct Lab {
    prefix: String,
}

impl Lab {
    pub(crate) fn new() -> Self {
        assert!(nix::unistd::Uid::effective().is_root(), "these tests need root: run them as root");
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let lab = Self { prefix: format!("nftk{}-{number}", std::process::id()) };
        for name in ["c", "e", "b1", "b2", "b3"] {
            run("ip", &["netns", "add", &lab.ns(name)], "");
            lab.ip(name, "link set lo up");
            // A link-local address that is still being checked can't ask for neighbours.
            lab.exec(name, "sysctl", &["-qw", "net.ipv6.conf.default.accept_dad=0"], "");
        }
        lab.link("c", "e");
        lab.address("c", "e", &[CLIENT, "198.51.100.8", CLIENT6]);
        lab.address("e", "c", &[EDGE, EDGE6]);
        lab.ip("e", &format!("addr add {VIP}/32 dev c"));
        lab.ip("e", &format!("addr add {VIP6}/128 dev c nodad"));
        lab.ip("c", &format!("route add default via {EDGE}"));
        lab.ip("c", &format!("-6 route add default via {EDGE6}"));
        for n in 1..=3 {
            let name = format!("b{n}");
            lab.link(&name, "e");
            lab.address(&name, "e", &[&backend(n).ip().to_string(), &backend6(n).ip().to_string()]);
            lab.address("e", &name, &[&format!("10.0.{n}.1"), &format!("fd00:{n}::1")]);
            lab.ip(&name, &format!("route add default via 10.0.{n}.1"));
            lab.ip(&name, &format!("-6 route add default via fd00:{n}::1"));
            lab.serve(&name);
        }
        lab.exec(
            "e",
            "sysctl",
            &["-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1"],
            "",
        );
        lab
    }

    fn ns(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    fn ip(&self, name: &str, arguments: &str) {
        let ns = self.ns(name);
        let mut all = vec!["-n", &ns];
        all.extend(arguments.split_whitespace());
        run("ip", &all, "");
    }

    /// Two ends, each named by the other.
    fn link(&self, a: &str, b: &str) {
        let (ns_a, ns_b) = (self.ns(a), self.ns(b));
        let create =
            ["link", "add", b, "netns", &ns_a, "type", "veth", "peer", "name", a, "netns", &ns_b];
        run("ip", &create, "");
        self.ip(a, &format!("link set {b} up"));
        self.ip(b, &format!("link set {a} up"));
    }

    fn address(&self, name: &str, device: &str, addresses: &[&str]) {
        for address in addresses {
            let (length, more) = if address.contains(':') { (64, "nodad") } else { (24, "") };
            self.ip(name, &format!("addr add {address}/{length} dev {device} {more}"));
        }
    }

    pub(crate) fn exec(
        &self,
        name: &str,
        program: &str,
        arguments: &[&str],
        input: &str,
    ) -> String {
        let ns = self.ns(name);
        let mut all = vec!["netns", "exec", &ns, program];
        all.extend(arguments);
        run("ip", &all, input)
    }

    /// Has the edge take a text of nft.
    pub(crate) fn nft(&self, text: &str) {
        self.exec("e", "nft", &["-f", "-"], text);
    }

    /// The table as the kernel has it, without what counts or runs out.
    pub(crate) fn listing(&self) -> String {
        self.exec("e", "nft", &["-s", "list", "table", "inet", "tidegate"], "")
    }

    pub(crate) fn json(&self, kind: &str, name: &str) -> String {
        self.exec("e", "nft", &["-j", "list", kind, "inet", "tidegate", name], "")
    }

    /// Runs something in a namespace. Sockets that it makes stay there.
    pub(crate) fn within<T: Send>(&self, name: &str, action: impl FnOnce() -> T + Send) -> T {
        let file = std::fs::File::open(format!("/var/run/netns/{}", self.ns(name))).unwrap();
        std::thread::scope(|scope| {
            let entered = || {
                setns(&file, CloneFlags::CLONE_NEWNET).unwrap();
                action()
            };
            scope.spawn(entered).join().unwrap()
        })
    }

    /// Answers everything on the backends' port with its own name and the client's address.
    fn serve(&self, name: &str) {
        let (tcp, udp) = self.within(name, || {
            let any = format!("[::]:{PORT}");
            (TcpListener::bind(&any).unwrap(), UdpSocket::bind(&any).unwrap())
        });
        let text = |name: &str, peer: SocketAddr| format!("{name} {}", peer.ip().to_canonical());
        let own = name.to_owned();
        std::thread::spawn(move || {
            while let Ok((mut stream, peer)) = tcp.accept() {
                let _ = stream.write_all(text(&own, peer).as_bytes());
            }
        });
        let own = name.to_owned();
        std::thread::spawn(move || {
            let mut buffer = [0; 64];
            while let Ok((_, peer)) = udp.recv_from(&mut buffer) {
                let _ = udp.send_to(text(&own, peer).as_bytes(), peer);
            }
        });
    }

    /// What a new TCP connection is answered: the backend's name and the client's address.
    pub(crate) fn tcp(&self, from: &str, to: &str) -> io::Result<String> {
        let to: SocketAddr = to.parse().unwrap();
        self.within(from, || {
            let mut stream = TcpStream::connect_timeout(&to, Duration::from_millis(700))?;
            stream.set_read_timeout(Some(Duration::from_millis(700)))?;
            let mut text = String::new();
            stream.read_to_string(&mut text)?;
            Ok(text)
        })
    }

    /// Whether an address answers an echo request.
    pub(crate) fn ping(&self, from: &str, to: &str) -> io::Result<()> {
        let to = SocketAddr::new(to.parse().unwrap(), 0);
        self.within(from, || echo(to))
    }

    /// The same over UDP, from an address (and port, or 0).
    pub(crate) fn udp(&self, from: &str, source: &str, to: &str) -> io::Result<String> {
        let (source, to): (SocketAddr, SocketAddr) = (source.parse().unwrap(), to.parse().unwrap());
        self.within(from, || {
            let socket = UdpSocket::bind(source)?;
            socket.set_read_timeout(Some(Duration::from_millis(700)))?;
            socket.connect(to)?;
            socket.send(b"?")?;
            let mut buffer = [0; 64];
            let length = socket.recv(&mut buffer)?;
            Ok(String::from_utf8_lossy(&buffer[..length]).into_owned())
        })
    }
}

/// Whether an address answers an echo request (RFC 792, RFC 4443).
fn echo(to: SocketAddr) -> io::Result<()> {
    let (domain, protocol, kind) = match to {
        SocketAddr::V4(_) => (Domain::IPV4, Protocol::ICMPV4, 8),
        SocketAddr::V6(_) => (Domain::IPV6, Protocol::ICMPV6, 128),
    };
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    socket.set_read_timeout(Some(Duration::from_millis(700)))?;
    socket.connect(&to.into())?;
    let mut request = [kind, 0, 0, 0, 0x12, 0x34, 0, 1];
    // The kernel fills in ICMPv6's checksum itself.
    let sum = u16::from_be_bytes([kind, 0]) + 0x1234 + 1;
    request[2..4].copy_from_slice(&(!sum).to_be_bytes());
    socket.send(&request)?;
    let mut buffer = [0; 128];
    let _length = (&socket).read(&mut buffer)?;
    Ok(())
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in ["c", "e", "b1", "b2", "b3"] {
            let _ = Command::new("ip").args(["netns", "del", &self.ns(name)]).output();
        }
    }
}

/// A backend's address, of 1 to 3.
pub(crate) fn backend(number: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::from([10, 0, number as u8, 2]), PORT)
}

pub(crate) fn backend6(number: u16) -> SocketAddr {
    format!("[fd00:{number}::2]:{PORT}").parse().unwrap()
}

fn run(program: &str, arguments: &[&str], input: &str) -> String {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {complaint}\n{input}");
    String::from_utf8(output.stdout).unwrap()
}
