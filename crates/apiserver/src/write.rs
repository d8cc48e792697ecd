//! The writing verbs: create, update, patch, delete, with what the API server does around them:
//! optimistic locking, generations, finalizers, managedFields, the status apart.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::apply::{self, Writer};
use crate::kinds::{Kind, kinds_of};
use crate::object::{self, Object};
use crate::refusal::Refusal;
use crate::store::Contents;
use crate::{admit, patch};

mod parts;
mod removal;

use parts::{
    check_finalizers, check_type, differs_in_spec, drop_null, has_finalizers, keep_servers_fields,
    part, place, same, suffix,
};
pub(crate) use removal::Preconditions;

/// What a writing request says besides its body.
#[derive(Clone, Debug)]
pub(crate) struct Ask {
    /// The kind as it is stored.
    pub(crate) kind: Arc<Kind>,
    /// The namespace, empty for a cluster's objects.
    pub(crate) namespace: String,
    /// The name; empty for a create.
    pub(crate) name: String,
    /// Whether it is the status that is written.
    pub(crate) status: bool,
    /// The field manager.
    pub(crate) manager: String,
    /// Do everything but store it.
    pub(crate) dry_run: bool,
    /// Fields that don't exist are refused rather than dropped.
    pub(crate) strict: bool,
}

/// What came of it.
#[derive(Clone, Debug)]
pub(crate) struct Done {
    pub(crate) object: Arc<Object>,
    /// It wasn't there before.
    pub(crate) created: bool,
    /// Fields that were dropped.
    pub(crate) unknown: Vec<String>,
}

/// A patch by its media type.
#[derive(Clone, Debug)]
pub(crate) enum Patch {
    Merge(Value),
    Strategic(Value),
    Operations(Value),
    Apply { config: Value, force: bool },
}

impl Ask {
    fn writer<'a>(&'a self, api_version: &'a str) -> Writer<'a> {
        let subresource = if self.status { "status" } else { "" };
        Writer { manager: &self.manager, api_version, subresource }
    }

    fn refuse_unknown(&self, unknown: &[String]) -> Result<(), Refusal> {
        if !self.strict || unknown.is_empty() {
            return Ok(());
        }
        let fields: Vec<String> =
            unknown.iter().map(|field| format!("unknown field {field:?}")).collect();
        let (kind, version) = (&self.kind.kind, &self.kind.version);
        Err(Refusal::bad_request(format!(
            "{kind} in version {version:?} cannot be handled as a {kind}: strict decoding error: {}",
            fields.join(", ")
        )))
    }
}

