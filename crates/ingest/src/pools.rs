//! AddressPools.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::snapshot::{self, AddressRange, Operator, Requirement};
use model::{Diagnostic, ObjectRef, Settings};

use crate::ObjectSet;
use crate::crds::label_selector::{LabelOperator, LabelSelector};
use crate::crds::{AddressPool, AddressPoolSpec, Span};
use crate::report::{Report, shown};

mod special;

/// Most addresses that one pool may reserve.
const MAX_RESERVED: usize = 4096;

/// All pools, where the L4 plane is enabled.
pub(crate) fn pools(
    objects: &ObjectSet,
    settings: &Settings,
    report: &mut Report<'_>,
) -> BTreeMap<String, snapshot::AddressPool> {
    if settings.l4.is_none() {
        for name in objects.pools.keys() {
            report.push(
                Diagnostic::warning(
                    ObjectRef::cluster("AddressPool", name),
                    "",
                    "the L4 plane isn't enabled, so the pool isn't used",
                )
                .remedy("write l4.enabled: true in the configuration"),
            );
        }
        return BTreeMap::new();
    }
    (objects.pools.iter())
        .map(|(name, object)| (name.clone(), Reader { name, report }.pool(object)))
        .collect()
}

/// Reads one pool.
struct Reader<'a, 'b, 'c> {
    name: &'a str,
    report: &'b mut Report<'c>,
}

