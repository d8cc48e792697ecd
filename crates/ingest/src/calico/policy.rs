//! One GlobalNetworkPolicy.

use model::snapshot::policy::{Action, Direction, Order, Policy, Reach, Rule, Selector};
use model::{Diagnostic, ObjectRef};
use serde_json::Value;

use super::objects::{GlobalNetworkPolicy, PolicySpec};
use super::rule;
use crate::report::{Report, shown};

const END_CONNECTIONS: &str = "tidegate.io/end-connections";

/// The policy, none if it is not in force at all.
pub(super) fn policy(
    name: &str,
    object: &GlobalNetworkPolicy,
    report: &mut Report<'_>,
) -> Option<Policy> {
    let reference = ObjectRef::cluster("GlobalNetworkPolicy", name);
    let spec = &object.spec;
    let reason = "is not a field of GlobalNetworkPolicy; until it is corrected the policy's Deny \
                  rules hold, and none of the others does";
    super::report_unknown(&reference, &spec.unknown, reason, report);
    if let Some(refusal) = refusal(&reference, spec) {
        report.push(refusal);
        return None;
    }
    without_effect(&reference, spec, report);
    let (ingress, egress) = types(&reference, spec, report);
    if selects_pods_only(&reference, spec, report) {
        return None;
    }
    let (selector, parsed) = selector(&reference, spec, report);
    let trusted = parsed && spec.unknown.is_empty();
    let mut rules = |direction, wanted: bool, rules: &Option<Vec<super::objects::Rule>>| {
        let written = rules.as_deref().unwrap_or_default();
        if !wanted {
            if !written.is_empty() {
                report.push(
                    Diagnostic::warning(
                        reference.clone(),
                        format!("spec.{direction}"),
                        "spec.types leaves these rules out, so they have no effect",
                    )
                    .remedy("remove them, or add the direction to spec.types"),
                );
            }
            return None;
        }
        let mut parsed: Vec<Rule> = (written.iter().enumerate())
            .filter_map(|(index, written)| {
                rule::rule(&reference, direction, index, written, report)
            })
            .collect();
        if !trusted {
            parsed.retain(|rule| rule.action == Action::Deny);
        }
        Some(parsed)
    };
    let ingress = rules(Direction::Ingress, ingress, &spec.ingress);
    let egress = rules(Direction::Egress, egress, &spec.egress);
    let pre_dnat =
        spec.pre_dnat == Some(true) || (in_wrong_case(spec, "preDNAT") && egress.is_none());
    let forwarded = spec.apply_on_forward == Some(true) || in_wrong_case(spec, "applyOnForward");
    let reach = match (pre_dnat, forwarded) {
        (true, _) => Reach::PreDnat,
        (false, true) => Reach::LocalAndForward,
        (false, false) => Reach::Local,
    };
    Some(Policy {
        order: Order::new(spec.order),
        selector,
        reach,
        ingress,
        egress,
        end_connections: end_connections(&reference, object, report),
        location: report.location(&reference),
    })
}

/// Whether a field is true under a name with a wrong case. The policy's Denies are all that is
/// left of it then, and hold where they were meant to.
fn in_wrong_case(spec: &PolicySpec, field: &str) -> bool {
    let is = |(name, value): (&String, &Value)| {
        name.eq_ignore_ascii_case(field) && *value == Value::Bool(true)
    };
    spec.unknown.iter().any(is)
}

/// Fields that change nothing here.
fn without_effect(reference: &ObjectRef, spec: &PolicySpec, report: &mut Report<'_>) {
    let fields = [
        (
            "spec.performanceHints",
            spec.performance_hints.as_ref().is_some_and(|all| !all.is_empty()),
        ),
        ("spec.stagedAction", spec.staged_action.is_some()),
    ];
    for (field, there) in fields {
        if there {
            report.push(
                Diagnostic::warning(reference.clone(), field, "has no effect here")
                    .remedy("remove it"),
            );
        }
    }
}

