//! HAProxy under control: a `backend` for each app and a map of hosts, reloaded by SIGUSR2 to its
//! master process, which hands the listening sockets on.

use std::fmt::Write;
use std::path::PathBuf;

use nix::sys::signal::Signal;

use super::{App, Estate, Ground, POOL, Steered, put};
use crate::lab::{CLIENT_IDLE_SECONDS, Launch, text, write};
use crate::system::child::{Program, Supervised};

/// HAProxy at a path.
#[derive(Clone, Debug)]
pub(super) struct Haproxy {
    /// The executable.
    pub(super) program: PathBuf,
    /// The name in tables.
    pub(super) name: &'static str,
}

impl Steered for Haproxy {
    fn name(&self) -> &'static str {
        self.name
    }

    fn prepare(&self, ground: &Ground, estate: &Estate) -> anyhow::Result<Launch> {
        self.write(ground, estate)?;
        self.put(ground)?;
        let configuration = text(&ground.folder.join("haproxy.cfg"))?;
        Ok(Launch {
            program: Program {
                path: self.program.clone(),
                arguments: ["-W", "-f", &configuration].map(str::to_owned).into(),
            },
            output: ground.folder.join("access.log"),
            access_log: Some(ground.folder.join("access.log")),
            readiness: None,
        })
    }

    fn stage(&self, ground: &Ground, estate: &Estate, _: &App) -> anyhow::Result<()> {
        self.write(ground, estate)
    }

    fn apply(&self, ground: &Ground, process: &Supervised) -> anyhow::Result<()> {
        self.put(ground)?;
        process.signal(Signal::SIGUSR2)
    }
}

impl Haproxy {
    fn write(&self, ground: &Ground, estate: &Estate) -> anyhow::Result<()> {
        let mut map = String::new();
        for app in estate.apps() {
            writeln!(map, "{} {}", app.host(), app.name())?;
        }
        write(&ground.folder.join("staged.map"), map)?;
        write(&ground.folder.join("staged.cfg"), haproxy_cfg(ground, estate)?)
    }

    fn put(&self, ground: &Ground) -> anyhow::Result<()> {
        put(&ground.folder.join("staged.map"), &ground.folder.join("hosts.map"))?;
        put(&ground.folder.join("staged.cfg"), &ground.folder.join("haproxy.cfg"))
    }
}

fn haproxy_cfg(ground: &Ground, estate: &Estate) -> anyhow::Result<String> {
    let map = text(&ground.folder.join("hosts.map"))?;
    let socket = text(&ground.folder.join("haproxy.sock"))?;
    let http = ground.http;
    let mut cfg = format!(
        "global
    nbthread 1
    maxconn 4096
    log stdout format raw local0 info
    # Through it the next process takes over the listening sockets: none is closed in between.
    stats socket {socket} mode 600 level admin expose-fd listeners
    # A process of before does not stay for clients that will not leave.
    hard-stop-after 30s

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
    http-request set-header X-Forwarded-Proto %[ssl_fc,iif(https,http)]
    use_backend %[req.hdr(host),host_only,map({map},none)]

backend none
    http-request return status 404

"
    );
    for app in estate.apps() {
        let (name, endpoint) = (app.name(), app.endpoint);
        writeln!(cfg, "backend {name}\n    server endpoint {endpoint} pool-max-conn {POOL}\n")?;
    }
    Ok(cfg)
}
