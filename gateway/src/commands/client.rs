//! Questions to a running gateway's admin side.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;

use crate::admin::status::Status;
use crate::admin::vpn::{Answer, Connection, HEADER, Vpn};
use crate::config::Config;

/// How long connecting may take.
const CONNECT: Duration = Duration::from_secs(5);
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(15);
/// The longest answer.
const LONGEST: u64 = 256 << 20;

/// Where the running gateway is.
#[derive(Args, Clone, Debug)]
pub(super) struct Running {
    /// The admin address of the running gateway; by default the configuration's, or
    /// 127.0.0.1:9901
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
    /// Its configuration, for the admin address
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
}

/// The admin side of a running gateway.
pub(super) struct Client {
    address: SocketAddr,
}

impl Running {
    /// Where to ask.
    pub(super) fn client(&self) -> Result<Client> {
        let address = match (self.admin, &self.config) {
            (Some(address), _) => address,
            (None, Some(path)) => Config::load(path)?.admin.listen.context(
                "admin.listen is null in the configuration, so a running gateway can't be asked; \
                 write an address such as \"127.0.0.1:9901\" there",
            )?,
            (None, None) => SocketAddr::from((Ipv4Addr::LOCALHOST, 9901)),
        };
        Ok(Client { address: reachable(address) })
    }
}

/// An address that listens everywhere is asked over loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => (Ipv4Addr::LOCALHOST, address.port()).into(),
        IpAddr::V6(ip) if ip.is_unspecified() => {
            (std::net::Ipv6Addr::LOCALHOST, address.port()).into()
        }
        _ => address,
    }
}

impl Client {
    /// How everything is, in short.
    pub(super) fn status(&self) -> Result<Status> {
        let (status, body) = self.request("GET", "/api/v1/status", ANSWER)?;
        if status != 200 {
            bail!("{}", self.strange());
        }
        serde_json::from_slice(&body).with_context(|| self.strange())
    }

    /// How all connections are.
    pub(super) fn vpn(&self) -> Result<Vpn> {
        let (status, body) = self.request("GET", "/api/v1/vpn", ANSWER)?;
        if status != 200 {
            bail!(
                "{}: {}; see vpn.enabled in its configuration, and what \
                 http://{}/api/v1/diagnostics says",
                self.address,
                text(&body),
                self.address
            );
        }
        serde_json::from_slice(&body).with_context(|| self.strange())
    }

    /// Does something with a connection, and waits for what it says for so long.
    pub(super) fn act(&self, name: &str, action: &str, within: Duration) -> Result<Answer> {
        let path = format!("/api/v1/vpn/{name}/{action}");
        let (status, body) = self.request("POST", &path, within + ANSWER)?;
        match serde_json::from_slice::<Answer>(&body) {
            Ok(Answer { error: Some(error), .. }) => Err(anyhow!("{error}")),
            Ok(answer) if (200..300).contains(&status) => Ok(answer),
            _ => Err(anyhow!("{}: {}", self.address, text(&body))),
        }
    }

    fn request(&self, method: &str, path: &str, within: Duration) -> Result<(u16, Vec<u8>)> {
        let address = self.address;
        let mut stream = TcpStream::connect_timeout(&address, CONNECT).with_context(|| {
            format!(
                "no gateway answers at {address}: start it (`gateway run`), or say where its \
                 admin side is with --admin or --config"
            )
        })?;
        let failed = || format!("asking {address}");
        stream.set_read_timeout(Some(within)).with_context(failed)?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\n{HEADER}: cli\r\nContent-Length: \
             0\r\nConnection: close\r\n\r\n"
        )
        .with_context(failed)?;
        let mut answer = Vec::new();
        stream.take(LONGEST).read_to_end(&mut answer).with_context(failed)?;
        parse(&answer).with_context(|| self.strange())
    }

    fn strange(&self) -> String {
        format!(
            "{} answers, but not as a gateway's admin side of this version ({}) does",
            self.address,
            env!("CARGO_PKG_VERSION")
        )
    }
}

/// Status and body of an answer whose end is the connection's.
fn parse(answer: &[u8]) -> Option<(u16, Vec<u8>)> {
    let end = answer.windows(4).position(|octets| octets == b"\r\n\r\n")?;
    let (head, body) = answer.split_at(end);
    let head = std::str::from_utf8(head).ok()?;
    let status = head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()?;
    Some((status, body.get(4..)?.to_vec()))
}

fn text(body: &[u8]) -> String {
    String::from_utf8_lossy(body).trim().to_owned()
}

/// The connection of this name: `namespace/name`, or the name alone if there is only one such.
pub(super) fn find<'a>(vpn: &'a Vpn, name: &str) -> Result<&'a Connection> {
    let is_it = |connection: &&Connection| match name.contains('/') {
        true => connection.name == name,
        false => connection.name.split_once('/').is_some_and(|(_, its)| its == name),
    };
    let found: Vec<&Connection> = vpn.connections.iter().filter(is_it).collect();
    match found.as_slice() {
        [one] => Ok(one),
        [] => {
            let all: Vec<&str> = vpn.connections.iter().map(|c| c.name.as_str()).collect();
            let all = if all.is_empty() { "none".to_owned() } else { all.join(", ") };
            bail!(
                "there is no connection {name:?} in force; there is: {all}; `gateway check` says \
                 what is wrong with those that can't be"
            )
        }
        several => {
            let all: Vec<&str> = several.iter().map(|c| c.name.as_str()).collect();
            bail!("{name:?} is several: {}; write one of these", all.join(", "))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answer_is_taken_apart() {
        let parsed = parse(b"HTTP/1.1 202 Accepted\r\na: b\r\n\r\n{}\r\n\r\n").unwrap();
        assert_eq!(parsed, (202, b"{}\r\n\r\n".to_vec()));
        assert_eq!(parse(b"HTTP/1.1 202 Accepted\r\n"), None);
        assert_eq!(parse(b"nonsense\r\n\r\n"), None);
    }

    #[test]
    fn an_address_for_everywhere_is_asked_over_loopback() {
        let of = |text: &str| reachable(text.parse().unwrap()).to_string();
        assert_eq!(of("0.0.0.0:9901"), "127.0.0.1:9901");
        assert_eq!(of("[::]:9901"), "[::1]:9901");
        assert_eq!(of("192.0.2.1:9901"), "192.0.2.1:9901");
    }

    #[test]
    fn without_a_gateway_the_error_says_what_to_do() {
        let running = Running { admin: Some("127.0.0.1:1".parse().unwrap()), config: None };
        let error = running.client().unwrap().vpn().unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("127.0.0.1:1") && text.contains("--admin"), "{text}");
    }
}
