//! How a connection is, from what the VPN plane reports.

use std::time::Instant;

use ingest::crds::vpn_connection::SelectorsStatus;
use ipsec::ike::event::State;
use k8s_openapi::jiff::Timestamp;

use model::snapshot::vpn::VpnAuth;

use super::Connection;
use crate::vpn::failure::cause;
use crate::vpn::report::OneConnection;

/// The words for it. `time` is when an instant was.
pub(super) fn of(one: &OneConnection, time: &dyn Fn(Instant) -> Option<Timestamp>) -> Connection {
    let finding = || one.finding.as_ref().map(|finding| finding.reason.clone());
    let (state, reason, mut message) = match one.status.as_ref().map(|status| status.state) {
        None => ("Down", "Impossible", finding().unwrap_or_default()),
        Some(State::Down) => ("Down", "Down", "it was told to be down".to_owned()),
        Some(State::Listening) => ("Waiting", "Listening", "waits for the other end".to_owned()),
        Some(State::Trapped) => ("Waiting", "Trapped", "waits for the first packet".to_owned()),
        Some(State::Connecting) => ("Connecting", "Connecting", "it is being set up".to_owned()),
        Some(State::Partial) => ("Connecting", "Partial", "not all child SAs are there".to_owned()),
        Some(State::Up) => ("Established", "Established", String::new()),
    };
    let mut reason = reason.to_owned();
    if let (false, Some(seen)) = (state == "Established", &one.seen) {
        let psk = matches!(one.plan.connection.auth, VpnAuth::Psk(_));
        let cause = cause(&seen.failure, psk);
        (reason, message) = (one_word(cause.reason), format!("{}; {}", cause.seen, cause.change));
    }
    let children = one.status.iter().flat_map(|status| &status.children);
    let mut selectors: Vec<SelectorsStatus> = children
        .filter(|child| child.sending)
        .map(|child| SelectorsStatus {
            child: child.sa.child.to_string(),
            local: Some(child.sa.local.iter().map(ToString::to_string).collect()),
            remote: Some(child.sa.remote.iter().map(ToString::to_string).collect()),
        })
        .collect();
    selectors.sort_by(|one, other| one.child.cmp(&other.child));
    selectors.dedup_by(|one, other| one.child == other.child);
    Connection { state, since: one.since.and_then(time), selectors, reason, message }
}

/// `no-answer` as conditions have it: `NoAnswer`.
fn one_word(reason: &str) -> String {
    let mut word = String::with_capacity(reason.len());
    for part in reason.split('-') {
        let mut chars = part.chars();
        word.extend(chars.next().map(|first| first.to_ascii_uppercase()));
        word.push_str(chars.as_str());
    }
    word
}
