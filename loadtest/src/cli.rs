//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// Load on servers: what clients see, and what it costs
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the gateway and its peers side by side and print what each costs
    Compare(Compare),
    /// Put load on one URL, or as a scenario says
    Run(Run),
    /// Fetch peers that no distribution packages, for compare
    Peers(Peers),
    /// Say what got better or worse from one report to another; exits with 1 if something did
    Diff(Diff),
    /// Show a report's JSON, or make the HTML file of it
    Report(Report),
    /// Serve as the origin behind the targets: /bytes/N, /delay/MS, /status/N, /echo, /ws, /count,
    /// /count.json, anything else 1 KiB
    Backend(Backend),
    /// One end of a WireGuard tunnel by boringtun, in the foreground
    #[command(hide = true)]
    Wireguard(Wireguard),
    /// One end of a WireGuard tunnel by the edges' and nodes' own interface, in the foreground
    #[command(hide = true)]
    Overlay(Overlay),
    /// Become another program, on one core and bound to a parent's life
    #[command(hide = true)]
    Exec(Exec),
}

/// A group of scenarios.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Suite {
    /// HTTP/1.1 in the clear: small and large answers, idle connections, many routes
    L7,
    /// The same over TLS, and handshakes
    Tls,
    /// Scale of objects, and time for a change to take effect; only if named
    Control,
    /// TCP services through VIPs, in network namespaces: takes root; only if named
    L4,
    /// IPsec tunnels between two gateways, beside strongSwan and boringtun, in network namespaces:
    /// takes root; only if named
    Vpn,
    /// WireGuard between a node and an edge, beside boringtun and wireguard-go, in network
    /// namespaces: takes root; only if named
    Overlay,
    /// A large cluster from its API: first sync, and changes in force, in network namespaces:
    /// takes root; only if named
    Cluster,
}

impl Suite {
    /// The name on the command line and in reports.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::L7 => "l7",
            Self::Tls => "tls",
            Self::Control => "control",
            Self::L4 => "l4",
            Self::Vpn => "vpn",
            Self::Overlay => "overlay",
            Self::Cluster => "cluster",
        }
    }
}

/// A program to stand beside the gateway.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Peer {
    /// nginx
    Nginx,
    /// HAProxy, its access log to a file
    Haproxy,
    /// HAProxy, its access log to memory only
    HaproxyRing,
    /// Envoy
    Envoy,
    /// HAProxy 2.8, its access log to a file
    #[value(name = "haproxy-2.8")]
    Haproxy28,
    /// Traefik
    Traefik,
    /// Caddy
    Caddy,
    /// All of them, but for haproxy-ring
    All,
}

impl Peer {
    /// Every program, each once.
    pub(crate) const ALL: [Self; 6] =
        [Self::Nginx, Self::Haproxy, Self::Envoy, Self::Haproxy28, Self::Traefik, Self::Caddy];
}

/// `loadtest compare`
#[derive(Debug, Args)]
pub(crate) struct Compare {
    /// Groups of scenarios; l7 and tls by default
    pub(crate) suites: Vec<Suite>,
    /// Only these scenarios, by id (see the table's brackets)
    #[arg(long, value_name = "ID", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// The gateway's binary
    #[arg(long, value_name = "FILE", default_value = "target/release/gateway")]
    pub(crate) gateway: PathBuf,
    /// Compare the peers with each other, without the gateway
    #[arg(long)]
    pub(crate) without_gateway: bool,
    /// Peers that must be there; by default those of nginx and haproxy that are installed
    #[arg(long, value_delimiter = ',')]
    pub(crate) peers: Option<Vec<Peer>>,
    /// Where `loadtest peers` has put programs
    #[arg(long, value_name = "FOLDER", default_value = crate::lab::peers::FOLDER)]
    pub(crate) peers_folder: PathBuf,
    /// Rounds, each once forwards and once backwards over all targets
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub(crate) rounds: u32,
    /// Seconds of one measurement
    #[arg(long, default_value_t = 3.0, value_parser = seconds)]
    pub(crate) seconds: f64,
    /// Connections held for the memory of idle ones
    #[arg(long, default_value_t = 5000, value_parser = clap::value_parser!(u32).range(10..=1_000_000))]
    pub(crate) idle: u32,
    /// A short run that shows that everything works; its figures mean nothing
    #[arg(long)]
    pub(crate) quick: bool,
    /// Write everything measured to a file as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write everything measured to a file as HTML with plots
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// Exit with 1 if a goal is missed
    #[arg(long)]
    pub(crate) strict: bool,
    /// The targets' core
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(crate) target_core: usize,
    /// The load generator's core
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) load_core: usize,
    /// The backend's core; by default one of its own where there are four, else the load's
    #[arg(long, value_name = "N")]
    pub(crate) backend_core: Option<usize>,
    /// Keep configurations and logs in this folder, which must not exist yet
    #[arg(long, value_name = "FOLDER")]
    pub(crate) keep: Option<PathBuf>,
}