impl Contents {
    /// Creates an object.
    pub(crate) fn create(&mut self, ask: &Ask, mut object: Value) -> Result<Done, Refusal> {
        let kind = ask.kind.clone();
        check_type(&kind, &object)?;
        if !object["metadata"].is_object() {
            object["metadata"] = json!({});
        }
        place(ask, &mut object)?;
        let metadata = &mut object["metadata"];
        if metadata["name"].as_str().is_none_or(str::is_empty) {
            let Some(prefix) = metadata["generateName"].as_str().filter(|text| !text.is_empty())
            else {
                let what = "Required value: name or generateName is required".to_owned();
                return Err(Refusal::invalid(&kind, "", &[("metadata.name".to_owned(), what)]));
            };
            metadata["name"] = format!("{prefix}{}", suffix()).into();
        }
        if metadata["resourceVersion"].as_str().is_some_and(|version| !version.is_empty()) {
            return Err(Refusal::new(
                500,
                "InternalError",
                "resourceVersion should not be set on objects to be created",
            ));
        }
        let mut unknown = admit::decode(&kind, &mut object)?;
        ask.refuse_unknown(&unknown)?;
        unknown.sort();
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        self.check_namespace(&kind, &ask.namespace, &name)?;
        if self.get(&kind, &object::key(&ask.namespace, &name)).is_some() {
            return Err(Refusal::already_exists(&kind, &name));
        }
        let metadata = &mut object["metadata"];
        metadata["uid"] = object::uid().into();
        metadata["creationTimestamp"] = object::now().into();
        let Some(fields) = metadata.as_object_mut() else {
            return Err(Refusal::bad_request("metadata is no object"));
        };
        for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"] {
            fields.remove(field);
        }
        if kind.generation {
            fields.insert("generation".to_owned(), 1.into());
        }
        let managed = fields.remove("managedFields");
        // A kubelet comes with its Node's status.
        if kind.status
            && kind.kind != "Node"
            && let Some(members) = object.as_object_mut()
        {
            members.remove("status");
        }
        admit::complete(self, &kind, &mut object, None)?;
        admit::check(&kind, &object)?;
        if let Some(applied @ Value::Array(_)) = managed {
            // It comes from an apply, which has noted them.
            object["metadata"]["managedFields"] = applied;
        } else {
            let nothing = json!({"metadata": {}});
            let api_version = kind.api_version();
            apply::updated(&kind, &nothing, &mut object, &ask.writer(&api_version));
        }
        let object = self.store_unless_dry(ask, object);
        Ok(Done { object, created: true, unknown })
    }

    /// Replaces an object, or its status.
    pub(crate) fn update(&mut self, ask: &Ask, mut object: Value) -> Result<Done, Refusal> {
        let kind = ask.kind.clone();
        check_type(&kind, &object)?;
        place(ask, &mut object)?;
        if object["metadata"]["name"].as_str() != Some(&ask.name) {
            return Err(Refusal::bad_request(format!(
                "the name of the object ({}) does not match the name on the URL ({})",
                object["metadata"]["name"].as_str().unwrap_or_default(),
                ask.name
            )));
        }
        let Some(old) = self.get(&kind, &object::key(&ask.namespace, &ask.name)).cloned() else {
            return Err(Refusal::not_found(&kind, &ask.name));
        };
        let version = object["metadata"]["resourceVersion"].as_str().unwrap_or_default();
        if version.is_empty() && !kind.unconditional {
            let what = "Invalid value: 0: must be specified for an update".to_owned();
            let field = "metadata.resourceVersion".to_owned();
            return Err(Refusal::invalid(&kind, &ask.name, &[(field, what)]));
        }
        self.replace(ask, &old, object, None)
    }

    /// Patches an object, or its status. An apply creates what isn't there.
    pub(crate) fn patch(&mut self, ask: &Ask, patch: Patch) -> Result<Done, Refusal> {
        let kind = ask.kind.clone();
        let old = self.get(&kind, &object::key(&ask.namespace, &ask.name)).cloned();
        if let Patch::Apply { config, force } = patch {
            return self.apply(ask, old, config, force);
        }
        let old = old.ok_or_else(|| Refusal::not_found(&kind, &ask.name))?;
        let mut object = old.value();
        match &patch {
            Patch::Merge(patch) => patch::merge(&mut object, patch),
            Patch::Strategic(_) if !kind.builtin => {
                let message = "the body of the request was in an unknown format - accepted media \
                               types include: application/json-patch+json, \
                               application/merge-patch+json, application/apply-patch+yaml";
                return Err(Refusal::new(415, "UnsupportedMediaType", message));
            }
            Patch::Strategic(patch) => patch::strategic(&mut object, patch, &kind.shape),
            Patch::Operations(patch) => patch::operations(&mut object, patch)?,
            Patch::Apply { .. } => {}
        }
        check_type(&kind, &object)?;
        self.replace(ask, &old, object, None)
    }

    fn apply(
        &mut self,
        ask: &Ask,
        old: Option<Arc<Object>>,
        mut config: Value,
        force: bool,
    ) -> Result<Done, Refusal> {
        let kind = ask.kind.clone();
        check_type(&kind, &config)?;
        drop_null(&mut config);
        if config["kind"].is_null() || config["apiVersion"].is_null() {
            return Err(Refusal::bad_request(
                "invalid object type: apiVersion and kind must be set",
            ));
        }
        place(ask, &mut config)?;
        if config["metadata"]["name"].as_str().is_none_or(str::is_empty) {
            config["metadata"]["name"] = ask.name.clone().into();
        }
        if config["metadata"]["name"].as_str() != Some(&ask.name) {
            let message = "the name of the object does not match the name on the URL";
            return Err(Refusal::bad_request(message));
        }
        if !config["metadata"]["managedFields"].is_null() {
            return Err(Refusal::bad_request("metadata.managedFields must be nil"));
        }
        let wanted_version = config["metadata"]["resourceVersion"].as_str().map(str::to_owned);
        // Each endpoint takes its own part alone.
        if let Some(members) = config.as_object_mut() {
            if ask.status {
                members.retain(|name, _| {
                    matches!(name.as_str(), "apiVersion" | "kind" | "metadata" | "status")
                });
            } else if kind.status {
                members.remove("status");
            }
        }
        let api_version = kind.api_version();
        let writer = ask.writer(&api_version);
        let Some(old) = old else {
            if ask.status {
                return Err(Refusal::not_found(&kind, &ask.name));
            }
            if wanted_version.is_some() {
                return Err(Refusal::modified(&kind, &ask.name));
            }
            let empty = json!({"metadata": {}});
            let object = apply::applied(&kind, &empty, &config, &writer, force)?;
            return self.create(ask, object);
        };
        let live = old.value();
        let mut configured = config.clone();
        if let Some(metadata) = configured["metadata"].as_object_mut() {
            for field in ["resourceVersion", "uid", "creationTimestamp", "generation"] {
                metadata.remove(field);
            }
        }
        let mut object = apply::applied(&kind, &live, &configured, &writer, force)?;
        if let Some(version) = wanted_version {
            object["metadata"]["resourceVersion"] = version.into();
        }
        if let Some(uid) = config["metadata"]["uid"].as_str() {
            object["metadata"]["uid"] = uid.into();
        }
        let managed = object["metadata"]["managedFields"].clone();
        self.replace(ask, &old, object, Some(managed))
    }

    /// The common end of update, patch and apply. `managed` is what an apply has noted.
    fn replace(
        &mut self,
        ask: &Ask,
        old_object: &Object,
        mut object: Value,
        managed: Option<Value>,
    ) -> Result<Done, Refusal> {
        let kind = ask.kind.clone();
        let old = old_object.value();
        let metadata = &object["metadata"];
        if metadata["uid"].as_str().is_some_and(|uid| !uid.is_empty() && uid != old_object.uid) {
            let uid = metadata["uid"].as_str().unwrap_or_default();
            let why = format!(
                "Precondition failed: UID in precondition: {uid}, UID in object meta: {}",
                old_object.uid
            );
            return Err(Refusal::conflict(&kind, &ask.name, &why));
        }
        let version = metadata["resourceVersion"].as_str().unwrap_or_default();
        if !version.is_empty() && version != old_object.version.to_string() {
            return Err(Refusal::modified(&kind, &ask.name));
        }
        let reset = managed.is_none()
            && metadata["managedFields"].as_array().is_some_and(|list| {
                list.is_empty() || list.iter().all(|e| e.as_object().is_some_and(|e| e.is_empty()))
            });
        let mut unknown = admit::decode(&kind, &mut object)?;
        ask.refuse_unknown(&unknown)?;
        unknown.sort();
        part(&kind, ask.status, &old, &mut object);
        keep_servers_fields(&old, &mut object);
        check_finalizers(&kind, &ask.name, &old, &object)?;
        if !ask.status {
            admit::complete(self, &kind, &mut object, Some(&old))?;
        }
        admit::check(&kind, &object)?;
        if kind.generation && !ask.status && differs_in_spec(&kind, &old, &object) {
            let generation = old["metadata"]["generation"].as_i64().unwrap_or(0) + 1;
            object["metadata"]["generation"] = generation.into();
        }
        if let Some(managed) = managed {
            object["metadata"]["managedFields"] = managed;
        } else if reset {
            if let Some(metadata) = object["metadata"].as_object_mut() {
                metadata.remove("managedFields");
            }
        } else {
            let api_version = kind.api_version();
            apply::updated(&kind, &old, &mut object, &ask.writer(&api_version));
        }
        if same(&old, &object) {
            let object = Arc::new(old_object.clone());
            return Ok(Done { object, created: false, unknown });
        }
        let finished =
            !object["metadata"]["deletionTimestamp"].is_null() && !has_finalizers(&kind, &object);
        let stored = self.store_unless_dry(ask, object);
        if finished && !ask.dry_run {
            self.take_away(&kind, &stored.key());
        }
        Ok(Done { object: stored, created: false, unknown })
    }

    fn check_namespace(&self, kind: &Kind, namespace: &str, name: &str) -> Result<(), Refusal> {
        if !kind.namespaced || !self.namespaces_must_exist {
            return Ok(());
        }
        let Some(namespaces) = self.kinds.at("", "v1", "namespaces") else { return Ok(()) };
        let Some(found) = self.get(namespaces, &object::key("", namespace)) else {
            return Err(Refusal::not_found(namespaces, namespace));
        };
        if found.value()["metadata"]["deletionTimestamp"].is_null() {
            return Ok(());
        }
        let message = format!(
            "{} \"{name}\" is forbidden: unable to create new content in namespace {namespace} \
             because it is being terminated",
            kind.qualified()
        );
        let cause = json!({
            "reason": "NamespaceTerminating",
            "message": format!("namespace {namespace} is being terminated"),
            "field": "metadata.namespace",
        });
        Err(Refusal::new(403, "Forbidden", message).with_causes(vec![cause]))
    }

    fn store_unless_dry(&mut self, ask: &Ask, mut object: Value) -> Arc<Object> {
        if ask.dry_run {
            if object["metadata"]["resourceVersion"].is_null() {
                object["metadata"]["resourceVersion"] = "".into();
            }
            return Arc::new(Object::new(&ask.kind, &object));
        }
        self.keep(&ask.kind.clone(), object)
    }

    /// Stores an object and acts on what it says.
    pub(crate) fn keep(&mut self, kind: &Kind, object: Value) -> Arc<Object> {
        if kind.kind == "CustomResourceDefinition"
            && let Ok(defined) = kinds_of(&object)
        {
            self.change_kinds(|kinds| defined.into_iter().for_each(|kind| kinds.add(kind)));
        }
        self.put(kind, object)
    }
}
