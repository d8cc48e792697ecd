//! `gateway demo`: the quickstart's configuration with two small backends, all on loopback.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::app;
use crate::config::Config;

/// Where the quickstart's EndpointSlices say that the backends are.
const BACKENDS: [(&str, &str); 2] = [("blue", "127.0.0.1:18081"), ("green", "127.0.0.1:18082")];

/// Starts the backends and the gateway, and prints what to try.
///
/// # Errors
/// As [`app::run`]; or where a backend's port is taken.
pub fn run(config: &Path) -> Result<()> {
    let config = Config::load(config)?;
    for (name, address) in BACKENDS {
        let address: SocketAddr = address.parse()?;
        let listener = TcpListener::bind(address)
            .with_context(|| format!("demo backend {name}: {address}; stop what listens there"))?;
        std::thread::Builder::new().name(format!("demo-{name}")).spawn(move || {
            for stream in listener.incoming().flatten() {
                // A thread per connection is plenty for a demonstration.
                std::thread::spawn(move || serve(&stream, name));
            }
        })?;
    }
    let admin = config.admin.listen;
    app::run_with(config, move |albs| {
        let mut out = io::stdout().lock();
        let _ = writeln!(out, "\nTidegate serves. Try:\n");
        if let Some(http) = app::address_of(albs, false) {
            let _ = writeln!(out, "  curl http://{http}/");
            let _ = writeln!(out, "  curl -H 'Host: demo.localhost' http://{http}/blue");
        }
        if let Some(https) = app::address_of(albs, true) {
            let _ = writeln!(
                out,
                "  curl -k --resolve demo.localhost:{0}:127.0.0.1 https://demo.localhost:{0}/green",
                https.port()
            );
        }
        if let Some(admin) = admin {
            let _ = writeln!(out, "\nMetrics, routes and health: http://{admin}/");
        }
        let _ = writeln!(out, "Stop with Ctrl-C.");
    })
}

/// Answers each request with what it says, as text.
fn serve(stream: &TcpStream, name: &str) -> Option<()> {
    stream.set_read_timeout(Some(Duration::from_secs(60))).ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut head = String::new();
        let mut length = 0u64;
        loop {
            let mut line = String::new();
            if reader.by_ref().take(16 * 1024).read_line(&mut line).ok()? == 0 {
                return None;
            }
            let text = line.trim_end();
            if text.is_empty() {
                break;
            }
            if let Some((field, value)) = text.split_once(':')
                && field.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().ok()?;
            }
            head.push_str(text);
            head.push('\n');
            if head.len() > 64 * 1024 {
                return None;
            }
        }
        io::copy(&mut reader.by_ref().take(length), &mut io::sink()).ok()?;
        let body = format!("Hello from {name}. It got:\n\n{head}");
        let mut stream = stream;
        write!(
            stream,
            "HTTP/1.1 200 OK\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        )
        .ok()?;
    }
}
