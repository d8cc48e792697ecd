//! Who asks, and what is denied to whom; access reviews answer by the same rules.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::kinds::Kinds;
use crate::rbac::Rbac;
use crate::refusal::Refusal;
use crate::store::Store;

/// A user who comes with a token.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The name, such as `system:serviceaccount:tidegate:gateway`.
    pub name: String,
    /// What stands in `Authorization: Bearer`.
    pub token: String,
}

/// What is denied. A field that is empty, or holds `*`, means any.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Denial {
    /// Name of the user.
    pub user: String,
    /// get, list, watch, create, update, patch, delete, deletecollection.
    pub verbs: Vec<String>,
    /// The group; `core` is the core's.
    pub group: String,
    /// The plural, with `/status` for a subresource: `ingresses/status`.
    pub resource: String,
    /// The namespace.
    pub namespace: String,
}

/// What a request wants to do.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    pub(crate) user: String,
    pub(crate) verb: String,
    pub(crate) group: String,
    pub(crate) resource: String,
    pub(crate) subresource: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
}

/// Users and denials.
#[derive(Debug)]
pub(crate) struct Access {
    users: RwLock<BTreeMap<String, String>>,
    denials: RwLock<Vec<Denial>>,
    /// A request needs a token that is known.
    strict: bool,
    /// Roles are enforced.
    rbac: Option<(Rbac, Arc<Store>)>,
}

/// Who comes without a token: everything is allowed to them but what is denied.
pub(crate) const ADMIN: &str = "kubernetes-admin";

impl Denial {
    fn covers(&self, wish: &Wish) -> bool {
        let any = |pattern: &str| pattern.is_empty() || pattern == "*";
        let group = if wish.group.is_empty() { "core" } else { &wish.group };
        let resource = wish.full_resource();
        (any(&self.user) || self.user == wish.user)
            && (self.verbs.is_empty()
                || self.verbs.iter().any(|verb| verb == "*" || *verb == wish.verb))
            && (any(&self.group) || self.group == group)
            && (any(&self.resource) || self.resource == resource)
            && (any(&self.namespace) || self.namespace == wish.namespace)
    }
}

impl Wish {
    pub(crate) fn full_resource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }
}

impl Access {
    /// Roles are enforced where a store is given that they stand in.
    pub(crate) fn new(users: Vec<User>, strict: bool, roles: Option<Arc<Store>>) -> Self {
        let users = users.into_iter().map(|user| (user.token, user.name)).collect();
        Self {
            users: RwLock::new(users),
            denials: RwLock::default(),
            strict,
            rbac: roles.map(|store| (Rbac::default(), store)),
        }
    }

    /// The user of a request's header.
    pub(crate) fn user(&self, authorization: Option<&str>) -> Result<String, Refusal> {
        let token = authorization.and_then(|header| header.strip_prefix("Bearer "));
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        let known = token.and_then(|token| users.get(token.trim()).cloned());
        match (known, token) {
            (Some(user), _) => Ok(user),
            (None, None) if !self.strict => Ok(ADMIN.to_owned()),
            _ => Err(Refusal::new(401, "Unauthorized", "Unauthorized")),
        }
    }

    /// The token of a user.
    pub(crate) fn token(&self, user: &str) -> Option<String> {
        let users = self.users.read().unwrap_or_else(PoisonError::into_inner);
        users.iter().find(|(_, name)| *name == user).map(|(token, _)| token.clone())
    }

    pub(crate) fn deny(&self, denial: Denial) {
        self.denials.write().unwrap_or_else(PoisonError::into_inner).push(denial);
    }

    pub(crate) fn allow_all(&self) {
        self.denials.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(crate) fn denials(&self) -> Vec<Denial> {
        self.denials.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn allows(&self, wish: &Wish) -> bool {
        let denials = self.denials.read().unwrap_or_else(PoisonError::into_inner);
        if denials.iter().any(|denial| denial.covers(wish)) {
            return false;
        }
        match &self.rbac {
            Some((rbac, store)) if wish.user != ADMIN => rbac.allows(&store.lock(), wish),
            _ => true,
        }
    }

    /// Refuses what isn't allowed, in the API server's words.
    pub(crate) fn check(&self, wish: &Wish) -> Result<(), Refusal> {
        if self.allows(wish) {
            return Ok(());
        }
        let qualified = if wish.group.is_empty() {
            wish.resource.clone()
        } else {
            format!("{}.{}", wish.resource, wish.group)
        };
        let named =
            if wish.name.is_empty() { String::new() } else { format!(" \"{}\"", wish.name) };
        let place = if wish.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace \"{}\"", wish.namespace)
        };
        let message = format!(
            "{qualified}{named} is forbidden: User \"{}\" cannot {} resource \"{}\" in API group \
             \"{}\" {place}",
            wish.user,
            wish.verb,
            wish.full_resource(),
            wish.group
        );
        let mut refusal = Refusal::new(403, "Forbidden", message);
        refusal.details = json!({"name": wish.name, "group": wish.group, "kind": wish.resource});
        Err(refusal)
    }

    /// Answers a SelfSubjectAccessReview.
    pub(crate) fn review(&self, user: &str, mut review: Value) -> Value {
        let asked = &review["spec"]["resourceAttributes"];
        let text = |field: &str| asked[field].as_str().unwrap_or_default().to_owned();
        let wish = Wish {
            user: user.to_owned(),
            verb: text("verb"),
            group: text("group"),
            resource: text("resource"),
            subresource: text("subresource"),
            namespace: text("namespace"),
            name: text("name"),
        };
        let allowed = self.allows(&wish);
        review["status"] = json!({"allowed": allowed});
        if !allowed {
            review["status"]["reason"] = "not granted, or denied by the double".into();
        }
        review["kind"] = "SelfSubjectAccessReview".into();
        review["apiVersion"] = "authorization.k8s.io/v1".into();
        review
    }

    /// Answers a SelfSubjectRulesReview: each kind with the verbs that are not denied.
    pub(crate) fn rules(&self, user: &str, mut review: Value, kinds: &Kinds) -> Value {
        const VERBS: &[&str] =
            &["get", "list", "watch", "create", "update", "patch", "delete", "deletecollection"];
        let namespace = review["spec"]["namespace"].as_str().unwrap_or("default").to_owned();
        let mut rules = Vec::new();
        for kind in kinds.all() {
            for subresource in ["", "status"].into_iter().take(1 + usize::from(kind.status)) {
                let wish = |verb: &str| Wish {
                    user: user.to_owned(),
                    verb: verb.to_owned(),
                    group: kind.group.clone(),
                    resource: kind.plural.clone(),
                    subresource: subresource.to_owned(),
                    namespace: namespace.clone(),
                    name: String::new(),
                };
                let verbs: Vec<&&str> =
                    VERBS.iter().filter(|verb| self.allows(&wish(verb))).collect();
                if !verbs.is_empty() {
                    let resource = wish("").full_resource();
                    rules.push(json!({
                        "verbs": verbs,
                        "apiGroups": [kind.group],
                        "resources": [resource],
                    }));
                }
            }
        }
        review["status"] =
            json!({"resourceRules": rules, "nonResourceRules": [], "incomplete": false});
        review["kind"] = "SelfSubjectRulesReview".into();
        review["apiVersion"] = "authorization.k8s.io/v1".into();
        review
    }
}
