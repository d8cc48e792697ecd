//! What is measured and on whom, and whether this machine can do it: said before anything starts.

use std::path::PathBuf;

use anyhow::bail;

use super::scenario::{Measure, SCENARIOS, Scenario};
use super::{HEADROOM, Settings};
use crate::cli::{self, Peer, Suite};
use crate::lab::{Caddy, Cores, Edition, Envoy, Gateway, Haproxy, Log, Nginx, Product, Traefik};
use crate::system;

/// Descriptors that a process needs beside those of its clients' connections.
const DESCRIPTORS: usize = 2_000;
/// Cores from which on the backend has one of its own.
const CORES_FOR_ALL: usize = 4;

/// A scenario that was not asked for by name and can't be measured here.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct LeftOut {
    /// Its id.
    pub(crate) id: &'static str,
    /// What is lacking, and what to do.
    pub(crate) reason: String,
}

/// The scenarios to measure, and those that had to be left out.
///
/// # Errors
/// Names that are none; a scenario asked for by name that this
/// machine can't do.
pub(crate) fn scenarios(
    arguments: &cli::Compare,
    settings: &Settings,
) -> anyhow::Result<(Vec<&'static Scenario>, Vec<LeftOut>)> {
    for id in &arguments.only {
        if !SCENARIOS.iter().any(|scenario| scenario.id == id) {
            let known: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.id).collect();
            bail!("--only {id}: no such scenario; there are {}", known.join(", "));
        }
    }
    let is_named = |scenario: &Scenario| arguments.only.iter().any(|id| id == scenario.id);
    let suites = match arguments.suites.as_slice() {
        [] if arguments.only.is_empty() => &[Suite::L7, Suite::Tls][..],
        [] => &[
            Suite::L7,
            Suite::Tls,
            Suite::L4,
            Suite::Vpn,
            Suite::Overlay,
            Suite::Cluster,
            Suite::Control,
        ],
        suites => suites,
    };
    for scenario in SCENARIOS.iter().filter(|scenario| is_named(scenario)) {
        if !suites.contains(&scenario.suite) {
            let suite = scenario.suite.name();
            bail!(
                "--only {}: is of suite {suite}; name that suite too, as in compare {suite}",
                scenario.id
            );
        }
    }
    let limit = system::raise_open_files()?;
    let (mut chosen, mut left_out) = (Vec::new(), Vec::new());
    for scenario in SCENARIOS.iter().filter(|scenario| suites.contains(&scenario.suite)) {
        if !arguments.only.is_empty() && !is_named(scenario) {
            continue;
        }
        match lacking(scenario, settings, limit) {
            None => chosen.push(scenario),
            // How many --idle asks for is said just so.
            Some(lacking) if is_named(scenario) || !has_its_own_number(scenario) => {
                bail!("{}: {lacking}", scenario.id)
            }
            Some(reason) => left_out.push(LeftOut { id: scenario.id, reason }),
        }
    }
    Ok((chosen, left_out))
}

fn has_its_own_number(scenario: &Scenario) -> bool {
    matches!(scenario.measure, Measure::Idle { connections: Some(_), .. })
}

/// What this machine lacks for a scenario, if anything.
fn lacking(scenario: &Scenario, settings: &Settings, limit: u64) -> Option<String> {
    let connections = match scenario.measure {
        Measure::Idle { connections, .. } => settings.idle_connections(connections),
        Measure::Traffic(traffic) | Measure::Latency { traffic, .. } => traffic.connections,
        Measure::Routes { .. } => super::ROUTES_CONNECTIONS,
        Measure::Control { .. } | Measure::L4(_) | Measure::Vpn(_) | Measure::Cluster(_) => 0,
    };
    let needed = connections + HEADROOM + DESCRIPTORS;
    if limit < needed as u64 {
        let possible = usize::try_from(limit).unwrap_or(usize::MAX).saturating_sub(HEADROOM);
        return Some(format!(
            "target and load each need {needed} open files, {limit} are allowed a process: raise \
             the hard limit (`ulimit -Hn {needed}`, LimitNOFILE= of a service, `--ulimit \
             nofile={needed}` of a container; it takes CAP_SYS_RESOURCE), or hold {} with --idle",
            possible.saturating_sub(DESCRIPTORS)
        ));
    }
    None
}

