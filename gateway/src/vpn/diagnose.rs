//! What is wrong with a connection, with what was seen and what to change.

use std::net::IpAddr;

use ipsec::ike::config::Child;
use ipsec::ike::event::{ConnectionStatus, State};
use ipsec::sa::ChildSa;
use ipsec::selector::TrafficSelector;
use model::snapshot::vpn::VpnAuth;

use super::failure::{Cause, cause, length, selectors};
use super::report::{OneConnection, Report, Stranger};

/// Every cause that is seen for a connection's not working, the likeliest first; none where
/// nothing is wrong.
pub fn diagnose(report: &Report, connection: &OneConnection) -> Vec<Cause> {
    let mut causes = Vec::new();
    if let Some(finding) = &connection.finding {
        causes.push(Cause::new(
            "not-in-force",
            "spec",
            format!("{}: {}", finding.field, finding.reason),
            finding.remedy.clone(),
        ));
    }
    if let Some(status) = &connection.status {
        if status.state != State::Up {
            not_up(report, connection, status, &mut causes);
        }
        if !status.children.is_empty() {
            children(report, connection, status, &mut causes);
        }
        nat(connection, status, &mut causes);
    }
    machine(report, connection, &mut causes);
    causes
}

fn not_up(
    report: &Report,
    connection: &OneConnection,
    status: &ConnectionStatus,
    causes: &mut Vec<Cause>,
) {
    let psk = matches!(connection.plan.connection.auth, VpnAuth::Psk(_));
    let failure = connection.seen.as_ref().map(|seen| &seen.failure);
    if let Some(seen) = &connection.seen {
        let cause = cause(&seen.failure, psk);
        let ago = length(report.since(seen.at));
        causes.push(Cause { seen: format!("{} ({ago} ago)", cause.seen), ..cause });
    }
    // Somebody came from where the other end is, and was taken for nobody.
    for stranger in strangers(report, connection) {
        if Some(&stranger.seen.failure) != failure {
            let seen = cause(&stranger.seen.failure, psk);
            let from = stranger.seen.remote.ip();
            let ago = length(report.since(stranger.seen.at));
            causes.push(Cause { seen: format!("from {from}, {ago} ago: {}", seen.seen), ..seen });
        }
    }
    match status.state {
        State::Down if !status.ike.is_empty() => causes.push(Cause::new(
            "going-down",
            "spec.auto",
            "it was told to be down, and the other end has not answered that yet",
            "nothing: it is down without an answer, too, after a while",
        )),
        State::Down => causes.push(Cause::new(
            "down",
            "spec.auto",
            "it was told to be down",
            format!("begin it: gateway vpn up {}", connection.name),
        )),
        State::Listening | State::Trapped | State::Connecting
            if causes.is_empty() && connection.ended.is_some() =>
        {
            causes.extend(connection.ended.map(|ended| {
                let ago = length(report.since(ended.at));
                Cause::new(
                    "ended",
                    "spec.closeAction",
                    format!("it was up, and the other end {} {ago} ago", ended.how),
                    "look into the other end's log, which says why; gateway vpn up begins at once",
                )
            }));
        }
        State::Listening if causes.is_empty() && has_carried(report, connection) => {
            causes.push(Cause::new(
                "waits",
                "spec.auto",
                "it was up before, and waits for the other end to begin again",
                "have the other end begin; or begin it here: gateway vpn up, or auto: start",
            ));
        }
        State::Listening if causes.is_empty() => causes.push(Cause::new(
            "nobody-came",
            "spec.auto",
            "it waits for the other end, and nobody has come yet",
            "have the other end begin; see that UDP 500 and 4500 to this machine are open; or \
             write auto: start",
        )),
        State::Trapped if causes.is_empty() => causes.push(Cause::new(
            "no-packet-yet",
            "spec.auto",
            "it is begun with the first packet (auto: route), and none has come yet",
            "send something to a remote subnet from a local one; see that the nodes route remote \
             subnets to this gateway",
        )),
        State::Connecting if causes.is_empty() => causes.push(Cause::new(
            "begins",
            "",
            "it begins, and nothing has gone wrong so far",
            "wait a moment and ask again",
        )),
        State::Partial => causes.extend(missing(connection, status)),
        State::Up | State::Listening | State::Trapped | State::Connecting => {}
    }
}

