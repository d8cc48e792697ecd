//! What a former run has left in the kernel: it stands until the first plan, and so until all
//! objects are known.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

use ipnet::IpNet;
use netdev::nft::Nft;
use netdev::route::table::{self, Route, Target};
use plan::vpn::table::TABLE as GUARD;

use super::routes::{METRIC, TABLE};
use crate::l4::kernel::Fault;

/// The remote networks that it has guarded, as far as it has left their routes.
pub fn remote() -> Vec<IpNet> {
    of(&table::list(TABLE).unwrap_or_default(), Target::Blackhole)
}

/// Lets machines be reached that lie within networks that it has guarded: without them no object
/// would ever be known. Returns those that weren't before. Blocks.
///
/// # Errors
/// [`Fault`]
pub fn spare(machines: &BTreeSet<IpAddr>) -> Result<Vec<IpAddr>, Fault> {
    let routes = table::list(TABLE).map_err(Fault::of)?;
    let missing = missing(&routes, machines);
    if missing.is_empty() {
        return Ok(missing);
    }
    match Nft::find().and_then(|nft| nft.apply(&elements(&missing))) {
        Ok(()) => {}
        // Somebody has taken the table away, and there are only the routes.
        Err(error) if error.is_not_there() => {}
        Err(error) => return Err(Fault::of(error)),
    }
    let thrown: Vec<Route> = missing.iter().map(|address| thrown(*address)).collect();
    let faults = table::add(TABLE, &thrown).into_iter().filter_map(Result::err);
    faults.map(Fault::of).next().map_or(Ok(missing), Err)
}

fn of(routes: &[Route], target: Target) -> Vec<IpNet> {
    routes.iter().filter(|route| route.target == target).map(|route| route.network).collect()
}

fn missing(routes: &[Route], machines: &BTreeSet<IpAddr>) -> Vec<IpAddr> {
    let has = |networks: &[IpNet], address: &IpAddr| {
        networks.iter().any(|network| network.contains(address))
    };
    let (guarded, exempt) = (of(routes, Target::Blackhole), of(routes, Target::Throw));
    let inside = machines.iter().filter(|address| has(&guarded, address));
    inside.filter(|address| !has(&exempt, address)).copied().collect()
}

fn thrown(address: IpAddr) -> Route {
    Route { network: address.into(), metric: METRIC, target: Target::Throw }
}

/// What adds addresses to those that the guard lets through.
fn elements(addresses: &[IpAddr]) -> String {
    let mut text = String::new();
    for address in addresses {
        let set = if address.is_ipv4() { "exempt4" } else { "exempt6" };
        let _ = writeln!(text, "add element {GUARD} {set} {{ {address} }}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn only_what_is_guarded_and_not_exempt_yet_is_missing() {
        let route = |network: &str, target| Route {
            network: network.parse().unwrap(),
            metric: METRIC,
            target,
        };
        let routes = [
            route("10.0.0.0/24", Target::Blackhole),
            route("10.0.0.16/28", Target::Throw),
            route("fd00::/64", Target::Blackhole),
        ];
        let machines = ["10.0.0.17", "10.0.0.100", "192.0.2.1", "fd00::1"].map(ip);
        let found = missing(&routes, &machines.into());
        assert_eq!(found, ["10.0.0.100", "fd00::1"].map(ip));
        assert_eq!(
            elements(&found),
            "add element inet tidegate-vpn exempt4 { 10.0.0.100 }\n\
             add element inet tidegate-vpn exempt6 { fd00::1 }\n"
        );
    }
}
