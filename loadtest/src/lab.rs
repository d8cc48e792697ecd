//! The lab: one backend, one site, and products that serve it, each configured alike.
//!
//! What "alike" means is written down where it is done: [`site`] says what all have to serve,
//! and each product's module how it is told to, and why so.

mod caddy;
mod certificate;
pub(crate) mod cluster;
mod envoy;
pub(crate) mod estate;
mod gateway;
mod haproxy;
pub(crate) mod l4;
pub(crate) mod network;
mod nginx;
pub(crate) mod peers;
pub(crate) mod site;
mod traefik;
pub(crate) mod vpn;

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, bail};
use rustls::pki_types::CertificateDer;

use crate::backend;
use crate::system::child::{Program, Supervised};
pub(crate) use caddy::Caddy;
use certificate::Certificate;
pub(crate) use certificate::Key;
pub(crate) use envoy::Envoy;
pub(crate) use gateway::Gateway;
pub(crate) use haproxy::{Edition, Haproxy, Log};
pub(crate) use nginx::Nginx;
use site::Site;
pub(crate) use traefik::Traefik;

/// Time for a product to start serving.
const START: Duration = Duration::from_secs(20);

/// Idle connections to the backend that every product may keep: as many as any scenario has
/// clients, or it would measure how the pool overflows.
const UPSTREAM_POOL: usize = 512;
/// Seconds after which an idle client is sent away, longer than any run holds one.
const CLIENT_IDLE_SECONDS: u32 = 300;

/// A program that can serve a site.
pub(crate) trait Product {
    /// The name in tables and on the command line.
    fn name(&self) -> &'static str;

    /// Whether goals are held against it: those say "the better of nginx and HAProxy".
    fn sets_goals(&self) -> bool {
        false
    }

    /// Where the program is; an error says how to get it.
    fn locate(&self) -> anyhow::Result<PathBuf>;

    /// What the program says its version is.
    fn version(&self) -> anyhow::Result<String>;

    /// Writes the configuration into `bench.folder` and says how to start.
    fn configure(&self, bench: &Bench<'_>) -> anyhow::Result<Launch>;
}

/// What a product's configuration is made from.
#[derive(Debug)]
pub(crate) struct Bench<'a> {
    /// What is to be served.
    pub(crate) site: &'a Site,
    /// Where the requests go.
    pub(crate) backend: SocketAddr,
    /// A folder of the product's own.
    pub(crate) folder: &'a Path,
    /// The certificate for all hosts, PEM.
    pub(crate) certificate: &'a Path,
    /// Its key, PEM.
    pub(crate) key: &'a Path,
    /// Both in one file.
    pub(crate) pair: &'a Path,
    /// Where to listen for HTTP.
    pub(crate) http: SocketAddr,
    /// Where to listen for HTTPS.
    pub(crate) https: SocketAddr,
    /// Client connections to allow.
    pub(crate) connections: usize,
}

/// How a configured product is started.
#[derive(Debug)]
pub(crate) struct Launch {
    /// The command.
    pub(crate) program: Program,
    /// Where its standard output goes: a log, for those that log there.
    pub(crate) output: PathBuf,
    /// The access log that it will write, a line a request, if it goes to a file.
    pub(crate) access_log: Option<PathBuf>,
    /// An address whose `/readyz` answers 200 once the product serves, if it has one.
    pub(crate) readiness: Option<SocketAddr>,
}

/// A product that serves.
#[derive(Debug)]
pub(crate) struct Instance {
    /// The product's name.
    pub(crate) name: String,
    /// Its process.
    pub(crate) process: Supervised,
    /// Where it serves HTTP.
    pub(crate) http: SocketAddr,
    /// Where it serves HTTPS.
    pub(crate) https: SocketAddr,
    /// The certificate that it shows.
    pub(crate) certificate: CertificateDer<'static>,
    access_log: Option<PathBuf>,
    keep_log: bool,
}

