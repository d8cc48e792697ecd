//! Services of type LoadBalancer: their addresses, and the finalizer that keeps a Service until
//! its addresses are given up.

use std::collections::BTreeMap;
use std::net::IpAddr;

use cluster::write::{Author, Event, FINALIZER, FinalizerChange, Kind, StatusChange, Written};
use ingest::crds::vpn_connection::ConditionStatus;
use k8s_openapi::api::core::v1::Service;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use model::{L4Settings, ObjectKey, ObjectRef};
use plan::l4::{L4Plan, Path, ServicePlan, StreamTls};
use serde_json::{Value, json};

use super::View;
use super::conditions::Conditions;
use super::edges::without_nulls;
use super::ingresses::{has_applied, patch};

/// The conditions that are ours.
const ACCEPTED: &str = "tidegate.io/Accepted";
const ASSIGNED: &str = "tidegate.io/AddressAssigned";

impl View<'_> {
    pub(super) fn services(&self, written: &mut Written) {
        let (Some(settings), Some(plan)) = (&self.context.settings.l4, &self.facts.l4) else {
            return;
        };
        let plans: BTreeMap<&ObjectKey, &ServicePlan> =
            plan.services.iter().map(|service| (&service.service, &**service)).collect();
        for (key, object) in &self.facts.delivery.objects.services {
            let planned = plans.get(key).copied();
            let deleted = object.metadata.deletion_timestamp.is_some();
            let (status, finalizer) = if is_ours(object, settings) && !deleted {
                let Some(planned) = planned else { continue };
                self.of_ours(key, object, planned, written)
            } else {
                self.of_others(key, object, (plan, planned))
            };
            if status == StatusChange::Keep && finalizer.is_none() {
                continue;
            }
            let mut patch = patch(key, &object.metadata, Kind::Service, status);
            patch.finalizer = finalizer;
            written.patches.push(patch);
        }
    }

    /// Of a Service that is to have addresses.
    fn of_ours(
        &self,
        key: &ObjectKey,
        object: &Service,
        planned: &ServicePlan,
        written: &mut Written,
    ) -> (StatusChange, Option<FinalizerChange>) {
        let before = conditions(object);
        let mut now = Conditions::new(&before, object.metadata.generation, self.now);
        let reference = ObjectRef::namespaced("Service", key);
        self.findings.accepted_as(ACCEPTED, &reference, &mut now);
        match (&planned.pending, planned.addresses.as_slice()) {
            (Some(why), _) => now.add(ASSIGNED, Some(false), "AddressPending", why),
            (None, []) => now.add(ASSIGNED, Some(false), "AddressPending", "it has no address"),
            (None, _) => now.add(ASSIGNED, Some(true), "Assigned", ""),
        }
        let now = now.finish();
        let mode = if needs_the_edge(planned) { "Proxy" } else { "VIP" };
        let list: Vec<Value> =
            planned.addresses.iter().map(|ip| json!({"ip": ip, "ipMode": mode})).collect();
        let present = present(object);
        let wants_finalizer = !planned.addresses.is_empty() && !has_finalizer(&object.metadata);
        let finalizer = wants_finalizer.then_some(FinalizerChange::Add);
        if present == list && before == now {
            return (StatusChange::Keep, finalizer);
        }
        for address in planned.addresses.iter().filter(|ip| !has(&present, **ip)) {
            written.events.push(Event {
                object: self.regarding(&reference),
                author: Author::Leader,
                warning: false,
                reason: "AddressAssigned".to_owned(),
                action: "Assigning".to_owned(),
                note: match self.pool_of(*address) {
                    Some(pool) => format!("{address} of AddressPool {pool}"),
                    None => address.to_string(),
                },
            });
        }
        let mut load_balancer = json!({});
        if !list.is_empty() {
            load_balancer["ingress"] = Value::Array(list);
        }
        let conditions = serde_json::to_value(&now).map(without_nulls).unwrap_or_default();
        let fields = json!({"loadBalancer": load_balancer, "conditions": conditions});
        // One without a class may be another controller's, too: then there is a conflict.
        let class = object.spec.as_ref().and_then(|spec| spec.load_balancer_class.as_ref());
        (StatusChange::Apply { fields, force: class.is_some() }, finalizer)
    }

    /// Of a Service that is to have none of our addresses, and perhaps had some.
    fn of_others(
        &self,
        key: &ObjectKey,
        object: &Service,
        (plan, planned): (&L4Plan, Option<&ServicePlan>),
    ) -> (StatusChange, Option<FinalizerChange>) {
        let metadata = &object.metadata;
        let finalizer = has_finalizer(metadata);
        let ours = has_applied(metadata)
            || conditions(object).iter().any(|one| [ACCEPTED, ASSIGNED].contains(&&*one.kind));
        let deleted = metadata.deletion_timestamp.is_some();
        let status = match ours && !deleted {
            true => StatusChange::TakeBack,
            false => StatusChange::Keep,
        };
        if !finalizer || planned.is_some_and(|planned| planned.load_balancer) {
            return (status, None);
        }
        let had = present(object);
        let had = had.iter().filter_map(|one| one["ip"].as_str()?.parse().ok());
        let mut had = had.chain(plan.allocations.of_service(key).iter().copied());
        let is_given_up = |address: IpAddr| {
            // Who shares it goes on to have it.
            let shared = plan.vips.binary_search_by(|vip| vip.address.cmp(&address)).is_ok();
            shared || self.is_released(address)
        };
        let released = self.facts.holders.is_some() && had.all(is_given_up);
        (status, released.then_some(FinalizerChange::Remove))
    }

    fn pool_of(&self, address: IpAddr) -> Option<&str> {
        let plan = self.facts.l4.as_ref()?;
        let at = plan.vips.binary_search_by(|vip| vip.address.cmp(&address)).ok()?;
        plan.vips.get(at).map(|vip| vip.pool.as_str()).filter(|pool| !pool.is_empty())
    }
}

