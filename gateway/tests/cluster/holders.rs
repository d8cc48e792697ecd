//! Who has which VIP from when till when, as the kernels tell it.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use testkit::cluster_lab::EDGES;

use super::world::World;

/// An edge has an address from now on, or no more.
#[derive(Clone, Debug)]
struct Change {
    at: Instant,
    edge: u8,
    vip: String,
    has: bool,
}

/// Both edges, being watched.
pub(crate) struct Holders {
    children: Vec<Child>,
    changes: Arc<Mutex<Vec<Change>>>,
}

impl Holders {
    /// Watches from now on.
    #[track_caller]
    pub(crate) fn watch(world: &World) -> Self {
        let changes = Arc::<Mutex<Vec<Change>>>::default();
        let mut children = Vec::new();
        for edge in 1..=EDGES {
            let namespace = world.lab.edge(edge);
            let mut command = Command::new("ip");
            command.args(["-o", "-4", "monitor", "address"]);
            command.stdin(Stdio::null()).stdout(Stdio::piped());
            let mut child = namespace.spawn(&mut command).unwrap();
            let lines = BufReader::new(child.stdout.take().unwrap()).lines();
            let shared = Arc::clone(&changes);
            std::thread::spawn(move || {
                for line in lines.map_while(Result::ok) {
                    let has = !line.starts_with("Deleted");
                    shared.lock().unwrap().extend(change(edge, has, &line));
                }
            });
            // What is told twice does no harm; what is there already has to be known.
            let now = namespace.command("ip", &["-o", "-4", "addr", "show"]);
            changes.lock().unwrap().extend(now.lines().filter_map(|line| change(edge, true, line)));
            children.push(child);
        }
        Self { children, changes }
    }

    /// Fails where two edges had a VIP at once; prints what has changed.
    #[track_caller]
    pub(crate) fn never_two(&self, since: Instant) {
        let mut changes = self.changes.lock().unwrap().clone();
        changes.sort_by_key(|change| change.at);
        let mut holders = BTreeMap::<String, BTreeSet<u8>>::new();
        let mut left = BTreeMap::<String, Instant>::new();
        let mut both = Vec::new();
        for Change { at, edge, vip, has } in changes {
            let with = holders.entry(vip.clone()).or_default();
            let differs = if has { with.insert(edge) } else { with.remove(&edge) };
            if !differs {
                continue;
            }
            let rest = left.get(&vip).map(|left| at.duration_since(*left));
            if !has {
                left.insert(vip.clone(), at);
            }
            if at > since {
                let word = if has { "takes" } else { "gives up" };
                let gap = rest
                    .filter(|_| has)
                    .map_or(String::new(), |gap| format!(", {gap:.1?} after it was given up"));
                println!("  {:>8.1?}: edge-{edge} {word} {vip}{gap}", at - since);
            }
            if with.len() > 1 {
                both.push((vip, with.clone()));
            }
        }
        assert!(both.is_empty(), "at once on several edges: {both:?}");
    }

    /// How long after a moment an edge had an address, or had it no more.
    pub(crate) fn when(&self, since: Instant, edge: u8, vip: &str, has: bool) -> Option<Duration> {
        let changes = self.changes.lock().unwrap();
        let wanted = |change: &&Change| {
            change.at > since && change.edge == edge && change.vip == vip && change.has == has
        };
        changes.iter().find(wanted).map(|change| change.at - since)
    }
}

impl Drop for Holders {
    fn drop(&mut self) {
        for child in &mut self.children {
            _ = child.kill();
            _ = child.wait();
        }
    }
}

fn change(edge: u8, has: bool, line: &str) -> Option<Change> {
    let mut words = line.split_whitespace().skip_while(|word| *word != "inet");
    let vip = words.nth(1)?.split('/').next()?.to_owned();
    vip.starts_with("198.51.100.").then(|| Change { at: Instant::now(), edge, vip, has })
}
