//! Body of `/api/v1/vpn`: the connections to other sites, and how they are; and what can be done
//! with them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use base64::Engine as _;
use hyper::header::HOST;
use hyper::{HeaderMap, StatusCode};
use ipsec::ike::config::Child as WantedChild;
use ipsec::ike::event::{ChildStatus, IkeStatus, Rekey};
use ipsec::sa::ConnectionName;
use serde::{Deserialize, Serialize};

use crate::vpn::Handle;
use crate::vpn::dataplane::SaCounters;
use crate::vpn::diagnose::{diagnose, is_narrowed};
use crate::vpn::failure::{Cause, cause};
use crate::vpn::guard::Count;
use crate::vpn::mailbox::{Action, Captured, Refused};
use crate::vpn::report::{OneConnection, Report};

/// What every request that changes something must carry, with any value: no page of another site
/// can have a browser send it without asking first (Fetch, "CORS-preflight request").
pub const HEADER: &str = "tidegate-admin";

/// The longest capture, in seconds.
pub const LONGEST: u64 = 50;

/// All of it.
#[derive(Serialize, Deserialize, Debug)]
pub struct Vpn {
    /// The generation that is to be in force.
    pub desired_generation: u64,
    /// The last one that was in force as a whole.
    pub applied_generation: u64,
    /// What carries packets.
    pub dataplane: String,
    /// IKE messages that were not good, by reason, and what else was counted.
    pub ike: BTreeMap<String, u64>,
    /// Packets that the data path has dropped for no SA's sake, by reason.
    pub dropped: BTreeMap<String, u64>,
    /// Packets that the guard table has kept from leaving in the clear, by counter.
    pub guard: BTreeMap<String, Count>,
    /// By name.
    pub connections: Vec<Connection>,
}

/// One connection.
#[derive(Serialize, Deserialize, Debug)]
pub struct Connection {
    /// `namespace/name`
    pub name: String,
    /// One word.
    pub state: String,
    /// This end's address.
    pub local: Option<IpAddr>,
    /// The other end's.
    pub remote: Vec<IpAddr>,
    /// Who we are.
    pub local_id: Option<String>,
    /// Who the other end must be.
    pub remote_id: Option<String>,
    /// `psk` or `certificate`.
    pub auth: String,
    /// Proposals for IKE SAs.
    pub proposals: Vec<String>,
    /// Its IKE SAs, the one in use first.
    pub ike: Vec<Ike>,
    /// Its children, those that aren't up too.
    pub children: Vec<Child>,
    /// Seconds until it is tried again.
    pub next_try_in: Option<f64>,
    /// What went wrong last.
    pub last_failure: Option<Failed>,
    /// IKE SAs that were rekeyed.
    pub ike_rekeys: u64,
    /// Child SAs that were rekeyed.
    pub child_rekeys: u64,
    /// How often it was lost and begun again.
    pub restarts: u64,
    /// What is wrong with it; empty where nothing is.
    pub diagnosis: Vec<OwnCause>,
}

/// One IKE SA.
#[derive(Serialize, Deserialize, Debug)]
pub struct Ike {
    /// Its number.
    pub id: u64,
    /// Whether this end began.
    pub initiator: bool,
    /// From where,
    pub local: String,
    /// to where.
    pub remote: String,
    /// What was agreed on; none while it begins.
    pub suite: Option<String>,
    /// Age in seconds; none while it begins.
    pub age: Option<f64>,
    /// Seconds until it is rekeyed.
    pub rekey_in: Option<f64>,
    /// Of the last liveness check, in seconds.
    pub round_trip: Option<f64>,
    /// NAT before this end.
    pub nat_here: bool,
    /// NAT before the other end.
    pub nat_there: bool,
}

/// A child of a connection.
#[derive(Serialize, Deserialize, Debug)]
pub struct Child {
    /// Its name.
    pub name: String,
    /// This end's selectors: as wanted.
    pub local: Vec<String>,
    /// The other end's.
    pub remote: Vec<String>,
    /// Proposals.
    pub proposals: Vec<String>,
    /// Its SAs.
    pub sas: Vec<Sa>,
    /// Of all SAs that it had.
    #[serde(flatten)]
    pub counters: Counters,
}