impl Instance {
    /// Ends the product and returns how many lines it logged, if it did so to a file. A whole run
    /// logs gigabytes: the file is removed, unless it is to be kept.
    pub(crate) fn finish(mut self) -> anyhow::Result<Option<u64>> {
        self.process.stop()?;
        let Some(path) = &self.access_log else { return Ok(None) };
        let mut log = fs::File::open(path)
            .with_context(|| format!("{}: no access log was written", self.name))?;
        let mut block = vec![0; 1 << 20];
        let mut lines = 0;
        loop {
            let size = log.read(&mut block).context("access log")?;
            if size == 0 {
                break;
            }
            lines +=
                memchr::memchr_iter(b'\n', block.get(..size).unwrap_or_default()).count() as u64;
        }
        if !self.keep_log {
            fs::remove_file(path).context("access log")?;
        }
        Ok(Some(lines))
    }
}

/// Who runs where.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(crate) struct Cores {
    /// The targets' core.
    pub(crate) target: usize,
    /// The load generator's core.
    pub(crate) load: usize,
    /// The backend's core.
    pub(crate) backend: usize,
}

/// What a product is started for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Order<'a> {
    /// What is to be served.
    pub(crate) site: &'a Site,
    /// Client connections to allow.
    pub(crate) connections: usize,
    /// The key behind the certificate.
    pub(crate) key: Key,
}

/// The folder, the backend and the certificates of one run.
#[derive(Debug)]
pub(crate) struct Lab {
    folder: PathBuf,
    ecdsa: Certificate,
    rsa: Certificate,
    backend: Supervised,
    backend_address: SocketAddr,
    cores: Cores,
    keep_logs: bool,
    instances: u32,
}

impl Lab {
    /// Sets up a lab in an empty folder and starts the backend in it.
    pub(crate) fn set_up(folder: &Path, cores: Cores, keep_logs: bool) -> anyhow::Result<Self> {
        let ecdsa = Certificate::make(folder, Key::Ecdsa)?;
        let rsa = Certificate::make(folder, Key::Rsa)?;
        let (backend, backend_address) = start_backend(folder, "origin", cores.backend)?;
        let folder = folder.to_owned();
        let instances = 0;
        Ok(Self { folder, ecdsa, rsa, backend, backend_address, cores, keep_logs, instances })
    }

    /// Starts another backend; it ends when dropped.
    pub(crate) fn another_backend(&self, name: &str) -> anyhow::Result<(Supervised, SocketAddr)> {
        start_backend(&self.folder, name, self.cores.backend)
    }

    /// The folder of the run.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The backend's address.
    pub(crate) fn backend_address(&self) -> SocketAddr {
        self.backend_address
    }

    /// The backend's process.
    pub(crate) fn backend(&self) -> &Supervised {
        &self.backend
    }

    /// Requests that the backend has answered and connections that it has accepted so far. This
    /// question counts as one of each.
    pub(crate) fn backend_counts(&self) -> anyhow::Result<(u64, u64)> {
        let answer = get(self.backend_address, "backend", "/count")?;
        let (_, body) = answer.split_once("\r\n\r\n").context("the backend's count")?;
        let mut numbers = body.split_whitespace().map(str::parse);
        match (numbers.next(), numbers.next()) {
            (Some(Ok(requests)), Some(Ok(connections))) => Ok((requests, connections)),
            _ => bail!("the backend's count is {body:?}"),
        }
    }

