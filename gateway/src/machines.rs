//! The machines that this one can't do without: they are reached whatever VpnConnections say.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use plan::machines::Machines;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::vpn::former;

/// How often they are looked for.
const LOOK: Duration = Duration::from_secs(10);
/// The same while the API's address isn't known yet.
const SOON: Duration = Duration::from_secs(1);
/// How long a name server has for its answer.
const ANSWER: Duration = Duration::from_secs(5);
/// How long an address counts that the API's name doesn't lead to any more: others may still be
/// told of it, where names lead to some of many.
const STALE: Duration = Duration::from_secs(600);
/// Addresses of the API that count.
const MOST: usize = 32;
/// Where name servers are written, and where they are if the first has only one on this machine.
const RESOLVERS: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// Where the API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Api {
    /// An address or a name.
    pub host: String,
    /// Whether that is its Service within the cluster.
    pub in_cluster: bool,
}

/// Looks for them, now and later.
#[derive(Debug)]
struct Look {
    api: Option<Api>,
    /// Addresses that its name has led to, and when it did so last.
    resolved: BTreeMap<IpAddr, Instant>,
}

/// Begins to look for them, until `stop`. What it answers has all but an address that a name
/// stands for.
pub async fn start(
    api: Option<Api>,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> watch::Receiver<Arc<Machines>> {
    let mut look = Look { api, resolved: BTreeMap::new() };
    let (sender, receiver) = watch::channel(Arc::new(look.here().await));
    tasks.spawn(async move {
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                found = look.all() => {
                    sender.send_if_modified(|known| {
                        let changed = **known != found;
                        *known = Arc::new(found);
                        changed
                    });
                }
            }
            let rest = if look.is_lost() { SOON } else { LOOK };
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(rest) => {}
            }
        }
    });
    receiver
}

/// Waits until the API's address is known, or for a while.
pub async fn settled(machines: &mut watch::Receiver<Arc<Machines>>) {
    let known = machines.wait_for(|machines| !machines.api.is_empty());
    if !matches!(tokio::time::timeout(ANSWER, known).await, Ok(Ok(_))) {
        tracing::warn!("the Kubernetes API's address isn't known yet");
    }
}

/// Lets them be reached in spite of what a former run has left, for as long as this is polled.
pub async fn spare(mut machines: watch::Receiver<Arc<Machines>>) {
    loop {
        let needed = machines.borrow_and_update().addresses();
        match tokio::task::spawn_blocking(move || former::spare(&needed)).await {
            Ok(Ok(spared)) if spared.is_empty() => {}
            Ok(Ok(spared)) => {
                tracing::warn!(?spared, "lie in remote networks, and are reached all the same");
            }
            Ok(Err(error)) => tracing::error!(%error, "what a former run guards stays as it is"),
            Err(error) => tracing::error!(%error, "what a former run guards isn't looked at"),
        }
        if machines.changed().await.is_err() {
            return std::future::pending().await;
        }
    }
}

impl Look {
    /// All of them.
    async fn all(&mut self) -> Machines {
        self.resolve().await;
        self.here().await
    }

    /// What is known without asking anybody else.
    async fn here(&self) -> Machines {
        let by_name = self.name().is_some();
        let found = tokio::task::spawn_blocking(move || on_this_machine(by_name)).await;
        let mut machines = found.unwrap_or_default();
        let Some(api) = &self.api else { return machines };
        machines.in_cluster = api.in_cluster;
        machines.api = self.resolved.keys().copied().chain(address(&api.host)).collect();
        machines
    }

    /// The API's name, if it isn't an address.
    fn name(&self) -> Option<&str> {
        let host = self.api.as_ref().map(|api| api.host.as_str());
        host.filter(|host| address(host).is_none())
    }

    /// Whether there is an API without any known address.
    fn is_lost(&self) -> bool {
        self.name().is_some() && self.resolved.is_empty()
    }

    async fn resolve(&mut self) {
        let Some(name) = self.name() else { return };
        let asked = tokio::net::lookup_host((name.to_owned(), 0));
        // Without an answer the last ones stay.
        let Ok(Ok(found)) = tokio::time::timeout(ANSWER, asked).await else { return };
        let found: Vec<IpAddr> = found.map(|found| found.ip()).take(MOST).collect();
        self.learn(Instant::now(), &found);
    }

