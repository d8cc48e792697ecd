//! Events are served by two groups with other names for the same fields; stored is v1's form.

use serde_json::Value;

/// v1's names and those of events.k8s.io/v1.
const NAMES: &[(&str, &str)] = &[
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// Out of v1's form into that of events.k8s.io/v1.
pub(crate) fn out_of_core(event: &mut Value) {
    rename(event, NAMES.iter().map(|&(core, new)| (core, new)));
    event["apiVersion"] = "events.k8s.io/v1".into();
}

/// Into v1's form. Patches too: they have the same names at the top.
pub(crate) fn into_core(event: &mut Value) {
    rename(event, NAMES.iter().map(|&(core, new)| (new, core)));
    if event["apiVersion"].is_string() {
        event["apiVersion"] = "v1".into();
    }
}

fn rename<'a>(event: &mut Value, names: impl Iterator<Item = (&'a str, &'a str)>) {
    let Value::Object(members) = event else { return };
    for (from, to) in names {
        if let Some(value) = members.remove(from) {
            members.insert(to.to_owned(), value);
        }
    }
}
