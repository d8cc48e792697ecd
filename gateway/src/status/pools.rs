//! AddressPools: how full they are.

use cluster::write::{Author, Kind, Patch, StatusChange, Target, Written};
use ingest::crds::address_pool::AddressPoolStatus;
use model::ObjectRef;
use plan::l4::PoolUse;

use super::View;
use super::conditions::Conditions;
use super::edges::without_nulls;

/// More than so many addresses aren't counted out.
const COUNTED: u64 = 1 << 32;

impl View<'_> {
    pub(super) fn pools(&self, written: &mut Written) {
        let Some(plan) = &self.facts.l4 else { return };
        for (name, object) in &self.facts.delivery.objects.pools {
            let usage = plan.pools.get(name).copied();
            let before = object.status.as_ref();
            let conditions = before.and_then(|status| status.conditions.as_deref());
            let generation = object.metadata.generation;
            let mut conditions =
                Conditions::new(conditions.unwrap_or_default(), generation, self.now);
            self.findings.accepted(&ObjectRef::cluster("AddressPool", name), &mut conditions);
            let PoolUse { capacity, used } = usage.unwrap_or_default();
            let free = capacity.saturating_sub(used);
            match (usage, free) {
                (None, _) => conditions.add("Exhausted", None, "NotInForce", "it isn't in force"),
                (_, 0) => {
                    let message = format!("all {capacity} addresses are given away");
                    conditions.add("Exhausted", Some(true), "NoneFree", message);
                }
                _ => conditions.add("Exhausted", Some(false), "AddressesFree", ""),
            }
            let status = AddressPoolStatus {
                used: Some(i64::try_from(used).unwrap_or(i64::MAX)),
                free: Some(match free {
                    free if free > COUNTED => format!("more than {COUNTED}"),
                    free => free.to_string(),
                }),
                conditions: Some(conditions.finish()),
            };
            if before == Some(&status) {
                continue;
            }
            let fields = serde_json::to_value(&status).map(without_nulls).unwrap_or_default();
            written.patches.push(Patch {
                target: Target { kind: Kind::AddressPool, namespace: None, name: name.clone() },
                uid: object.metadata.uid.clone(),
                author: Author::Leader,
                status: StatusChange::Apply { fields, force: true },
                finalizer: None,
            });
        }
    }
}
