use super::*;

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[test]
fn every_operator_selects_what_calico_selects() {
    let worker = labels(&[("ibm.role", "worker_public"), ("zone", "fra-02"), ("a/b", "it's")]);
    for (text, expected) in [
        ("", true),
        ("all()", true),
        ("global()", true),
        ("ibm.role == 'worker_public'", true),
        ("ibm.role==\"worker_public\"", true),
        ("ibm.role == 'worker'", false),
        ("missing == ''", false),
        ("missing != 'x'", true),
        ("zone != 'fra-02'", false),
        ("zone in {'fra-01', \"fra-02\"}", true),
        ("zone in {}", false),
        ("missing in {'x'}", false),
        ("zone not in { 'fra-02' }", false),
        ("missing not in {'x'}", true),
        ("has(zone)", true),
        ("has( a/b ) && a/b == \"it's\"", true),
        ("!has(zone)", false),
        ("! has(missing)", true),
        ("!(zone == 'x')", true),
        ("zone contains '-'", true),
        ("zone starts with 'fra'", true),
        ("zone ends with '02'", true),
        ("missing contains ''", false),
        ("has(missing) && has(missing) || has(zone)", true),
        ("has(zone) || has(zone) && has(missing)", true),
        ("has(missing) && (has(missing) || has(zone))", false),
        ("in == 'x'", false),
        ("has == 'x' || all == 'x'", false),
    ] {
        let selector = Selector::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(selector.matches(&worker), expected, "{text}");
        let again = Selector::parse(&selector.to_string());
        assert_eq!(again, Ok(selector), "{text}");
    }
}

#[test]
fn what_is_no_selector_is_refused_with_place_and_expectation() {
    for (text, position, expected) in [
        ("ibm.role = 'x'", 10, OPERATOR_START),
        ("ibm.role", 9, OPERATOR_START),
        ("a == x", 6, "a value in quotes"),
        ("a == 'x", 8, "the quote that ends the value"),
        ("a == 'x' b", 10, "&&, || or the end"),
        ("a == 'x' &&", 12, "a label"),
        ("(a == 'x'", 10, "&&, || or )"),
        ("a in 'x'", 6, "{ and values"),
        ("a in {'x' 'y'}", 11, ", or }"),
        ("a in {'x',}", 11, "a value in quotes"),
        ("has()", 5, "a label"),
        ("all(x)", 5, ")"),
        ("a inside {'x'}", 3, OPERATOR_START),
        ("ä == 'x'", 1, "a label"),
        ("é", 1, "a label"),
        ("a == 'é' é", 10, "&&"),
    ] {
        let error = Selector::parse(text).expect_err(text);
        assert_eq!(error.position, position, "{text}: {error}");
        assert!(error.expected.starts_with(expected), "{text}: {error}");
    }
    let deep = "(".repeat(100_000);
    assert!(Selector::parse(&deep).is_err());
    assert!(Selector::parse(&"!".repeat(100_000)).is_err());
}

const OPERATOR_START: &str = "==, !=";
