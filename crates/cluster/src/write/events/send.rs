//! Events on their way to the API server (events.k8s.io/v1).

use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use http::Method;
use k8s_openapi::jiff::{self, Timestamp};
use kube::Client;
use serde_json::{Value, json};

use super::super::request::{Ask, Body};
use super::super::{Author, Outcome};
use super::{Event, Regarding};

/// The longest note that the API server takes, in bytes.
const LONGEST_NOTE: usize = 1_024;
/// The longest part of a name that is the object's.
const LONGEST_NAME: usize = 200;
/// One that is younger isn't raised: another edge, or this one before its restart, has just told it.
const YOUNG: Duration = Duration::from_secs(300);

/// Makes an Event, or raises the one that is there.
pub(in super::super) async fn send(
    client: &Client,
    event: &Event,
    controller: &str,
    instance: &str,
) -> Outcome {
    match made_or_raised(client, event, controller, instance).await {
        Ok(()) => Outcome::Done,
        Err(outcome) => outcome,
    }
}

async fn made_or_raised(
    client: &Client,
    event: &Event,
    controller: &str,
    instance: &str,
) -> Result<(), Outcome> {
    // Events about cluster-scoped objects stand in `default`, as Kubernetes' own do.
    let namespace = event.object.namespace.as_deref().unwrap_or("default");
    let collection = format!("/apis/events.k8s.io/v1/namespaces/{namespace}/events");
    let name = name(event, instance);
    let create = |now| {
        Ask::new(Method::POST, collection.clone(), "create", "events.events.k8s.io")
            .body(Body::Json, body(event, &name, (controller, instance), now))
            .send(client)
    };
    match create(Timestamp::now()).await {
        Ok(_) => return Ok(()),
        Err(Outcome::Raced) => {}
        // The namespace is gone, or going.
        Err(Outcome::Gone) => return Ok(()),
        Err(outcome) => return Err(outcome),
    }
    let path = format!("{collection}/{name}");
    let there =
        match Ask::new(Method::GET, path.clone(), "get", "events.events.k8s.io").send(client).await
        {
            Ok(there) => there,
            // Forgotten meanwhile.
            Err(Outcome::Gone) => return create(Timestamp::now()).await.map(drop),
            Err(outcome) => return Err(outcome),
        };
    let now = Timestamp::now();
    let last = there.pointer("/series/lastObservedTime").unwrap_or(&there["eventTime"]);
    let last: Option<Timestamp> = last.as_str().and_then(|text| text.parse().ok());
    if last.is_some_and(|last| {
        Duration::try_from(now.duration_since(last)).is_ok_and(|age| age < YOUNG)
    }) {
        return Ok(());
    }
    let count = there.pointer("/series/count").and_then(Value::as_u64).unwrap_or(1);
    let series = json!({"series": {"count": count + 1, "lastObservedTime": micro(now)}});
    Ask::new(Method::PATCH, path, "patch", "events.events.k8s.io")
        .body(Body::Merge, series)
        .send(client)
        .await
        .map(drop)
}

fn body(event: &Event, name: &str, by: (&str, &str), now: Timestamp) -> Value {
    let Regarding { api_version, kind, namespace, name: object, uid } = &event.object;
    let mut regarding = json!({"apiVersion": api_version, "kind": kind, "name": object});
    if let Some(namespace) = namespace {
        regarding["namespace"] = json!(namespace);
    }
    if let Some(uid) = uid {
        regarding["uid"] = json!(uid);
    }
    json!({
        "apiVersion": "events.k8s.io/v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": namespace.as_deref().unwrap_or("default")},
        "eventTime": micro(now),
        "type": if event.warning { "Warning" } else { "Normal" },
        "reason": event.reason,
        "action": event.action,
        "note": shortened(&event.note),
        "regarding": regarding,
        "reportingController": by.0,
        "reportingInstance": by.1,
    })
}

/// The same for what is the same: so nothing is told twice, whoever tells it.
fn name(event: &Event, instance: &str) -> String {
    let mut hasher = DefaultHasher::new();
    let Event { object, author, warning, reason, action, note } = event;
    (&object.uid, &object.kind, warning, reason, action, note).hash(&mut hasher);
    if *author == Author::Own {
        instance.hash(&mut hasher);
    }
    let mut of_object: String = object.name.chars().take(LONGEST_NAME).collect();
    of_object.truncate(of_object.trim_end_matches(['.', '-']).len());
    format!("{of_object}.{:016x}", hasher.finish())
}

fn shortened(note: &str) -> String {
    if note.len() <= LONGEST_NOTE {
        return note.to_owned();
    }
    let end = (0..=LONGEST_NOTE - '…'.len_utf8()).rev().find(|end| note.is_char_boundary(*end));
    format!("{}…", &note[..end.unwrap_or_default()])
}

fn micro(time: Timestamp) -> String {
    jiff::fmt::strtime::format("%Y-%m-%dT%H:%M:%S%.6fZ", time).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(note: &str, author: Author) -> Event {
        Event {
            object: Regarding { name: "web".to_owned(), ..Regarding::default() },
            author,
            warning: true,
            reason: "Refused".to_owned(),
            action: "Planning".to_owned(),
            note: note.to_owned(),
        }
    }

    #[test]
    fn the_same_has_the_same_name_whichever_edge_leads() {
        let shared = event("a", Author::Leader);
        assert_eq!(name(&shared, "one"), name(&shared, "two"));
        assert_ne!(name(&shared, "one"), name(&event("b", Author::Leader), "one"));
        let own = event("a", Author::Own);
        assert_ne!(name(&own, "one"), name(&own, "two"));
        assert!(name(&own, "one").starts_with("web."));
    }

    #[test]
    fn notes_are_cut_between_characters() {
        let note = "ä".repeat(600);
        let short = shortened(&note);
        assert!(short.len() <= LONGEST_NOTE && short.len() > LONGEST_NOTE - 4, "{}", short.len());
        assert!(short.ends_with("ä…"));
        assert_eq!(shortened("short"), "short");
    }
}
