//! One change, from the first request to the last.

use http::Method;
use kube::Client;
use serde_json::{Map, Value, json};

use super::request::{Ask, Body};
use super::{Kind, MANAGER, MANAGER_OF_LOST, Outcome, Patch, StatusChange, Target};

/// Makes a change.
pub(super) async fn perform(client: &Client, patch: &Patch) -> Outcome {
    match changes(client, patch).await {
        Ok(()) => Outcome::Done,
        Err(outcome) => outcome,
    }
}

async fn changes(client: &Client, patch: &Patch) -> Result<(), Outcome> {
    let target = &patch.target;
    // What others may have changed meanwhile isn't overwritten.
    let (mut uid, mut version) = (patch.uid.clone(), patch.version.clone());
    if uid.is_none() {
        (uid, version) = create(client, target).await?;
    }
    let adds = patch.finalizers.as_ref().filter(|finalizers| finalizers.add);
    if let Some(finalizers) = adds {
        let all = &finalizers.all;
        version = finalizers_are(client, target, all, (uid.as_deref(), version)).await?;
    }
    match &patch.status {
        StatusChange::Keep => {}
        StatusChange::Apply { fields, force } => {
            let answer = apply(client, target, uid.as_deref(), (MANAGER, *force), fields).await?;
            version = version_of(&answer);
        }
        StatusChange::Lost { fields } => {
            let manager = (MANAGER_OF_LOST, true);
            let answer = apply(client, target, uid.as_deref(), manager, fields).await?;
            version = version_of(&answer);
        }
        StatusChange::TakeBack => {
            version = take_back(client, target, uid.as_deref()).await?.or(version);
        }
    }
    if let Some(finalizers) = patch.finalizers.as_ref().filter(|finalizers| !finalizers.add) {
        finalizers_are(client, target, &finalizers.all, (uid.as_deref(), version)).await?;
    }
    Ok(())
}

/// Makes the object, and tells its uid and version. One that is there already is as good.
async fn create(
    client: &Client,
    target: &Target,
) -> Result<(Option<String>, Option<String>), Outcome> {
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
    let uid = object.pointer("/metadata/uid").and_then(Value::as_str).map(str::to_owned);
    Ok((uid, version_of(&object)))
}

/// Applies a status.
async fn apply(
    client: &Client,
    target: &Target,
    uid: Option<&str>,
    (manager, force): (&str, bool),
    fields: &Value,
) -> Result<Value, Outcome> {
    let mut body = head(target, uid, None);
    body.insert("status".to_owned(), fields.clone());
    let force = if force { "&force=true" } else { "" };
    let path = format!("{}/status?fieldManager={manager}{force}", target.path());
    Ask::new(Method::PATCH, path, "patch", &format!("{}/status", target.kind.plural()))
        .body(Body::Apply, Value::Object(body))
        .send(client)
        .await
}

/// Takes back what was applied to the status, if anything was. Answers the version after that.
async fn take_back(
    client: &Client,
    target: &Target,
    uid: Option<&str>,
) -> Result<Option<String>, Outcome> {
    let object =
        Ask::new(Method::GET, target.path(), "get", target.kind.plural()).send(client).await?;
    let version = version_of(&object);
    if !is_applied(&object) {
        return Ok(version);
    }
    let body = head(target, uid, version);
    let path = format!("{}/status?fieldManager={MANAGER}", target.path());
    let resource = format!("{}/status", target.kind.plural());
    let answer = Ask::new(Method::PATCH, path, "patch", &resource)
        .body(Body::Apply, Value::Object(body))
        .send(client)
        .await?;
    Ok(version_of(&answer))
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

/// Sets the finalizers, if nobody has changed the object since that version.
async fn finalizers_are(
    client: &Client,
    target: &Target,
    all: &[String],
    (uid, version): (Option<&str>, Option<String>),
) -> Result<Option<String>, Outcome> {
    let mut metadata = Map::new();
    metadata.extend(uid.map(|uid| ("uid".to_owned(), json!(uid))));
    metadata.extend(version.map(|version| ("resourceVersion".to_owned(), json!(version))));
    metadata.insert("finalizers".to_owned(), json!(all));
    let path = format!("{}?fieldManager={MANAGER}", target.path());
    let answer = Ask::new(Method::PATCH, path, "patch", target.kind.plural())
        .body(Body::Merge, json!({ "metadata": metadata }))
        .send(client)
        .await?;
    Ok(version_of(&answer))
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

fn version_of(object: &Value) -> Option<String> {
    object.pointer("/metadata/resourceVersion").and_then(Value::as_str).map(str::to_owned)
}
