//! A WireGuard interface from flags, in the foreground.
//!
//! ```text
//! wg --interface wg0 --key FILE [--port 51820] [--mtu 1420] [--address 10.0.0.1]…
//!    [--backend auto|kernel|userspace] [--workers N] [--no-offloads] [--statistics SECONDS]
//!    [--peer KEY,ENDPOINT|-,NETWORK[,NETWORK…][,keepalive=SECONDS]]…
//! ```
//! The key's file holds what `wg genkey` prints. Prints `ready PORT` when the interface is there.
//! Lines on the standard input, if it stays open, are the peers from then on, one
//! `KEY,ENDPOINT,…` each, `.` after the last.

use std::collections::BTreeMap;
use std::io::{self, BufRead as _, Write as _};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use overlay::PrivateKey;
use plan::overlay::{Peer, Tunnel};
use wireguard::{Interfaces, Settings, Wanted};

fn main() {
    if let Err(error) = run() {
        eprintln!("wg: {error}");
        std::process::exit(1);
    }
}

fn run() -> Result<(), String> {
    let mut settings = Settings { prefix: "tg-example".to_owned(), ..Settings::default() };
    let mut key = None;
    let mut statistics = None;
    let mut tunnel = Tunnel {
        interface: "wg0".to_owned(),
        key: model::PublicKey([0; 32]),
        port: 0,
        mtu: 1420,
        addresses: Vec::new(),
        peers: Vec::new(),
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(flag) = arguments.next() {
        if flag == "--no-offloads" {
            settings.offloads = false;
            continue;
        }
        let value = arguments.next().ok_or(format!("{flag} needs a value"))?;
        let wrong = || format!("{flag} {value}: can't be read");
        match flag.as_str() {
            "--interface" => tunnel.interface = value,
            "--key" => {
                let text = std::fs::read_to_string(&value).map_err(|e| format!("{value}: {e}"))?;
                key = Some(text.parse::<PrivateKey>().map_err(|e| format!("{value} {e}"))?);
            }
            "--port" => tunnel.port = value.parse().map_err(|_| wrong())?,
            "--mtu" => tunnel.mtu = value.parse().map_err(|_| wrong())?,
            "--address" => tunnel.addresses.push(value.parse().map_err(|_| wrong())?),
            "--workers" => settings.workers = value.parse().map_err(|_| wrong())?,
            "--statistics" => {
                statistics = Some(Duration::from_secs(value.parse().map_err(|_| wrong())?));
            }
            "--backend" => {
                settings.backend = match value.as_str() {
                    "auto" => Wanted::Auto,
                    "kernel" => Wanted::Kernel,
                    "userspace" => Wanted::UserSpace,
                    _ => return Err(wrong()),
                }
            }
            "--peer" => tunnel.peers.push(peer(&value)?),
            _ => return Err(format!("{flag} is no flag")),
        }
    }
    let key = key.ok_or("--key is missing")?;
    tunnel.key = key.public();
    let keys = BTreeMap::from([(tunnel.key, key)]);
    let mut interfaces = Interfaces::new(settings).map_err(|error| error.to_string())?;
    let lines = lines();
    let mut next = Vec::new();
    let mut is_ready = false;
    loop {
        for fault in interfaces.apply(std::slice::from_ref(&tunnel), &keys) {
            eprintln!("wg: {fault}");
        }
        if !is_ready {
            let port = interfaces.port(&tunnel.interface).unwrap_or_default();
            is_ready = writeln!(io::stdout(), "ready {port}").is_ok();
        }
        loop {
            match lines.recv_timeout(statistics.unwrap_or(Duration::from_secs(3600))) {
                Ok(line) if line == "." => break,
                Ok(line) => match peer(&line) {
                    Ok(peer) => next.push(peer),
                    Err(error) => eprintln!("wg: {error}"),
                },
                Err(RecvTimeoutError::Timeout) if statistics.is_some() => {
                    eprintln!("wg: {:?}", interfaces.statistics());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => std::thread::sleep(Duration::from_secs(1)),
            }
        }
        tunnel.peers = std::mem::take(&mut next);
    }
}

fn lines() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
        // The peers stay as they are.
        loop {
            std::thread::park();
        }
    });
    receiver
}

fn peer(text: &str) -> Result<Peer, String> {
    let mut parts = text.split(',');
    let wrong = |part: &str| format!("--peer {text}: {part} can't be read");
    let key = parts.next().unwrap_or_default();
    let endpoint = parts.next().unwrap_or("-");
    let mut peer = Peer {
        key: key.parse().map_err(|_| wrong(key))?,
        name: key.to_owned(),
        endpoint: None,
        allowed: Vec::new(),
        keepalive: None,
    };
    if endpoint != "-" {
        peer.endpoint = Some(endpoint.parse().map_err(|_| wrong(endpoint))?);
    }
    for part in parts {
        match part.strip_prefix("keepalive=") {
            Some(seconds) => peer.keepalive = Some(seconds.parse().map_err(|_| wrong(part))?),
            None => peer.allowed.push(part.parse().map_err(|_| wrong(part))?),
        }
    }
    Ok(peer)
}
