//! What the control suite has served: many apps, each a host with an endpoint of its own, and the
//! changes to them that a cluster sees all day.
//!
//! The gateway reads manifests and takes changes as they come. nginx and HAProxy are told the way
//! that ingress controllers tell them: the whole configuration is written anew and reloaded. How
//! long that writing takes is not counted: the clock runs from when the files are in place.

mod gateway;
mod haproxy;
mod nginx;

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::Context;

use super::{Lab, Launch, answers, certificate, free_address};
use crate::system::child::Supervised;

/// Idle connections to each app's endpoint.
const POOL: usize = 8;
/// Time to start with all objects.
const START: Duration = Duration::from_secs(120);
/// How often a start is looked at.
const LOOK: Duration = Duration::from_millis(1);

/// One app.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct App {
    /// Its number, which its objects' names carry.
    number: usize,
    /// Where its requests go.
    pub(crate) endpoint: SocketAddr,
}

impl App {
    /// The host below which it is served.
    pub(crate) fn host(&self) -> String {
        format!("{}.{}", self.name(), certificate::DOMAIN)
    }

    fn name(&self) -> String {
        format!("app-{:05}", self.number)
    }
}

/// All apps.
#[derive(Clone, Debug)]
pub(crate) struct Estate {
    apps: Vec<App>,
}

impl Estate {
    /// So many apps, all on one endpoint.
    pub(crate) fn of(apps: usize, endpoint: SocketAddr) -> Self {
        Self { apps: (0..apps).map(|number| App { number, endpoint }).collect() }
    }

    /// The apps.
    pub(crate) fn apps(&self) -> &[App] {
        &self.apps
    }

    /// Moves an app to another endpoint; nothing if there is no such app.
    pub(crate) fn move_app(&mut self, number: usize, endpoint: SocketAddr) -> Option<App> {
        let app = self.apps.get_mut(number)?;
        app.endpoint = endpoint;
        Some(app.clone())
    }

    /// Adds one app.
    pub(crate) fn add(&mut self, endpoint: SocketAddr) -> App {
        let app = App { number: self.apps.len(), endpoint };
        self.apps.push(app.clone());
        app
    }
}

/// Where a product of the control suite works.
#[derive(Clone, Debug)]
pub(crate) struct Ground {
    /// A folder of its own.
    pub(crate) folder: PathBuf,
    /// Where it serves HTTP.
    pub(crate) http: SocketAddr,
}

/// A product that can be told of changes while it runs.
pub(crate) trait Steered {
    /// The name in tables.
    fn name(&self) -> &'static str;

    /// Writes everything, and says how to start.
    fn prepare(&self, ground: &Ground, estate: &Estate) -> anyhow::Result<Launch>;

    /// Writes what a changed app makes necessary, where nothing running looks yet.
    fn stage(&self, ground: &Ground, estate: &Estate, changed: &App) -> anyhow::Result<()>;

    /// Puts it into place and, where that is needed, tells the process.
    fn apply(&self, ground: &Ground, process: &Supervised) -> anyhow::Result<()>;
}

/// The product of this name under control, if it can be.
pub(crate) fn steered(name: &str, program: PathBuf) -> Option<Box<dyn Steered>> {
    match name {
        "gateway" => Some(Box::new(gateway::Gateway { program })),
        "nginx" => Some(Box::new(nginx::Nginx { program })),
        "haproxy" => Some(Box::new(haproxy::Haproxy { program, name: "haproxy" })),
        "haproxy-2.8" => Some(Box::new(haproxy::Haproxy { program, name: "haproxy-2.8" })),
        _ => None,
    }
}

/// A running product of the control suite.
#[derive(Debug)]
pub(crate) struct Steering {
    /// Its process.
    pub(crate) process: Supervised,
    /// Where it works.
    pub(crate) ground: Ground,
    /// From its start until it served the last app.
    pub(crate) ready_after: Duration,
}

impl Lab {
    /// Starts a product with all apps and waits until it serves the last one.
    pub(crate) fn steer(
        &mut self,
        product: &dyn Steered,
        estate: &Estate,
    ) -> anyhow::Result<Steering> {
        self.instances += 1;
        let name = product.name();
        let folder = self.folder.join(format!("{name}-{}", self.instances));
        fs::create_dir(&folder).with_context(|| format!("{}", folder.display()))?;
        let ground = Ground { folder, http: free_address()? };
        let launch = product.prepare(&ground, estate)?;
        let errors = ground.folder.join("stderr.log");
        let last = estate.apps().last().context("invariant: an estate has apps")?.host();
        let start = Instant::now();
        let mut process =
            Supervised::start(name, &launch.program, self.cores.target, &launch.output, &errors)?;
        let serves = || {
            launch.readiness.is_none_or(|address| answers(address, "localhost", "/readyz"))
                && answers(ground.http, &last, "/")
        };
        process.wait_until_every(LOOK, "200 from the last app", START, serves)?;
        Ok(Steering { process, ground, ready_after: start.elapsed() })
    }
}

/// Replaces a file in one step, so that nobody reads half of it.
fn put(staged: &Path, place: &Path) -> anyhow::Result<()> {
    fs::rename(staged, place).with_context(|| format!("{}", place.display()))
}

#[cfg(test)]
mod tests;
