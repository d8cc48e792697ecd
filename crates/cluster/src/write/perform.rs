//! One change, from the first request to the last.

use http::Method;
use kube::Client;
use serde_json::{Map, Value, json};

use super::request::{Ask, Body};
use super::{
    FINALIZER, FinalizerChange, Kind, MANAGER, MANAGER_OF_LOST, Outcome, Patch, StatusChange,
    Target,
};

/// Where an object has its version.
const VERSION: &str = "/metadata/resourceVersion";

/// Makes a change.
pub(super) async fn perform(client: &Client, patch: &Patch) -> Outcome {
    match changes(client, patch).await {
        Ok(()) => Outcome::Done,
        Err(outcome) => outcome,
    }
}

async fn changes(client: &Client, patch: &Patch) -> Result<(), Outcome> {
    let target = &patch.target;
    let uid = match &patch.uid {
        Some(uid) => Some(uid.clone()),
        None => create(client, target).await?,
    };
    let uid = uid.as_deref();
    if patch.finalizer == Some(FinalizerChange::Add) {
        finalizer(client, target, uid, FinalizerChange::Add).await?;
    }
    match &patch.status {
        StatusChange::Keep => {}
        StatusChange::Apply { fields, force } => {
            apply(client, target, uid, (MANAGER, *force), fields).await?;
        }
        StatusChange::Lost { fields } => {
            apply(client, target, uid, (MANAGER_OF_LOST, true), fields).await?;
        }
        StatusChange::TakeBack => take_back(client, target, uid).await?,
    }
    if patch.finalizer == Some(FinalizerChange::Remove) {
        finalizer(client, target, uid, FinalizerChange::Remove).await?;
    }
    Ok(())
}

/// Makes the object, and tells its uid. One that is there already is as good.
async fn create(client: &Client, target: &Target) -> Result<Option<String>, Outcome> {
    let path = target.path();
    let collection = path.rsplit_once('/').map_or(path.as_str(), |(collection, _)| collection);
    let body = json!({
        "apiVersion": target.kind.api_version(),
        "kind": target.kind.to_string(),
        "metadata": {"name": target.name},
        "spec": {},
    });
    let plural = target.kind.plural();
    let made =
        Ask::new(Method::POST, format!("{collection}?fieldManager={MANAGER}"), "create", plural)
            .body(Body::Json, body)
            .send(client)
            .await;
    let object = match made {
        Ok(object) => object,
        Err(Outcome::Raced) => Ask::new(Method::GET, path, "get", plural).send(client).await?,
        Err(outcome) => return Err(outcome),
    };
    Ok(text_of(&object, "/metadata/uid"))
}

/// Applies a status.
async fn apply(
    client: &Client,
    target: &Target,
    uid: Option<&str>,
    (manager, force): (&str, bool),
    fields: &Value,
) -> Result<(), Outcome> {
    let mut body = head(target, uid, None);
    body.insert("status".to_owned(), fields.clone());
    let force = if force { "&force=true" } else { "" };
    let path = format!("{}/status?fieldManager={manager}{force}", target.path());
    Ask::new(Method::PATCH, path, "patch", &format!("{}/status", target.kind.plural()))
        .body(Body::Apply, Value::Object(body))
        .send(client)
        .await
        .map(drop)
}

/// Takes back what was applied to the status, if anything was.
async fn take_back(client: &Client, target: &Target, uid: Option<&str>) -> Result<(), Outcome> {
    let object = get(client, target, uid).await?;
    if !is_applied(&object) {
        return Ok(());
    }
    // Whoever serves it now may have written meanwhile.
    let body = head(target, uid, text_of(&object, VERSION));
    let path = format!("{}/status?fieldManager={MANAGER}", target.path());
    let resource = format!("{}/status", target.kind.plural());
    Ask::new(Method::PATCH, path, "patch", &resource)
        .body(Body::Apply, Value::Object(body))
        .send(client)
        .await
        .map(drop)
}

/// Whether [`MANAGER`] has applied anything to the status of an object.
fn is_applied(object: &Value) -> bool {
    let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
    entries.into_iter().flatten().any(|entry| {
        entry["manager"] == MANAGER
            && entry["operation"] == "Apply"
            && (entry["subresource"] == "status" || !entry["fieldsV1"]["f:status"].is_null())
    })
}

/// Adds or removes the finalizer, and leaves those of others as they are.
async fn finalizer(
    client: &Client,
    target: &Target,
    uid: Option<&str>,
    change: FinalizerChange,
) -> Result<(), Outcome> {
    let object = get(client, target, uid).await?;
    let before = object.pointer("/metadata/finalizers").and_then(Value::as_array);
    let before: Vec<&Value> = before.into_iter().flatten().collect();
    let mut after = before.clone();
    after.retain(|one| **one != FINALIZER);
    let own = json!(FINALIZER);
    // Nobody may add one to an object that is being deleted.
    let deleted = !object["metadata"]["deletionTimestamp"].is_null();
    if change == FinalizerChange::Add && !deleted {
        after.push(&own);
    }
    if before.len() == after.len() {
        return Ok(());
    }
    let body = json!({"metadata": {
        "uid": object["metadata"]["uid"],
        "resourceVersion": object["metadata"]["resourceVersion"],
        "finalizers": after,
    }});
    let path = format!("{}?fieldManager={MANAGER}", target.path());
    Ask::new(Method::PATCH, path, "patch", target.kind.plural())
        .body(Body::Merge, body)
        .send(client)
        .await
        .map(drop)
}

/// The object as it is now, if it is the one that is meant.
async fn get(client: &Client, target: &Target, uid: Option<&str>) -> Result<Value, Outcome> {
    let ask = Ask::new(Method::GET, target.path(), "get", target.kind.plural());
    let object = ask.send(client).await?;
    match uid.is_none_or(|uid| object["metadata"]["uid"] == uid) {
        true => Ok(object),
        false => Err(Outcome::Gone),
    }
}

/// Removes an EdgeGateway, as when its edge is uninstalled. One that isn't there is as good.
///
/// # Errors
/// What became of it, where it isn't gone.
pub async fn delete_edge(client: &Client, name: &str) -> Result<(), Outcome> {
    let target = Target { kind: Kind::EdgeGateway, namespace: None, name: name.to_owned() };
    let ask = Ask::new(Method::DELETE, target.path(), "delete", target.kind.plural());
    match ask.send(client).await {
        Ok(_) | Err(Outcome::Gone) => Ok(()),
        Err(outcome) => Err(outcome),
    }
}

/// What an apply begins with.
fn head(target: &Target, uid: Option<&str>, version: Option<String>) -> Map<String, Value> {
    let mut metadata = Map::new();
    metadata.insert("name".to_owned(), json!(target.name));
    metadata.extend(target.namespace.as_ref().map(|text| ("namespace".to_owned(), json!(text))));
    // An object of this name that was made since is another one.
    metadata.extend(uid.map(|uid| ("uid".to_owned(), json!(uid))));
    metadata.extend(version.map(|version| ("resourceVersion".to_owned(), json!(version))));
    let mut body = Map::new();
    body.insert("apiVersion".to_owned(), json!(target.kind.api_version()));
    body.insert("kind".to_owned(), json!(target.kind.to_string()));
    body.insert("metadata".to_owned(), Value::Object(metadata));
    body
}

fn text_of(object: &Value, pointer: &str) -> Option<String> {
    object.pointer(pointer).and_then(Value::as_str).map(str::to_owned)
}
