//! nginx, as a careful operator sets it up for this site.

use std::fmt::Write;
use std::path::PathBuf;

use anyhow::{Context, bail};

use super::{Bench, CLIENT_IDLE_SECONDS, Launch, Product, UPSTREAM_POOL, find_program, first_line};
use super::{text, write};
use crate::system::child::Program;

/// Debian's nginx, or whichever is first on PATH.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Nginx;

impl Product for Nginx {
    fn name(&self) -> &'static str {
        "nginx"
    }

    fn sets_goals(&self) -> bool {
        true
    }

    fn locate(&self) -> anyhow::Result<PathBuf> {
        find_program("nginx").context("nginx is not installed: `apt-get install nginx-light`")
    }

    fn version(&self) -> anyhow::Result<String> {
        first_line(&self.locate()?, "-v")
    }

    fn configure(&self, bench: &Bench<'_>) -> anyhow::Result<Launch> {
        let folder = text(bench.folder)?;
        let access_log = bench.folder.join("access.log");
        let configuration = bench.folder.join("nginx.conf");
        write(&configuration, nginx_conf(bench, &folder)?)?;
        Ok(Launch {
            program: Program {
                path: self.locate()?,
                // -e, or the compiled-in error log is opened before the configuration is read.
                arguments: ["-p", &folder, "-e", "stderr", "-c", &text(&configuration)?]
                    .map(str::to_owned)
                    .into(),
            },
            output: bench.folder.join("stdout.log"),
            access_log: Some(access_log),
            readiness: None,
        })
    }
}

fn nginx_conf(bench: &Bench<'_>, folder: &str) -> anyhow::Result<String> {
    if bench.site.paths() != ["/"] {
        bail!("nginx is set up by hosts alone");
    }
    let (certificate, key) = (text(bench.certificate)?, text(bench.key)?);
    // Workers drop root's rights, and could then not write below the lab's folder.
    let user = if nix::unistd::geteuid().is_root() { "user root;\n" } else { "" };
    let Bench { http, https, backend, .. } = bench;
    // Each client connection may have one to the backend.
    let connections = bench.connections * 2 + 512;
    let mut conf = format!(
        "daemon off;
{user}worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr error;
events {{
    worker_connections {connections};
    multi_accept on;
}}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    access_log {folder}/access.log combined buffer=64k flush=1s;
    sendfile on;
    tcp_nodelay on;
    server_tokens off;
    server_names_hash_max_size 4096;
    server_names_hash_bucket_size 128;
    keepalive_timeout {CLIENT_IDLE_SECONDS}s;
    keepalive_requests 1000000000;
    reset_timedout_connection on;

    ssl_certificate {certificate};
    ssl_certificate_key {key};
    ssl_protocols TLSv1.2 TLSv1.3;
    ssl_session_cache shared:tls:10m;
    ssl_session_tickets on;

    upstream backend {{
        server {backend};
        keepalive {UPSTREAM_POOL};
        keepalive_requests 1000000000;
        keepalive_time 1d;
    }}
    proxy_http_version 1.1;
    proxy_set_header Connection \"\";
    proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $scheme;
    # Large answers pass in few pieces and never by way of a file.
    proxy_buffers 16 32k;
    proxy_busy_buffers_size 256k;
    proxy_max_temp_file_size 0;
"
    );
    // The backlog belongs to the socket, so it is said once.
    let mut backlog = " backlog=4096";
    for host in bench.site.hosts() {
        writeln!(
            conf,
            "    server {{ listen {http}{backlog}; listen {https} ssl{backlog}; \
             server_name {host}; location / {{ proxy_pass http://backend; }} }}"
        )?;
        backlog = "";
    }
    conf.push_str("}\n");
    Ok(conf)
}
