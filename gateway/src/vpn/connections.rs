//! From the plan's connections to the IKE engine's.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipsec::crypto::auth::{Signer, Verifier};
use ipsec::ike::config::{Auth, Child, Close, Connection, Ppk, Start};
use ipsec::ike::identity::Identity;
use ipsec::sa::ConnectionName;
use ipsec::selector::TrafficSelector;
use model::snapshot::vpn::{
    Auto, CloseAction, LocalAddress, RemoteGateway, VpnAuth, VpnConnection,
};
use model::{Diagnostic, ObjectKey, ObjectRef, VpnSettings};
use plan::vpn::{ConnectionPlan, VpnPlan};
use zeroize::Zeroizing;

use super::kernel::Kernel;
use super::mailbox::Names;

/// The connections as the engine has them. What stays the same stays the same in memory: then the
/// engine leaves it alone.
#[derive(Debug, Default)]
pub(super) struct Connections {
    made: BTreeMap<ObjectKey, Made>,
    diagnostics: Vec<Diagnostic>,
}

#[derive(Debug)]
struct Made {
    plan: ConnectionPlan,
    place: Place,
    connection: Arc<Connection>,
    /// The other end has other addresses by now.
    is_late: bool,
}

/// Between which addresses a connection is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Place {
    local: Option<IpAddr>,
    remote: Vec<SocketAddr>,
}

/// An address that a connection had, and the one that it has now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Moved {
    /// The one before.
    pub(super) from: IpAddr,
    /// The one in its place.
    pub(super) to: IpAddr,
}

/// The engine's name of a connection.
pub(super) fn name(key: &ObjectKey) -> ConnectionName {
    key.to_string().into()
}

/// The object of a connection.
pub(super) fn object(key: &ObjectKey) -> ObjectRef {
    ObjectRef::namespaced("VpnConnection", key)
}

impl Connections {
    /// Makes them anew where they have changed. Returns which addresses of this end are gone from
    /// under connections that may go on from another one. `is_up` says which connections are:
    /// those stay where they are if a name has other addresses now.
    pub(super) fn update(
        &mut self,
        plan: &VpnPlan,
        settings: &VpnSettings,
        names: &Names,
        kernel: &mut impl Kernel,
        is_up: impl Fn(&ConnectionName) -> bool,
    ) -> Vec<Moved> {
        let mut moved = Vec::new();
        let mut before = std::mem::take(&mut self.made);
        self.diagnostics.clear();
        for (key, plan) in &plan.connections {
            let old = before.remove(key);
            let mut place = match place(key, plan, settings, names, kernel) {
                Ok(place) => place,
                Err(finding) => {
                    self.diagnostics.push(*finding);
                    // Where it was, it may still be.
                    if let Some(old) = old.filter(|old| old.plan == *plan) {
                        self.made.insert(key.clone(), old);
                    }
                    continue;
                }
            };
            let mut is_late = false;
            if let Some(old) = &old {
                is_late = old.plan == *plan
                    && old.place.remote != place.remote
                    && is_up(&old.connection.name);
                if is_late {
                    place.remote.clone_from(&old.place.remote);
                }
                if plan.connection.mobike
                    && let (Some(from), Some(to)) = (old.place.local, place.local)
                    && from != to
                {
                    moved.push(Moved { from, to });
                }
            }
            match make(key, plan, place, old) {
                Ok(made) => _ = self.made.insert(key.clone(), Made { is_late, ..made }),
                Err(finding) => {
                    let location = plan.connection.location.clone();
                    self.diagnostics.push(finding.at(location));
                }
            }
        }
        moved.sort_unstable();
        moved.dedup();
        if !moved.is_empty() {
            let own = kernel.addresses().unwrap_or_default();
            moved.retain(|moved| !own.iter().any(|network| network.addr() == moved.from));
        }
        moved
    }

    /// Whether a connection is to go to other addresses once it is down.
    pub(super) fn is_late(&self) -> bool {
        self.made.values().any(|made| made.is_late)
    }

    /// For the engine.
    pub(super) fn all(&self) -> BTreeMap<ConnectionName, Arc<Connection>> {
        let all = self.made.values();
        all.map(|made| (Arc::clone(&made.connection.name), Arc::clone(&made.connection))).collect()
    }

    /// One of them, as the engine has it.
    pub(super) fn get(&self, key: &ObjectKey) -> Option<&Arc<Connection>> {
        self.made.get(key).map(|made| &made.connection)
    }

    /// The same by the engine's name.
    pub(super) fn by_name(&self, name: &ConnectionName) -> Option<&Arc<Connection>> {
        let (namespace, rest) = name.split_once('/')?;
        self.get(&ObjectKey::new(namespace, rest))
    }

    /// What keeps connections from being.
    pub(super) fn diagnostics(&self) -> &[Diagnostic] {
        &self.diagnostics
    }
}

