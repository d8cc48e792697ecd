//! VpnConnections: how they are, told by the edge that holds them, or by the leading one where
//! none does.

use cluster::write::{Author, Event, FinalizerChange, Kind, StatusChange, Written};
use ingest::crds::VpnConnection;
use ingest::crds::vpn_connection::VpnConnectionStatus;
use k8s_openapi::jiff::Timestamp;
use model::{ObjectKey, ObjectRef};
use serde::Deserialize;

use super::conditions::Conditions;
use super::edges::without_nulls;
use super::ingresses::patch;
use super::services::has_finalizer;
use super::{Connection, View, text_of};

/// Times that differ by less, in seconds, are the same: they were measured from two clocks.
const SAME_TIME: i64 = 3;

/// What stands there, where it can be read.
fn status(object: &VpnConnection) -> Option<VpnConnectionStatus> {
    VpnConnectionStatus::deserialize(&object.status).ok()
}

impl View<'_> {
    /// The edge that holds a connection; none if none does, or it isn't known.
    pub(super) fn holder_of(&self, key: &ObjectKey) -> Option<&String> {
        let holders = self.facts.holders.as_ref()?;
        let vip = self.facts.l4.as_ref().and_then(|plan| {
            let own = plan.vpn.iter().find(|one| one.connection == *key)?;
            Some(own.address)
        });
        match vip {
            Some(vip) => holders.vips.get(&vip),
            None => holders.vpn.get(key),
        }
    }

    pub(super) fn connections(&self, written: &mut Written) {
        if self.context.settings.vpn.is_none() {
            return;
        }
        for (key, object) in &self.facts.delivery.objects.vpn {
            if object.metadata.deletion_timestamp.is_some() {
                self.of_deleted(key, object, written);
                continue;
            }
            let holder = self.holder_of(key);
            let own = holder == Some(&self.context.name);
            // Whoever holds it tells how it is.
            let told = own || self.facts.holders.is_some() && holder.is_none();
            let status = match told {
                true => self.status_of(key, object, holder, written),
                false => StatusChange::Keep,
            };
            let allocated = self
                .facts
                .l4
                .as_ref()
                .is_some_and(|plan| plan.vpn.iter().any(|one| one.connection == *key));
            let has = has_finalizer(&object.metadata);
            let finalizer = match (allocated, has) {
                (true, false) => Some(FinalizerChange::Add),
                (false, true) if self.is_given_up(key) => Some(FinalizerChange::Remove),
                _ => None,
            };
            if status == StatusChange::Keep && finalizer.is_none() {
                continue;
            }
            let mut patch = patch(key, &object.metadata, Kind::VpnConnection, status);
            patch.author = if own { Author::Own } else { Author::Leader };
            patch.finalizer = finalizer;
            written.patches.push(patch);
        }
    }

    /// Its address is given up, then it goes.
    fn of_deleted(&self, key: &ObjectKey, object: &VpnConnection, written: &mut Written) {
        if !has_finalizer(&object.metadata) || !self.is_given_up(key) {
            return;
        }
        let status = StatusChange::Keep;
        let mut patch = patch(key, &object.metadata, Kind::VpnConnection, status);
        patch.finalizer = Some(FinalizerChange::Remove);
        written.patches.push(patch);
    }

    /// Whether no edge holds a connection or its address any more.
    fn is_given_up(&self, key: &ObjectKey) -> bool {
        let (Some(holders), Some(plan)) = (&self.facts.holders, &self.facts.l4) else {
            return false;
        };
        // One that is still planned is about to be held.
        !plan.vpn.iter().any(|one| one.connection == *key)
            && !holders.vpn.contains_key(key)
            && plan.allocations.of_connection(key).iter().all(|address| self.is_released(*address))
    }

    fn status_of(
        &self,
        key: &ObjectKey,
        object: &VpnConnection,
        holder: Option<&String>,
        written: &mut Written,
    ) -> StatusChange {
        let reference = ObjectRef::namespaced("VpnConnection", key);
        let known = status(object);
        let before = known.as_ref();
        let conditions = before.and_then(|status| status.conditions.as_deref());
        let generation = object.metadata.generation;
        let mut conditions = Conditions::new(conditions.unwrap_or_default(), generation, self.now);
        let refused = self.findings.accepted(&reference, &mut conditions);
        let nobody = Connection {
            state: if refused { "Refused" } else { "Down" },
            reason: if refused { "Refused" } else { "NoEdge" }.to_owned(),
            message: match refused {
                true => "it is refused; see the condition Accepted".to_owned(),
                false => "no edge holds it".to_owned(),
            },
            ..Connection::default()
        };
        let starts = Connection {
            reason: if refused { "Refused" } else { "Starting" }.to_owned(),
            message: match refused {
                true => nobody.message.clone(),
                false => "its edge has not begun with it".to_owned(),
            },
            ..nobody.clone()
        };
        let connection = match holder {
            Some(_) => self.connections.get(key).unwrap_or(&starts),
            None => &nobody,
        };
        let established = connection.state == "Established";
        conditions.add(
            "Established",
            Some(established),
            &connection.reason,
            connection.message.clone(),
        );
        self.tell_of_change(&reference, object, connection, holder, written);
        let status = VpnConnectionStatus {
            state: Some(connection.state.to_owned()),
            since: Some(self.since(before, connection, holder)),
            edge: holder.cloned(),
            selectors: (!connection.selectors.is_empty()).then(|| connection.selectors.clone()),
            conditions: Some(conditions.finish()),
        };
        if before == Some(&status) {
            return StatusChange::Keep;
        }
        let fields = serde_json::to_value(&status).map(without_nulls).unwrap_or_default();
        StatusChange::Apply { fields, force: true }
    }

    /// Since when it is as it is.
    fn since(
        &self,
        before: Option<&VpnConnectionStatus>,
        connection: &Connection,
        holder: Option<&String>,
    ) -> String {
        let same = before.filter(|before| {
            before.state.as_deref() == Some(connection.state) && before.edge.as_ref() == holder
        });
        let text = same.and_then(|same| same.since.as_ref());
        let at = text.and_then(|text| text.parse::<Timestamp>().ok());
        match (connection.since, text, at) {
            (None, Some(text), Some(_)) => text.clone(),
            (Some(since), Some(text), Some(at))
                if (since.as_second() - at.as_second()).abs() <= SAME_TIME =>
            {
                text.clone()
            }
            (since, ..) => text_of(since.unwrap_or(self.now)),
        }
    }

    fn tell_of_change(
        &self,
        reference: &ObjectRef,
        object: &VpnConnection,
        connection: &Connection,
        holder: Option<&String>,
        written: &mut Written,
    ) {
        let before = object.status.get("state").and_then(serde_json::Value::as_str);
        let (was, is) = (before == Some("Established"), connection.state == "Established");
        if was == is {
            return;
        }
        let edge = holder.map(String::as_str).unwrap_or_default();
        let (reason, note) = match is {
            true => ("Established", format!("the tunnel is up, on edge {edge}")),
            false => ("Lost", format!("the tunnel is down: {}", connection.message)),
        };
        written.events.push(Event {
            object: self.regarding(reference),
            author: if holder.is_some() { Author::Own } else { Author::Leader },
            warning: !is,
            reason: reason.to_owned(),
            action: "Connecting".to_owned(),
            note,
        });
    }
}