/// Children that aren't there while the IKE SA is.
fn missing(connection: &OneConnection, status: &ConnectionStatus) -> Option<Cause> {
    let made = connection.made.as_ref()?;
    let is_there = |name: &str| status.children.iter().any(|child| &*child.sa.child == name);
    let missing = made.children.iter().filter(|child| !is_there(&child.name));
    let missing: Vec<String> = missing
        .map(|child| {
            format!(
                "{} (local {}, remote {})",
                child.name,
                selectors(&child.local),
                selectors(&child.remote)
            )
        })
        .collect();
    (!missing.is_empty()).then(|| {
        Cause::new(
            "child-missing",
            "spec.children",
            format!("the IKE SA is up, but these children are not: {}", missing.join("; ")),
            "have the other end know the same subnets and ESP proposals for them",
        )
    })
}

/// Whether packets have gone through it, ever.
fn has_carried(report: &Report, connection: &OneConnection) -> bool {
    connection.plan.connection.children.iter().any(|child| {
        let counted = connection.counters(&report.data, &child.name);
        counted.sent_packets > 0 || counted.received_packets > 0
    })
}

/// Whether less was agreed on than was asked for.
pub fn is_narrowed(wanted: &Child, sa: &ChildSa) -> bool {
    let lacks = |wanted: &[TrafficSelector], agreed: &[TrafficSelector]| {
        wanted.iter().any(|wanted| !agreed.iter().any(|agreed| agreed.contains(wanted)))
    };
    lacks(&wanted.local, &sa.local) || lacks(&wanted.remote, &sa.remote)
}

fn strangers<'a>(
    report: &'a Report,
    connection: &'a OneConnection,
) -> impl Iterator<Item = &'a Stranger> {
    let remotes: Vec<IpAddr> = connection
        .made
        .iter()
        .flat_map(|made| made.remote.iter().map(std::net::SocketAddr::ip))
        .collect();
    report
        .strangers
        .iter()
        .filter(move |stranger| remotes.is_empty() || remotes.contains(&stranger.seen.remote.ip()))
        // Before that, there may have been no connection that fits.
        .filter(move |stranger| connection.since.is_none_or(|since| since <= stranger.seen.at))
}

/// What the data path shows.
fn children(
    report: &Report,
    connection: &OneConnection,
    status: &ConnectionStatus,
    causes: &mut Vec<Cause>,
) {
    for planned in &connection.plan.connection.children {
        let child = planned.name.as_str();
        let Some(up) = status.children.iter().find(|up| &*up.sa.child == child) else { continue };
        let counted = connection.counted_since(&report.data, child);
        let (local, remote) = (selectors(&up.sa.local), selectors(&up.sa.remote));
        if counted.sent_packets > 0 && counted.received_packets == 0 {
            let esp = if up.sa.udp {
                "UDP 4500 is open in both directions"
            } else {
                "IP protocol 50 (ESP) is open in both directions, or write forceUDP: true to have \
                 it in UDP 4500"
            };
            causes.push(Cause::new(
                "nothing-comes-back",
                "spec.remote.subnets",
                format!(
                    "child {child}: {} packets were sent to {remote}, and none has come back",
                    counted.sent_packets
                ),
                format!(
                    "see that {esp}; that the hosts behind the other end have a route for {local} \
                     back to it; and that no firewall there drops them"
                ),
            ));
        }
        if counted.received_packets > 0 && counted.sent_packets == 0 {
            causes.push(Cause::new(
                "nothing-goes-out",
                "spec.local.subnets",
                format!(
                    "child {child}: {} packets have come from {remote}, and none went back",
                    counted.received_packets
                ),
                "see that the hosts here answer, have their route to the remote subnets by this \
                 gateway, and that their addresses are in spec.local.subnets",
            ));
        }
        if counted.selector_drops > 0 {
            causes.push(Cause::new(
                "wrong-subnet",
                "spec.remote.subnets",
                format!(
                    "child {child}: {} packets came through the tunnel with addresses outside of \
                     what was agreed on (local {local}, remote {remote}), and were dropped",
                    counted.selector_drops
                ),
                "have the other end send only what is in its selectors, or add its network on \
                 both ends",
            ));
        }
        if counted.outside_selectors > 0 {
            let wanted = connection.wanted(child);
            let asked = wanted.map_or_else(
                || "?".to_owned(),
                |child| {
                    format!(
                        "local {}, remote {}",
                        selectors(&child.local),
                        selectors(&child.remote)
                    )
                },
            );
            causes.push(Cause::new(
                "narrowed",
                "spec.remote.subnets",
                format!(
                    "child {child}: {} packets of ours are for networks that the other end did \
                     not agree on, and were dropped; asked for: {asked}; agreed on: local {local}, \
                     remote {remote}",
                    counted.outside_selectors
                ),
                "have the other end list all that is asked for (its own side the remote ones, its \
                 peer's side the local ones), or give each pair of networks a child of its own",
            ));
        }
        if counted.too_big > 0 {
            causes.push(Cause::new(
                "mtu",
                "",
                format!(
                    "child {child}: {} packets were too big for the tunnel, and were answered \
                     with \"packet too big\"",
                    counted.too_big
                ),
                "that is as it should be for a few; where transfers hang, let ICMP through to the \
                 senders, or lower their MTU",
            ));
        }
        if counted.unauthentic > 0 {
            causes.push(Cause::new(
                "unauthentic",
                "",
                format!("child {child}: {} packets were not authentic", counted.unauthentic),
                "packets are changed on the way, or somebody tries to get some in",
            ));
        }
        if counted.replayed * 100 > counted.received_packets.max(100) {
            causes.push(Cause::new(
                "replays",
                "spec.replayWindow",
                format!(
                    "child {child}: {} packets came twice, or later than the replay window allows",
                    counted.replayed
                ),
                "if the network reorders that much, write a larger replayWindow",
            ));
        }
    }
    let strays = report.data.dropped.get("no-policy").copied().unwrap_or(0);
    let strays = strays.saturating_sub(report.strays_before);
    if strays > 0 {
        causes.push(Cause::new(
            "no-policy",
            "spec.local.subnets",
            format!(
                "{strays} packets for remote subnets came to the tunnels with a source that no \
                 connection has, and were dropped"
            ),
            "add the senders' network to spec.local.subnets (and to the other end), or see who \
             sends them",
        ));
    }
}