/// Finds the addresses.
fn place(
    key: &ObjectKey,
    plan: &ConnectionPlan,
    settings: &VpnSettings,
    names: &Names,
    kernel: &mut impl Kernel,
) -> Result<Place, Box<Diagnostic>> {
    let written = &plan.connection;
    let finding = |field: &str, value: &str, reason: String, remedy: &str| {
        let finding = Diagnostic::error(object(key), field, reason).remedy(remedy);
        let finding = finding.at(written.location.clone());
        Box::new(if value.is_empty() { finding } else { finding.value(value) })
    };
    let socket = |address| SocketAddr::new(address, settings.port);
    let remote: Vec<SocketAddr> = match &written.remote.gateway {
        RemoteGateway::Any => Vec::new(),
        RemoteGateway::Address(address) => vec![socket(*address)],
        RemoteGateway::Name(name) => {
            let known = names.get(name).map(Vec::as_slice).unwrap_or_default();
            if known.is_empty() {
                let reason = "is a name that could not be resolved yet".to_owned();
                let remedy = "see that this machine's DNS knows the name, or write an address";
                return Err(finding("spec.remote.gateway", name, reason, remedy));
            }
            known.iter().copied().map(socket).collect()
        }
    };
    let local = match &written.local.address {
        LocalAddress::Address(address) => Some(*address),
        LocalAddress::Pool(pool) => match plan.vip {
            Some(vip) => Some(vip),
            None => {
                let reason = "has given it no address yet".to_owned();
                let remedy = "see that the pool is there and has an address left";
                return Err(finding("spec.local.addressPool", pool, reason, remedy));
            }
        },
        LocalAddress::Route => match remote.first() {
            None => None,
            Some(remote) => match kernel.source_to(remote.ip()) {
                Ok(source) => Some(source),
                Err(fault) => {
                    let reason = format!("there is no way to {}: {fault}", remote.ip());
                    let remedy = "add a route to it on this machine, or correct the address";
                    return Err(finding("spec.remote.gateway", "", reason, remedy));
                }
            },
        },
    };
    // Where this end's family is given, only such addresses can be reached.
    let remote: Vec<SocketAddr> = match local {
        Some(local) => {
            remote.into_iter().filter(|remote| remote.is_ipv4() == local.is_ipv4()).collect()
        }
        None => remote,
    };
    if remote.is_empty() && written.remote.gateway != RemoteGateway::Any {
        let reason = "is not of the same family as the other end's".to_owned();
        let remedy = "write an IPv4 address for an IPv4 peer, an IPv6 one for an IPv6 peer";
        return Err(finding("spec.local.address", "", reason, remedy));
    }
    Ok(Place { local, remote })
}

/// The same as before, if that is what is wanted.
fn make(
    key: &ObjectKey,
    plan: &ConnectionPlan,
    place: Place,
    old: Option<Made>,
) -> Result<Made, Box<Diagnostic>> {
    let auth = match old {
        Some(same) if same.plan == *plan && same.place == place => return Ok(same),
        // The engine takes keys and certificates for the same only if they are in memory.
        Some(old) if old.plan.connection.auth == plan.connection.auth => {
            old.connection.auth.clone()
        }
        _ => auth(key, &plan.connection.auth)?,
    };
    let connection = Arc::new(connection(key, plan, &place, auth)?);
    Ok(Made { plan: plan.clone(), place, connection, is_late: false })
}

fn connection(
    key: &ObjectKey,
    plan: &ConnectionPlan,
    place: &Place,
    auth: Auth,
) -> Result<Connection, Box<Diagnostic>> {
    let written = &plan.connection;
    let waits = place.remote.is_empty();
    Ok(Connection {
        name: name(key),
        local: place.local,
        remote: place.remote.clone(),
        local_id: local_id(key, written, place, &auth)?,
        remote_id: remote_id(key, written)?,
        auth,
        ppk: written.ppk.as_ref().map(|ppk| Ppk {
            id: ppk.id.clone().into_bytes(),
            key: Arc::new(Zeroizing::new(ppk.key.0.clone())),
            required: ppk.required,
        }),
        proposals: written.ike.clone(),
        children: children(plan),
        start: match written.auto {
            Auto::Start if !waits => Start::Now,
            Auto::Route if !waits => Start::Trap,
            Auto::Add | Auto::Start | Auto::Route => Start::Wait,
        },
        dpd_delay: written.dpd.delay,
        dpd_timeout: written.dpd.timeout,
        dpd_action: close(written.dpd.action),
        close_action: close(written.close_action),
        ike_lifetime: written.lifetimes.ike,
        reauthentication: written.reauthentication,
        force_udp: written.force_udp,
        fragmentation: written.fragmentation,
        mobike: written.mobike,
        childless: written.childless,
        replay_window: written.replay_window,
    })
}

fn close(action: CloseAction) -> Close {
    match action {
        CloseAction::Restart => Close::Restart,
        CloseAction::Clear => Close::Clear,
        CloseAction::None => Close::None,
    }
}

