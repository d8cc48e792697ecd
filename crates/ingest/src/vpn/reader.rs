//! One VpnConnection.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use model::snapshot::vpn::{
    Auto, CloseAction, Dpd, Lifetimes, LocalAddress, LocalEnd, NatPair, RemoteEnd, RemoteGateway,
    VpnConnection,
};
use model::suite::{NotationError, Proposal, Purpose, default_esp, default_ike, parse_list};
use model::{Diagnostic, ObjectKey, ObjectRef, Settings, VpnSettings};

use super::period;
use crate::ObjectSet;
use crate::crds::vpn_connection::{ActionSpec, AutoSpec, DpdSpec, EncapsulationSpec, LocalSpec};
use crate::crds::{VpnConnection as Object, VpnConnectionSpec as Spec};
use crate::names;
use crate::report::{Report, shown};

mod form;
mod limits;
mod networks;
pub(super) mod values;

/// Below it an SA lives for so short that it is mostly being renewed.
const SHORT_LIFE: Duration = Duration::from_secs(60);
/// Packets that the replay window spans if nothing is written.
const REPLAY_WINDOW: u32 = 1024;
const MAX_REPLAY_WINDOW: u32 = 65_536;
const DURATION: &str = "write a time such as 30s, 5m or 3h";

/// It can't be.
pub(super) struct Refusal {
    /// A Secret that it needs isn't there: nothing of it may stay in force.
    pub(super) secret_is_gone: bool,
}

/// What a connection is read with.
pub(super) type Context<'a> = (&'a ObjectSet, &'a Settings, &'a VpnSettings, &'a [IpNet]);

/// Reads one. Everything that is wrong with it is in the report then.
pub(super) fn read(
    key: &ObjectKey,
    object: &Object,
    context: Context<'_>,
    report: &mut Report<'_>,
) -> Result<VpnConnection, Refusal> {
    let mut reader =
        Reader { key, context, report, faults: 0, secret_is_gone: false, unread: false };
    let connection = match object.read() {
        Ok(spec) => reader.connection(&spec),
        Err(faults) => {
            for fault in faults {
                let (reason, remedy) = form::explain(&fault, &object.spec);
                reader.error(&fault.field, None, &reason, &remedy);
            }
            None
        }
    };
    let Reader { faults, secret_is_gone, .. } = reader;
    connection.filter(|_| faults == 0).ok_or(Refusal { secret_is_gone })
}

/// The pairs the other way round.
pub(super) fn reversed(pairs: &[NatPair]) -> Vec<NatPair> {
    pairs.iter().map(|pair| pair.reversed()).collect()
}

pub(super) struct Reader<'a, 'b, 'c> {
    pub(super) key: &'a ObjectKey,
    pub(super) context: Context<'a>,
    report: &'b mut Report<'c>,
    faults: usize,
    pub(super) secret_is_gone: bool,
    /// Whether a network can't be read, so that it isn't known what more is missing.
    unread: bool,
}

