//! `gateway crds`: the CustomResourceDefinitions of Tidegate's own kinds.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use ingest::crds::definition;
use serde_json::{Map, Value};

/// The arguments of `gateway crds`.
#[derive(Args, Clone, Debug, Default)]
pub struct CrdsArgs {
    /// Only this one, such as vpnconnections
    plural: Option<String>,
}

/// Writes all of them, or one, as YAML: what stands in `helm/tidegate/crds`.
///
/// # Errors
/// If they can't be written, or there is none of the name.
pub fn run(args: &CrdsArgs, out: &mut impl Write) -> Result<ExitCode> {
    let mut definitions = definition::definitions();
    let name = |definition: &Value| definition["spec"]["names"]["plural"].clone();
    if let Some(plural) = &args.plural {
        let known: Vec<String> = definitions
            .iter()
            .filter_map(|definition| name(definition).as_str().map(str::to_owned))
            .collect();
        definitions.retain(|definition| name(definition) == **plural);
        if definitions.is_empty() {
            bail!("there is no definition {plural:?}; write one of {}", known.join(", "));
        }
    }
    writeln!(out, "# Written by `gateway crds`.")?;
    for definition in definitions {
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

    fn written(plural: Option<&str>) -> String {
        let mut out = Vec::new();
        run(&CrdsArgs { plural: plural.map(str::to_owned) }, &mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_charts_definitions_have_not_drifted() {
        for plural in ["addresspools", "edgegateways", "vpnconnections"] {
            let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../helm/tidegate/crds");
            assert!(
                written(Some(plural))
                    == std::fs::read_to_string(format!("{folder}/{plural}.yaml")).unwrap(),
                "write it anew: cargo run -p gateway -- crds {plural} > \
                 helm/tidegate/crds/{plural}.yaml"
            );
        }
        let names = definition::definitions().len();
        assert_eq!(names, 3, "every definition is in the chart");
    }

    #[test]
    fn a_definition_that_is_not_there_is_named() {
        let args = CrdsArgs { plural: Some("vpn".to_owned()) };
        let error = run(&args, &mut Vec::new()).unwrap_err().to_string();
        assert!(error.contains("addresspools, edgegateways, vpnconnections"), "{error}");
    }

    #[test]
    fn what_is_written_is_yaml_of_the_same_values() {
        let documents = yaml::documents(&written(None)).unwrap();
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
