//! The marks of connections: by which edge they came.

use std::collections::{BTreeMap, BTreeSet};

/// Most edges that a node tells apart, whatever the mask has room for: each has a table.
const MOST: u32 = 63;

/// The number of each edge: what marks and tables are made of. Edges keep the ones that they
/// had; new ones get the lowest that are free, from 1 to what the mask has room for. Who finds no
/// room has none.
pub fn numbers(
    previous: &BTreeMap<String, u32>,
    edges: impl IntoIterator<Item = String>,
    mask: u32,
) -> BTreeMap<String, u32> {
    let edges: BTreeSet<String> = edges.into_iter().collect();
    let most = room(mask);
    let mut taken = BTreeSet::new();
    let mut numbers = BTreeMap::new();
    for (edge, number) in previous {
        if edges.contains(edge) && (1..=most).contains(number) && taken.insert(*number) {
            numbers.insert(edge.clone(), *number);
        }
    }
    for edge in edges {
        if numbers.contains_key(&edge) {
            continue;
        }
        let Some(number) = (1..=most).find(|number| !taken.contains(number)) else { break };
        taken.insert(number);
        numbers.insert(edge, number);
    }
    numbers
}

/// The highest number that a mask has room for.
pub(super) fn room(mask: u32) -> u32 {
    match mask.count_ones() {
        0 => 0,
        bits => MOST.min(1u32.checked_shl(bits).map_or(MOST, |count| count - 1)),
    }
}

/// A number's bits in the places that the mask has.
pub(super) fn value(number: u32, mask: u32) -> u32 {
    let places = (0..32).filter(|place| mask & (1 << place) != 0).enumerate();
    places.fold(0, |value, (bit, place)| value | (((number >> bit) & 1) << place))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn edges_keep_their_numbers_while_others_come_and_go() {
        let first = numbers(&BTreeMap::new(), names(&["b", "c"]), 0x70);
        assert_eq!(first, [("b".to_owned(), 1), ("c".to_owned(), 2)].into());
        let second = numbers(&first, names(&["a", "c"]), 0x70);
        assert_eq!(second, [("a".to_owned(), 1), ("c".to_owned(), 2)].into());
        let many: Vec<String> = (0..9).map(|number| format!("e{number}")).collect();
        assert_eq!(numbers(&second, many.clone(), 0x70).len(), 7);
        assert_eq!(numbers(&second, many, 0).len(), 0);
    }

    #[test]
    fn values_stand_in_the_bits_of_the_mask() {
        assert_eq!((value(1, 0x70), value(7, 0x70)), (0x10, 0x70));
        assert_eq!(value(3, 0x8000_0001), 0x8000_0001);
        assert_eq!((room(0x70), room(u32::MAX), room(1)), (7, MOST, 1));
    }
}