    /// Starts a product and waits until it serves the site.
    pub(crate) fn start(
        &mut self,
        product: &dyn Product,
        order: Order<'_>,
    ) -> anyhow::Result<Instance> {
        let Order { site, connections, key } = order;
        let certificate = match key {
            Key::Ecdsa => &self.ecdsa,
            Key::Rsa => &self.rsa,
        };
        self.instances += 1;
        let folder = self.folder.join(format!("{}-{}", product.name(), self.instances));
        fs::create_dir(&folder).with_context(|| format!("{}", folder.display()))?;
        let (http, https) = (free_address()?, free_address()?);
        let bench = Bench {
            site,
            backend: self.backend_address,
            folder: &folder,
            certificate: &certificate.chain,
            key: &certificate.key,
            pair: &certificate.pair,
            http,
            https,
            connections,
        };
        let launch = product.configure(&bench)?;
        let errors = folder.join("stderr.log");
        let name = product.name();
        let mut process =
            Supervised::start(name, &launch.program, self.cores.target, &launch.output, &errors)?;
        if let Some(address) = launch.readiness {
            process.wait_until("200 from /readyz", START, || {
                answers(address, "localhost", "/readyz")
            })?;
        }
        let first = site.routes().next().context("invariant: a site has a route")?;
        process
            .wait_until("200 from the backend", START, || answers(http, first.host, &first.path))?;
        Ok(Instance {
            name: name.to_owned(),
            process,
            http,
            https,
            certificate: certificate.der.clone(),
            access_log: launch.access_log,
            keep_log: self.keep_logs,
        })
    }
}

/// Starts an origin server of this name, which its answers carry, in a folder.
fn start_backend(
    folder: &Path,
    name: &str,
    core: usize,
) -> anyhow::Result<(Supervised, SocketAddr)> {
    let announce = folder.join(format!("{name}.address"));
    if announce.exists() {
        fs::remove_file(&announce).context("a backend of before")?;
    }
    let arguments = ["backend", "--listen", "127.0.0.1:0", "--name", name, "--announce"];
    let mut arguments: Vec<_> = arguments.map(str::to_owned).into();
    arguments.push(text(&announce)?);
    let errors = folder.join(format!("{name}.err"));
    // This program, which is also what becomes it.
    let program = Program { path: PathBuf::from("/proc/self/exe"), arguments };
    let mut backend = Supervised::start("backend", &program, core, &errors, &errors)?;
    backend.wait_until("address", START, || announce.exists())?;
    let address = fs::read_to_string(&announce).context("the backend's address")?;
    Ok((backend, address.parse().context("the backend's address")?))
}

/// Finds an executable on PATH, or where Debian puts daemons, which is not on every user's PATH.
fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let daemons = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    std::env::split_paths(&path)
        .chain(daemons)
        .map(|folder| folder.join(name))
        .find(|path| path.is_file())
}

/// The first line with anything on it that a program prints when asked for its version, its name
/// and path in front of it left out.
fn first_line(program: &Path, argument: &str) -> anyhow::Result<String> {
    let output = Command::new(program)
        .arg(argument)
        .output()
        .with_context(|| format!("{}: can't be run", program.display()))?;
    // nginx says it on standard error.
    let said = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    let said = String::from_utf8_lossy(&said);
    let line = said.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    let path = program.to_str().unwrap_or_default();
    let words: Vec<_> = line.split_whitespace().filter(|word| *word != path).collect();
    Ok(words.join(" "))
}

/// A path as text for a configuration or an argument.
fn text(path: &Path) -> anyhow::Result<String> {
    path.to_str().map(str::to_owned).with_context(|| format!("{path:?} is not UTF-8"))
}

fn write(path: &Path, content: impl AsRef<[u8]>) -> anyhow::Result<()> {
    fs::write(path, content).with_context(|| format!("{}", path.display()))
}

/// A loopback address with a port that nobody uses now.
fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("a free port")?;
    listener.local_addr().context("a free port")
}

/// Whether a plain GET is answered with 200.
fn answers(address: SocketAddr, host: &str, path: &str) -> bool {
    get(address, host, path).is_ok_and(|answer| answer.starts_with("HTTP/1.1 200 "))
}

/// One plain GET on a connection of its own.
pub(crate) fn get(address: SocketAddr, host: &str, path: &str) -> anyhow::Result<String> {
    let limit = Some(Duration::from_secs(2));
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(limit)?;
    stream.set_write_timeout(limit)?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n")?;
    let mut answer = Vec::new();
    // Products are asked for 1 KiB, so that this ends at the close or far below the limit.
    stream.take(1 << 20).read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Bytes of a default answer, which the load checks for.
pub(crate) const ANSWER: u64 = backend::DEFAULT_BODY;

#[cfg(test)]
mod tests;
