//! Which entry of a mix comes next: by weight, evenly mixed, the same in every run.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// The longest round of a mix: its weights, divided by what they have in common, sum up to it.
pub(crate) const LONGEST_ROUND: u64 = 100_000;

/// One round of a mix: indices of entries, each as often as its weight says and as evenly spread as
/// whole numbers allow. None if the round were longer than [`LONGEST_ROUND`], or empty.
pub(crate) fn round(weights: &[u32]) -> Option<Vec<u32>> {
    let common = weights.iter().fold(0, |a, b| gcd(a, u64::from(*b))).max(1);
    let shares: Vec<u64> = weights.iter().map(|weight| u64::from(*weight) / common).collect();
    let length: u64 = shares.iter().sum();
    if length == 0 || length > LONGEST_ROUND {
        return None;
    }
    // The k-th of an entry's share belongs in the middle of the k-th of as many equal parts.
    let mut next: BinaryHeap<Place> = shares
        .iter()
        .enumerate()
        .filter(|(_, share)| **share > 0)
        .map(|(entry, share)| Place { nth: 0, share: *share, entry: entry as u32 })
        .collect();
    let mut round = Vec::with_capacity(length as usize);
    while let Some(place) = next.pop() {
        round.push(place.entry);
        if place.nth + 1 < place.share {
            next.push(Place { nth: place.nth + 1, ..place });
        }
    }
    Some(round)
}

fn gcd(a: u64, b: u64) -> u64 {
    if b == 0 { a } else { gcd(b, a % b) }
}

/// The place of an entry's nth turn in a round: (2·nth + 1) / (2·share) of the way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Place {
    nth: u64,
    share: u64,
    entry: u32,
}

impl Ord for Place {
    /// The earlier place is the greater, since the heap gives out its greatest.
    fn cmp(&self, other: &Self) -> Ordering {
        let (own, others) = ((2 * self.nth + 1) * other.share, (2 * other.nth + 1) * self.share);
        others.cmp(&own).then_with(|| other.entry.cmp(&self.entry))
    }
}

impl PartialOrd for Place {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_has_every_entry_as_often_as_its_weight_and_evenly() {
        assert_eq!(round(&[30, 10]).as_deref(), Some(&[0, 0, 1, 0][..]));
        let many = round(&[700, 200, 100]).expect("a round");
        let count = |entry| many.iter().filter(|e| **e == entry).count();
        assert_eq!((many.len(), count(0), count(1), count(2)), (10, 7, 2, 1));
        let gap = many.windows(3).filter(|w| w.iter().all(|e| *e != 0)).count();
        assert_eq!(gap, 0, "{many:?}");
    }

    #[test]
    fn equal_weights_take_turns_in_order() {
        assert_eq!(round(&[5; 4]).as_deref(), Some(&[0, 1, 2, 3][..]));
    }

    #[test]
    fn rounds_are_neither_empty_nor_endless() {
        assert_eq!(round(&[]), None);
        assert_eq!(round(&[0, 0]), None);
        assert_eq!(round(&[1_000_003, 1_000_033]), None);
        assert_eq!(round(&[0, 7]).as_deref(), Some(&[1][..]));
    }
}
