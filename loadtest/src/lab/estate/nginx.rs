//! nginx under control: a `server` and an `upstream` for each app, reloaded by SIGHUP.

use std::fmt::Write;
use std::path::PathBuf;

use nix::sys::signal::Signal;

use super::{App, Estate, Ground, POOL, Steered, put};
use crate::lab::{CLIENT_IDLE_SECONDS, Launch, text, write};
use crate::system::child::{Program, Supervised};

/// nginx at a path.
#[derive(Clone, Debug)]
pub(super) struct Nginx {
    /// The executable.
    pub(super) program: PathBuf,
}

impl Steered for Nginx {
    fn name(&self) -> &'static str {
        "nginx"
    }

    fn prepare(&self, ground: &Ground, estate: &Estate) -> anyhow::Result<Launch> {
        let folder = text(&ground.folder)?;
        let configuration = ground.folder.join("nginx.conf");
        write(&configuration, nginx_conf(ground, estate)?)?;
        Ok(Launch {
            program: Program {
                path: self.program.clone(),
                arguments: ["-p", &folder, "-e", "stderr", "-c", &text(&configuration)?]
                    .map(str::to_owned)
                    .into(),
            },
            output: ground.folder.join("stdout.log"),
            access_log: Some(ground.folder.join("access.log")),
            readiness: None,
        })
    }

    fn stage(&self, ground: &Ground, estate: &Estate, _: &App) -> anyhow::Result<()> {
        write(&ground.folder.join("staged"), nginx_conf(ground, estate)?)
    }

    fn apply(&self, ground: &Ground, process: &Supervised) -> anyhow::Result<()> {
        put(&ground.folder.join("staged"), &ground.folder.join("nginx.conf"))?;
        process.signal(Signal::SIGHUP)
    }
}

fn nginx_conf(ground: &Ground, estate: &Estate) -> anyhow::Result<String> {
    let folder = text(&ground.folder)?;
    let http = ground.http;
    let user = if nix::unistd::geteuid().is_root() { "user root;\n" } else { "" };
    // Room for all names in one table, or it does not start.
    let names = (estate.apps().len() * 4).next_power_of_two();
    let mut conf = format!(
        "daemon off;
{user}worker_processes 1;
pid {folder}/nginx.pid;
error_log stderr error;
events {{
    worker_connections 4096;
    multi_accept on;
}}
http {{
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    access_log {folder}/access.log combined buffer=64k flush=1s;
    tcp_nodelay on;
    server_names_hash_max_size {names};
    server_names_hash_bucket_size 128;
    keepalive_timeout {CLIENT_IDLE_SECONDS}s;
    keepalive_requests 1000000000;
    proxy_http_version 1.1;
    proxy_set_header Connection \"\";
    proxy_set_header Host $host;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $scheme;
    # A name that nobody has is not served by the first app.
    server {{ listen {http} default_server backlog=4096; return 404; }}
"
    );
    for app in estate.apps() {
        let (name, host, endpoint) = (app.name(), app.host(), app.endpoint);
        writeln!(
            conf,
            "    upstream {name} {{ server {endpoint}; keepalive {POOL}; }}\n    \
             server {{ listen {http}; server_name {host}; \
             location / {{ proxy_pass http://{name}; }} }}"
        )?;
    }
    conf.push_str("}\n");
    Ok(conf)
}
