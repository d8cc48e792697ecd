//! Tables (`meta.k8s.io/v1`), which `kubectl get` prints.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};

use crate::kinds::{Column, Kind};
use crate::object::clock;

mod builtin;
mod path;

/// A table of the rows. Columns are defined where `defined`.
pub(crate) fn whole(kind: &Kind, meta: Value, rows: Vec<Value>, defined: bool) -> Value {
    let definitions = if defined { json!(columns(kind)) } else { Value::Null };
    json!({
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": meta,
        "columnDefinitions": definitions,
        "rows": rows,
    })
}

fn columns(kind: &Kind) -> Vec<Value> {
    let define = |column: &Column| {
        json!({
            "name": column.name,
            "type": column.kind,
            "format": column.format,
            "description": column.description,
            "priority": column.priority,
        })
    };
    let name = Column {
        name: "Name".to_owned(),
        kind: "string".to_owned(),
        format: "name".to_owned(),
        path: String::new(),
        priority: 0,
        description: "Name of the object".to_owned(),
    };
    let mut columns = Vec::new();
    // Events begin with when they were seen.
    if kind.kind != "Event" {
        columns.push(define(&name));
    }
    if kind.builtin {
        columns.extend(builtin::columns(kind).iter().map(define));
    } else if kind.columns.is_empty() {
        columns.extend(builtin::age().iter().map(define));
    } else {
        columns.extend(kind.columns.iter().map(define));
    }
    columns
}

/// The cells of an object's row.
pub(crate) fn cells(kind: &Kind, object: &Value) -> Vec<Value> {
    let mut cells = Vec::new();
    if kind.kind != "Event" {
        cells.push(object["metadata"]["name"].clone());
    }
    if kind.builtin {
        cells.extend(builtin::cells(kind, object));
    } else if kind.columns.is_empty() {
        cells.push(age(object).into());
    } else {
        cells.extend(kind.columns.iter().map(|column| cell(column, object)));
    }
    cells
}

/// A custom kind's cell.
fn cell(column: &Column, object: &Value) -> Value {
    let found = path::find(&column.path, object);
    let Some(first) = found.first() else { return Value::Null };
    match column.kind.as_str() {
        "integer" | "number" | "boolean" if !first.is_string() => (*first).clone(),
        "date" => first.as_str().map_or(Value::Null, |text| since(text).into()),
        "string" => {
            // The first result is shown; a list in it as JSON is.
            match first {
                Value::String(text) => text.clone().into(),
                Value::Null => Value::Null,
                other => other.to_string().into(),
            }
        }
        _ => (*first).clone(),
    }
}

/// How long ago an object was made.
pub(crate) fn age(object: &Value) -> String {
    since(object["metadata"]["creationTimestamp"].as_str().unwrap_or_default())
}

/// How long ago a time is, as kubectl writes it; `<unknown>` for what is no time.
pub(crate) fn since(time: &str) -> String {
    let Ok(then) = time.parse::<Timestamp>() else { return "<unknown>".to_owned() };
    let seconds = clock().as_second() - then.as_second();
    span(seconds)
}

/// A span as Kubernetes prints it for people: less exact the longer it is.
fn span(seconds: i64) -> String {
    if seconds < -1 {
        return "<invalid>".to_owned();
    }
    let seconds = seconds.max(0);
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let pair = |big: i64, unit: &str, small: i64, small_unit: &str| {
        if small == 0 { format!("{big}{unit}") } else { format!("{big}{unit}{small}{small_unit}") }
    };
    match seconds {
        0..120 => format!("{seconds}s"),
        120..600 => pair(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => pair(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => pair(days, "d", hours % 24, "h"),
        691_200..63_072_000 => format!("{days}d"),
        63_072_000..252_288_000 => pair(days / 365, "y", days % 365, "d"),
        _ => format!("{}y", days / 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_written_as_kubectl_does() {
        for (seconds, text) in [
            (0, "0s"),
            (119, "119s"),
            (120, "2m"),
            (150, "2m30s"),
            (900, "15m"),
            (10_860, "3h1m"),
            (90_000, "25h"),
            (180_000, "2d2h"),
            (900_000, "10d"),
        ] {
            assert_eq!(span(seconds), text);
        }
    }
}
