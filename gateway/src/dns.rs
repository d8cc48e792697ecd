//! Addresses of ExternalName Services, kept fresh by their records' time to live.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use hickory_resolver::TokioResolver;
use hickory_resolver::config::LookupIpStrategy;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::l7::table::Resolved;

/// A record's time to live is kept within these bounds: no storm, and no address for ever.
const TTL: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(300));
/// After a failure. The last known addresses stay in use meanwhile.
const RETRY: Duration = Duration::from_secs(5);
/// Questions under way at once.
const PARALLEL: usize = 32;

/// What a name resolved to.
struct Answer {
    /// Sorted, each once.
    addresses: Vec<IpAddr>,
    /// How long that may be believed.
    ttl: Duration,
}

/// Looks up the names that `wanted` holds, again and again, and sends what it finds.
///
/// Every name is asked for within its time to live; one that can't be resolved keeps its last
/// addresses, and has none before its first answer. Ends with `stop`.
pub async fn run(
    mut wanted: watch::Receiver<BTreeSet<String>>,
    resolved: watch::Sender<Resolved>,
    stop: CancellationToken,
) {
    let resolver = match resolver() {
        Ok(resolver) => resolver,
        Err(error) => {
            tracing::error!(%error, "no DNS: ExternalName Services have no endpoints");
            return stop.cancelled().await;
        }
    };
    let mut due: BTreeMap<String, Instant> = BTreeMap::new();
    let mut asked: JoinSet<(String, Option<Answer>)> = JoinSet::new();
    let mut under_way: BTreeSet<String> = BTreeSet::new();
    loop {
        {
            let names = wanted.borrow_and_update();
            due.retain(|name, _| names.contains(name));
            for name in names.iter() {
                due.entry(name.clone()).or_insert_with(Instant::now);
            }
            resolved.send_if_modified(|map| {
                let before = map.len();
                map.retain(|name, _| names.contains(name));
                map.len() != before
            });
        }
        let now = Instant::now();
        for (name, at) in &due {
            if *at <= now && asked.len() < PARALLEL && under_way.insert(name.clone()) {
                asked.spawn(ask(resolver.clone(), name.clone()));
            }
        }
        let next = due.iter().filter(|(name, _)| !under_way.contains(*name)).map(|(_, at)| *at);
        let next = next.min().unwrap_or(now + TTL.1);
        tokio::select! {
            () = stop.cancelled() => return,
            changed = wanted.changed() => if changed.is_err() { return },
            () = tokio::time::sleep_until(next), if asked.len() < PARALLEL => {}
            Some(answer) = asked.join_next() => {
                let Ok((name, answer)) = answer else { continue };
                under_way.remove(&name);
                let Some(at) = due.get_mut(&name) else { continue };
                match answer {
                    Some(Answer { addresses, ttl }) => {
                        *at = Instant::now() + ttl;
                        keep(&resolved, name, addresses);
                    }
                    None => *at = Instant::now() + RETRY,
                }
            }
        }
    }
}

fn resolver() -> Result<TokioResolver, hickory_resolver::net::NetError> {
    let mut builder = TokioResolver::builder_tokio()?;
    builder.options_mut().ip_strategy = LookupIpStrategy::Ipv4AndIpv6;
    builder.build()
}

async fn ask(resolver: TokioResolver, name: String) -> (String, Option<Answer>) {
    // With the last dot the search list is left out: an ExternalName is a full name.
    let full = if name.ends_with('.') { name.clone() } else { format!("{name}.") };
    match resolver.lookup_ip(full).await {
        Ok(answer) => {
            let ttl = answer.valid_until().saturating_duration_since(std::time::Instant::now());
            let mut addresses: Vec<IpAddr> = answer.iter().collect();
            addresses.sort_unstable();
            addresses.dedup();
            (name, Some(Answer { addresses, ttl: ttl.clamp(TTL.0, TTL.1) }))
        }
        Err(error) => {
            tracing::warn!(%name, %error, "name not resolved");
            (name, None)
        }
    }
}

fn keep(resolved: &watch::Sender<Resolved>, name: String, addresses: Vec<IpAddr>) {
    resolved.send_if_modified(|map| {
        if map.get(&name) == Some(&addresses) {
            return false;
        }
        tracing::info!(%name, ?addresses, "name resolved");
        map.insert(name, addresses);
        true
    });
}