/// A child SA.
#[derive(Serialize, Deserialize, Debug)]
pub struct Sa {
    /// Its number.
    pub id: u64,
    /// What the other end writes.
    pub inbound_spi: String,
    /// What we write.
    pub outbound_spi: String,
    /// What was agreed on.
    pub suite: String,
    /// ESP in UDP.
    pub udp: bool,
    /// Selectors as agreed on: this end's,
    pub local: Vec<String>,
    /// the other end's.
    pub remote: Vec<String>,
    /// Age in seconds.
    pub age: f64,
    /// Seconds until it is rekeyed.
    pub rekey_in: Option<f64>,
    /// Whether packets are sent on it.
    pub sending: bool,
    /// Its largest inner packet, in octets; none where only the kernel knows.
    #[serde(default)]
    pub inner_mtu: Option<usize>,
    /// Less was agreed on than was asked for.
    #[serde(default)]
    pub narrowed: bool,
    /// Its own.
    #[serde(flatten)]
    pub counters: Counters,
}

/// What was counted.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, Default)]
#[allow(missing_docs)] // reason: as in SaCounters
pub struct Counters {
    pub sent_bytes: u64,
    pub sent_packets: u64,
    pub received_bytes: u64,
    pub received_packets: u64,
    pub replayed: u64,
    pub unauthentic: u64,
    pub selector_drops: u64,
    pub outside_selectors: u64,
    pub malformed: u64,
    pub too_big: u64,
    pub held_back: u64,
}

/// Something that went wrong.
#[derive(Serialize, Deserialize, Debug)]
pub struct Failed {
    /// One word.
    pub reason: String,
    /// In words.
    pub seen: String,
    /// With whom.
    pub remote: String,
    /// How many seconds ago.
    pub ago: f64,
    /// How often in a row.
    pub times: u64,
}

/// A [`Cause`].
#[derive(Serialize, Deserialize, Debug, PartialEq, Eq)]
pub struct OwnCause {
    /// One word.
    pub reason: String,
    /// The field that it is about; perhaps empty.
    pub field: String,
    /// What was seen.
    pub seen: String,
    /// What to change.
    pub change: String,
}

impl From<Cause> for OwnCause {
    fn from(cause: Cause) -> Self {
        let Cause { reason, field, seen, change } = cause;
        Self { reason: reason.to_owned(), field: field.to_owned(), seen, change }
    }
}

impl From<SaCounters> for Counters {
    fn from(counted: SaCounters) -> Self {
        Self {
            sent_bytes: counted.sent_bytes,
            sent_packets: counted.sent_packets,
            received_bytes: counted.received_bytes,
            received_packets: counted.received_packets,
            replayed: counted.replayed,
            unauthentic: counted.unauthentic,
            selector_drops: counted.selector_drops,
            outside_selectors: counted.outside_selectors,
            malformed: counted.malformed,
            too_big: counted.too_big,
            held_back: counted.held_back,
        }
    }
}