/// Why the policy can't be in force as a whole.
fn refusal(reference: &ObjectRef, spec: &PolicySpec) -> Option<Diagnostic> {
    let error = |field: &str, reason: &str, remedy: &str| {
        Some(Diagnostic::error(reference.clone(), field, reason).remedy(remedy))
    };
    let pre_dnat = spec.pre_dnat == Some(true);
    let types = spec.types.as_deref().unwrap_or_default();
    if let Some(tier) = spec.tier.as_deref().filter(|tier| !["", "default"].contains(tier)) {
        let reason = "only the default tier is honoured, so the policy is not in force";
        return error("spec.tier", reason, "leave it out, and use spec.order")
            .map(|diagnostic| diagnostic.value(shown(tier)));
    }
    if spec.do_not_track == Some(true) {
        return error(
            "spec.doNotTrack",
            "is not honoured, so the policy is not in force",
            "leave it out; preDNAT: true with applyOnForward: true is asked before translation",
        );
    }
    if pre_dnat && spec.apply_on_forward != Some(true) && spec.unknown.is_empty() {
        let reason = "preDNAT needs applyOnForward: true, so the policy is refused";
        return error("spec.applyOnForward", reason, "write applyOnForward: true");
    }
    if pre_dnat && spec.egress.as_ref().is_some_and(|rules| !rules.is_empty()) {
        let reason = "a preDNAT policy can't have egress rules, so it is refused";
        return error("spec.egress", reason, "put them into a policy without preDNAT");
    }
    if pre_dnat && types.iter().any(|name| name == "Egress") {
        let reason = "a preDNAT policy is of type Ingress only, so it is refused";
        return error("spec.types", reason, "write types: [Ingress]");
    }
    None
}

/// Whether it is for what comes in, and for what goes out.
fn types(reference: &ObjectRef, spec: &PolicySpec, report: &mut Report<'_>) -> (bool, bool) {
    let types = spec.types.as_deref().unwrap_or_default();
    let has = |name: &str| types.iter().any(|one| one == name);
    let speaks = |rules: &Option<Vec<_>>| rules.as_ref().is_some_and(|rules| !rules.is_empty());
    let by_rules = (speaks(&spec.ingress) || !speaks(&spec.egress), speaks(&spec.egress));
    if types.is_empty() {
        return by_rules;
    }
    let Some(index) = types.iter().position(|name| !["Ingress", "Egress"].contains(&&**name))
    else {
        return (has("Ingress"), has("Egress"));
    };
    report.push(
        Diagnostic::error(
            reference.clone(),
            format!("spec.types[{index}]"),
            "not a type, so the policy is for the directions that it has rules of, too",
        )
        .value(shown(&types[index]))
        .remedy("write Ingress or Egress"),
    );
    (has("Ingress") || by_rules.0, has("Egress") || by_rules.1)
}

/// Whether it names pods by their namespace or service account: HostEndpoints have neither.
fn selects_pods_only(reference: &ObjectRef, spec: &PolicySpec, report: &mut Report<'_>) -> bool {
    let fields = [
        ("spec.namespaceSelector", &spec.namespace_selector),
        ("spec.serviceAccountSelector", &spec.service_account_selector),
    ];
    for (field, text) in fields {
        let Some(text) = text.as_deref().map(str::trim).filter(|text| !text.is_empty()) else {
            continue;
        };
        if field == "spec.namespaceSelector" && Selector::parse(text) == Ok(Selector::Global) {
            continue;
        }
        report.push(
            Diagnostic::warning(
                reference.clone(),
                field,
                "selects pods only, so the policy is for no HostEndpoint",
            )
            .value(shown(text))
            .remedy("leave it out for a policy of HostEndpoints"),
        );
        return true;
    }
    false
}

/// The endpoints that it is for, and whether that is what was written.
fn selector(reference: &ObjectRef, spec: &PolicySpec, report: &mut Report<'_>) -> (Selector, bool) {
    let text = spec.selector.as_deref().unwrap_or_default();
    match Selector::parse(text) {
        Ok(selector) => (selector, true),
        Err(error) => {
            report.push(
                Diagnostic::error(
                    reference.clone(),
                    "spec.selector",
                    format!(
                        "doesn't parse {error}; until then its Deny rules hold for every \
                         HostEndpoint, and none of the others does"
                    ),
                )
                .value(shown(text))
                .remedy("write it as in key == 'value' && has(other)"),
            );
            (Selector::All, false)
        }
    }
}

fn end_connections(
    reference: &ObjectRef,
    object: &GlobalNetworkPolicy,
    report: &mut Report<'_>,
) -> bool {
    match object.annotation(END_CONNECTIONS).as_deref() {
        None | Some("false") => false,
        Some("true") => true,
        Some(other) => {
            report.push(
                Diagnostic::warning(
                    reference.clone(),
                    format!("metadata.annotations[{END_CONNECTIONS:?}]"),
                    "is neither true nor false, so connections under way go on",
                )
                .value(shown(other))
                .remedy("write \"true\" or \"false\""),
            );
            false
        }
    }
}
