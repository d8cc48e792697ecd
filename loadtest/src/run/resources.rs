//! Whether this machine has what a load needs: file descriptors and ports.

use std::fs;

use anyhow::{Context, bail};

use crate::load::plan::Plan;
use crate::system;

/// File descriptors for all else than connections.
const OTHER_FILES: u64 = 64;

/// Says what to do if there are too few file descriptors or ports.
///
/// # Errors
///
/// There are.
pub(super) fn require(plan: &Plan) -> anyhow::Result<()> {
    let connections = plan.most_connections() as u64;
    system::require_open_files(connections + OTHER_FILES)?;
    let path = "/proc/sys/net/ipv4/ip_local_port_range";
    let range = fs::read_to_string(path).with_context(|| path.to_owned())?;
    let (first, last) = parse(&range).with_context(|| format!("{path}: {range:?}"))?;
    require_ports(connections, last - first + 1, plan.sources.len() as u64)
}

fn parse(range: &str) -> Option<(u64, u64)> {
    let mut numbers = range.split_ascii_whitespace().map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(first)), Some(Ok(last))) if first <= last => Some((first, last)),
        _ => None,
    }
}

fn require_ports(needed: u64, of_each: u64, sources: u64) -> anyhow::Result<()> {
    let there_are = of_each * sources.max(1);
    if needed > there_are {
        let more = needed.div_ceil(of_each);
        bail!(
            "{needed} ports are needed towards one address, {there_are} are there \
             ({of_each} for each source address): name {more} source addresses or more \
             (target.sources: [127.0.0.2-127.0.0.{}] on loopback), or widen \
             net.ipv4.ip_local_port_range",
            more + 1
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_few_ports_are_told_with_the_addresses_that_would_do() {
        assert_eq!(parse("32768\t60999\n"), Some((32768, 60999)));
        require_ports(28_232, 28_232, 0).expect("just enough");
        require_ports(50_000, 28_232, 2).expect("enough for two");
        let error = require_ports(50_000, 28_232, 0).expect_err("too few").to_string();
        for part in ["50000 ports are needed", "28232 are there", "127.0.0.2-127.0.0.3"] {
            assert!(error.contains(part), "{error}");
        }
    }
}
