//! Calico's objects: GlobalNetworkPolicy, HostEndpoint and GlobalNetworkSet, as
//! `projectcalico.org/v3` or as `crd.projectcalico.org/v1`, in which the cluster stores the same.
//!
//! What can't be honoured is a finding, and never opens anything:
//! - A rule with a match that can't be honoured: Allow, Pass and Log are left out; Deny stays
//!   without that match, so that it denies at least what it was meant to.
//! - A rule with an unknown action denies.
//! - A policy whose selector doesn't parse is for every HostEndpoint, with its Deny rules only.
//! - A policy with an unknown field keeps its Deny rules only, too. Not in force at all would be
//!   less safe: it would open what it denies wherever something else allows. Whether they hold
//!   before translation and for what is forwarded is read from names with a wrong case as well
//!   (`preDnat: true`), so that they are asked where they were meant to.
//! - An unknown field of a HostEndpoint or GlobalNetworkSet changes nothing of the rest.
//! - A policy that Calico refuses as a whole (such as `preDNAT` with egress rules), or that is of
//!   another tier, is not in force.

use model::snapshot::Policies;
use model::snapshot::policy::{self as policy_model, Selector};
use model::{Diagnostic, ObjectRef, Settings, Severity, SharedMap};

use crate::ObjectSet;
use crate::report::{Report, shown};
use crate::yaml::{self, FieldError, Node, Typed};

mod endpoint;
pub mod objects;
mod policy;
mod rule;

use objects::{GlobalNetworkPolicy, GlobalNetworkSet, HostEndpoint, Unsupported};

const GROUP: &str = "projectcalico.org";
const API_VERSION: &str = "projectcalico.org/v3";
const STORED_API_VERSION: &str = "crd.projectcalico.org/v1";

/// What to do about an unknown field.
const CORRECT_NAME: &str = "correct its name (upper and lower case matter) or remove it";

/// An object of Calico's.
#[derive(Clone, Debug, PartialEq)]
pub enum Object {
    /// GlobalNetworkPolicy
    Policy(Box<GlobalNetworkPolicy>),
    /// HostEndpoint
    Endpoint(Box<HostEndpoint>),
    /// GlobalNetworkSet
    Set(Box<GlobalNetworkSet>),
    /// A kind that restricts or opens something and isn't honoured.
    Unsupported(Box<Unsupported>),
}

/// All of them, as a source last saw them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Objects {
    /// GlobalNetworkPolicies, by name
    pub policies: SharedMap<String, GlobalNetworkPolicy>,
    /// HostEndpoints, by name
    pub endpoints: SharedMap<String, HostEndpoint>,
    /// GlobalNetworkSets, by name
    pub sets: SharedMap<String, GlobalNetworkSet>,
    /// Those that aren't honoured.
    pub unsupported: SharedMap<ObjectRef, Unsupported>,
}

impl Objects {
    /// Whether all of it is the same in memory.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let Self { policies, endpoints, sets, unsupported } = self;
        policies.is(&other.policies)
            && endpoints.is(&other.endpoints)
            && sets.is(&other.sets)
            && unsupported.is(&other.unsupported)
    }
}

impl Object {
    pub(crate) fn insert_into(self, reference: &ObjectRef, objects: &mut Objects) {
        let name = reference.name.clone();
        match self {
            Self::Policy(object) => drop(objects.policies.insert(name, *object)),
            Self::Endpoint(object) => drop(objects.endpoints.insert(name, *object)),
            Self::Set(object) => drop(objects.sets.insert(name, *object)),
            Self::Unsupported(object) => {
                drop(objects.unsupported.insert(reference.clone(), *object));
            }
        }
    }
}

/// A kind of Calico's that is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Policy,
    Endpoint,
    Set,
    Unsupported(&'static str),
}

/// What an apiVersion means for a kind of Calico's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    Current(Kind),
    WrongVersion(Kind),
}

impl Kind {
    /// Kinds that say who may reach what, and aren't honoured; all others are no business of ours.
    const UNSUPPORTED: [&'static str; 8] = [
        "NetworkPolicy",
        "NetworkSet",
        "Profile",
        "StagedGlobalNetworkPolicy",
        "StagedKubernetesNetworkPolicy",
        "StagedNetworkPolicy",
        "Tier",
        "WorkloadEndpoint",
    ];

