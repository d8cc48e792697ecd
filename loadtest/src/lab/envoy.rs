//! Envoy, as a careful operator sets it up for this site.

use std::path::PathBuf;

use anyhow::{Context, bail};
use serde_json::{Value, json};

use super::{Bench, CLIENT_IDLE_SECONDS, Launch, Product, peers, text, write};
use crate::system::child::Program;

/// Envoy, fetched or on PATH.
#[derive(Clone, Debug)]
pub(crate) struct Envoy {
    /// The folder of fetched peers.
    pub(crate) folder: PathBuf,
}

impl Product for Envoy {
    fn name(&self) -> &'static str {
        "envoy"
    }

    fn locate(&self) -> anyhow::Result<PathBuf> {
        peers::locate(&self.folder, "envoy")
    }

    fn version(&self) -> anyhow::Result<String> {
        super::first_line(&self.locate()?, "--version")
    }

    fn configure(&self, bench: &Bench<'_>) -> anyhow::Result<Launch> {
        if bench.site.paths() != ["/"] {
            bail!("Envoy is set up by hosts alone");
        }
        let configuration = bench.folder.join("envoy.json");
        let access_log = bench.folder.join("access.log");
        let json = bootstrap(bench, &text(&access_log)?)?;
        write(&configuration, serde_json::to_vec_pretty(&json).context("the configuration")?)?;
        let arguments = [
            "--config-path",
            &text(&configuration)?,
            // One worker, as for all; there is always a main thread beside it.
            "--concurrency",
            "1",
            // No shared memory for hot restarts: instances would meet in it.
            "--disable-hot-restart",
            "--log-level",
            "error",
            // The log is buffered as nginx's is.
            "--file-flush-interval-msec",
            "1000",
            "--file-flush-min-size-kb",
            "64",
        ];
        Ok(Launch {
            program: Program {
                path: self.locate()?,
                arguments: arguments.map(str::to_owned).into(),
            },
            output: bench.folder.join("stdout.log"),
            access_log: Some(access_log),
            readiness: None,
        })
    }
}

const TYPES: &str = "type.googleapis.com/envoy.extensions";

fn bootstrap(bench: &Bench<'_>, access_log: &str) -> anyhow::Result<Value> {
    let tls = json!({
        "name": "tls",
        "typed_config": {
            "@type": format!("{TYPES}.transport_sockets.tls.v3.DownstreamTlsContext"),
            "common_tls_context": {
                "alpn_protocols": ["http/1.1"],
                "tls_params": {
                    "tls_minimum_protocol_version": "TLSv1_2",
                    // By default it stops at 1.2 for clients, at 1.3 for servers: said, to be sure.
                    "tls_maximum_protocol_version": "TLSv1_3",
                },
                "tls_certificates": [{
                    "certificate_chain": { "filename": text(bench.certificate)? },
                    "private_key": { "filename": text(bench.key)? },
                }],
            },
        },
    });
    let manager = connection_manager(bench, access_log);
    let listener = |name: &str, address: std::net::SocketAddr, tls: Option<&Value>| {
        let filter = json!({ "name": "http", "typed_config": manager.clone() });
        let mut chain = json!({ "filters": [filter] });
        if let (Some(chain), Some(tls)) = (chain.as_object_mut(), tls) {
            chain.insert("transport_socket".to_owned(), tls.clone());
        }
        json!({
            "name": name,
            "address": socket(address),
            "tcp_backlog_size": 4096,
            "filter_chains": [chain],
        })
    };
    // Without these, requests beyond 1,024 at once are refused.
    let limit = 1_000_000;
    Ok(json!({
        "static_resources": {
            "listeners": [
                listener("http", bench.http, None),
                listener("https", bench.https, Some(&tls)),
            ],
            "clusters": [{
                "name": "backend",
                "type": "STATIC",
                "connect_timeout": "5s",
                "circuit_breakers": { "thresholds": [{
                    "max_connections": limit,
                    "max_pending_requests": limit,
                    "max_requests": limit,
                }] },
                // Idle connections to the backend are kept without limit for an hour by default.
                "load_assignment": {
                    "cluster_name": "backend",
                    "endpoints": [{ "lb_endpoints": [{
                        "endpoint": { "address": socket(bench.backend) },
                    }] }],
                },
            }],
        },
    }))
}

fn connection_manager(bench: &Bench<'_>, access_log: &str) -> Value {
    let host = |host: &String| {
        json!({
            "name": host,
            "domains": [host],
            "routes": [{ "match": { "prefix": "/" }, "route": { "cluster": "backend" } }],
        })
    };
    let hosts: Vec<_> = bench.site.hosts().iter().map(host).collect();
    json!({
        "@type": format!(
            "{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager"
        ),
        "codec_type": "HTTP1",
        "stat_prefix": "site",
        // X-Forwarded-For and -Proto from the connection itself, as at an edge.
        "use_remote_address": true,
        // Its own X-Request-ID costs, and the other peers add none.
        "generate_request_id": false,
        "common_http_protocol_options": { "idle_timeout": format!("{CLIENT_IDLE_SECONDS}s") },
        "access_log": [{
            "name": "file",
            "typed_config": {
                "@type": format!("{TYPES}.access_loggers.file.v3.FileAccessLog"),
                "path": access_log,
            },
        }],
        "route_config": { "name": "site", "virtual_hosts": hosts },
        "http_filters": [{
            "name": "router",
            "typed_config": { "@type": format!("{TYPES}.filters.http.router.v3.Router") },
        }],
    })
}

fn socket(address: std::net::SocketAddr) -> Value {
    json!({ "socket_address": {
        "address": address.ip(),
        "port_value": address.port(),
    } })
}
