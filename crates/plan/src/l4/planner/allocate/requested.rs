//! Services that ask for certain addresses get these or none.

use std::net::IpAddr;

use model::Diagnostic;
use model::snapshot::{Exposure, Requested};

use super::super::pools::Withheld;
use super::super::span::family;
use super::super::subject::{Subject, Wanted};
use super::connections::is_connection;
use super::{Allocator, Step};

impl<'a> Allocator<'a, '_> {
    /// Gives a Service what it asks for, or tells why it doesn't get it.
    pub(super) fn give_requested(
        &mut self,
        index: usize,
        subject: &Subject<'a>,
        exposure: &'a Exposure,
        step: Step,
    ) {
        let wanted = Wanted::of(exposure);
        let mut found: Vec<IpAddr> = Vec::new();
        let mut refusals = Vec::new();
        for requested in &exposure.requested {
            let has: Vec<IpAddr> = self.has(index).iter().chain(&found).copied().collect();
            if has.contains(&requested.address) {
                continue;
            }
            match self.check(subject, exposure, &wanted, requested, &has) {
                Ok(()) => found.push(requested.address),
                Err((reason, remedy)) => refusals.push(
                    subject
                        .error(&requested.field, reason)
                        .value(requested.address.to_string())
                        .remedy(remedy),
                ),
            }
        }
        let count = self.has(index).len() + found.len();
        if count < wanted.least && refusals.is_empty() {
            let field = exposure.requested.first().map_or("", |requested| requested.field.as_str());
            let reason = "addresses of both families are required, and only one is asked for";
            let remedy = "ask for one of each family, or set spec.ipFamilyPolicy: PreferDualStack";
            refusals.push(subject.error(field, reason.to_owned()).remedy(remedy));
        }
        match step {
            Step::Tell => self.tell_refusals(index, refusals),
            _ if count >= wanted.least => {
                for address in found {
                    self.give(index, address, None);
                }
            }
            _ => {}
        }
    }

    fn tell_refusals(&mut self, index: usize, refusals: Vec<Diagnostic>) {
        if refusals.is_empty() {
            return;
        }
        let reasons: Vec<String> = refusals
            .iter()
            .map(|refusal| match &refusal.value {
                Some(address) => format!("{address} {}", refusal.reason),
                None => refusal.reason.clone(),
            })
            .collect();
        if let Some(pending) = self.holdings.pending.get_mut(index) {
            *pending = Some(reasons.join("; "));
        }
        self.diagnostics.extend(refusals);
    }

    /// Whether a Service can have an address; if not, why not and what to do.
    fn check(
        &self,
        subject: &Subject<'_>,
        exposure: &Exposure,
        wanted: &Wanted,
        requested: &Requested,
        has: &[IpAddr],
    ) -> Result<(), (String, String)> {
        let address = requested.address;
        let refuse = |reason: String, remedy: &str| Err((reason, remedy.to_owned()));
        let v6 = address.is_ipv6();
        if !wanted.order.contains(&v6) {
            return refuse(
                format!("is an {} address, and spec.ipFamilies has the other family", family(v6)),
                "ask for one of that family, or change spec.ipFamilies",
            );
        }
        if !wanted.takes(v6, has) {
            return match has.iter().find(|other| other.is_ipv6() == v6) {
                Some(other) => refuse(
                    format!("is one more {} address besides {other}", family(v6)),
                    "ask for at most one address of each family",
                ),
                None => refuse(
                    "is one more address, and the Service has one family".to_owned(),
                    "set spec.ipFamilyPolicy to PreferDualStack, or ask for one address",
                ),
            };
        }
        let Some(pool) = self.pools.of(address).and_then(|at| self.pools.get(at)) else {
            return refuse("is in no AddressPool".to_owned(), "ask for an address of a pool");
        };
        let name = pool.name;
        if let Some(wanted) = exposure.pool.as_ref().filter(|wanted| *wanted != name) {
            return refuse(
                format!("is AddressPool {name}'s, and tidegate.io/pool names {wanted}"),
                "ask for an address of that pool, or remove the annotation",
            );
        }
        let withheld = self.pools.withheld(pool, address);
        let free = "ask for another address of the pool";
        match withheld {
            Some(Withheld::Reserved) => {
                return refuse(format!("is reserved (spec.reserved of AddressPool {name})"), free);
            }
            Some(Withheld::Alb) => {
                return refuse(format!("is the ALB's (spec.alb of AddressPool {name})"), free);
            }
            Some(Withheld::Routers) => {
                let reason = format!(
                    "is the first of its subnet in AddressPool {name}, which is the anycast address \
                     of the subnet's routers (RFC 4291, 2.6.1)"
                );
                return refuse(reason, free);
            }
            Some(Withheld::Host(interface)) => {
                return refuse(format!("is this machine's own (interface {interface})"), free);
            }
            Some(Withheld::Machine(machine)) => {
                return refuse(format!("is that of {machine}"), free);
            }
            Some(Withheld::Subnet(interface)) => {
                let reason = format!("is the first or last of the subnet of interface {interface}");
                return refuse(reason, free);
            }
            None => {}
        }
        if !pool.selects(exposure) {
            return refuse(
                format!("is AddressPool {name}'s, which doesn't select this Service"),
                "change the pool's spec.serviceSelector or spec.namespaceSelector, or ask for an \
                 address of another pool",
            );
        }
        let reserved = self.holdings.reserved.get(&address);
        if let Some(other) = reserved.filter(|name| is_connection(name)) {
            return refuse(format!("belongs to {other}"), "ask for another address");
        }
        if let Some(other) = reserved {
            return refuse(
                format!(
                    "is reserved for Service {other}, which had it and is not of type LoadBalancer \
                     now"
                ),
                "ask for another address, or delete that Service",
            );
        }
        match self.obstacle(subject, address) {
            Some((obstacle, other)) => {
                let remedy = format!("ask for another one, or {}", obstacle.way_out());
                let reason = match obstacle {
                    super::Obstacle::Key => format!("belongs to Service {}", other.key),
                    obstacle => format!("can't be shared: Service {} {obstacle}", other.key),
                };
                refuse(reason, &remedy)
            }
            None => Ok(()),
        }
    }
}