    pub(crate) fn find(api_version: &str, kind: &str) -> Option<Found> {
        let group = api_version.split_once('/').map_or("", |(group, _)| group);
        if group.strip_prefix("crd.").unwrap_or(group) != GROUP {
            return None;
        }
        let kind = match kind {
            "GlobalNetworkPolicy" => Self::Policy,
            "HostEndpoint" => Self::Endpoint,
            "GlobalNetworkSet" => Self::Set,
            other => Self::Unsupported(Self::UNSUPPORTED.into_iter().find(|&name| name == other)?),
        };
        let current = [API_VERSION, STORED_API_VERSION].contains(&api_version);
        Some(if current { Found::Current(kind) } else { Found::WrongVersion(kind) })
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Policy => "GlobalNetworkPolicy",
            Self::Endpoint => "HostEndpoint",
            Self::Set => "GlobalNetworkSet",
            Self::Unsupported(name) => name,
        }
    }

    pub(crate) fn api_version(self) -> &'static str {
        API_VERSION
    }

    pub(crate) fn is_namespaced(self) -> bool {
        let names = ["NetworkPolicy", "NetworkSet", "WorkloadEndpoint"];
        names.iter().any(|name| self.name().ends_with(name)) && !self.name().contains("Global")
    }

    /// The name by which an object is known: policies of the default tier are stored with the
    /// tier's name before their own.
    pub(crate) fn canonical_name(self, name: String) -> String {
        match (self, name.strip_prefix("default.")) {
            (Self::Policy, Some(rest)) if !rest.is_empty() => rest.to_owned(),
            _ => name,
        }
    }

    pub(crate) fn read(self, node: &Node) -> Result<Typed<Object>, FieldError> {
        Ok(match self {
            Self::Policy => yaml::typed(node)?.map(|object| Object::Policy(Box::new(object))),
            Self::Endpoint => yaml::typed(node)?.map(|object| Object::Endpoint(Box::new(object))),
            Self::Set => yaml::typed(node)?.map(|object| Object::Set(Box::new(object))),
            Self::Unsupported(_) => Typed {
                value: Object::Unsupported(Box::new(yaml::typed(node)?.value)),
                unknown: Vec::new(),
            },
        })
    }
}

/// All policies, endpoints and sets that can be used.
pub(crate) fn policies(
    objects: &ObjectSet,
    settings: &Settings,
    report: &mut Report<'_>,
) -> Policies {
    let calico = &objects.calico;
    for reference in calico.unsupported.keys() {
        report.push(
            Diagnostic::warning(reference.clone(), "", "objects of this kind are not honoured")
                .remedy("write a GlobalNetworkPolicy of the default tier for HostEndpoints"),
        );
    }
    if settings.l4.is_none() {
        for name in calico.policies.keys() {
            let reference = ObjectRef::cluster(Kind::Policy.name(), name);
            report.push(
                Diagnostic::warning(reference, "", "l4 is not enabled, so no policy is in force")
                    .remedy("write l4: {enabled: true} in the configuration"),
            );
        }
        return Policies::default();
    }
    let mut policies = Policies::default();
    let own = |endpoint: &policy_model::HostEndpoint| {
        settings.l4.as_ref().is_some_and(|l4| l4.node_name == endpoint.node)
    };
    for (name, object) in &calico.endpoints {
        let mut findings = Report::new(&objects.origins);
        check_stored(Kind::Endpoint, name, object, &mut findings);
        let endpoint = endpoint::endpoint(name, object, &mut findings);
        let concerns = endpoint.as_ref().is_none_or(own);
        take_over(findings, concerns, report);
        policies.endpoints.extend(endpoint.map(|endpoint| (name.clone(), endpoint)));
    }
    let own: Vec<&policy_model::HostEndpoint> =
        policies.endpoints.values().filter(|&one| own(one)).collect();
    for (name, object) in &calico.policies {
        let mut findings = Report::new(&objects.origins);
        check_stored(Kind::Policy, name, object, &mut findings);
        let policy = policy::policy(name, object, &mut findings);
        let selector = Selector::parse(object.spec.selector.as_deref().unwrap_or_default());
        let selects = |selector: &Selector| own.iter().any(|one| selector.matches(&one.labels));
        let concerns = own.is_empty() || selector.as_ref().map_or(true, selects);
        take_over(findings, concerns, report);
        policies.policies.extend(policy.map(|policy| (name.clone(), policy)));
    }
    for (name, object) in &calico.sets {
        check_stored(Kind::Set, name, object, report);
        policies.sets.insert(name.clone(), endpoint::set(name, object, report));
    }
    policies
}

/// Hands findings on. Those about what doesn't concern this machine are no errors here: in a
/// cluster there are policies of pods, and other machines.
fn take_over(findings: Report<'_>, concerns: bool, report: &mut Report<'_>) {
    for mut finding in findings.finish() {
        if !concerns {
            finding.severity = Severity::Warning;
        }
        report.push(finding);
    }
}

/// Reports labels and annotations that are stored and can't be read.
fn check_stored<S>(kind: Kind, name: &str, object: &objects::Of<S>, report: &mut Report<'_>) {
    if let Err(reason) = object.stored() {
        report.push(
            Diagnostic::error(
                ObjectRef::cluster(kind.name(), name),
                format!("metadata.annotations[{:?}]", objects::METADATA),
                format!("can't be read, so its labels and annotations are missing: {reason}"),
            )
            .remedy("store the object again, or remove the annotation and write labels"),
        );
    }
}

/// Reports the unknown fields of a specification.
fn report_unknown(
    reference: &ObjectRef,
    unknown: &objects::Unknown,
    reason: &str,
    report: &mut Report<'_>,
) {
    for name in unknown.keys() {
        let field = format!("spec.{}", shown(name));
        report.push(Diagnostic::error(reference.clone(), field, reason).remedy(CORRECT_NAME));
    }
}

#[cfg(test)]
mod tests;
