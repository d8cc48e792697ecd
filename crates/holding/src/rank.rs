//! Rendezvous hashing: which edge a claim belongs to.

/// How much a claim belongs to an edge; the highest wins. The same on every machine and in every
/// version: FNV-1a, then the finalizer of `SplitMix64`, without which close names score alike.
pub(crate) fn score(edge: &str, claim: &str) -> u64 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for octet in edge.bytes().chain([0]).chain(claim.bytes()) {
        hash = (hash ^ u64::from(octet)).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

/// Edges in the order in which a claim belongs to them.
pub(crate) fn order<'a>(edges: impl Iterator<Item = &'a str>, claim: &str) -> Vec<&'a str> {
    let mut edges: Vec<_> = edges.map(|edge| (score(edge, claim), edge)).collect();
    edges.sort_unstable_by(|a, b| b.cmp(a));
    edges.into_iter().map(|(_, edge)| edge).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const EDGES: [&str; 4] = ["edge-1", "edge-2", "edge-3", "edge-4"];

    fn claims() -> Vec<String> {
        (0..4000).map(|n| format!("vip-192.0.{}.{}", n / 250, n % 250)).collect()
    }

    #[test]
    fn each_edge_gets_about_its_share() {
        let claims = claims();
        for edge in EDGES {
            let share =
                claims.iter().filter(|claim| order(EDGES.into_iter(), claim)[0] == edge).count();
            assert!((850..1150).contains(&share), "{edge}: {share}");
        }
    }

    #[test]
    fn an_edge_that_goes_moves_only_what_was_its_own() {
        for claim in claims() {
            let before = order(EDGES.into_iter(), &claim)[0];
            let after = order(EDGES[..3].iter().copied(), &claim)[0];
            assert!(before == "edge-4" || before == after);
        }
    }

    #[test]
    fn scores_are_those_of_other_versions() {
        assert_eq!(score("a", "b"), 16_949_517_343_777_446_270);
    }
}
