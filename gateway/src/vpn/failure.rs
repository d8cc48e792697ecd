//! What went wrong between two ends, in words: a stable reason, what was seen, what to change.

use std::time::Duration;

use ipsec::ike::event::Failure;
use ipsec::ike::identity::Identity;
use ipsec::selector::TrafficSelector;
use model::suite::Proposal;
use serde::Serialize;

/// One cause, for people.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Cause {
    /// One word, the same in each version.
    pub reason: &'static str,
    /// The field of the VpnConnection that it is most likely about.
    pub field: &'static str,
    /// What was seen.
    pub seen: String,
    /// What to change.
    pub change: String,
}

impl Cause {
    pub(super) fn new(
        reason: &'static str,
        field: &'static str,
        seen: impl Into<String>,
        change: impl Into<String>,
    ) -> Self {
        Self { reason, field, seen: seen.into(), change: change.into() }
    }
}

/// Proposals as they are written.
pub(super) fn proposals(all: &[Proposal]) -> String {
    all.iter().map(Proposal::to_string).collect::<Vec<_>>().join(", ")
}

/// Selectors as people write them.
pub(super) fn selectors(all: &[TrafficSelector]) -> String {
    all.iter().map(TrafficSelector::to_string).collect::<Vec<_>>().join(", ")
}

/// A time, as people say it: `1h02m`, `3m07s`, `12s`.
pub(crate) fn length(time: Duration) -> String {
    let whole = time.as_secs();
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m{s:02}s"),
        (h, m, _) => format!("{h}h{m:02}m"),
    }
}

/// A failure as a cause. `psk`: the connection has a preshared key.
pub fn cause(failure: &Failure, psk: bool) -> Cause {
    match failure {
        Failure::NoAnswer { to_nat_port: false } => Cause::new(
            "no-answer",
            "spec.remote.gateway",
            "the other end does not answer IKE on UDP 500",
            "see that the address is right, that the other end runs, and that UDP 500 (and 4500) \
             is open in both directions between both",
        ),
        Failure::NoAnswer { to_nat_port: true } => Cause::new(
            "no-answer-4500",
            "spec.remote.gateway",
            "the other end answers on UDP 500, and not on UDP 4500",
            "open UDP 4500 in both directions; if it is open, large datagrams may be lost on the \
             way: see that fragments pass, or that the other end has IKE fragmentation on",
        ),
        Failure::NoProposal { ike, ours, theirs } => no_proposal(*ike, ours, theirs.as_deref()),
        Failure::RefusedByPeer { our_id, their_id } => refused(our_id, their_id.as_ref(), psk),
        Failure::BadProof { their_id, why } => Cause::new(
            if psk { "psk-differs" } else { "bad-certificate" },
            "spec.auth",
            format!("the other end says that it is \"{their_id}\", and does not prove it: {why}"),
            if psk {
                "have the same preshared key on both ends; mind a line end or spaces in the Secret"
            } else {
                "see that the other end's certificate is from an authority in caSecretName, is \
                 valid now, has its ID among its names, and isn't revoked"
            },
        ),
        Failure::WrongId { theirs, expected } => {
            let expected = expected.as_ref().map_or_else(
                || "any that its authorities vouch for".to_owned(),
                |expected| format!("\"{expected}\""),
            );
            Cause::new(
                "wrong-id",
                "spec.remote.id",
                format!("the other end says that it is \"{theirs}\"; expected is {expected}"),
                format!(
                    "write spec.remote.id: \"{theirs}\" if that is right, or set the other end's \
                     own ID to {expected}"
                ),
            )
        }
        Failure::AskedForAnother { asked, ours } => Cause::new(
            "asked-for-another",
            "spec.local.id",
            format!("the other end asks for \"{asked}\", and here is \"{ours}\""),
            format!(
                "write spec.local.id: \"{asked}\" if that is right, or have the other end expect \
                 \"{ours}\""
            ),
        ),
        Failure::NoSelectors { local, remote, theirs } => {
            no_selectors(local, remote, theirs.as_ref())
        }
        Failure::Dead => Cause::new(
            "dead-peer",
            "spec.remote.gateway",
            "the other end was there, and has stopped answering",
            "see that the other end runs, and that the network between both still carries UDP 500 \
             and 4500 in both directions",
        ),
        Failure::OldVersion => Cause::new(
            "ikev1",
            "spec.remote.gateway",
            "the other end speaks IKEv1, which is obsolete (RFC 9395) and not spoken here",
            "have the other end use IKEv2 (strongSwan: version = 2, Libreswan: ikev2=insist, \
             Cisco and others: an IKEv2 profile)",
        ),
        Failure::Notified { kind, name } => Cause::new(
            "notified",
            "spec",
            format!("the other end refuses with {name} ({kind})"),
            "look into the other end's log, which says why",
        ),
        Failure::Protocol { what } => Cause::new(
            "protocol",
            "spec",
            format!("a message breaks the protocol: {what}"),
            "see whether the other end is up to date; a debug capture (`gateway vpn capture`) \
             shows the message",
        ),
    }
}