impl Reader<'_, '_, '_> {
    /// None only after an error.
    fn connection(&mut self, spec: &Spec) -> Option<VpnConnection> {
        if !self.within_limits(spec) {
            return None;
        }
        self.version(spec);
        let allow_legacy = spec.allow_legacy.unwrap_or(false);
        let ike = self.proposals("spec.ike", &spec.ike, Purpose::Ike, allow_legacy);
        let esp = self.proposals("spec.esp", &spec.esp, Purpose::Esp, allow_legacy);
        let gateway = self.gateway(&spec.remote.gateway);
        let any = gateway == Some(RemoteGateway::Any);
        let auto = self.auto(spec.auto, any);
        let local = self.local(spec.local.as_ref(), gateway.as_ref());
        let auth = self.auth(&spec.auth);
        let remote_id = self.remote_id(spec, any);
        let ppk = spec.ppk.as_ref().map(|ppk| self.ppk(ppk));
        let networks = self.networks(spec, allow_legacy);
        let dpd = self.dpd(spec.dpd.as_ref(), auto, any);
        let lifetimes = self.lifetimes(spec);
        let close_action = self.action("spec.closeAction", spec.close_action, auto, any);
        let replay_window = self.replay_window(spec.replay_window);
        if spec.zone.as_deref() == Some("") {
            self.error("spec.zone", None, "is empty", "write a zone's name, or remove it");
        }
        let ppk = match ppk {
            Some(None) => return None,
            Some(Some(ppk)) => Some(ppk),
            None => None,
        };
        let settings = self.context.2;
        let reference = self.reference();
        Some(VpnConnection {
            auto,
            ike: if ike.is_empty() { default_ike() } else { ike },
            esp: if esp.is_empty() { default_esp() } else { esp },
            auth: auth?,
            ppk,
            local,
            remote: RemoteEnd { gateway: gateway?, id: remote_id },
            children: networks.children,
            local_nat: networks.local_nat,
            remote_nat: networks.remote_nat,
            single_source: networks.single_source,
            non_cluster: networks.non_cluster,
            zone: spec.zone.clone(),
            dpd,
            lifetimes,
            close_action,
            force_udp: match spec.encapsulation {
                Some(EncapsulationSpec::Udp) => true,
                Some(EncapsulationSpec::Auto) => false,
                None => settings.force_udp,
            },
            fragmentation: spec.fragmentation.unwrap_or(true),
            mobike: spec.mobike.unwrap_or(true),
            childless: spec.childless.unwrap_or(false),
            reauthentication: spec.reauthentication.unwrap_or(false),
            replay_window,
            location: self.report.location(&reference),
        })
    }

    /// IKEv1 is historic (RFC 9395) and not spoken.
    fn version(&mut self, spec: &Spec) {
        const REASON: &str = "IKEv1 is not spoken: it was made historic by RFC 9395";
        const REMEDY: &str = "ask for IKEv2 at the other end (strongSwan: version = 2 or \
                              keyexchange=ikev2; VyOS: key-exchange ikev2; Cisco: crypto ikev2), \
                              and write ikeVersion: 2";
        match spec.ike_version {
            None | Some(2) => {}
            Some(1) => self.error("spec.ikeVersion", Some("1"), REASON, REMEDY),
            Some(other) => {
                let value = other.to_string();
                let reason = "there is no such version of IKE";
                self.error("spec.ikeVersion", Some(&value), reason, "write ikeVersion: 2");
            }
        }
        match spec.keyexchange.as_deref() {
            None | Some("ikev2") => {}
            Some(value @ ("ikev1" | "ike")) => {
                self.error("spec.keyexchange", Some(value), REASON, REMEDY);
            }
            Some(value) => {
                let reason = "is no key exchange";
                self.error("spec.keyexchange", Some(value), reason, "write ikev2, or remove it");
            }
        }
    }

    /// Empty if none are written, or none can be used.
    pub(super) fn proposals(
        &mut self,
        field: &str,
        written: &Option<Vec<String>>,
        purpose: Purpose,
        allow_legacy: bool,
    ) -> Vec<Proposal> {
        let mut proposals = Vec::new();
        for (index, text) in written.iter().flatten().enumerate() {
            let field = format!("{field}[{index}]");
            match parse_list(text, purpose, allow_legacy) {
                Ok(list) if list.iter().all(|one| proposals.contains(one)) => {
                    let reason = "is the same as one before it";
                    self.warning(&field, Some(text), reason, "write each once");
                }
                Ok(list) => {
                    for one in list {
                        if !proposals.contains(&one) {
                            proposals.push(one);
                        }
                    }
                }
                Err(error) => {
                    let remedy = match (&error, error.instead(), purpose) {
                        (NotationError::Legacy { .. }, Some(instead), _) => format!(
                            "write {instead}, or allowLegacy: true if the other end has nothing \
                             better"
                        ),
                        (NotationError::Unknown { .. }, _, Purpose::Ike) => {
                            "write it in swanctl's notation, such as \
                             aes256gcm16-prfsha384-x25519 or aes128-sha256-modp2048"
                                .to_owned()
                        }
                        (NotationError::Unknown { .. }, _, Purpose::Esp) => {
                            "write it in swanctl's notation, such as aes128gcm16 or \
                             aes128-sha256-x25519"
                                .to_owned()
                        }
                        // What to write is in it.
                        _ => String::new(),
                    };
                    self.error(&field, Some(text), &error.to_string(), &remedy);
                }
            }
        }
        proposals
    }

    fn gateway(&mut self, text: &str) -> Option<RemoteGateway> {
        const FIELD: &str = "spec.remote.gateway";
        const REMEDY: &str = "write an address such as 203.0.113.7, a DNS name, or \"%any\" to \
                              listen only";
        let text = text.trim();
        if text == "%any" {
            return Some(RemoteGateway::Any);
        }
        if let Ok(address) = text.parse::<IpAddr>() {
            if address.is_unspecified() || address.is_multicast() {
                self.error(FIELD, Some(text), "is nobody's address", REMEDY);
                return None;
            }
            return Some(RemoteGateway::Address(address));
        }
        let name = text.to_ascii_lowercase();
        let numeric = name.rsplit('.').next().is_some_and(|last| last.parse::<u64>().is_ok());
        let fault = match names::subdomain(&name) {
            Err(reason) => reason,
            Ok(()) if numeric => "is neither an address nor a name",
            Ok(()) => return Some(RemoteGateway::Name(name)),
        };
        self.error(FIELD, Some(text), fault, REMEDY);
        None
    }

    fn auto(&mut self, written: Option<AutoSpec>, any: bool) -> Auto {
        let (auto, name) = match written {
            None if any => return Auto::Add,
            None => return Auto::Start,
            Some(AutoSpec::Add) => return Auto::Add,
            Some(AutoSpec::Start) => (Auto::Start, "start"),
            Some(AutoSpec::Route) => (Auto::Route, "route"),
        };
        if any {
            let reason = "with remote.gateway: \"%any\" there is no address to begin with";
            let remedy = "write auto: add, or the other end's address";
            self.error("spec.auto", Some(name), reason, remedy);
        }
        auto
    }

    fn local(&mut self, spec: Option<&LocalSpec>, remote: Option<&RemoteGateway>) -> LocalEnd {
        let Some(spec) = spec else { return LocalEnd { address: LocalAddress::Route, id: None } };
        let id = self.id("spec.local.id", spec.id.as_deref());
        if let (Some(address), Some(_)) = (&spec.address, &spec.address_pool) {
            let reason = "stands beside local.addressPool";
            let remedy = "remove one: an address of the edge stays with it, a VIP out of a pool \
                          moves with the connection";
            self.error("spec.local.address", Some(address), reason, remedy);
            return LocalEnd { address: LocalAddress::Route, id };
        }
        let address = match (&spec.address, &spec.address_pool) {
            (Some(text), _) => self.local_address(text, remote),
            (_, Some(pool)) => {
                if self.context.1.l4.is_none() {
                    let reason = "the L4 plane isn't enabled, so there are no pools";
                    let remedy = "write l4.enabled: true in the configuration, or local.address";
                    self.error("spec.local.addressPool", Some(pool), reason, remedy);
                }
                LocalAddress::Pool(pool.clone())
            }
            _ => LocalAddress::Route,
        };
        LocalEnd { address, id }
    }

    fn local_address(&mut self, text: &str, remote: Option<&RemoteGateway>) -> LocalAddress {
        const FIELD: &str = "spec.local.address";
        let Ok(address) = text.trim().parse::<IpAddr>() else {
            let remedy = "write an address of the edge, such as 192.0.2.1, or remove it for the \
                          one that the route gives";
            self.error(FIELD, Some(text), "is no address", remedy);
            return LocalAddress::Route;
        };
        if address.is_unspecified() {
            let remedy = "remove it for the one that the route gives";
            self.error(FIELD, Some(text), "is nobody's address", remedy);
        }
        if let Some(RemoteGateway::Address(remote)) = remote
            && remote.is_ipv4() != address.is_ipv4()
        {
            let reason = format!("is of another family than remote.gateway, {remote}");
            self.error(FIELD, Some(text), &reason, "write both as IPv4 or both as IPv6");
        }
        LocalAddress::Address(address)
    }

    fn id(&mut self, field: &str, text: Option<&str>) -> Option<String> {
        let text = text?;
        if text.trim().is_empty() {
            let remedy = "write a DNS name, an address, an e-mail address or a distinguished name";
            self.error(field, Some(text), "is empty", remedy);
        }
        Some(text.trim().to_owned())
    }

    fn remote_id(&mut self, spec: &Spec, any: bool) -> Option<String> {
        const FIELD: &str = "spec.remote.id";
        let id = self.id(FIELD, spec.remote.id.as_deref()).filter(|id| id != "%any");
        let by_certificate = spec.auth.certificate.is_some();
        if id.is_none() && any {
            let reason = "is missing, and with remote.gateway: \"%any\" nothing else says who the \
                          other end is";
            self.error(FIELD, None, reason, "write the name that the other end gives itself");
        } else if id.is_none() && by_certificate {
            let reason = "is missing, so whoever has a certificate of the authorities may be the \
                          other end";
            self.warning(FIELD, None, reason, "write a name that its certificate has");
        }
        id
    }

    fn dpd(&mut self, spec: Option<&DpdSpec>, auto: Auto, any: bool) -> Dpd {
        let spec = spec.cloned().unwrap_or_default();
        let delay = self.period("spec.dpd.delay", &spec.delay).unwrap_or(Duration::from_secs(10));
        let default = Duration::from_secs(30).max(delay.saturating_mul(3));
        let timeout = self.period("spec.dpd.timeout", &spec.timeout).unwrap_or(default);
        if timeout < delay {
            let reason =
                format!("is less than dpd.delay, {}", spec.delay.as_deref().unwrap_or("10s"));
            let remedy = "write three times the delay or more";
            self.error("spec.dpd.timeout", spec.timeout.as_deref(), &reason, remedy);
        }
        let action = self.action("spec.dpd.action", spec.action, auto, any);
        Dpd { delay, timeout, action }
    }

    fn action(
        &mut self,
        field: &str,
        written: Option<ActionSpec>,
        auto: Auto,
        any: bool,
    ) -> CloseAction {
        match written {
            Some(ActionSpec::Restart) if any => {
                let reason = "with remote.gateway: \"%any\" nothing can be begun from here";
                self.warning(field, Some("restart"), reason, "write clear");
                CloseAction::Clear
            }
            Some(ActionSpec::Restart) => CloseAction::Restart,
            Some(ActionSpec::Clear) => CloseAction::Clear,
            Some(ActionSpec::None) => CloseAction::None,
            None if auto == Auto::Start && !any => CloseAction::Restart,
            None => CloseAction::Clear,
        }
    }

    fn lifetimes(&mut self, spec: &Spec) -> Lifetimes {
        const HOUR: u64 = 3600;
        let written = spec.lifetimes.clone().unwrap_or_default();
        let mut life = |field: &str, text: &Option<String>, hours: u64| {
            let life = self.period(field, text);
            if let (Some(life), Some(text)) = (life, text) {
                if life.is_zero() {
                    let remedy = "write an hour or more, such as 3h";
                    self.error(field, Some(text), "an SA has to end some time", remedy);
                } else if life < SHORT_LIFE {
                    let reason = "is so short that the SA is mostly being renewed";
                    self.warning(field, Some(text), reason, "write an hour or more, such as 1h");
                }
            }
            life.unwrap_or(Duration::from_secs(hours * HOUR))
        };
        let ike = life("spec.lifetimes.ike", &written.ike, 3);
        let child = life("spec.lifetimes.child", &written.child, 1);
        let limits = [
            ("spec.lifetimes.bytes", written.bytes, 1_000_000),
            ("spec.lifetimes.packets", written.packets, 1_000),
        ];
        for (field, limit, least) in limits {
            if let Some(limit) = limit.filter(|limit| *limit < least) {
                let reason = "is so little that the SA is mostly being renewed";
                let remedy = format!("write {least} or more");
                self.error(field, Some(&limit.to_string()), reason, &remedy);
            }
        }
        Lifetimes { ike, child, bytes: written.bytes, packets: written.packets }
    }

    fn replay_window(&mut self, written: Option<u32>) -> u32 {
        const FIELD: &str = "spec.replayWindow";
        match written {
            Some(0) => {
                let reason = "packets may be replayed, and nobody notices";
                self.warning(FIELD, Some("0"), reason, "write 1024 or more");
                0
            }
            Some(window) if window > MAX_REPLAY_WINDOW => {
                let reason = format!("is more than {MAX_REPLAY_WINDOW}");
                self.error(
                    FIELD,
                    Some(&window.to_string()),
                    &reason,
                    "write 1024 or a little more",
                );
                window
            }
            Some(window) => window,
            None => REPLAY_WINDOW,
        }
    }

    fn period(&mut self, field: &str, text: &Option<String>) -> Option<Duration> {
        let text = text.as_ref()?;
        let period = period::parse(text);
        if period.is_none() {
            self.error(field, Some(text), "is no length of time up to seven days", DURATION);
        }
        period
    }

    pub(super) fn reference(&self) -> ObjectRef {
        ObjectRef::namespaced("VpnConnection", self.key)
    }

    pub(super) fn error(&mut self, field: &str, value: Option<&str>, reason: &str, remedy: &str) {
        self.faults += 1;
        self.push(Diagnostic::error(self.reference(), field, reason), value, remedy);
    }

    pub(super) fn warning(&mut self, field: &str, value: Option<&str>, reason: &str, remedy: &str) {
        self.push(Diagnostic::warning(self.reference(), field, reason), value, remedy);
    }

    /// A finding about another object that refuses the connection.
    pub(super) fn refuse(&mut self, finding: Diagnostic) {
        self.faults += 1;
        self.report.push(finding);
    }

    /// The same, that doesn't.
    pub(super) fn tell(&mut self, finding: Diagnostic) {
        self.report.push(finding);
    }

    fn push(&mut self, diagnostic: Diagnostic, value: Option<&str>, remedy: &str) {
        let diagnostic = diagnostic.remedy(remedy);
        self.report.push(match value {
            Some(value) => diagnostic.value(shown(value)),
            None => diagnostic,
        });
    }
}
