//! JSONPath, as far as printer columns use it: fields, indexes, `[*]`, and filters such as
//! `[?(@.type=="Ready")]`.

use serde_json::Value;

/// All that a path finds.
pub(crate) fn find<'a>(path: &str, object: &'a Value) -> Vec<&'a Value> {
    let mut found = vec![object];
    let mut rest = path.trim().trim_start_matches('{').trim_end_matches('}');
    while !rest.is_empty() {
        if let Some(tail) = rest.strip_prefix('[') {
            let Some(end) = closing(tail) else { return Vec::new() };
            let inside = tail[..end].trim();
            rest = &tail[end + 1..];
            found = found.into_iter().flat_map(|value| select(inside, value)).collect();
            continue;
        }
        rest = rest.trim_start_matches('.');
        let (name, tail) = name(rest);
        rest = tail;
        if name == "*" {
            found = found.into_iter().flat_map(|value| select("*", value)).collect();
        } else if !name.is_empty() {
            found = found.into_iter().filter_map(|value| value.get(&name)).collect();
        }
    }
    found.retain(|value| !value.is_null());
    found
}

/// A field's name up to the next step; a backslash takes the next character as it is.
fn name(text: &str) -> (String, &str) {
    let mut name = String::new();
    let mut characters = text.char_indices();
    while let Some((place, character)) = characters.next() {
        match character {
            '.' | '[' => return (name, &text[place..]),
            '\\' => name.extend(characters.next().map(|(_, next)| next)),
            other => name.push(other),
        }
    }
    (name, "")
}

/// Where the bracket closes, quotes and inner brackets left aside.
fn closing(text: &str) -> Option<usize> {
    let (mut depth, mut quote) = (0_u32, None);
    for (place, character) in text.char_indices() {
        match (quote, character) {
            (Some(open), _) if character == open => quote = None,
            (Some(_), _) => {}
            (None, '"' | '\'') => quote = Some(character),
            (None, '[') => depth += 1,
            (None, ']') if depth == 0 => return Some(place),
            (None, ']') => depth -= 1,
            (None, _) => {}
        }
    }
    None
}

fn select<'a>(inside: &str, value: &'a Value) -> Vec<&'a Value> {
    if let Some(filter) = inside.strip_prefix("?(").and_then(|text| text.strip_suffix(')')) {
        let elements = value.as_array().into_iter().flatten();
        return elements.filter(|element| holds(filter, element)).collect();
    }
    if inside == "*" {
        return match value {
            Value::Array(elements) => elements.iter().collect(),
            Value::Object(members) => members.values().collect(),
            _ => Vec::new(),
        };
    }
    let quoted = |mark: char| inside.strip_prefix(mark).and_then(|text| text.strip_suffix(mark));
    if let Some(name) = quoted('\'').or_else(|| quoted('"')) {
        return value.get(name).into_iter().collect();
    }
    let Some(elements) = value.as_array() else { return Vec::new() };
    let place = inside.parse::<i64>().ok().and_then(|place| {
        let length = i64::try_from(elements.len()).ok()?;
        usize::try_from(if place < 0 { length + place } else { place }).ok()
    });
    place.and_then(|place| elements.get(place)).into_iter().collect()
}

/// Whether an element passes a filter: `@.a=="b"`, `@.a!="b"`, or `@.a` for one that is there.
fn holds(filter: &str, element: &Value) -> bool {
    let of = |path: &str| -> Option<String> {
        let value = find(path.trim().strip_prefix('@')?, element).first().copied()?;
        Some(value.as_str().map_or_else(|| value.to_string(), str::to_owned))
    };
    let plain = |text: &str| text.trim().trim_matches(['"', '\'']).to_owned();
    if let Some((path, value)) = filter.split_once("==") {
        of(path).is_some_and(|found| found == plain(value))
    } else if let Some((path, value)) = filter.split_once("!=") {
        of(path).is_none_or(|found| found != plain(value))
    } else {
        of(filter).is_some()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_indexes_and_filters_find_what_they_name() {
        let object = json!({
            "metadata": {"annotations": {"a.b/c": "x"}},
            "status": {
                "addresses": ["1.2.3.4", "::1"],
                "conditions": [
                    {"type": "Other", "status": "True"},
                    {"type": "Ready", "status": "False"},
                ],
            },
        });
        let text = |path: &str| -> Vec<String> {
            find(path, &object).iter().map(|value| value.as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(text(".status.conditions[?(@.type==\"Ready\")].status"), ["False"]);
        assert_eq!(text(".status.addresses[0]"), ["1.2.3.4"]);
        assert_eq!(text(".status.addresses[-1]"), ["::1"]);
        assert_eq!(text(".status.addresses[*]"), ["1.2.3.4", "::1"]);
        assert_eq!(text(".metadata.annotations.a\\.b/c"), ["x"]);
        assert_eq!(text(".metadata.annotations['a.b/c']"), ["x"]);
        assert!(find(".status.nothing.there", &object).is_empty());
        assert!(find(".status.conditions[?(", &object).is_empty());
    }
}
