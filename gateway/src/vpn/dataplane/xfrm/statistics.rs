//! What the kernel has dropped for no SA's sake (`/proc/net/xfrm_stat`), of all that go through
//! XFRM in this network namespace.

use std::collections::BTreeMap;
use std::fs;

/// The kernel's names, by ours.
const REASONS: [(&str, &[&str]); 6] = [
    ("no-sa", &["XfrmOutNoStates", "XfrmOutPolBlock", "XfrmOutPolDead", "XfrmAcquireError"]),
    ("exhausted", &["XfrmOutStateSeqError"]),
    ("unknown-spi", &["XfrmInNoStates"]),
    ("malformed", &["XfrmInHdrError", "XfrmInStateModeError"]),
    ("selector", &["XfrmInNoPols", "XfrmInPolBlock", "XfrmInTmplMismatch", "XfrmInStateMismatch"]),
    ("send-failed", &["XfrmOutError", "XfrmOutBundleGenError", "XfrmOutBundleCheckError"]),
];

/// Packets by reason, since the network namespace was made; nothing where the kernel doesn't
/// count.
pub(super) fn dropped() -> BTreeMap<&'static str, u64> {
    read(&fs::read_to_string("/proc/thread-self/net/xfrm_stat").unwrap_or_default())
}

fn read(text: &str) -> BTreeMap<&'static str, u64> {
    let counted: BTreeMap<&str, u64> = text
        .lines()
        .filter_map(|line| {
            let (name, number) = line.split_once(char::is_whitespace)?;
            Some((name, number.trim().parse().ok()?))
        })
        .collect();
    let sum = |names: &[&str]| names.iter().filter_map(|name| counted.get(name)).sum();
    REASONS.iter().map(|(reason, names)| (*reason, sum(names))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_numbers_are_summed_up_by_reason() {
        let text =
            "XfrmInNoStates          \t7\nXfrmOutNoStates \t2\nXfrmOutPolBlock\t3\nXfrmNew\t9\n";
        let dropped = read(text);
        assert_eq!((dropped["no-sa"], dropped["unknown-spi"], dropped["selector"]), (5, 7, 0));
        assert_eq!(dropped.len(), REASONS.len());
    }
}