/// Nothing is wrong with NAT, but it is good to know.
fn nat(connection: &OneConnection, status: &ConnectionStatus, causes: &mut Vec<Cause>) {
    let Some(ike) = status.ike.first() else { return };
    let where_it_is = match ike.nat {
        (false, false) => return,
        (true, false) => "in front of this end",
        (false, true) => "in front of the other end",
        (true, true) => "in front of both ends",
    };
    let forces = if ike.nat.1 {
        ", or the other end forces encapsulation (strongSwan's libipsec does)"
    } else {
        ""
    };
    let is_address = |id: &ipsec::ike::identity::Identity| id.to_string().parse::<IpAddr>().is_ok();
    let has_addresses = connection.made.as_ref().is_some_and(|made| {
        is_address(&made.local_id) || made.remote_id.as_ref().is_some_and(is_address)
    });
    let change = if has_addresses {
        "write IDs that are no addresses on both ends (local.id, remote.id), and see that UDP 4500 \
         is let through"
    } else {
        "see that UDP 4500 is let through"
    };
    if status.state != State::Up {
        causes.push(Cause::new(
            "nat",
            if has_addresses { "spec.local.id" } else { "" },
            format!("there is NAT {where_it_is}{forces}"),
            change,
        ));
    }
}

/// What is wrong with the machine.
fn machine(report: &Report, connection: &OneConnection, causes: &mut Vec<Cause>) {
    let remotes = connection.plan.policies.iter().flat_map(|policy| &policy.remote);
    let families: Vec<bool> = remotes.map(|network| network.addr().is_ipv6()).collect();
    for (ipv6, forwards) in [false, true].into_iter().zip(report.forwards) {
        if forwards == Some(false) && families.contains(&ipv6) {
            let key = if ipv6 { "net.ipv6.conf.all.forwarding" } else { "net.ipv4.ip_forward" };
            causes.push(Cause::new(
                "no-forwarding",
                "",
                format!("this machine does not forward packets: {key} is 0"),
                format!("set {key} = 1, and see who sets it to 0"),
            ));
        }
    }
    for finding in &report.view.diagnostics {
        if finding.object.kind == "GatewayConfig" {
            causes.push(Cause::new("machine", "", finding.reason.clone(), finding.remedy.clone()));
        }
    }
}
