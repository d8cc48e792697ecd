//! Connections and datagrams to a [`crate::lab::Server`], from inside a namespace.

use std::io::{self, BufRead as _, BufReader, ErrorKind, Write as _};
use std::net::{IpAddr, SocketAddr, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

use crate::lab::Namespace;
use crate::net::{DEADLINE, eventually};

/// How long a single attempt may take while others follow.
const ATTEMPT: Duration = Duration::from_millis(500);

/// What a server said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Its name.
    pub server: String,
    /// The client as it sees it.
    pub client: SocketAddr,
    /// What it was sent.
    pub text: String,
}

impl Answer {
    fn parse(line: &str) -> io::Result<Self> {
        let broken = || io::Error::new(ErrorKind::InvalidData, format!("answer {line:?}"));
        let mut words = line.trim_end_matches('\n').splitn(3, ' ');
        let server = words.next().ok_or_else(broken)?.to_owned();
        let client = words.next().and_then(|word| word.parse().ok()).ok_or_else(broken)?;
        let text = words.next().ok_or_else(broken)?.to_owned();
        Ok(Self { server, client, text })
    }
}

/// A TCP connection.
#[derive(Debug)]
pub struct Flow {
    reader: BufReader<TcpStream>,
}

impl Flow {
    /// Goes on over a connection made elsewhere.
    ///
    /// # Errors
    /// The system's.
    pub fn over(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(DEADLINE))?;
        Ok(Self { reader: BufReader::new(stream) })
    }

    /// Sends a line and reads the answer, whose text must be the same.
    ///
    /// # Errors
    /// The connection's, `UnexpectedEof` where it has ended.
    pub fn say(&mut self, text: &str) -> io::Result<Answer> {
        self.stream().write_all(format!("{text}\n").as_bytes())?;
        let mut line = String::new();
        if self.reader.read_line(&mut line)? == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        let answer = Answer::parse(&line)?;
        if answer.text != text {
            return Err(io::Error::new(ErrorKind::InvalidData, format!("answer {line:?}")));
        }
        Ok(answer)
    }

    /// The connection itself.
    pub fn stream(&self) -> &TcpStream {
        self.reader.get_ref()
    }
}

/// A UDP socket that is connected to one address.
#[derive(Debug)]
pub struct Datagrams {
    socket: UdpSocket,
}

impl Datagrams {
    /// Sends a datagram and waits for its answer; answers to earlier ones are passed over.
    ///
    /// # Errors
    /// The socket's: `ConnectionRefused` after an ICMP error, `WouldBlock` where nothing came.
    pub fn say(&self, text: &str, within: Duration) -> io::Result<Answer> {
        self.socket.set_read_timeout(Some(within))?;
        self.socket.send(text.as_bytes())?;
        let mut buf = [0; 2048];
        loop {
            let len = self.socket.recv(&mut buf)?;
            let answer = Answer::parse(&String::from_utf8_lossy(buf.get(..len).unwrap()))?;
            if answer.text == text {
                return Ok(answer);
            }
        }
    }

    /// Sends until there is an answer.
    #[track_caller]
    pub fn answer(&self, text: &str) -> Answer {
        eventually("a datagram is answered", || self.say(text, ATTEMPT).ok())
    }
}

impl Namespace {
    /// Connects from any of its addresses.
    ///
    /// # Errors
    /// The system's.
    pub fn connect(&self, to: SocketAddr) -> io::Result<Flow> {
        self.connect_from(None, to, DEADLINE)
    }

    /// Connects from one of its addresses, and fails when it takes too long.
    ///
    /// # Errors
    /// The system's.
    pub fn connect_from(
        &self,
        from: Option<IpAddr>,
        to: SocketAddr,
        within: Duration,
    ) -> io::Result<Flow> {
        let stream = self.run(|| {
            let socket = Socket::new(Domain::for_address(to), Type::STREAM, None)?;
            if let Some(from) = from {
                socket.bind(&SocketAddr::new(from, 0).into())?;
            }
            socket.connect_timeout(&to.into(), within)?;
            io::Result::Ok(TcpStream::from(socket))
        })?;
        Flow::over(stream)
    }

    /// Who answers on a connection of its own.
    ///
    /// # Errors
    /// The connection's.
    pub fn ask(&self, to: SocketAddr) -> io::Result<Answer> {
        self.connect(to)?.say("ask")
    }

    /// Who answers on a connection of its own from this address.
    ///
    /// # Errors
    /// The connection's.
    pub fn ask_from(&self, from: IpAddr, to: SocketAddr) -> io::Result<Answer> {
        self.connect_from(Some(from), to, DEADLINE)?.say("ask")
    }

    /// Asks until there is an answer, as long as it takes for the gateway to see what has changed.
    #[track_caller]
    pub fn answer(&self, to: SocketAddr) -> Answer {
        self.answer_by(to, |_| true)
    }

    /// Asks until the answer is the wanted one.
    #[track_caller]
    pub fn answer_by(&self, to: SocketAddr, wanted: impl Fn(&Answer) -> bool) -> Answer {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let answer = self.attempt(to);
            match answer {
                Ok(answer) if wanted(&answer) => return answer,
                _ if Instant::now() < deadline => thread::sleep(Duration::from_millis(5)),
                _ => panic!("{to} did not answer as wanted within {DEADLINE:?}: {answer:?}"),
            }
        }
    }

    /// One short attempt.
    ///
    /// # Errors
    /// The connection's.
    pub fn attempt(&self, to: SocketAddr) -> io::Result<Answer> {
        let mut flow = self.connect_from(None, to, ATTEMPT)?;
        flow.stream().set_read_timeout(Some(ATTEMPT))?;
        flow.say("ask")
    }

    /// Tries until a connection is refused, by RST or ICMP.
    #[track_caller]
    pub fn refused(&self, to: SocketAddr) {
        eventually(&format!("{to} refuses"), || {
            let error = self.connect_from(None, to, ATTEMPT).err()?;
            (error.kind() == ErrorKind::ConnectionRefused).then_some(())
        });
    }

    /// Tries until connections get no answer at all.
    #[track_caller]
    pub fn silent(&self, to: SocketAddr) {
        eventually(&format!("{to} is silent"), || self.is_silent(to).then_some(()));
    }

    /// Whether a connection gets no answer at all for a while.
    pub fn is_silent(&self, to: SocketAddr) -> bool {
        let result = self.connect_from(None, to, ATTEMPT);
        result.is_err_and(|e| matches!(e.kind(), ErrorKind::TimedOut | ErrorKind::HostUnreachable))
    }

    /// A UDP socket towards an address, bound to one of its own.
    ///
    /// # Errors
    /// The system's.
    pub fn datagrams_from(&self, from: SocketAddr, to: SocketAddr) -> io::Result<Datagrams> {
        self.run(|| {
            let socket = UdpSocket::bind(from)?;
            socket.connect(to)?;
            Ok(Datagrams { socket })
        })
    }

    /// A UDP socket towards an address.
    #[track_caller]
    pub fn datagrams(&self, to: SocketAddr) -> Datagrams {
        let any = match to {
            SocketAddr::V4(_) => IpAddr::from([0; 4]),
            SocketAddr::V6(_) => IpAddr::from([0; 16]),
        };
        self.datagrams_from(SocketAddr::new(any, 0), to).unwrap()
    }
}
