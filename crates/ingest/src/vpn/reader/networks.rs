//! The networks of a connection: children, NAT pairs, the single source address.

use std::net::IpAddr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use model::snapshot::vpn::nat::{beyond, overlap};
use model::snapshot::vpn::{NatPair, VpnChild};
use model::suite::Purpose;

use super::{Reader, reversed, values};
use crate::crds::VpnConnectionSpec as Spec;

const LOCAL_NAT: &str = "spec.localSubnetNAT";
const REMOTE_NAT: &str = "spec.remoteSubnetNAT";
const SINGLE: &str = "spec.singleSourceIP";

/// What was read.
pub(super) struct Networks {
    pub(super) children: Vec<VpnChild>,
    pub(super) local_nat: Vec<NatPair>,
    pub(super) remote_nat: Vec<NatPair>,
    pub(super) single_source: Option<IpAddr>,
    pub(super) non_cluster: Vec<IpNet>,
}

impl Reader<'_, '_, '_> {
    pub(super) fn networks(&mut self, spec: &Spec, allow_legacy: bool) -> Networks {
        let written = spec.local.as_ref().and_then(|local| local.subnets.as_ref());
        let mut inside = self.list("spec.local.subnets", written);
        let single_source = self.single_source(spec, &inside);
        if let Some(address) = single_source
            && inside == [IpNet::from(address)]
        {
            // As the strongSwan chart has it: the one network is what the other end sees.
            inside = Vec::new();
        }
        if written.is_none_or(Vec::is_empty) || inside.is_empty() {
            inside = self.context.3.to_vec();
        }
        if inside.is_empty() {
            inside.extend(single_source.map(everything));
        }
        let outside = self.list("spec.remote.subnets", spec.remote.subnets.as_ref());
        let non_cluster =
            self.list("spec.localNonClusterSubnets", spec.local_non_cluster_subnets.as_ref());
        let children = self.children(spec, (&inside, &outside), allow_legacy);
        let local: Vec<IpNet> = children.iter().flat_map(|child| &child.local).copied().collect();
        let remote: Vec<IpNet> = children.iter().flat_map(|child| &child.remote).copied().collect();
        let local_nat = self.pairs(LOCAL_NAT, spec.local_subnet_nat.as_ref());
        let remote_nat = self.pairs(REMOTE_NAT, spec.remote_subnet_nat.as_ref());
        let reachable: Vec<IpNet> = local.iter().chain(&non_cluster).copied().collect();
        self.check_pairs(LOCAL_NAT, &local_nat, &reachable);
        self.check_pairs(REMOTE_NAT, &reversed(&remote_nat), &remote);
        self.check_own(&children, &remote_nat, &non_cluster);
        if let Some(address) = single_source {
            self.check_single(spec, address, &children, &remote_nat);
        }
        Networks { children, local_nat, remote_nat, single_source, non_cluster }
    }

    fn list(&mut self, field: &str, written: Option<&Vec<String>>) -> Vec<IpNet> {
        let mut networks: Vec<IpNet> = Vec::new();
        for (index, text) in written.into_iter().flatten().enumerate() {
            let field = format!("{field}[{index}]");
            match values::network(text) {
                Err(fault) => {
                    self.unread = true;
                    self.error(&field, Some(text), &fault.reason, &fault.remedy);
                }
                Ok(network) => match networks.iter().find(|other| overlap(other, &network)) {
                    Some(other) if other.contains(&network) => {
                        let reason = format!("lies within {other}, which stands there already");
                        self.warning(&field, Some(text), &reason, "write each network once");
                    }
                    Some(other) => {
                        let reason = format!("holds {other}, which stands there already");
                        self.warning(&field, Some(text), &reason, "write each network once");
                        networks.retain(|other| !network.contains(other));
                        networks.push(network);
                    }
                    None => networks.push(network),
                },
            }
        }
        networks
    }

    fn children(
        &mut self,
        spec: &Spec,
        (local, remote): (&[IpNet], &[IpNet]),
        allow_legacy: bool,
    ) -> Vec<VpnChild> {
        let children: Vec<VpnChild> = match &spec.children {
            None => {
                let (local, remote) = (local.to_vec(), remote.to_vec());
                vec![VpnChild { name: self.key.name.clone(), local, remote, esp: Vec::new() }]
            }
            Some(written) => {
                if written.is_empty() {
                    let remedy = "write one, or remove the field for one of the connection's name";
                    self.error("spec.children", None, "the list is empty", remedy);
                }
                let or = |networks: Vec<IpNet>, default: &[IpNet]| {
                    if networks.is_empty() { default.to_vec() } else { networks }
                };
                let one = |(index, child): (usize, &crate::crds::vpn_connection::ChildSpec)| {
                    let field = |name: &str| format!("spec.children[{index}].{name}");
                    let own_local = self.list(&field("local"), child.local.as_ref());
                    let own_remote = self.list(&field("remote"), child.remote.as_ref());
                    let esp = self.proposals(&field("esp"), &child.esp, Purpose::Esp, allow_legacy);
                    let (local, remote) = (or(own_local, local), or(own_remote, remote));
                    VpnChild { name: child.name.clone(), local, remote, esp }
                };
                written.iter().enumerate().map(one).collect()
            }
        };
        let has_children = spec.children.is_some();
        for (index, child) in children.iter().enumerate() {
            let field = |name: &str| match has_children {
                true => format!("spec.children[{index}].{name}"),
                false => format!("spec.{name}.subnets"),
            };
            self.check_child(child, &children[..index], field);
        }
        children
    }

    fn check_child(
        &mut self,
        child: &VpnChild,
        before: &[VpnChild],
        field: impl Fn(&str) -> String,
    ) {
        let label = |text: &str| crate::names::subdomain(text).is_ok() && text.len() <= 253;
        if !label(&child.name) {
            let remedy = "write lower-case letters, digits and dashes";
            self.error(&field("name"), Some(&child.name), "is no name", remedy);
        }
        if before.iter().any(|other| other.name == child.name) {
            let remedy = "give each child a name of its own";
            self.error(&field("name"), Some(&child.name), "is the name of two children", remedy);
        }
        if child.local.is_empty() && !self.unread {
            let remedy = "write the pod and service networks here, or for all connections in \
                          vpn.clusterSubnets of the configuration";
            self.error(&field("local"), None, "has no network", remedy);
        }
        if child.remote.is_empty() && !self.unread {
            let remedy = "write the other end's networks, such as [10.20.0.0/16]";
            self.error(&field("remote"), None, "has no network", remedy);
        }
        for network in child.remote.iter().filter(|network| network.prefix_len() == 0) {
            let reason = "would send everything that leaves the edge into the tunnel, its own \
                          answers to clients too";
            let remedy = "write the networks that are behind the other end";
            self.error(&field("remote"), Some(&network.to_string()), reason, remedy);
        }
        let families = |networks: &[IpNet]| {
            let has = |v4: bool| networks.iter().any(|network| network.addr().is_ipv4() == v4);
            (has(true), has(false))
        };
        let ((local4, local6), (remote4, remote6)) =
            (families(&child.local), families(&child.remote));
        let fits = (local4 && remote4) || (local6 && remote6);
        let is_empty = child.local.is_empty() || child.remote.is_empty();
        if !fits && !is_empty && !self.unread {
            let reason = "are all of another family than the local ones";
            self.error(&field("remote"), None, reason, "write networks of one family on both ends");
        }
        let shared = |one: &[IpNet], two: &[IpNet]| {
            one.iter().any(|one| two.iter().any(|two| overlap(one, two)))
        };
        let clash = before.iter().find(|other| {
            shared(&child.local, &other.local) && shared(&child.remote, &other.remote)
        });
        if let Some(other) = clash {
            let reason =
                format!("has networks that child {} has too, for the same ones here", other.name);
            self.error(&field("remote"), None, &reason, "give each child networks of its own");
        }
    }

    /// Pairs as they are written: the first one as inside.
    fn pairs(&mut self, field: &str, written: Option<&Vec<String>>) -> Vec<NatPair> {
        let mut pairs = Vec::new();
        for (index, text) in written.into_iter().flatten().enumerate() {
            match values::pair(text) {
                Ok(pair) => pairs.push(pair),
                Err(fault) => {
                    let field = format!("{field}[{index}]");
                    self.error(&field, Some(text), &fault.reason, &fault.remedy);
                }
            }
        }
        pairs
    }

    /// Checks pairs that lead from networks of `known` to others.
    fn check_pairs(&mut self, field: &str, pairs: &[NatPair], known: &[IpNet]) {
        let is_local = field == LOCAL_NAT;
        for (index, pair) in pairs.iter().enumerate() {
            let NatPair { inside: from, outside: to } = pair;
            let field = format!("{field}[{index}]");
            let value = if is_local { format!("{from}={to}") } else { format!("{to}={from}") };
            let subnets = if is_local { "local.subnets" } else { "remote.subnets" };
            let is_known = !known.is_empty() && !self.unread;
            if is_known && !known.iter().any(|network| overlap(network, from)) {
                let is_reversed = known.iter().any(|network| overlap(network, to));
                let remedy = match (is_reversed, is_local) {
                    (true, true) => format!(
                        "write networks as they are here in local.subnets, {from} in place of {to}"
                    ),
                    (true, false) => format!("write it the other way round: {from}={to}"),
                    (false, _) => format!("write a network of {subnets}, or add {from} there"),
                };
                let reason = format!("{from} is not within {subnets}");
                self.error(&field, Some(&value), &reason, &remedy);
            }
            let before = pairs.get(..index).unwrap_or_default();
            if let Some(other) = before.iter().find(|other| other.inside == *from) {
                let reason = format!("{from} has a pair already, with {}", other.outside);
                self.error(&field, Some(&value), &reason, "write one pair for each network");
            }
            if let Some(other) = before.iter().find(|other| overlap(&other.outside, to)) {
                let reason = format!(
                    "{to} overlaps {}, so an address there would have two meanings",
                    other.outside
                );
                self.error(&field, Some(&value), &reason, "give each pair a range of its own");
            }
        }
    }

    /// Networks that are both here and there can't be told apart.
    fn check_own(&mut self, children: &[VpnChild], remote_nat: &[NatPair], more: &[IpNet]) {
        let pairs = reversed(remote_nat);
        let cluster = self.context.3;
        for (index, child) in children.iter().enumerate() {
            let own: Vec<IpNet> = child.local.iter().chain(more).chain(cluster).copied().collect();
            for network in beyond(&child.remote, &pairs) {
                let within = |own: &&IpNet| own.prefix_len() > 0 && own.contains(&network);
                let Some(own) = own.iter().find(within) else { continue };
                let field = match children.len() {
                    1 => "spec.remote.subnets".to_owned(),
                    _ => format!("spec.children[{index}].remote"),
                };
                let reason = format!("lies within {own}, which is on this side");
                let remedy = format!(
                    "give it another range that pods see, in remoteSubnetNAT: [<free range>={network}]"
                );
                self.error(&field, Some(&network.to_string()), &reason, &remedy);
            }
        }
    }

    /// The one address that everything leaves from.
    fn single_source(&mut self, spec: &Spec, local: &[IpNet]) -> Option<IpAddr> {
        let enabled = spec.enable_single_source_ip.unwrap_or(false);
        match (&spec.single_source_ip, enabled) {
            (Some(text), false) => {
                let reason = "has no effect without enableSingleSourceIP: true";
                self.error(SINGLE, Some(text), reason, "write that too, or remove this one");
                None
            }
            (Some(text), true) => {
                let address = values::host(text);
                if address.is_none() {
                    let remedy = "write one address, such as 10.131.0.1";
                    self.error(SINGLE, Some(text), "is no single address", remedy);
                }
                address
            }
            (None, true) => match local {
                [only] if values::is_host(only) => Some(only.addr()),
                _ if self.unread => None,
                _ => {
                    let reason = "is missing, and local.subnets is no single address either";
                    let remedy = "write the address that the other end sees, such as \
                                  singleSourceIP: 10.131.0.1";
                    self.error(SINGLE, None, reason, remedy);
                    None
                }
            },
            (None, false) => None,
        }
    }

    fn check_single(
        &mut self,
        spec: &Spec,
        address: IpAddr,
        children: &[VpnChild],
        remote_nat: &[NatPair],
    ) {
        let value = address.to_string();
        if spec.local_subnet_nat.as_ref().is_some_and(|pairs| !pairs.is_empty()) {
            let reason = "stands beside enableSingleSourceIP, which hides all networks";
            self.error(LOCAL_NAT, None, reason, "remove one of the two");
        }
        if spec.local_non_cluster_subnets.as_ref().is_some_and(|list| !list.is_empty()) {
            let reason = "stands beside enableSingleSourceIP, with which nothing comes in";
            let field = "spec.localNonClusterSubnets";
            self.error(field, None, reason, "remove one of the two");
        }
        let pairs = reversed(remote_nat);
        for child in children {
            let seen = beyond(&child.remote, &pairs);
            if let Some(remote) =
                child.remote.iter().chain(&seen).find(|remote| remote.contains(&address))
            {
                let reason = format!("lies within the remote network {remote}");
                self.error(SINGLE, Some(&value), &reason, "write an address of this side");
            }
            if seen.iter().any(|remote| remote.addr().is_ipv4() != address.is_ipv4()) {
                let reason = format!("is of another family than a network of child {}", child.name);
                self.error(SINGLE, Some(&value), &reason, "write connections for each family");
            }
        }
    }
}

fn everything(address: IpAddr) -> IpNet {
    match address {
        IpAddr::V4(_) => Ipv4Net::default().into(),
        IpAddr::V6(_) => Ipv6Net::default().into(),
    }
}
