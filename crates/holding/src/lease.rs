//! Leases as they stand in the API, and what they mean here.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

use thiserror::Error;

use crate::Claim;

/// What is read of a Lease, and written to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Its name.
    pub name: String,
    /// Its `resourceVersion`: as it was read, or in a write that which it must still have. Empty
    /// in one that is to be created.
    pub version: String,
    /// `spec.holderIdentity`; empty for none.
    pub holder: String,
    /// `spec.leaseTransitions`
    pub transitions: u32,
    /// `spec.leaseDurationSeconds`
    pub duration_seconds: Option<u32>,
    /// Annotations of `tidegate.io/…`; others aren't needed here.
    pub annotations: BTreeMap<String, String>,
}

/// Why a Lease means nothing.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LeaseFault {
    /// Its holder isn't written as an edge's name, `#` and a number.
    #[error(
        "Lease {name}: spec.holderIdentity {holder:?} is not EDGE#NUMBER; it is left alone: \
         delete the Lease if it isn't needed, or name what wrote it otherwise"
    )]
    Holder {
        /// The Lease.
        name: String,
        /// What it has.
        holder: String,
    },
    /// An edge's Lease names another edge.
    #[error(
        "Lease {name}: spec.holderIdentity {holder:?} is not of edge {edge:?}; it is left alone: \
         delete the Lease"
    )]
    OtherEdge {
        /// The Lease.
        name: String,
        /// What it has.
        holder: String,
        /// Whose it is by its name.
        edge: String,
    },
    /// An annotation can't be read.
    #[error(
        "Lease {name}: annotation {annotation} {value:?} can't be read; it is left alone: \
         delete the Lease"
    )]
    Annotation {
        /// The Lease.
        name: String,
        /// The annotation's name.
        annotation: &'static str,
        /// What it has.
        value: String,
    },
}

const EDGE: &str = "tidegate-edge-";
const VALIDITY: &str = "tidegate.io/validity-ms";
const DRAIN: &str = "tidegate.io/drain";
const CUT_OFF: &str = "tidegate.io/cut-off";
const OFFERS: &str = "tidegate.io/offers";
const KNOWS: &str = "tidegate.io/knows";
const PROCESS: &str = "tidegate.io/process";
const RENEWAL: &str = "tidegate.io/renewal";
const OVER: &str = "tidegate.io/over";
const SILENT: &str = "tidegate.io/fenced-silent";
const HINT: &str = "tidegate.io/for";

/// Nobody waits longer for another, whatever its Lease says.
const MAX_VALIDITY: Duration = Duration::from_secs(3600);

/// Longest name of an object in Kubernetes.
const MAX_NAME: usize = 253;

/// The name of an edge's own Lease.
pub fn edge_lease(edge: &str) -> String {
    format!("{EDGE}{edge}")
}

/// Whose own Lease it is, by its name.
pub fn edge_of(lease: &str) -> Option<&str> {
    lease.strip_prefix(EDGE)
}

/// The name of a claim's Lease. Colons can't be in it, so IPv6 addresses are written out with
/// hyphens; the dot keeps namespace and name of a VpnConnection apart.
pub fn claim_lease(claim: &Claim) -> String {
    match claim {
        Claim::Leader => "tidegate-leader".to_owned(),
        Claim::Vip(IpAddr::V4(address)) => format!("tidegate-vip-{address}"),
        Claim::Vip(IpAddr::V6(address)) => {
            let groups: Vec<_> = address.segments().map(|group| format!("{group:04x}")).into();
            format!("tidegate-vip-{}", groups.join("-"))
        }
        Claim::Vpn(key) => {
            let name = format!("tidegate-vpn-{}.{}", key.namespace, key.name);
            if name.len() <= MAX_NAME {
                return name;
            }
            let hash = crate::rank::score(&key.namespace, &key.name);
            format!("tidegate-vpn-{hash:016x}")
        }
    }
}

/// Whether it may be an edge's name.
pub(crate) fn is_name(name: &str) -> bool {
    let fits = |octet: u8| octet.is_ascii_alphanumeric() || octet == b'-' || octet == b'.';
    !name.is_empty() && name.len() <= MAX_NAME - EDGE.len() && name.bytes().all(fits)
}

/// Which of two resourceVersions is newer. They are decimal numbers that grow (KEP-5504); of
/// others nothing is known.
pub(crate) fn compare(a: &str, b: &str) -> Option<Ordering> {
    if a == b {
        return Some(Ordering::Equal);
    }
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|o| o.is_ascii_digit());
    if !is_number(a) || !is_number(b) {
        return None;
    }
    let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
    Some(a.len().cmp(&b.len()).then_with(|| a.cmp(b)))
}

