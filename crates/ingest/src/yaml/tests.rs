use std::collections::BTreeMap;

use serde::Deserialize;

use super::*;

fn document(text: &str) -> Node {
    let mut documents = documents(text).unwrap();
    assert_eq!(documents.len(), 1, "{text}");
    documents.remove(0)
}

fn map(text: &str) -> Result<BTreeMap<String, String>, FieldError> {
    typed(&document(text)).map(|typed| typed.value)
}

#[derive(Debug, Deserialize, PartialEq)]
struct Outer {
    items: Vec<Inner>,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Inner {
    port: u16,
    name: Option<String>,
}

#[test]
fn an_error_names_field_and_line() {
    let text = "items:\n- port: 80\n-\n  name: a\n  port: \"x\"\n";
    let error = typed::<Outer>(&document(text)).unwrap_err();
    assert_eq!(error.path.to_string(), "items[1].port");
    assert_eq!(error.line, 5);
    assert_eq!(error.reason, "invalid type: string \"x\", expected u16");
}

#[test]
fn an_unknown_field_is_listed_with_its_line() {
    let text = "items:\n- port: 80\n  nmae: a\nmore:\n  x: 1\n";
    let typed = typed::<Outer>(&document(text)).unwrap();
    assert_eq!(typed.value.items, [Inner { port: 80, name: None }]);
    let unknown: Vec<_> = typed.unknown.iter().map(|(p, line)| (p.to_string(), *line)).collect();
    assert_eq!(unknown, [("items[0].nmae".to_owned(), 3), ("more".to_owned(), 4)]);
}

#[test]
fn keys_that_are_no_words_stand_in_brackets() {
    let error = map("example.com/a b: 1").unwrap_err();
    assert_eq!(error.path.to_string(), "[\"example.com/a b\"]");
    assert_eq!(error.remedy, "put it in quotes: \"1\"");
}

#[test]
fn yaml_1_1_booleans_and_versions_stay_text() {
    let text = "a: no\nb: on\nc: y\nd: 1.2.3\ne: 12:30:45\nf: 2024-01-01\n";
    let got = map(text).unwrap();
    let got: Vec<_> = got.values().map(String::as_str).collect();
    assert_eq!(got, ["no", "on", "y", "1.2.3", "12:30:45", "2024-01-01"]);
}

#[test]
fn unquoted_scalars_of_other_types_are_no_text() {
    for (text, shown) in [("a: true", "true"), ("a: -3", "-3"), ("a: 1.5", "1.5")] {
        let error = map(text).unwrap_err();
        assert_eq!(error.remedy, format!("put it in quotes: \"{shown}\""), "{text}");
    }
    assert!(map("a:").unwrap_err().reason.contains("expected a string"));
}

#[test]
fn documents_are_separate_and_empty_ones_left_out() {
    let text = "# only a comment\n---\na: 1\n---\n---\nb: 2\n...\n---\n";
    let lines: Vec<_> = documents(text).unwrap().iter().map(|node| node.line).collect();
    assert_eq!(lines, [3, 6]);
    assert!(documents("").unwrap().is_empty());
}

#[test]
fn json_with_tabs_escapes_and_surrogate_pairs_is_read() {
    let text = "{\n\t\"a\": \"x\\/y\",\n\t\"b\": \"\\ud83d\\ude00 \\u00e9\"\n}\n";
    let got = map(text).unwrap();
    assert_eq!(got["a"], "x/y");
    assert_eq!(got["b"], "\u{1f600} \u{e9}");
}

#[test]
fn byte_order_mark_and_crlf_are_read() {
    let got = map("\u{feff}a: b\r\nc: d\r\n").unwrap();
    assert_eq!(got, BTreeMap::from([("a".into(), "b".into()), ("c".into(), "d".into())]));
}

#[test]
fn number_keys_are_text() {
    assert_eq!(map("80: a\n").unwrap(), BTreeMap::from([("80".into(), "a".into())]));
}

#[test]
fn torn_text_is_a_syntax_error_with_its_line() {
    let error = documents("a: 1\nb: [1, 2\n").unwrap_err();
    assert!(error.line >= 2, "{error:?}");
    let error = documents("a: b\n  c: d\n").unwrap_err();
    assert_eq!(error.line, 2, "{error:?}");
    assert!(error.reason.starts_with("is not valid YAML"), "{error:?}");
}

#[test]
fn every_duplicate_key_is_found_with_its_line() {
    let text = "a:\n  x: 1\n  y: 2\n  x: 3\n---\nb:\n- {k: 1, k: 2}\n";
    let found: Vec<_> = documents(text)
        .unwrap()
        .iter()
        .flat_map(Node::duplicate_keys)
        .map(|(path, line)| (path.to_string(), line))
        .collect();
    assert_eq!(found, [("a.x".to_owned(), 4), ("b[0].k".to_owned(), 7)]);
}

#[test]
fn duplicate_numbers_written_differently_are_not_swallowed() {
    // Whether as a syntax error or as a duplicate: one of the two must say it.
    let found = documents("11: a\n0xB: b\n").map(|nodes| nodes[0].duplicate_keys().len());
    assert!(found.is_err() || found == Ok(1), "{found:?}");
}

#[test]
fn merge_keys_and_aliases_stand_for_what_they_name() {
    let got: Typed<BTreeMap<String, BTreeMap<String, String>>> =
        typed(&document("base: &b {x: \"1\"}\nmore:\n  <<: *b\n  y: \"2\"\nsame: *b\n")).unwrap();
    assert_eq!(got.value["more"].len(), 2);
    assert_eq!(got.value["same"]["x"], "1");
}

#[test]
fn aliases_that_multiply_are_refused() {
    let mut text = "a: &a [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for (name, below) in ["b", "c", "d", "e", "f", "g", "h"].iter().zip("abcdefg".chars()) {
        let aliases = vec![format!("*{below}"); 10].join(", ");
        text.push_str(&format!("{name}: &{name} [{aliases}]\n"));
    }
    let error = documents(&text).unwrap_err();
    assert!(error.reason.contains("aliases multiply"), "{error:?}");
}

#[test]
fn a_long_text_repeated_by_aliases_is_refused() {
    let long = "x".repeat(1 << 20);
    let aliases = vec!["- *a\n"; 90].concat();
    let error = documents(&format!("- &a {long}\n{aliases}")).unwrap_err();
    assert!(error.reason.contains("aliases multiply"), "{error:?}");
}

#[test]
fn deep_nesting_is_refused_and_not_a_stack_overflow() {
    for text in ["[".repeat(100_000), "{a: ".repeat(100_000), "- ".repeat(100_000)] {
        assert!(documents(&text).is_err());
    }
    let ok = format!("{}1{}", "[".repeat(60), "]".repeat(60));
    assert_eq!(documents(&ok).unwrap().len(), 1);
}

#[test]
fn a_text_over_the_limit_is_refused() {
    let error = documents(&"a".repeat(MAX_BYTES + 1)).unwrap_err();
    assert!(error.reason.contains("at most 16777216"), "{error:?}");
}

#[test]
fn a_number_out_of_range_is_refused_without_being_quoted() {
    let error = documents("password: 1e999\n").unwrap_err();
    assert_eq!(error.line, 1);
    assert!(!error.to_string().contains("1e999"), "{error}");
}