/// Whether a Service is to have addresses of ours.
fn is_ours(object: &Service, settings: &L4Settings) -> bool {
    let Some(spec) = &object.spec else { return false };
    spec.type_.as_deref() == Some("LoadBalancer")
        && match spec.load_balancer_class.as_deref() {
            None => settings.default_class,
            Some(class) => class == settings.load_balancer_class,
        }
}

/// Whether only the edge does what a Service asks for: then pods, too, have to go through it,
/// and kube-proxy must not short-cut them (`ipMode: Proxy`).
fn needs_the_edge(planned: &ServicePlan) -> bool {
    planned.ports.iter().any(|port| match &port.path {
        Path::Kernel => false,
        Path::UserSpace(stream) => {
            stream.accept_proxy
                || stream.send_proxy.is_some()
                || matches!(stream.tls, StreamTls::Terminate { .. })
        }
    })
}

/// `status.loadBalancer.ingress`
fn present(object: &Service) -> Vec<Value> {
    let status = object.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let list = status.and_then(|status| status.ingress.as_deref()).unwrap_or_default();
    list.iter().filter_map(|one| serde_json::to_value(one).ok()).collect()
}

fn has(present: &[Value], address: IpAddr) -> bool {
    present.iter().any(|one| one["ip"].as_str().and_then(|ip| ip.parse().ok()) == Some(address))
}

/// Those conditions that are ours.
fn conditions(object: &Service) -> Vec<ConditionStatus> {
    let all = object.status.as_ref().and_then(|status| status.conditions.as_deref());
    let ours =
        all.unwrap_or_default().iter().filter(|one| [ACCEPTED, ASSIGNED].contains(&&*one.type_));
    let of = |one: &k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition| ConditionStatus {
        kind: one.type_.clone(),
        status: one.status.clone(),
        reason: Some(one.reason.clone()),
        message: Some(one.message.clone()),
        last_transition_time: Some(super::text_of(one.last_transition_time.0)),
        observed_generation: one.observed_generation,
    };
    let mut ours: Vec<ConditionStatus> = ours.map(of).collect();
    ours.sort_by(|one, other| one.kind.cmp(&other.kind));
    ours
}

pub(super) fn has_finalizer(metadata: &ObjectMeta) -> bool {
    metadata.finalizers.iter().flatten().any(|one| one == FINALIZER)
}
