//! The agent's configuration file.
//!
//! [`mod@file`] says what may stand in it; here is what the agent works with, once everything in
//! it has been found to hold together. `edge-agent schema` prints its JSON schema.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ingest::yaml::Node;
use model::{OverlaySettings, Settings, VpnSettings};
use overlay::choice::Timing;
use settings::{ConfigError, document};
use wireguard::Wanted;

pub mod file;

pub use file::OnStop;
use file::{API_VERSION, Backend, File, KIND};

/// The most characters that an interface's name may have.
const NAME: usize = 15;
/// Room for a number behind the prefix of interfaces' names.
const ROOM: usize = 4;

/// A configuration that holds together. Paths in it are absolute or relative to the current
/// directory, no longer to the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Config {
    /// Where objects come from.
    pub source: Source,
    /// What plans depend on; its name is the Node's.
    pub overlay: OverlaySettings,
    /// How interfaces are made.
    pub interfaces: wireguard::Settings,
    /// How edges are probed.
    pub timing: Timing,
    /// How old a key gets; none for no end.
    pub key_age: Option<Duration>,
    /// The directory for keys and what else outlives a restart.
    pub state: PathBuf,
    /// Where health, metrics and status are told; none for nowhere.
    pub admin: Option<SocketAddr>,
    /// What becomes of interfaces, routes and rules on a clean stop.
    pub on_stop: OnStop,
}

/// Where objects come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A directory of manifests.
    Manifests(PathBuf),
    /// The Kubernetes API.
    Kubernetes {
        /// None for the pod's service account.
        kubeconfig: Option<PathBuf>,
        /// None for the kubeconfig's current one.
        context: Option<String>,
    },
}

impl Config {
    /// Reads and checks a configuration file.
    ///
    /// # Errors
    /// For the first thing that is wrong with it.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = document::text(path)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Self::parse(&path.to_string_lossy(), &text, folder, &machine_name())
    }

    /// Checks a configuration's text. Relative paths in it are taken from `folder`; `name` is for
    /// errors, `machine` the Node's name where none is written.
    ///
    /// # Errors
    /// For the first thing that is wrong with it.
    pub fn parse(
        name: &str,
        text: &str,
        folder: &Path,
        machine: &str,
    ) -> Result<Self, ConfigError> {
        let (file, document) = document::read::<File>(name, text, API_VERSION, KIND)?;
        Checker { name, document: &document, folder }.config(file, machine)
    }

    /// What ingest needs to know.
    pub fn settings(&self) -> Settings {
        Settings {
            vpn: Some(VpnSettings::default()),
            overlay: Some(self.overlay.clone()),
            ..Settings::default()
        }
    }
}

/// The Node's name where the configuration has none: `NODE_NAME`, or the host name.
fn machine_name() -> String {
    let given = std::env::var("NODE_NAME").ok().filter(|name| !name.is_empty());
    given.unwrap_or_else(|| {
        let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        name.trim().to_lowercase()
    })
}

struct Checker<'a> {
    name: &'a str,
    /// For lines.
    document: &'a Node,
    /// For relative paths.
    folder: &'a Path,
}

impl Checker<'_> {
    fn config(&self, file: File, machine: &str) -> Result<Config, ConfigError> {
        let source = self.source(&file)?;
        let node = file.node_name.as_deref().unwrap_or(machine);
        if node.is_empty() {
            return Err(self
                .error("nodeName", "is empty, and this machine has no host name")
                .remedy("write the name of this machine's Node"));
        }
        let prefix = &file.overlay.interface_prefix;
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        if prefix.is_empty() || prefix.len() > NAME - ROOM || !prefix.chars().all(plain) {
            return Err(self.error("overlay.interfacePrefix", format!("is {prefix:?}")).remedy(
                "write 1 to 11 letters, digits, hyphens or underscores, such as \"tidegate-wg\"",
            ));
        }
        let interval = Duration::from(file.overlay.probe_interval);
        if !(Duration::from_millis(50)..=Duration::from_secs(10)).contains(&interval) {
            let reason = format!("is {}", file.overlay.probe_interval);
            return Err(self
                .error("overlay.probeInterval", reason)
                .remedy("write a time from 50ms to 10s"));
        }
        if let Some(age) = file.overlay.key_age.filter(|age| Duration::from(*age) < MIN_KEY_AGE) {
            return Err(self
                .error("overlay.keyAge", format!("is {age}, shorter than 1m"))
                .remedy("write a longer time, such as \"24h\", or remove it"));
        }
        let overlay = OverlaySettings {
            name: node.to_owned(),
            mode: file.overlay.mode.into(),
            interface: prefix.clone(),
            mtu: file.overlay.mtu,
            mark_mask: file.overlay.mark_mask.0,
            ..OverlaySettings::default()
        };
        let interfaces = wireguard::Settings {
            backend: match file.overlay.backend {
                Backend::Auto => Wanted::Auto,
                Backend::Kernel => Wanted::Kernel,
                Backend::Userspace => Wanted::UserSpace,
            },
            prefix: prefix.clone(),
            offloads: file.overlay.offloads,
            ..wireguard::Settings::default()
        };
        let timing = Timing {
            interval,
            patience: Timing::default().patience.min(interval * 4 / 5),
            ..Timing::default()
        };
        Ok(Config {
            source,
            overlay,
            interfaces,
            timing,
            key_age: file.overlay.key_age.map(Duration::from),
            state: self.path(file.state),
            admin: file.admin.listen,
            on_stop: file.on_stop,
        })
    }

    fn source(&self, file: &File) -> Result<Source, ConfigError> {
        match (&file.source.manifests, &file.source.kubernetes) {
            (Some(manifests), None) => Ok(Source::Manifests(self.path(manifests.clone()))),
            (None, Some(api)) => Ok(Source::Kubernetes {
                kubeconfig: api.kubeconfig.clone().map(|path| self.path(path)),
                context: api.context.clone(),
            }),
            (Some(_), Some(_)) => Err(self
                .error("source", "has both manifests and kubernetes")
                .remedy("keep the one that the Node and the EdgeGateways are in")),
            (None, None) => Err(self
                .error("source", "has neither kubernetes nor manifests")
                .remedy("write kubernetes: {} within a cluster, or manifests: with a directory")),
        }
    }

    fn error(&self, key: &str, reason: impl Into<String>) -> ConfigError {
        ConfigError::of_key(self.name, self.document, key, reason)
    }

    fn path(&self, path: PathBuf) -> PathBuf {
        self.folder.join(path)
    }
}

/// Changing keys takes some probes.
const MIN_KEY_AGE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests;
