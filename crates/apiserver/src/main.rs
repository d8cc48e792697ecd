//! The double as a program.

use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use apiserver::{Double, Options, User};
use clap::Parser;
use tracing::info;
use tracing_subscriber::EnvFilter;

/// A double of the Kubernetes API server, for tests
#[derive(Parser)]
struct Arguments {
    /// Where to listen
    #[arg(long, default_value = "127.0.0.1:8001")]
    listen: SocketAddr,
    /// Manifests to begin with: a directory or a file
    #[arg(long, value_name = "DIR")]
    load: Vec<PathBuf>,
    /// Where to write a kubeconfig
    #[arg(long, value_name = "OUT")]
    kubeconfig: Option<PathBuf>,
    /// Users, as NAME=TOKEN; the kubeconfig is for the first
    #[arg(long, value_name = "NAME=TOKEN")]
    user: Vec<String>,
    /// Refuse requests without a known token
    #[arg(long)]
    tokens_only: bool,
    /// Enforce Roles and their bindings for users with a token
    #[arg(long)]
    rbac: bool,
    /// The server's URL in the kubeconfig, if it isn't the address it listens on
    #[arg(long, value_name = "URL")]
    advertise: Option<String>,
    /// How many changes are kept for each resource
    #[arg(long, default_value_t = Options::default().history)]
    history: usize,
}

fn main() -> Result<()> {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let arguments = Arguments::parse();
    let mut users = Vec::new();
    for user in &arguments.user {
        let Some((name, token)) = user.split_once('=') else {
            bail!("--user {user}: write NAME=TOKEN");
        };
        users.push(User { name: name.to_owned(), token: token.to_owned() });
    }
    let first = users.first().map(|user| user.name.clone());
    let double = Double::start(Options {
        listen: arguments.listen,
        users,
        tokens_only: arguments.tokens_only,
        rbac: arguments.rbac,
        advertise: arguments.advertise,
        history: arguments.history,
        ..Options::default()
    })?;
    for path in &arguments.load {
        let count = double.load(path)?;
        info!(path = %path.display(), count, "objects loaded");
    }
    if let Some(path) = &arguments.kubeconfig {
        let written = double.write_kubeconfig(path, first.as_deref());
        written.with_context(|| format!("writing {}", path.display()))?;
    }
    info!(url = double.url(), "serving");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut ended = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            result = tokio::signal::ctrl_c() => result?,
            _ = ended.recv() => {}
        }
        Ok(())
    })
}