/// What IKE has counted, by name.
pub(crate) fn ike_counters(report: &Report) -> [(&'static str, u64); 13] {
    let ike = &report.ike;
    [
        ("malformed", ike.malformed),
        ("unauthentic", ike.unauthentic),
        ("unknown_spi", ike.unknown_spi),
        ("out_of_window", ike.out_of_window),
        ("cookies_sent", ike.cookies_sent),
        ("cookies_wrong", ike.cookies_wrong),
        ("limited", ike.limited),
        ("unknown_peer", ike.unknown_peer),
        ("old_version", ike.old_version),
        ("retransmitted_answers", ike.retransmitted_answers),
        ("retransmitted_requests", ike.retransmitted_requests),
        ("half_open", ike.half_open),
        ("established", ike.established),
    ]
}

pub(super) fn of(report: &Report) -> Vpn {
    let own = |(name, count): (&'static str, u64)| (name.to_owned(), count);
    let dropped = report.data.dropped.iter();
    Vpn {
        desired_generation: report.view.desired,
        applied_generation: report.view.applied,
        dataplane: report.dataplane.to_owned(),
        ike: ike_counters(report).into_iter().map(own).collect(),
        dropped: dropped.map(|(reason, count)| ((*reason).to_owned(), *count)).collect(),
        guard: report.guard.clone(),
        connections: report
            .connections
            .iter()
            .map(|connection| connection_of(report, connection))
            .collect(),
    }
}

fn connection_of(report: &Report, connection: &OneConnection) -> Connection {
    let (status, made) = (connection.status.as_ref(), connection.made.as_ref());
    let psk = matches!(connection.plan.connection.auth, model::snapshot::vpn::VpnAuth::Psk(_));
    let rekeys = status.map_or((0, 0), |status| status.rekeys);
    let next_try = status.and_then(|status| status.next_try);
    Connection {
        name: connection.name.to_string(),
        state: connection.state().to_owned(),
        local: made.and_then(|made| made.local),
        remote: made.iter().flat_map(|made| made.remote.iter().map(|at| at.ip())).collect(),
        local_id: made.map(|made| made.local_id.to_string()),
        remote_id: made.and_then(|made| made.remote_id.as_ref()).map(ToString::to_string),
        auth: if psk { "psk" } else { "certificate" }.to_owned(),
        proposals: texts(&connection.plan.connection.ike),
        ike: status.iter().flat_map(|status| &status.ike).map(|ike| ike_of(report, ike)).collect(),
        children: children_of(report, connection),
        next_try_in: next_try.map(|at| report.until(at).as_secs_f64()),
        last_failure: connection.seen.as_ref().map(|seen| {
            let cause = cause(&seen.failure, psk);
            Failed {
                reason: cause.reason.to_owned(),
                seen: cause.seen,
                remote: seen.remote.to_string(),
                ago: report.since(seen.at).as_secs_f64(),
                times: seen.times,
            }
        }),
        ike_rekeys: rekeys.0,
        child_rekeys: rekeys.1,
        restarts: status.map_or(0, |status| status.restarts),
        diagnosis: diagnose(report, connection).into_iter().map(OwnCause::from).collect(),
    }
}

fn ike_of(report: &Report, ike: &IkeStatus) -> Ike {
    Ike {
        id: ike.id.0,
        initiator: ike.initiator,
        local: ike.path.local.to_string(),
        remote: ike.path.remote.to_string(),
        suite: ike.suite.as_ref().map(ToString::to_string),
        age: ike.since.map(|since| report.since(since).as_secs_f64()),
        rekey_in: ike.rekey_at.map(|at| report.until(at).as_secs_f64()),
        round_trip: ike.round_trip.map(|time| time.as_secs_f64()),
        nat_here: ike.nat.0,
        nat_there: ike.nat.1,
    }
}

fn children_of(report: &Report, connection: &OneConnection) -> Vec<Child> {
    let written = &connection.plan.connection;
    let child = |child: &model::snapshot::vpn::VpnChild| {
        let policy = connection.plan.policies.iter().find(|policy| policy.child == child.name);
        let statuses = connection.status.iter().flat_map(|status| &status.children);
        let sas = statuses.filter(|status| *status.sa.child == *child.name);
        let own = !child.esp.is_empty();
        Child {
            name: child.name.clone(),
            local: policy.map(|policy| texts(&policy.local_selectors)).unwrap_or_default(),
            remote: policy.map(|policy| texts(&policy.remote_selectors)).unwrap_or_default(),
            proposals: texts(if own { &child.esp } else { &written.esp }),
            sas: sas.map(|status| sa_of(report, status, connection.wanted(&child.name))).collect(),
            counters: connection.counters(&report.data, &child.name).into(),
        }
    };
    written.children.iter().map(child).collect()
}

fn sa_of(report: &Report, status: &ChildStatus, wanted: Option<&WantedChild>) -> Sa {
    let sa = &status.sa;
    Sa {
        id: sa.id.0,
        inbound_spi: sa.inbound_spi.to_string(),
        outbound_spi: sa.outbound_spi.to_string(),
        suite: sa.suite.to_string(),
        udp: sa.udp,
        local: texts(&sa.local),
        remote: texts(&sa.remote),
        age: report.since(status.since).as_secs_f64(),
        rekey_in: status.rekey_at.map(|at| report.until(at).as_secs_f64()),
        sending: status.sending,
        inner_mtu: report.data.largest.get(&sa.id).copied(),
        narrowed: wanted.is_some_and(|child| is_narrowed(child, sa)),
        counters: report.data.sas.get(&sa.id).copied().unwrap_or_default().into(),
    }
}

fn texts<T: ToString>(all: &[T]) -> Vec<String> {
    all.iter().map(ToString::to_string).collect()
}

/// What a request that changes something was answered.
#[derive(Serialize, Deserialize, Debug)]
pub struct Answer {
    /// Why it isn't done; none if it is begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Decrypted IKE messages.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<CapturedMessage>,
}

/// A decrypted IKE message.
#[derive(Serialize, Deserialize, Debug)]
pub struct CapturedMessage {
    /// Seconds since 1970.
    pub seconds: u64,
    /// And nanoseconds.
    pub nanoseconds: u32,
    /// From where,
    pub source: std::net::SocketAddr,
    /// to where.
    pub destination: std::net::SocketAddr,
    /// Base64.
    pub message: String,
}

impl From<Captured> for CapturedMessage {
    fn from(captured: Captured) -> Self {
        Self {
            seconds: captured.at.as_secs(),
            nanoseconds: captured.at.subsec_nanos(),
            source: captured.source,
            destination: captured.destination,
            message: base64::engine::general_purpose::STANDARD.encode(captured.message),
        }
    }
}

/// Why a request that changes something is not even looked at; none if it is. It must come over
/// loopback, carry [`HEADER`], and name an address or `localhost` as its host, so that no name of
/// another site leads here.
pub(super) fn forbidden(peer: IpAddr, headers: &HeaderMap) -> Option<&'static str> {
    if !peer.to_canonical().is_loopback() {
        return Some("only requests from this machine, over loopback, may change something\n");
    }
    let host = headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let is_own = name == "localhost"
        || name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().is_ok();
    if !is_own {
        return Some("the host must be an address or localhost\n");
    }
    if !headers.contains_key(HEADER) {
        return Some("requests that change something must carry the header tidegate-admin\n");
    }
    None
}

/// Does what `NAMESPACE/NAME/ACTION` asks for; none if that is nothing.
pub(super) async fn act(
    handle: &Handle,
    rest: &str,
    query: Option<&str>,
) -> Option<(StatusCode, Answer)> {
    let mut parts = rest.split('/');
    let (namespace, name, action) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || namespace.is_empty() || name.is_empty() {
        return None;
    }
    let connection: ConnectionName = format!("{namespace}/{name}").into();
    let value = |key: &str| {
        let pairs = query.unwrap_or_default().split('&');
        pairs.filter_map(|pair| pair.split_once('=')).find(|(k, _)| *k == key).map(|(_, v)| v)
    };
    let done = match action {
        "up" => handle.act(connection, Action::Up).await,
        "down" => handle.act(connection, Action::Down).await,
        "rekey" => {
            let what = match value("what") {
                None => Rekey::Children,
                Some("ike") => Rekey::Ike,
                Some(child) => Rekey::Child(child.into()),
            };
            handle.act(connection, Action::Rekey(what)).await
        }
        "capture" => {
            let seconds = value("seconds").and_then(|text| text.parse::<u64>().ok());
            let Some(seconds) = seconds.filter(|seconds| (1..=LONGEST).contains(seconds)) else {
                let error = format!("write seconds=N, N from 1 to {LONGEST}");
                return Some((StatusCode::BAD_REQUEST, failed(error)));
            };
            let within = std::time::Duration::from_secs(seconds);
            return Some(match handle.capture(connection, within).await {
                Ok(Ok(captured)) => {
                    let messages = captured.into_iter().map(CapturedMessage::from).collect();
                    (StatusCode::OK, Answer { error: None, messages })
                }
                Ok(Err(refused)) => (status(&refused), failed(refused.to_string())),
                Err(silent) => (StatusCode::SERVICE_UNAVAILABLE, failed(silent.to_string())),
            });
        }
        _ => return None,
    };
    Some(match done {
        Ok(Ok(())) => (StatusCode::ACCEPTED, Answer { error: None, messages: Vec::new() }),
        Ok(Err(refused)) => (status(&refused), failed(refused.to_string())),
        Err(silent) => (StatusCode::SERVICE_UNAVAILABLE, failed(silent.to_string())),
    })
}

fn status(refused: &Refused) -> StatusCode {
    match refused {
        Refused::Unknown(_) | Refused::NoChild { .. } => StatusCode::NOT_FOUND,
        Refused::NotUp(_) | Refused::Capturing => StatusCode::CONFLICT,
    }
}

fn failed(error: String) -> Answer {
    Answer { error: Some(error), messages: Vec::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn changes_are_only_taken_over_loopback_and_never_for_a_web_page() {
        let loopback: IpAddr = "127.0.0.1".parse().unwrap();
        let good = headers(&[("host", "127.0.0.1:9901"), (HEADER, "cli")]);
        assert_eq!(forbidden(loopback, &good), None);
        assert_eq!(forbidden("::1".parse().unwrap(), &good), None);
        assert!(forbidden("192.0.2.7".parse().unwrap(), &good).is_some());
        // A page of another site: its own name that leads here, or no header of ours.
        let rebound = headers(&[("host", "evil.example:9901"), (HEADER, "x")]);
        assert!(forbidden(loopback, &rebound).is_some());
        let posted = headers(&[("host", "localhost:9901")]);
        assert!(forbidden(loopback, &posted).is_some());
    }
}