/// Who runs where; an error if this process may not use one of the cores.
pub(crate) fn cores(arguments: &cli::Compare) -> anyhow::Result<Cores> {
    let usable = system::usable_cores()?;
    let (target, load) = (arguments.target_core, arguments.load_core);
    let spare = || {
        let free = |core: &&usize| **core != target && **core != load;
        let spare = usable.iter().find(free).copied();
        spare.filter(|_| usable.len() >= CORES_FOR_ALL).unwrap_or(load)
    };
    let backend = arguments.backend_core.unwrap_or_else(spare);
    for (option, core) in
        [("--target-core", target), ("--load-core", load), ("--backend-core", backend)]
    {
        if !usable.contains(&core) {
            let usable: Vec<_> = usable.iter().map(usize::to_string).collect();
            let hint = if usable.len() < 2 {
                "; two are needed for figures that mean something: to share one, give its number \
                 for all"
            } else {
                ""
            };
            bail!("{option} {core}: can't be used; there are {}{hint}", usable.join(", "));
        }
    }
    Ok(Cores { target, load, backend })
}

/// The gateway first, then the peers.
pub(crate) fn products(arguments: &cli::Compare) -> anyhow::Result<Vec<Box<dyn Product>>> {
    let mut products: Vec<Box<dyn Product>> = Vec::new();
    if !arguments.without_gateway {
        let gateway = Gateway { path: PathBuf::from(&arguments.gateway) };
        gateway.locate()?;
        products.push(Box::new(gateway));
    }
    let named = arguments.peers.as_deref();
    for peer in peers(named.unwrap_or(&[Peer::Nginx, Peer::Haproxy])) {
        let product = product(peer, arguments);
        match product.locate() {
            Ok(_) => products.push(product),
            Err(error) if named.is_some() => return Err(error),
            Err(error) => eprintln!("loadtest: going on without {}: {error:#}", product.name()),
        }
    }
    if products.is_empty() {
        bail!("there is nothing to compare");
    }
    Ok(products)
}

/// The peers named, each once.
fn peers(named: &[Peer]) -> Vec<Peer> {
    let mut peers: Vec<Peer> = Vec::new();
    for peer in named {
        let meant = if *peer == Peer::All { Peer::ALL.to_vec() } else { vec![*peer] };
        for peer in meant {
            if !peers.contains(&peer) {
                peers.push(peer);
            }
        }
    }
    peers
}

fn product(peer: Peer, arguments: &cli::Compare) -> Box<dyn Product> {
    let folder = || arguments.peers_folder.clone();
    let haproxy = |edition, log| Box::new(Haproxy { edition, log });
    match peer {
        Peer::Nginx => Box::new(Nginx),
        Peer::Haproxy | Peer::All => haproxy(Edition::Installed, Log::File),
        Peer::HaproxyRing => haproxy(Edition::Installed, Log::Memory),
        Peer::Haproxy28 => haproxy(Edition::Newer(folder()), Log::File),
        Peer::Envoy => Box::new(Envoy { folder: folder() }),
        Peer::Traefik => Box::new(Traefik { folder: folder() }),
        Peer::Caddy => Box::new(Caddy { folder: folder() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_means_every_peer_once() {
        let all = peers(&[Peer::Caddy, Peer::All, Peer::HaproxyRing, Peer::Nginx]);
        assert_eq!(all.len(), Peer::ALL.len() + 1);
        assert_eq!(all.first(), Some(&Peer::Caddy));
        assert_eq!(all.iter().filter(|peer| **peer == Peer::Nginx).count(), 1);
        assert!(!all.contains(&Peer::All));
    }
}
