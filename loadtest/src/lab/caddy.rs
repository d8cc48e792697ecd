//! Caddy, as a careful operator sets it up for this site.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::{Bench, CLIENT_IDLE_SECONDS, Launch, Product, UPSTREAM_POOL, peers, text, write};
use crate::system::child::Program;

/// Caddy, fetched or on PATH. Like every Go program it takes a worker for each core that it may
/// run on: one.
#[derive(Clone, Debug)]
pub(crate) struct Caddy {
    /// The folder of fetched peers.
    pub(crate) folder: PathBuf,
}

impl Product for Caddy {
    fn name(&self) -> &'static str {
        "caddy"
    }

    fn locate(&self) -> anyhow::Result<PathBuf> {
        peers::locate(&self.folder, "caddy")
    }

    fn version(&self) -> anyhow::Result<String> {
        super::first_line(&self.locate()?, "version")
    }

    fn configure(&self, bench: &Bench<'_>) -> anyhow::Result<Launch> {
        if bench.site.paths() != ["/"] {
            bail!("Caddy is set up by hosts alone");
        }
        let access_log = bench.folder.join("access.log");
        let configuration = bench.folder.join("caddy.json");
        let json = configuration_json(bench, &text(&access_log)?)?;
        write(&configuration, serde_json::to_vec_pretty(&json).context("the configuration")?)?;
        Ok(Launch {
            program: Program {
                path: self.locate()?,
                arguments: ["run", "--config", &text(&configuration)?].map(str::to_owned).into(),
            },
            output: bench.folder.join("stdout.log"),
            access_log: Some(access_log),
            readiness: None,
        })
    }
}

fn configuration_json(bench: &Bench<'_>, access_log: &str) -> anyhow::Result<Value> {
    let tls = json!({
        "protocol_min": "tls1.2",
        "protocol_max": "tls1.3",
        "alpn": ["http/1.1"],
    });
    let policies = json!([tls]);
    Ok(json!({
        // Its address would be the same for all instances on the machine.
        "admin": { "disabled": true, "config": { "persist": false } },
        "storage": { "module": "file_system", "root": text(&bench.folder.join("storage"))? },
        "logging": { "logs": {
            "default": { "level": "ERROR", "exclude": ["http.log.access"] },
            "access": {
                // One file, as for all, and not a new one every 100 MiB.
                "writer": { "output": "file", "filename": access_log, "roll": false },
                "include": ["http.log.access"],
            },
        } },
        "apps": {
            "http": { "servers": {
                "http": server(bench, bench.http, None),
                "https": server(bench, bench.https, Some(&policies)),
            } },
            "tls": { "certificates": { "load_files": [{
                "certificate": text(bench.certificate)?,
                "key": text(bench.key)?,
            }] } },
        },
    }))
}

fn server(bench: &Bench<'_>, address: SocketAddr, tls: Option<&Value>) -> Value {
    let proxy = json!({
        "handler": "reverse_proxy",
        "upstreams": [{ "dial": bench.backend }],
        "transport": {
            "protocol": "http",
            // 32 by default.
            "keep_alive": { "max_idle_conns_per_host": UPSTREAM_POOL },
        },
    });
    let route = |host: &String| json!({ "match": [{ "host": [host] }], "handle": [proxy], "terminal": true });
    let mut routes: Vec<_> = bench.site.hosts().iter().map(route).collect();
    routes.push(json!({ "handle": [{ "handler": "static_response", "status_code": 404 }] }));
    let mut server = json!({
        "listen": [address],
        "protocols": ["h1"],
        "idle_timeout": format!("{CLIENT_IDLE_SECONDS}s"),
        "logs": {},
        // Certificates are given, and HTTP is served as such.
        "automatic_https": { "disable": true },
        "routes": routes,
    });
    if let (Some(server), Some(tls)) = (server.as_object_mut(), tls) {
        server.insert("tls_connection_policies".to_owned(), tls.clone());
    }
    server
}
