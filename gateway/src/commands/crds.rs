//! `gateway crds`: the CustomResourceDefinitions of Tidegate's own kinds.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use ingest::crds::definition;
use serde_json::{Map, Value};

/// Writes all of them as YAML: what stands in `helm/tidegate/crds`.
///
/// # Errors
/// If they can't be written.
pub fn run(out: &mut impl Write) -> Result<ExitCode> {
    writeln!(out, "# Written by `gateway crds`.")?;
    for definition in definition::definitions() {
        let mut text = String::new();
        block(&mut text, &definition, 0);
        writeln!(out, "---{text}")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Adds a value in YAML's block style, from behind its key on.
fn block(text: &mut String, value: &Value, depth: usize) {
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            line(text, depth);
            entries(text, fields, depth);
        }
        Value::Array(items) if !items.is_empty() => {
            for item in items {
                line(text, depth);
                match item {
                    Value::Object(fields) if !fields.is_empty() => {
                        text.push_str("- ");
                        entries(text, fields, depth + 1);
                    }
                    other => {
                        text.push('-');
                        block(text, other, depth + 1);
                    }
                }
            }
        }
        Value::String(value) => {
            text.push(' ');
            scalar(text, value);
        }
        // JSON is YAML.
        other => {
            text.push(' ');
            text.push_str(&other.to_string());
        }
    }
}

/// Adds a map's entries, the first one where the text ends.
fn entries(text: &mut String, fields: &Map<String, Value>, depth: usize) {
    for (index, (key, value)) in fields.iter().enumerate() {
        if index > 0 {
            line(text, depth);
        }
        scalar(text, key);
        text.push(':');
        block(text, value, depth + 1);
    }
}

fn line(text: &mut String, depth: usize) {
    text.push('\n');
    text.extend(std::iter::repeat_n("  ", depth));
}

/// Text, in quotes unless it is plain to see that it needs none.
fn scalar(text: &mut String, value: &str) {
    let plain = |char: char| char.is_ascii_alphanumeric() || " .,/()'_-".contains(char);
    let is_plain = value.starts_with(|char: char| char.is_ascii_alphabetic())
        && value.chars().all(plain)
        && !value.ends_with(' ')
        && !["true", "false", "null", "yes", "no", "on", "off", "y", "n"]
            .contains(&value.to_ascii_lowercase().as_str());
    if is_plain {
        text.push_str(value);
    } else {
        text.push_str(&Value::from(value).to_string());
    }
}

#[cfg(test)]
mod tests {
    use ingest::yaml;
    use serde_json::json;

    use super::*;

    fn written() -> String {
        let mut out = Vec::new();
        run(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_charts_definitions_have_not_drifted() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../helm/tidegate/crds/addresspools.yaml");
        assert!(
            written() == std::fs::read_to_string(path).unwrap(),
            "write it anew: cargo run -p gateway -- crds > helm/tidegate/crds/addresspools.yaml"
        );
    }

    #[test]
    fn what_is_written_is_yaml_of_the_same_values() {
        let documents = yaml::documents(&written()).unwrap();
        let read: Vec<Value> =
            documents.iter().map(|node| yaml::typed(node).unwrap().value).collect();
        assert_eq!(read, definition::definitions());

        let odd = json!({
            "a": [[1, [true]], {}, [], {"b": {"c": null}}],
            "yes": "no", "x: y": "a: b", "#": "- a", "": "1", "~": "a\n\"b\"\u{1}", "e": 1.5,
        });
        let mut text = String::new();
        block(&mut text, &odd, 0);
        let documents = yaml::documents(&text).unwrap();
        assert_eq!(yaml::typed::<Value>(&documents[0]).unwrap().value, odd, "{text}");
    }
}
