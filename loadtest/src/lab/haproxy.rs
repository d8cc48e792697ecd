//! HAProxy, as a careful operator sets it up for this site.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::{Context, bail};

use super::{Bench, CLIENT_IDLE_SECONDS, Launch, Product, UPSTREAM_POOL, find_program, first_line};
use super::{peers, text, write};
use crate::system::child::Program;

/// An HAProxy.
#[derive(Clone, Debug)]
pub(crate) struct Haproxy {
    /// Which one.
    pub(crate) edition: Edition,
    /// Where its access log goes.
    pub(crate) log: Log,
}

/// Which HAProxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Edition {
    /// Debian's, or whichever is first on PATH.
    Installed,
    /// 2.8, fetched into this folder or on PATH as `haproxy-2.8`.
    Newer(PathBuf),
}

/// Where HAProxy's access log goes. It opens no log files itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Log {
    /// To standard output, which is a file: the cheapest place of those where every line is kept.
    /// A ring sent to a log server costs the same, a datagram to syslog more.
    File,
    /// To a ring in memory, whose old lines are lost: the cheapest place of all.
    Memory,
}

impl Product for Haproxy {
    fn name(&self) -> &'static str {
        match (&self.edition, self.log) {
            (Edition::Installed, Log::File) => "haproxy",
            (Edition::Installed, Log::Memory) => "haproxy-ring",
            (Edition::Newer(_), Log::File) => "haproxy-2.8",
            (Edition::Newer(_), Log::Memory) => "haproxy-2.8-ring",
        }
    }

    fn sets_goals(&self) -> bool {
        self.log == Log::File
    }

    fn locate(&self) -> anyhow::Result<PathBuf> {
        match &self.edition {
            Edition::Installed => find_program("haproxy")
                .context("HAProxy is not installed: `apt-get install haproxy`"),
            Edition::Newer(folder) => peers::locate(folder, "haproxy-2.8"),
        }
    }

    fn version(&self) -> anyhow::Result<String> {
        first_line(&self.locate()?, "-v")
    }

    fn configure(&self, bench: &Bench<'_>) -> anyhow::Result<Launch> {
        if bench.site.paths() != ["/"] {
            bail!("HAProxy is set up by hosts alone");
        }
        let map = bench.folder.join("hosts.map");
        let mut hosts = String::new();
        for host in bench.site.hosts() {
            writeln!(hosts, "{host} backend")?;
        }
        write(&map, hosts)?;
        let configuration = bench.folder.join("haproxy.cfg");
        write(&configuration, haproxy_cfg(bench, &text(&map)?, self.log)?)?;
        let access_log = bench.folder.join("access.log");
        Ok(Launch {
            program: Program {
                path: self.locate()?,
                arguments: ["-db", "-f", &text(&configuration)?].map(str::to_owned).into(),
            },
            output: access_log.clone(),
            access_log: (self.log == Log::File).then_some(access_log),
            readiness: None,
        })
    }
}

fn haproxy_cfg(bench: &Bench<'_>, map: &str, log: Log) -> anyhow::Result<String> {
    let Bench { http, https, backend, connections, .. } = bench;
    let pair = text(bench.pair)?;
    let (log, ring) = match log {
        Log::File => ("stdout", ""),
        Log::Memory => ("ring@log", "ring log\n    format raw\n    size 4194304\n"),
    };
    Ok(format!(
        "global
    nbthread 1
    maxconn {connections}
    # It wants two descriptors for each connection allowed, or does not start; idle clients take one,
    # and the lab has looked that there are enough.
    no strict-limits
    log {log} format raw local0 info
    ssl-default-bind-options ssl-min-ver TLSv1.2
    # Or idle connections to the backend are closed once clients use a fifth of the descriptors.
    tune.pool-low-fd-ratio 90
    tune.pool-high-fd-ratio 95

defaults
    mode http
    log global
    option httplog
    option forwardfor
    http-reuse always
    timeout connect 5s
    timeout client 60s
    timeout server 60s
    timeout http-request 15s
    timeout http-keep-alive {CLIENT_IDLE_SECONDS}s

frontend site
    bind {http} backlog 4096
    bind {https} ssl crt {pair} alpn http/1.1 backlog 4096
    http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]
    use_backend %[req.hdr(host),host_only,map({map},none)]

backend backend
    server origin {backend} pool-max-conn {UPSTREAM_POOL}

backend none
    http-request return status 404

{ring}"
    ))
}