/// An edge's own Lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EdgeRecord {
    /// The incarnation that it keeps alive.
    pub(crate) running: Option<u64>,
    /// This incarnation and all below are over.
    pub(crate) over: u64,
    /// How long a renewal counts.
    pub(crate) validity: Duration,
    /// It gives up what it holds.
    pub(crate) drain: bool,
    /// What it holds is better off with an edge that isn't.
    pub(crate) cut_off: bool,
    /// What it is able to hold.
    pub(crate) offers: BTreeSet<String>,
    /// The edges without whose promises it doesn't go on when it can't renew.
    pub(crate) knows: BTreeSet<String>,
    /// Which process wrote it.
    pub(crate) process: u64,
    /// That process's number of this write.
    pub(crate) renewal: u64,
    /// It was fenced for its silence by one that it doesn't know.
    pub(crate) silent: bool,
    /// How often the holder has changed.
    pub(crate) transitions: u32,
}

impl EdgeRecord {
    /// What an edge's Lease means.
    pub(crate) fn read(edge: &str, lease: &Lease) -> Result<Self, LeaseFault> {
        let running = holder(lease)?;
        if let Some((name, _)) = &running
            && name != edge
        {
            let (name, holder) = (lease.name.clone(), lease.holder.clone());
            return Err(LeaseFault::OtherEdge { name, holder, edge: edge.to_owned() });
        }
        let running = running.map(|(_, incarnation)| incarnation);
        let seconds = lease.duration_seconds.unwrap_or(0);
        let validity = match number(lease, VALIDITY)? {
            Some(millis) => Duration::from_millis(millis),
            None => Duration::from_secs(seconds.into()),
        };
        let validity = validity.min(MAX_VALIDITY);
        Ok(Self {
            running,
            over: match running {
                Some(incarnation) => incarnation.saturating_sub(1),
                None => number(lease, OVER)?.unwrap_or(0),
            },
            validity,
            drain: lease.annotations.get(DRAIN).is_some_and(|value| value == "true"),
            cut_off: lease.annotations.get(CUT_OFF).is_some_and(|value| value == "true"),
            offers: words(lease, OFFERS),
            knows: words(lease, KNOWS),
            process: number(lease, PROCESS)?.unwrap_or(0),
            renewal: number(lease, RENEWAL)?.unwrap_or(0),
            silent: lease.annotations.contains_key(SILENT),
            transitions: lease.transitions,
        })
    }

    /// It as a Lease.
    pub(crate) fn write(&self, edge: &str, version: &str) -> Lease {
        let mut annotations = BTreeMap::new();
        let mut put = |key: &str, value: String| annotations.insert(key.to_owned(), value);
        put(VALIDITY, self.validity.as_millis().to_string());
        put(PROCESS, self.process.to_string());
        put(RENEWAL, self.renewal.to_string());
        put(OFFERS, join(&self.offers));
        put(KNOWS, join(&self.knows));
        put(DRAIN, self.drain.to_string());
        if self.cut_off {
            put(CUT_OFF, "true".to_owned());
        }
        if self.running.is_none() {
            put(OVER, self.over.to_string());
        }
        if self.silent {
            put(SILENT, "true".to_owned());
        }
        let seconds = self.validity.as_millis().div_ceil(1000).max(1);
        Lease {
            name: edge_lease(edge),
            version: version.to_owned(),
            holder: self.running.map_or_else(String::new, |number| format!("{edge}#{number}")),
            transitions: self.transitions,
            duration_seconds: u32::try_from(seconds).ok(),
            annotations,
        }
    }
}

/// A claim's Lease.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ClaimRecord {
    /// The edge and its incarnation.
    pub(crate) holder: Option<(String, u64)>,
    /// How often the holder has changed.
    pub(crate) epoch: u32,
    /// For whom it was given up.
    pub(crate) hint: Option<String>,
    /// The holder's number of this write.
    pub(crate) renewal: u64,
}

impl ClaimRecord {
    /// What a claim's Lease means.
    pub(crate) fn read(lease: &Lease) -> Result<Self, LeaseFault> {
        Ok(Self {
            holder: holder(lease)?,
            epoch: lease.transitions,
            hint: lease.annotations.get(HINT).cloned(),
            renewal: number(lease, RENEWAL)?.unwrap_or(0),
        })
    }

