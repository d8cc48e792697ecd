//! Deleting: finalizers, preconditions, namespaces and what lies in them.

use std::sync::Arc;

use serde_json::json;

use super::parts::has_finalizers;
use super::{Ask, Done};
use crate::kinds::{Kind, View};
use crate::object::{self, Object};
use crate::refusal::Refusal;
use crate::selector::Selection;
use crate::store::Contents;

/// What a delete asks for (`DeleteOptions`).
#[derive(Clone, Debug, Default)]
pub(crate) struct Preconditions {
    pub(crate) uid: Option<String>,
    pub(crate) version: Option<String>,
}

impl Contents {
    /// Deletes an object: at once, or by marking it where finalizers are to act first.
    pub(crate) fn delete(
        &mut self,
        ask: &Ask,
        preconditions: &Preconditions,
    ) -> Result<Done, Refusal> {
        let kind = ask.kind.clone();
        let key = object::key(&ask.namespace, &ask.name);
        let Some(old) = self.get(&kind, &key).cloned() else {
            return Err(Refusal::not_found(&kind, &ask.name));
        };
        if let Some(uid) = preconditions.uid.as_ref().filter(|uid| **uid != old.uid) {
            let why = format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                old.uid
            );
            return Err(Refusal::conflict(&kind, &ask.name, &why));
        }
        let version = old.version.to_string();
        if let Some(wanted) = preconditions.version.as_ref().filter(|wanted| **wanted != version) {
            let why = format!(
                "Precondition failed: ResourceVersion in precondition: {wanted}, ResourceVersion \
                 in object meta: {version}"
            );
            return Err(Refusal::conflict(&kind, &ask.name, &why));
        }
        let mut value = old.value();
        let done = |object| Done { object, created: false, unknown: Vec::new() };
        if ask.dry_run {
            return Ok(done(old));
        }
        if kind.kind == "Namespace" && kind.group.is_empty() {
            self.empty_namespace(&ask.name);
            value["spec"]["finalizers"] = json!([]);
            if self.namespace_is_used(&ask.name) {
                value["spec"]["finalizers"] = json!(["kubernetes"]);
                value["status"]["phase"] = "Terminating".into();
            }
        }
        if has_finalizers(&kind, &value) {
            if value["metadata"]["deletionTimestamp"].is_null() {
                value["metadata"]["deletionTimestamp"] = object::now().into();
                value["metadata"]["deletionGracePeriodSeconds"] = 0.into();
                if kind.generation
                    && let Some(generation) = value["metadata"]["generation"].as_i64()
                {
                    value["metadata"]["generation"] = (generation + 1).into();
                }
                return Ok(done(self.put(&kind, value)));
            }
            return Ok(done(old));
        }
        match self.take_away(&kind, &key) {
            Some(object) => Ok(done(object)),
            None => Err(Refusal::not_found(&kind, &ask.name)),
        }
    }

    /// Deletes all that are selected; they are returned.
    pub(crate) fn delete_all(
        &mut self,
        ask: &Ask,
        selection: &Selection,
    ) -> Result<Vec<Arc<Object>>, Refusal> {
        let objects = self.all(&ask.kind, selection.namespace.as_deref());
        let objects: Vec<Arc<Object>> =
            objects.filter(|object| selection.takes(object)).cloned().collect();
        for object in &objects {
            let one = Ask {
                namespace: object.namespace.clone(),
                name: object.name.clone(),
                ..ask.clone()
            };
            self.delete(&one, &Preconditions::default())?;
        }
        Ok(objects)
    }

    /// Takes an object out of the store, with what hangs on it.
    pub(crate) fn take_away(&mut self, kind: &Kind, key: &str) -> Option<Arc<Object>> {
        let object = self.remove(kind, key)?;
        if kind.kind == "CustomResourceDefinition" {
            let name = object.name.clone();
            if let Some(defined) = self.kinds.named(&name).cloned() {
                let keys: Vec<String> =
                    self.all(&defined, None).map(|object| object.key()).collect();
                for key in keys {
                    self.remove(&defined, &key);
                }
            }
            self.change_kinds(|kinds| kinds.remove(&name));
        }
        // The last one turns out the light.
        let namespaces = self.kinds.at("", "v1", "namespaces").cloned();
        if let Some(namespaces) = namespaces.filter(|_| kind.namespaced) {
            let key = object::key("", &object.namespace);
            let ending = self.get(&namespaces, &key).map(|namespace| namespace.value());
            if ending.is_some_and(|value| !value["metadata"]["deletionTimestamp"].is_null())
                && !self.namespace_is_used(&object.namespace)
            {
                self.remove(&namespaces, &key);
            }
        }
        Some(object)
    }

    fn empty_namespace(&mut self, namespace: &str) {
        let kinds: Vec<Arc<Kind>> = self.kinds.all().to_vec();
        for kind in kinds.into_iter().filter(|kind| kind.namespaced && kind.view == View::Plain) {
            let ask = Ask {
                kind: kind.clone(),
                namespace: String::new(),
                name: String::new(),
                status: false,
                manager: String::new(),
                dry_run: false,
                strict: false,
            };
            let selection = Selection::of_namespace(namespace);
            // Objects that are there can be deleted.
            let _ = self.delete_all(&ask, &selection);
        }
    }

    fn namespace_is_used(&self, namespace: &str) -> bool {
        let kinds = self.kinds.all().iter().filter(|kind| kind.namespaced);
        kinds.into_iter().any(|kind| self.all(kind, Some(namespace)).next().is_some())
    }
}