impl Reader<'_, '_, '_> {
    fn pool(mut self, object: &AddressPool) -> snapshot::AddressPool {
        let spec = &object.spec;
        let mut ranges = self.ranges(&spec.addresses);
        let reserved = self.reserved(spec, &mut ranges);
        let alb = self.alb(spec, &ranges, &reserved);
        let created = object.metadata.creation_timestamp.as_ref();
        snapshot::AddressPool {
            visibility: spec.visibility.unwrap_or_default(),
            alb,
            auto_assign: spec.auto_assign.unwrap_or(true),
            announce: spec.announce.unwrap_or_default(),
            service_selector: self.selector("spec.serviceSelector", spec.service_selector.as_ref()),
            namespace_selector: self
                .selector("spec.namespaceSelector", spec.namespace_selector.as_ref()),
            created: created.map(|time| time.0.as_second()),
            location: self.report.location(&self.reference()),
            ranges,
            reserved,
        }
    }

    fn ranges(&mut self, written: &[String]) -> Vec<AddressRange> {
        if written.is_empty() {
            let remedy = "write the pool's addresses, such as [\"198.51.100.16/29\"]";
            self.error("spec.addresses", None, "the list is empty", remedy);
        }
        let mut ranges: Vec<AddressRange> = Vec::with_capacity(written.len());
        for (index, text) in written.iter().enumerate() {
            let field = format!("spec.addresses[{index}]");
            let span = match text.trim().parse::<Span>() {
                Ok(span) => span,
                Err(error) => {
                    let reason = format!("{}; it is left out", error.reason);
                    self.error(&field, Some(text), &reason, &error.remedy);
                    continue;
                }
            };
            let range = AddressRange { first: span.first, last: span.last, index };
            if let Some((what, remedy)) = special::among(&range) {
                let reason = format!("holds {what}; it is left out");
                self.error(&field, Some(text), &reason, remedy);
            } else if let Some(other) = ranges.iter().find(|other| other.overlaps(&range)) {
                let reason = format!(
                    "has addresses that spec.addresses[{}] has too; it is left out",
                    other.index
                );
                self.error(&field, Some(text), &reason, "write each address once");
            } else {
                ranges.push(range);
            }
        }
        ranges
    }

    fn reserved(&mut self, spec: &AddressPoolSpec, ranges: &mut Vec<AddressRange>) -> Vec<IpAddr> {
        let mut reserved = Vec::new();
        for (index, span) in spec.reserved.iter().flatten().enumerate() {
            let field = format!("spec.reserved[{index}]");
            let written = AddressRange { first: span.first, last: span.last, index };
            let (mut inside, mut too_many) = (false, false);
            ranges.retain(|range| {
                if !range.overlaps(&written) {
                    return true;
                }
                inside = true;
                let first = range.first.max(written.first);
                let last = range.last.min(written.last);
                let room = MAX_RESERVED - reserved.len();
                let both = Span { first, last }.addresses(room + 1);
                if both.len() > room {
                    too_many = true;
                    return false;
                }
                reserved.extend(both);
                true
            });
            if too_many {
                // To give away what was meant to be kept back would be worse.
                let reason = format!(
                    "with it the pool reserves over {MAX_RESERVED} addresses; what of \
                     spec.addresses it stands in is left out"
                );
                let remedy = "write fewer addresses in spec.addresses instead";
                self.error(&field, Some(&span.to_string()), &reason, remedy);
            }
            if !inside {
                let reason = "none of the pool's addresses, so it has no effect";
                let diagnostic = Diagnostic::warning(self.reference(), field, reason);
                let remedy = "write addresses that spec.addresses has, or remove it";
                self.report.push(diagnostic.value(span.to_string()).remedy(remedy));
            }
        }
        reserved.sort_unstable();
        reserved.dedup();
        reserved
    }

    fn alb(
        &mut self,
        spec: &AddressPoolSpec,
        ranges: &[AddressRange],
        reserved: &[IpAddr],
    ) -> Vec<IpAddr> {
        let mut taken: Vec<IpAddr> = Vec::new();
        for address in spec.alb.iter().flat_map(|addresses| &addresses.0) {
            let (reason, remedy) = if !ranges.iter().any(|range| range.contains(*address)) {
                ("none of the pool's addresses", "write one that spec.addresses has")
            } else if reserved.binary_search(address).is_ok() {
                ("is reserved", "write another one, or take it out of spec.reserved")
            } else if taken.iter().any(|other| other.is_ipv4() == address.is_ipv4()) {
                ("the second of its family", "write one address for each family")
            } else {
                taken.push(*address);
                continue;
            };
            let reason = format!("{reason}; the ALB doesn't take it");
            self.error("spec.alb", Some(&address.to_string()), &reason, remedy);
        }
        taken
    }

    /// A requirement that can't hold selects nothing: the pool isn't given to those that it may
    /// have been meant to keep out.
    fn selector(
        &mut self,
        field: &str,
        written: Option<&LabelSelector>,
    ) -> snapshot::LabelSelector {
        let Some(written) = written else { return snapshot::LabelSelector::default() };
        let labels = written.match_labels.iter().flatten().map(|(key, value)| Requirement {
            key: key.clone(),
            operator: Operator::In(vec![value.clone()]),
        });
        let mut requirements: Vec<_> = labels.collect();
        for (index, expression) in written.match_expressions.iter().flatten().enumerate() {
            let values = expression.values.clone().unwrap_or_default();
            let field = format!("{field}.matchExpressions[{index}].values");
            let without = values.is_empty();
            let (operator, fault) = match expression.operator {
                LabelOperator::In => (Operator::In(values), without),
                LabelOperator::NotIn => (Operator::NotIn(values), without),
                LabelOperator::Exists => (Operator::Exists, !without),
                LabelOperator::DoesNotExist => (Operator::DoesNotExist, !without),
            };
            let operator = if fault {
                let (reason, remedy) = if without {
                    ("are missing", "write one or more, or operator: Exists or DoesNotExist")
                } else {
                    ("only In and NotIn have values", "remove them, or write another operator")
                };
                let reason = format!("{reason}; the selector selects nothing");
                self.error(&field, None, &reason, remedy);
                Operator::In(Vec::new())
            } else {
                operator
            };
            requirements.push(Requirement { key: expression.key.clone(), operator });
        }
        snapshot::LabelSelector { requirements }
    }

    fn reference(&self) -> ObjectRef {
        ObjectRef::cluster("AddressPool", self.name)
    }

    fn error(&mut self, field: &str, value: Option<&str>, reason: &str, remedy: &str) {
        let diagnostic = Diagnostic::error(self.reference(), field, reason).remedy(remedy);
        self.report.push(match value {
            Some(value) => diagnostic.value(shown(value)),
            None => diagnostic,
        });
    }
}

#[cfg(test)]
mod tests;
