//! What a misspelt name may have meant.

/// Longest name that is compared; a longer one is no slip.
const LONGEST: usize = 64;

/// The known name that is most like a misspelt one, if any is.
pub fn nearest<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let length = written.chars().count();
    if length > LONGEST {
        return None;
    }
    let most = (length / 3).max(1);
    let apart = known.into_iter().map(|name| (distance(written, name), name));
    apart
        .filter(|(distance, _)| *distance <= most)
        .min_by_key(|(distance, _)| *distance)
        .map(second)
}

fn second((_, name): (usize, &str)) -> &str {
    name
}

/// How many letters are to be added, removed or replaced; upper and lower case are the same.
pub(crate) fn distance(one: &str, other: &str) -> usize {
    let other: Vec<char> = other.chars().map(|letter| letter.to_ascii_lowercase()).collect();
    let mut row: Vec<usize> = (0..=other.len()).collect();
    for (index, letter) in one.chars().enumerate() {
        let letter = letter.to_ascii_lowercase();
        let mut next = vec![index + 1];
        let mut left = index + 1;
        for (expected, around) in other.iter().zip(row.windows(2)) {
            let [diagonal, above] = *around else { continue };
            let replaced = diagonal + usize::from(*expected != letter);
            left = replaced.min(above + 1).min(left + 1);
            next.push(left);
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slips_are_told_from_other_names() {
        assert_eq!(nearest("gatway", ["id", "gateway", "subnets"]), Some("gateway"));
        assert_eq!(nearest("VPNconnection", ["VpnConnection"]), Some("VpnConnection"));
        assert_eq!(nearest("bogus", ["local", "remote"]), None);
        assert_eq!(nearest(&"a".repeat(1 << 20), ["a"]), None);
        assert_eq!((distance("", "abc"), distance("abc", ""), distance("kitten", "sitting")), {
            (3, 3, 3)
        });
    }
}
