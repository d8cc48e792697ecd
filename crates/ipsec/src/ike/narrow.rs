//! Narrowing of traffic selectors (RFC 7296, 2.9).

use std::cmp::Ordering;
use std::net::IpAddr;

use super::config::Child;
use crate::selector::TrafficSelector;

#[cfg(test)]
mod tests;

/// As many as a TS payload can carry.
pub const MAX_SELECTORS: usize = 255;

/// What is in both, sorted, none of it within another; at most [`MAX_SELECTORS`].
pub fn narrow(ours: &[TrafficSelector], theirs: &[TrafficSelector]) -> Vec<TrafficSelector> {
    let mut common: Vec<TrafficSelector> = Vec::new();
    for our in ours {
        for their in theirs {
            let Some(both) = our.intersection(their) else { continue };
            if common.iter().any(|known| known.contains(&both)) {
                continue;
            }
            common.retain(|known| !both.contains(known));
            if common.len() < MAX_SELECTORS {
                common.push(both);
            }
        }
    }
    common.sort_unstable();
    common
}

/// Whether all of an answer lies in what was asked for: the initiator's check. An answer may have
/// joined neighbouring selectors of ours.
pub fn is_within(answer: &[TrafficSelector], asked: &[TrafficSelector]) -> bool {
    !answer.is_empty() && answer.iter().all(|selector| is_covered(selector, asked))
}

/// Whether selectors next to each other cover one.
fn is_covered(selector: &TrafficSelector, by: &[TrafficSelector]) -> bool {
    // Those that have its protocol and ports, cut to its addresses: only those count here.
    let mut ranges: Vec<(IpAddr, IpAddr)> = by
        .iter()
        .filter_map(|other| {
            let both = other.intersection(selector)?;
            ((both.protocol, both.first_port, both.last_port)
                == (selector.protocol, selector.first_port, selector.last_port))
                .then_some((both.first, both.last))
        })
        .collect();
    ranges.sort_unstable();
    let mut next = Some(selector.first);
    for (first, last) in ranges {
        match next {
            Some(wanted) if first <= wanted => {
                if last >= wanted {
                    next = successor(last);
                }
                if last >= selector.last {
                    return true;
                }
            }
            _ => return false,
        }
    }
    false
}

/// The address after this one; none after the last.
fn successor(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => v4.to_bits().checked_add(1).map(|bits| IpAddr::V4(bits.into())),
        IpAddr::V6(v6) => v6.to_bits().checked_add(1).map(|bits| IpAddr::V6(bits.into())),
    }
}

/// What a responder chooses for a child SA that the other end asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Narrowed {
    /// Which of the configured children: its place in the list.
    pub child: usize,
    /// This end's selectors.
    pub local: Vec<TrafficSelector>,
    /// The other end's.
    pub remote: Vec<TrafficSelector>,
}

/// The configured child that fits best what the other end asks for: `local` for this end (TSr of
/// its request), `remote` for itself (TSi). The best one takes all that is asked for, or else is
/// used as a whole, or else has the packet that the other end put first, or else the most
/// addresses; the first one among equals.
pub fn narrow_both(
    children: &[Child],
    local: &[TrafficSelector],
    remote: &[TrafficSelector],
) -> Option<Narrowed> {
    let mut best: Option<(Fit, Narrowed)> = None;
    for (place, child) in children.iter().enumerate() {
        let narrowed = Narrowed {
            child: place,
            local: narrow(&child.local, local),
            remote: narrow(&child.remote, remote),
        };
        if narrowed.local.is_empty() || narrowed.remote.is_empty() {
            continue;
        }
        let fit = Fit::of(&narrowed, child, local, remote);
        if best.as_ref().is_none_or(|(known, _)| fit.cmp(known) == Ordering::Greater) {
            best = Some((fit, narrowed));
        }
    }
    best.map(|(_, narrowed)| narrowed)
}

/// How well a child fits; more is better.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Fit {
    all_asked: bool,
    all_configured: bool,
    first_asked: bool,
    addresses: u128,
}

impl Fit {
    fn of(
        narrowed: &Narrowed,
        child: &Child,
        local: &[TrafficSelector],
        remote: &[TrafficSelector],
    ) -> Self {
        let first_of = |asked: &[TrafficSelector], got: &[TrafficSelector]| {
            asked.first().is_some_and(|first| got.iter().any(|one| one.contains(first)))
        };
        Self {
            all_asked: is_within(local, &narrowed.local) && is_within(remote, &narrowed.remote),
            all_configured: is_within(&child.local, &narrowed.local)
                && is_within(&child.remote, &narrowed.remote),
            first_asked: first_of(local, &narrowed.local) && first_of(remote, &narrowed.remote),
            addresses: addresses(&narrowed.local).saturating_mul(addresses(&narrowed.remote)),
        }
    }
}

/// How many addresses selectors have.
fn addresses(selectors: &[TrafficSelector]) -> u128 {
    selectors.iter().fold(0, |sum, selector| {
        let count = match (selector.first, selector.last) {
            (IpAddr::V4(first), IpAddr::V4(last)) => {
                u128::from(last.to_bits().saturating_sub(first.to_bits())) + 1
            }
            (IpAddr::V6(first), IpAddr::V6(last)) => {
                last.to_bits().saturating_sub(first.to_bits()).saturating_add(1)
            }
            _ => 0,
        };
        sum.saturating_add(count)
    })
}