    fn learn(&mut self, now: Instant, found: &[IpAddr]) {
        self.resolved.extend(found.iter().map(|address| (*address, now)));
        self.resolved.retain(|_, seen| now.saturating_duration_since(*seen) < STALE);
        while self.resolved.len() > MOST {
            let oldest = self.resolved.iter().min_by_key(|(_, seen)| **seen);
            let Some(oldest) = oldest.map(|(address, _)| *address) else { break };
            self.resolved.remove(&oldest);
        }
    }
}

fn address(host: &str) -> Option<IpAddr> {
    host.trim_start_matches('[').trim_end_matches(']').parse().ok()
}

fn on_this_machine(by_name: bool) -> Machines {
    let own = netdev::address::host_addresses().unwrap_or_else(|error| {
        tracing::warn!(%error, "this machine's addresses can't be listed");
        Vec::new()
    });
    let hops = netdev::route::main::hops().unwrap_or_else(|error| {
        tracing::warn!(%error, "this machine's routes can't be listed");
        Vec::new()
    });
    Machines {
        own: own.into_iter().map(|own| own.network.addr()).collect(),
        hops: hops.into_iter().collect(),
        name_servers: if by_name {
            name_servers(RESOLVERS.map(Path::new))
        } else {
            BTreeSet::new()
        },
        ..Machines::default()
    }
}

/// The name servers of the first file that has some elsewhere.
fn name_servers<'a>(files: impl IntoIterator<Item = &'a Path>) -> BTreeSet<IpAddr> {
    for file in files {
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let found = text.lines().filter_map(|line| {
            let mut words = line.split_whitespace();
            let is_one = words.next() == Some("nameserver");
            words.next().filter(|_| is_one)?.parse::<IpAddr>().ok()
        });
        let found: BTreeSet<IpAddr> = found.filter(|address| !address.is_loopback()).collect();
        if !found.is_empty() {
            return found;
        }
    }
    BTreeSet::new()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn name_servers_are_those_behind_one_on_this_machine() {
        let folder = tempfile::tempdir().unwrap();
        let files = ["stub", "real"].map(|name| folder.path().join(name));
        let paths = || files.iter().map(std::path::PathBuf::as_path);
        std::fs::write(&files[0], "# nothing\nnameserver 127.0.0.53\noptions edns0\n").unwrap();
        assert_eq!(name_servers(paths()), BTreeSet::new());
        std::fs::write(&files[1], "nameserver 192.0.2.53\nnameserver fd00::53\n").unwrap();
        assert_eq!(name_servers(paths()), ["192.0.2.53", "fd00::53"].map(ip).into());
    }

    #[test]
    fn an_address_of_the_api_counts_for_a_while_after_its_name_leads_elsewhere() {
        let api = Some(Api { host: "api.example.com".to_owned(), in_cluster: false });
        let mut look = Look { api, resolved: BTreeMap::new() };
        assert!(look.is_lost());
        let start = Instant::now();
        let known = |look: &Look| look.resolved.keys().copied().collect::<Vec<_>>();
        look.learn(start, &[ip("192.0.2.1")]);
        look.learn(start + Duration::from_secs(10), &[ip("192.0.2.2")]);
        assert_eq!(known(&look), ["192.0.2.1", "192.0.2.2"].map(ip));
        look.learn(start + STALE, &[ip("192.0.2.2")]);
        assert_eq!(known(&look), [ip("192.0.2.2")]);
        let many: Vec<IpAddr> = (1..=40).map(|n| IpAddr::from([10, 0, 0, n])).collect();
        look.learn(start + STALE + LOOK, &many);
        assert_eq!(known(&look).len(), MOST);
    }

    #[test]
    fn a_host_is_an_address_with_brackets_or_without_or_a_name() {
        assert_eq!(address("[fd00::1]"), Some(ip("fd00::1")));
        assert_eq!(address("192.0.2.1"), Some(ip("192.0.2.1")));
        assert_eq!(address("api.example.com"), None);
    }
}
