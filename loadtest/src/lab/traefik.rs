//! Traefik, as a careful operator sets it up for this site.

use std::path::PathBuf;

use anyhow::{Context, bail};
use serde_json::{Map, Value, json};

use super::{Bench, CLIENT_IDLE_SECONDS, Launch, Product, UPSTREAM_POOL, peers, text, write};
use crate::system::child::Program;

/// Lines of the access log that may wait to be written.
const LOG_LINES: u32 = 1000;

/// Traefik, fetched or on PATH. Like every Go program it takes a worker for each core that it may
/// run on: one.
#[derive(Clone, Debug)]
pub(crate) struct Traefik {
    /// The folder of fetched peers.
    pub(crate) folder: PathBuf,
}

impl Product for Traefik {
    fn name(&self) -> &'static str {
        "traefik"
    }

    fn locate(&self) -> anyhow::Result<PathBuf> {
        peers::locate(&self.folder, "traefik")
    }

    fn version(&self) -> anyhow::Result<String> {
        super::first_line(&self.locate()?, "version")
    }

    fn configure(&self, bench: &Bench<'_>) -> anyhow::Result<Launch> {
        if bench.site.paths() != ["/"] {
            bail!("Traefik is set up by hosts alone");
        }
        let access_log = bench.folder.join("access.log");
        let (fixed, routes) = (bench.folder.join("traefik.yaml"), bench.folder.join("routes.yaml"));
        let write_json = |path: &std::path::Path, json: &Value| {
            // JSON is YAML.
            write(path, serde_json::to_vec_pretty(json).context("the configuration")?)
        };
        write_json(&fixed, &entry_points(bench, &text(&access_log)?, &text(&routes)?))?;
        write_json(&routes, &dynamic(bench)?)?;
        Ok(Launch {
            program: Program {
                path: self.locate()?,
                arguments: vec![format!("--configFile={}", text(&fixed)?)],
            },
            output: bench.folder.join("stdout.log"),
            access_log: Some(access_log),
            readiness: None,
        })
    }
}

fn entry_points(bench: &Bench<'_>, access_log: &str, routes: &str) -> Value {
    let transport = json!({
        "respondingTimeouts": { "idleTimeout": format!("{CLIENT_IDLE_SECONDS}s") },
        // At the end of a run there are clients that hold connections and will not leave.
        "lifeCycle": { "graceTimeOut": "1s" },
    });
    json!({
        "global": { "checkNewVersion": false, "sendAnonymousUsage": false },
        "log": { "level": "ERROR" },
        "accessLog": { "filePath": access_log, "bufferingSize": LOG_LINES },
        "entryPoints": {
            "http": { "address": bench.http, "transport": transport },
            "https": { "address": bench.https, "transport": transport, "http": { "tls": {} } },
        },
        // 200 by default, and two for each backend.
        "serversTransport": { "maxIdleConnsPerHost": UPSTREAM_POOL },
        "providers": { "file": { "filename": routes, "watch": false } },
    })
}

fn dynamic(bench: &Bench<'_>) -> anyhow::Result<Value> {
    let router = |(number, host): (usize, &String)| {
        let router = json!({
            "rule": format!("Host(`{host}`)"),
            "entryPoints": ["http", "https"],
            "service": "backend",
        });
        (format!("site-{number:04}"), router)
    };
    let routers: Map<String, Value> = bench.site.hosts().iter().enumerate().map(router).collect();
    let certificate = json!({ "certFile": text(bench.certificate)?, "keyFile": text(bench.key)? });
    Ok(json!({
        "http": {
            "routers": routers,
            "services": { "backend": { "loadBalancer": {
                "servers": [{ "url": format!("http://{}", bench.backend) }],
            } } },
        },
        "tls": {
            "certificates": [certificate],
            "options": { "default": {
                "minVersion": "VersionTLS12",
                "alpnProtocols": ["http/1.1"],
            } },
        },
    }))
}
