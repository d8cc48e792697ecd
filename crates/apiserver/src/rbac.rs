//! Roles and their bindings (rbac.authorization.k8s.io/v1), where the double is told to go by them.

use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use crate::access::Wish;
use crate::object::key;
use crate::store::Contents;

const GROUP: &str = "rbac.authorization.k8s.io";

/// What is granted, read anew when a role or binding changes.
#[derive(Debug, Default)]
pub(crate) struct Rbac {
    grants: Mutex<(u64, Vec<Grant>)>,
}

/// What a binding grants.
#[derive(Clone, Debug)]
struct Grant {
    /// Where, if not everywhere.
    namespace: Option<String>,
    users: Vec<String>,
    groups: Vec<String>,
    rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
struct Rule {
    verbs: Vec<String>,
    groups: Vec<String>,
    resources: Vec<String>,
    names: Vec<String>,
}

impl Rbac {
    pub(crate) fn allows(&self, contents: &Contents, wish: &Wish) -> bool {
        let stamp = ["roles", "rolebindings", "clusterroles", "clusterrolebindings"]
            .iter()
            .filter_map(|plural| contents.kinds.at(GROUP, "v1", plural))
            .map(|kind| contents.last_change(kind))
            .sum();
        let mut grants = self.grants.lock().unwrap_or_else(PoisonError::into_inner);
        if grants.0 != stamp {
            *grants = (stamp, read(contents));
        }
        grants.1.iter().any(|grant| grant.covers(wish))
    }
}

impl Grant {
    fn covers(&self, wish: &Wish) -> bool {
        self.namespace.as_ref().is_none_or(|namespace| *namespace == wish.namespace)
            && (self.users.contains(&wish.user)
                || self.groups.iter().any(|group| is_in(&wish.user, group)))
            && self.rules.iter().any(|rule| rule.covers(wish))
    }
}

impl Rule {
    fn covers(&self, wish: &Wish) -> bool {
        let any =
            |list: &[String], wanted: &str| list.iter().any(|one| one == "*" || one == wanted);
        let each = format!("*/{}", wish.subresource);
        any(&self.verbs, &wish.verb)
            && any(&self.groups, &wish.group)
            && (any(&self.resources, &wish.full_resource())
                || (!wish.subresource.is_empty() && self.resources.contains(&each)))
            && (self.names.is_empty() || self.names.contains(&wish.name))
    }
}

/// Whether a user is in one of the groups that everybody of a kind is in.
fn is_in(user: &str, group: &str) -> bool {
    let account = user.strip_prefix("system:serviceaccount:");
    match group.strip_prefix("system:serviceaccounts") {
        Some("") => account.is_some(),
        Some(namespace) => account.is_some_and(|account| {
            account.split_once(':').is_some_and(|(of, _)| namespace.strip_prefix(':') == Some(of))
        }),
        None => group == "system:authenticated",
    }
}

fn read(contents: &Contents) -> Vec<Grant> {
    let mut grants = Vec::new();
    for (plural, everywhere) in [("clusterrolebindings", true), ("rolebindings", false)] {
        let Some(kind) = contents.kinds.at(GROUP, "v1", plural) else { continue };
        for object in contents.all(kind, None) {
            let binding = object.value();
            let of = |kind: &str| -> Vec<&Value> {
                let subjects = binding["subjects"].as_array().into_iter().flatten();
                subjects.filter(|subject| subject["kind"] == kind).collect()
            };
            let name = |subject: &&Value| subject["name"].as_str().map(str::to_owned);
            let mut users: Vec<String> = of("User").iter().filter_map(name).collect();
            users.extend(of("ServiceAccount").iter().map(|account| {
                let namespace = account["namespace"].as_str().unwrap_or(&object.namespace);
                let name = account["name"].as_str().unwrap_or_default();
                format!("system:serviceaccount:{namespace}:{name}")
            }));
            grants.push(Grant {
                namespace: (!everywhere).then(|| object.namespace.clone()),
                users,
                groups: of("Group").iter().filter_map(name).collect(),
                rules: rules(contents, &binding["roleRef"], &object.namespace),
            });
        }
    }
    grants
}

fn rules(contents: &Contents, role: &Value, namespace: &str) -> Vec<Rule> {
    let (plural, namespace) = match role["kind"].as_str() {
        Some("Role") => ("roles", namespace),
        _ => ("clusterroles", ""),
    };
    let name = role["name"].as_str().unwrap_or_default();
    let found = contents
        .kinds
        .at(GROUP, "v1", plural)
        .and_then(|kind| contents.get(kind, &key(namespace, name)));
    let Some(found) = found.map(|role| role.value()) else { return Vec::new() };
    let texts = |list: &Value| -> Vec<String> {
        let texts = list.as_array().into_iter().flatten();
        texts.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let rules = found["rules"].as_array().into_iter().flatten();
    rules
        .map(|rule| Rule {
            verbs: texts(&rule["verbs"]),
            groups: texts(&rule["apiGroups"]),
            resources: texts(&rule["resources"]),
            names: texts(&rule["resourceNames"]),
        })
        .collect()
}