/// `loadtest run`
#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Where to, as in http://127.0.0.1:8080/ or https://…, or a scenario's file (YAML)
    #[arg(value_name = "URL|SCENARIO.yaml")]
    pub(crate) target: String,
    /// Connections at once; at most, in an open loop [URL: 64]
    #[arg(short, long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) connections: Option<u32>,
    /// Seconds of load; a scenario's phases keep their shares [URL: 10]
    #[arg(short, long, value_parser = seconds)]
    pub(crate) seconds: Option<f64>,
    /// Requests a second, whatever the target does; latency counts from when each is due
    #[arg(short, long, value_name = "N", value_parser = rate)]
    pub(crate) rate: Option<f64>,
    /// A connection for each request
    #[arg(long)]
    pub(crate) no_keepalive: bool,
    /// Resume TLS sessions
    #[arg(long, requires = "no_keepalive")]
    pub(crate) resume: bool,
    /// Connect to this address, whatever the URL's host is
    #[arg(long, value_name = "IP:PORT")]
    pub(crate) connect: Option<SocketAddr>,
    /// Believe servers that these authorities vouch for (PEM)
    #[arg(long, value_name = "FILE", conflicts_with = "insecure")]
    pub(crate) ca: Option<PathBuf>,
    /// Believe any server
    #[arg(long)]
    pub(crate) insecure: bool,
    /// The status that answers must have (default: 200)
    #[arg(long)]
    pub(crate) status: Option<u16>,
    /// The length that bodies must have
    #[arg(long, value_name = "BYTES")]
    pub(crate) length: Option<u64>,
    /// Write the report to a file as JSON
    #[arg(long, value_name = "FILE")]
    pub(crate) json: Option<PathBuf>,
    /// Write the report to a file as HTML with plots
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
    /// The core to run on
    #[arg(long, value_name = "N")]
    pub(crate) core: Option<usize>,
}

/// `loadtest peers`
#[derive(Debug, Args)]
pub(crate) struct Peers {
    /// Only these
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub(crate) only: Vec<String>,
    /// Where to put them
    #[arg(long, value_name = "FOLDER", default_value = crate::lab::peers::FOLDER)]
    pub(crate) folder: PathBuf,
}

/// `loadtest diff`
#[derive(Debug, Args)]
pub(crate) struct Diff {
    /// The JSON of before, of `run` or `compare`
    pub(crate) before: PathBuf,
    /// The JSON of after
    pub(crate) after: PathBuf,
    /// The change that matters; by default 3 where peers stand beside the figure, else 10
    #[arg(long, value_name = "PERCENT", value_parser = percent)]
    pub(crate) threshold: Option<f64>,
    /// Compare reports of different machines, too
    #[arg(long)]
    pub(crate) across_machines: bool,
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

/// `loadtest report`
#[derive(Debug, Args)]
pub(crate) struct Report {
    /// The JSON of `run` or `compare`
    pub(crate) file: PathBuf,
    /// Write one self-contained HTML file instead
    #[arg(long, value_name = "FILE")]
    pub(crate) html: Option<PathBuf>,
}

/// `loadtest backend`
#[derive(Debug, Args)]
pub(crate) struct Backend {
    /// The address to listen on; port 0 takes any
    #[arg(long, default_value = "127.0.0.1:8000")]
    pub(crate) listen: SocketAddr,
    /// Echo what comes over TCP to this address, too
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) tcp_echo: Option<SocketAddr>,
    /// Echo datagrams that come to this address, too
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) udp_echo: Option<SocketAddr>,
    /// The name in X-Backend
    #[arg(long, default_value = "origin")]
    pub(crate) name: String,
    /// Write the bound address to this file instead of standard output, and those of the echoes on
    /// further lines
    #[arg(long, value_name = "FILE")]
    pub(crate) announce: Option<PathBuf>,
}

/// `loadtest wireguard`
#[derive(Debug, Args)]
pub(crate) struct Wireguard {
    /// The interface to make
    #[arg(long)]
    pub(crate) interface: String,
    /// This end's private key, in hexadecimal digits
    #[arg(long)]
    pub(crate) key: String,
    /// The other end's public key
    #[arg(long)]
    pub(crate) peer: String,
    /// The UDP port to listen on
    #[arg(long)]
    pub(crate) listen: u16,
    /// Where the other end is
    #[arg(long)]
    pub(crate) endpoint: SocketAddr,
    /// The network behind the other end
    #[arg(long)]
    pub(crate) allowed: String,
}

/// `loadtest overlay`
#[derive(Debug, Args)]
pub(crate) struct Overlay {
    /// The end.
    #[command(flatten)]
    pub(crate) end: Wireguard,
    /// Handle one packet at a time
    #[arg(long)]
    pub(crate) no_offloads: bool,
}

/// `loadtest exec`
#[derive(Debug, Args)]
pub(crate) struct Exec {
    /// The core to run on; any if none is named
    #[arg(long)]
    pub(crate) core: Option<usize>,
    /// The process with which this one ends
    #[arg(long)]
    pub(crate) parent: u32,
    /// The program
    pub(crate) program: PathBuf,
    /// Its arguments
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub(crate) arguments: Vec<String>,
}

/// A share in percent.
fn percent(text: &str) -> Result<f64, String> {
    match text.trim_end_matches('%').parse::<f64>() {
        Ok(percent) if (0.0..=1000.0).contains(&percent) => Ok(percent),
        _ => Err("must be a number of percent from 0 to 1000".to_owned()),
    }
}

/// A time that a run may take: more than nothing, at most an hour.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if seconds > 0.0 && seconds <= 3600.0 => Ok(seconds),
        _ => Err("must be a number of seconds above 0, up to 3600".to_owned()),
    }
}

/// A number of operations a second.
fn rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if rate > 0.0 && rate <= 10_000_000.0 => Ok(rate),
        _ => Err("must be a number above 0, up to 10000000".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        super::Cli::command().debug_assert();
    }

    #[test]
    fn seconds_are_bounded() {
        for text in ["0", "-1", "NaN", "inf", "3601", "x"] {
            assert!(super::seconds(text).is_err(), "{text}");
        }
        assert_eq!(super::seconds("0.5"), Ok(0.5));
    }
}