    /// It as a Lease. The duration is only there because the API wants one: nobody acts on it.
    pub(crate) fn write(&self, name: &str, version: &str) -> Lease {
        let mut annotations = BTreeMap::new();
        annotations.insert(RENEWAL.to_owned(), self.renewal.to_string());
        if let Some(hint) = &self.hint {
            annotations.insert(HINT.to_owned(), hint.clone());
        }
        let holder = self.holder.as_ref();
        Lease {
            name: name.to_owned(),
            version: version.to_owned(),
            holder: holder.map_or_else(String::new, |(edge, number)| format!("{edge}#{number}")),
            transitions: self.epoch,
            duration_seconds: Some(1),
            annotations,
        }
    }
}

fn holder(lease: &Lease) -> Result<Option<(String, u64)>, LeaseFault> {
    if lease.holder.is_empty() {
        return Ok(None);
    }
    let parts = lease.holder.rsplit_once('#').filter(|(edge, _)| is_name(edge));
    match parts.map(|(edge, number)| (edge.to_owned(), number.parse())) {
        Some((edge, Ok(number))) => Ok(Some((edge, number))),
        _ => Err(LeaseFault::Holder { name: lease.name.clone(), holder: lease.holder.clone() }),
    }
}

fn number(lease: &Lease, annotation: &'static str) -> Result<Option<u64>, LeaseFault> {
    let Some(value) = lease.annotations.get(annotation) else { return Ok(None) };
    value.parse().map(Some).map_err(|_| LeaseFault::Annotation {
        name: lease.name.clone(),
        annotation,
        value: value.clone(),
    })
}

fn words(lease: &Lease, annotation: &str) -> BTreeSet<String> {
    let text = lease.annotations.get(annotation).map_or("", String::as_str);
    text.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn join(words: &BTreeSet<String>) -> String {
    words.iter().map(String::as_str).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use model::ObjectKey;

    use super::*;

    #[test]
    fn names_of_leases_are_names_in_kubernetes_and_differ() {
        let vpn = |namespace, name| Claim::Vpn(ObjectKey::new(namespace, name));
        let claims = [
            Claim::Leader,
            Claim::Vip("192.0.2.1".parse().unwrap()),
            Claim::Vip("2001:db8::".parse().unwrap()),
            Claim::Vip("::1".parse().unwrap()),
            vpn("a-b", "c"),
            vpn("a", "b-c"),
        ];
        let names: BTreeSet<_> = claims.iter().map(claim_lease).collect();
        assert_eq!(names.len(), claims.len());
        for name in names {
            assert!(is_name(&name) && !name.ends_with('-'), "{name}");
        }
        assert!(claim_lease(&vpn("n", &"x".repeat(253))).len() < 60);
    }

    #[test]
    fn records_are_read_as_they_were_written() {
        let record = EdgeRecord {
            running: Some(7),
            over: 6,
            validity: Duration::from_millis(1500),
            drain: true,
            cut_off: true,
            offers: ["private".to_owned(), "public".to_owned()].into(),
            knows: ["edge-2".to_owned()].into(),
            process: 3,
            renewal: 9,
            silent: false,
            transitions: 4,
        };
        let lease = record.write("edge-1", "12");
        assert_eq!((lease.holder.as_str(), lease.duration_seconds), ("edge-1#7", Some(2)));
        assert_eq!(EdgeRecord::read("edge-1", &lease), Ok(record.clone()));
        assert!(matches!(EdgeRecord::read("edge-2", &lease), Err(LeaseFault::OtherEdge { .. })));
        let fenced = EdgeRecord { running: None, over: 7, silent: true, ..record };
        assert_eq!(EdgeRecord::read("edge-1", &fenced.write("edge-1", "13")), Ok(fenced));
    }

    #[test]
    fn garbled_leases_are_named() {
        let lease = |holder: &str| Lease {
            name: "tidegate-leader".to_owned(),
            holder: holder.to_owned(),
            ..Lease::default()
        };
        for holder in ["someone", "edge#", "edge#x", "#1", "a b#1", "edge#-1"] {
            let text = ClaimRecord::read(&lease(holder)).unwrap_err().to_string();
            assert!(text.contains("tidegate-leader") && text.contains(holder), "{text}");
        }
        assert_eq!(ClaimRecord::read(&lease("")).unwrap().holder, None);
    }

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(compare("9", "10"), Some(Ordering::Less));
        assert_eq!(compare("10", "10"), Some(Ordering::Equal));
        assert_eq!(compare("x", "10"), None);
    }
}