fn children(plan: &ConnectionPlan) -> Vec<Child> {
    let written = &plan.connection;
    let selectors = |networks: &[ipnet::IpNet]| {
        networks.iter().copied().map(TrafficSelector::network).collect::<Vec<_>>()
    };
    let child = |child: &model::snapshot::vpn::VpnChild| {
        let policy = plan.policies.iter().find(|policy| policy.child == child.name)?;
        let own = !child.esp.is_empty();
        Some(Child {
            name: child.name.as_str().into(),
            local: selectors(&policy.local_selectors),
            remote: selectors(&policy.remote_selectors),
            proposals: if own { child.esp.clone() } else { written.esp.clone() },
            lifetime: written.lifetimes.child,
        })
    };
    written.children.iter().filter_map(child).collect()
}

fn identity(key: &ObjectKey, field: &str, text: &str) -> Result<Identity, Box<Diagnostic>> {
    Identity::parse(text).map_err(|reason| {
        let finding = Diagnostic::error(object(key), field, reason).value(text);
        Box::new(finding.remedy(
            "write a name such as edge.example.net, an address, user@host, or a distinguished \
             name such as \"CN=edge, O=Example\"",
        ))
    })
}

fn local_id(
    key: &ObjectKey,
    written: &VpnConnection,
    place: &Place,
    auth: &Auth,
) -> Result<Identity, Box<Diagnostic>> {
    match (&written.local.id, auth, place.local) {
        (Some(id), Auth::Certificate { signer, .. }, _) => {
            let id = identity(key, "spec.local.id", id)?;
            if !signer.has_identity(&id) {
                let reason = format!(
                    "is not in the certificate, so the other end would not believe it; the \
                     certificate is of {}",
                    signer.subject()
                );
                let finding = Diagnostic::error(object(key), "spec.local.id", reason);
                let remedy = "write a name of the certificate, or leave it out for its subject";
                return Err(Box::new(finding.value(id.to_string()).remedy(remedy)));
            }
            Ok(id)
        }
        (Some(id), Auth::Psk(_), _) => identity(key, "spec.local.id", id),
        (None, Auth::Certificate { signer, .. }, _) => Ok(signer.subject()),
        (None, Auth::Psk(_), Some(address)) => {
            identity(key, "spec.local.address", &address.to_string())
        }
        (None, Auth::Psk(_), None) => {
            let reason =
                "is missing, and without an address of this end there is nothing in its place";
            let finding = Diagnostic::error(object(key), "spec.local.id", reason);
            Err(Box::new(finding.remedy("write spec.local.id or spec.local.address")))
        }
    }
}

fn remote_id(
    key: &ObjectKey,
    written: &VpnConnection,
) -> Result<Option<Identity>, Box<Diagnostic>> {
    let text = match (&written.remote.id, &written.remote.gateway) {
        (Some(id), _) => return identity(key, "spec.remote.id", id).map(Some),
        (None, RemoteGateway::Address(address)) => address.to_string(),
        (None, RemoteGateway::Name(name)) => match &written.auth {
            // It has the key, and comes from the name's addresses.
            VpnAuth::Psk(_) => return Ok(None),
            VpnAuth::Certificate { .. } => name.clone(),
        },
        (None, RemoteGateway::Any) => {
            let reason =
                "is missing, and with remote.gateway \"%any\" nothing else says who may come";
            let finding = Diagnostic::error(object(key), "spec.remote.id", reason);
            return Err(Box::new(finding.remedy("write the other end's ID")));
        }
    };
    identity(key, "spec.remote.gateway", &text).map(Some)
}

fn auth(key: &ObjectKey, auth: &VpnAuth) -> Result<Auth, Box<Diagnostic>> {
    match auth {
        VpnAuth::Psk(secret) => Ok(Auth::Psk(Arc::new(Zeroizing::new(secret.0.clone())))),
        VpnAuth::Certificate { chain, key: private, authorities, revoked } => {
            let wrong = |field: &str, error: String, remedy: &str| {
                Box::new(Diagnostic::error(object(key), field, error).remedy(remedy))
            };
            let signer = Signer::from_pem(chain, &private.0).map_err(|error| {
                wrong(
                    "spec.auth.certificate.secretName",
                    format!("its certificate and key can't be used: {error}"),
                    "put the chain (tls.crt) and the key that belongs to it (tls.key) into the \
                     Secret, both PEM; RSA, ECDSA or Ed25519",
                )
            })?;
            let verifier = Verifier::from_pem(authorities, revoked).map_err(|error| {
                wrong(
                    "spec.auth.certificate.caSecretName",
                    format!("its authorities can't be used: {error}"),
                    "put the certificates of the other end's authorities (ca.crt) into the \
                     Secret, PEM",
                )
            })?;
            Ok(Auth::Certificate { signer: Arc::new(signer), verifier: Arc::new(verifier) })
        }
    }
}