fn no_proposal(ike: bool, ours: &[Proposal], theirs: Option<&str>) -> Cause {
    let (reason, field, what) = if ike {
        ("no-proposal-ike", "spec.ike", "an IKE SA")
    } else {
        ("no-proposal-esp", "spec.esp", "a child SA (ESP)")
    };
    let seen = match theirs {
        Some(theirs) => format!(
            "no proposal for {what} is common to both ends; here: {}; the other end: {theirs}",
            proposals(ours)
        ),
        None => format!(
            "the other end takes none of the proposals for {what} (NO_PROPOSAL_CHOSEN); here: {}",
            proposals(ours)
        ),
    };
    let change = match (theirs, ike) {
        (Some(theirs), _) => format!(
            "add one of the other end's to {field} ({theirs}), or one of these to the other end; \
             where all but the group is the same, it is perfect forward secrecy that differs"
        ),
        (None, true) => {
            "compare both ends' ciphers, integrity, PRF and groups: at least one of each must be \
             the same"
                .to_owned()
        }
        (None, false) => "compare both ends' ciphers, integrity and, for perfect forward secrecy, \
                          groups: at least one of each must be the same"
            .to_owned(),
    };
    Cause::new(reason, field, seen, change)
}

fn refused(our_id: &Identity, their_id: Option<&Identity>, psk: bool) -> Cause {
    let asked = their_id.map(|id| format!(", and asked for \"{id}\"")).unwrap_or_default();
    let proof = if psk { "the preshared key differs" } else { "it does not trust our certificate" };
    Cause::new(
        "refused",
        "spec.auth",
        format!(
            "the other end refuses us (AUTHENTICATION_FAILED); we said that we are \"{our_id}\"{asked}"
        ),
        format!(
            "either {proof}, or the IDs do: the other end must expect \"{our_id}\" of us{}; its \
             log says which",
            their_id.map(|id| format!(" and call itself \"{id}\"")).unwrap_or_default()
        ),
    )
}

fn no_selectors(
    local: &[TrafficSelector],
    remote: &[TrafficSelector],
    theirs: Option<&(Vec<TrafficSelector>, Vec<TrafficSelector>)>,
) -> Cause {
    let (ours_local, ours_remote) = (selectors(local), selectors(remote));
    match theirs {
        Some((their_own, of_us)) => Cause::new(
            "no-selectors",
            "spec.remote.subnets",
            format!(
                "no traffic selectors are common to both ends; here: local {ours_local}, remote \
                 {ours_remote}; the other end: its own {}, ours {}",
                selectors(their_own),
                selectors(of_us)
            ),
            format!(
                "make spec.remote.subnets ({}) and spec.local.subnets, after localSubnetNAT ({}), \
                 what the other end has, or the other way round",
                selectors(their_own),
                selectors(of_us)
            ),
        ),
        None => Cause::new(
            "no-selectors",
            "spec.remote.subnets",
            format!(
                "the other end takes none of our traffic selectors (TS_UNACCEPTABLE): local \
                 {ours_local}, remote {ours_remote}"
            ),
            "have the other end list these: its own side the remote ones, its peer's side the \
             local ones (as they are after localSubnetNAT)",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(text: &str) -> Identity {
        Identity::parse(text).unwrap()
    }

    #[test]
    fn wrong_id_names_both_strings() {
        let failure = Failure::WrongId { theirs: id("b.test"), expected: Some(id("hq.test")) };
        let cause = cause(&failure, true);
        assert_eq!(cause.reason, "wrong-id");
        for part in ["b.test", "hq.test"] {
            assert!(cause.seen.contains(part) && cause.change.contains(part), "{cause:?}");
        }
    }

    #[test]
    fn selectors_of_both_sides_are_shown() {
        let network = |text: &str| vec![TrafficSelector::network(text.parse().unwrap())];
        let failure = Failure::NoSelectors {
            local: network("10.1.0.0/24"),
            remote: network("10.2.0.0/24"),
            theirs: Some((network("10.9.0.0/24"), network("10.8.0.0/24"))),
        };
        let cause = cause(&failure, true);
        for part in ["10.1.0.0/24", "10.2.0.0/24", "10.9.0.0/24", "10.8.0.0/24"] {
            assert!(cause.seen.contains(part), "{cause:?}");
        }
        assert!(cause.change.contains("10.9.0.0/24"), "{cause:?}");
    }

    #[test]
    fn blocked_nat_port_is_told_from_no_answer_at_all() {
        let of = |to_nat_port| cause(&Failure::NoAnswer { to_nat_port }, true);
        assert_eq!((of(false).reason, of(true).reason), ("no-answer", "no-answer-4500"));
        assert!(of(true).change.contains("UDP 4500"));
    }
}
