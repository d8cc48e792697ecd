use super::*;

fn cut(text: &str) -> Option<Vec<(u64, &str)>> {
    Some(pieces(text)?.into_iter().map(|piece| (piece.lines_before, piece.text)).collect())
}

#[test]
fn a_text_is_cut_before_every_marker() {
    assert_eq!(cut(""), Some(vec![(0, "")]));
    assert_eq!(cut("a"), Some(vec![(0, "a")]));
    assert_eq!(cut("---\na\n"), Some(vec![(0, "---\na\n")]));
    assert_eq!(
        cut("# x\na\n---\nb\n...\nc\n--- d\n---\te\r\n---\r\n---"),
        Some(vec![
            (0, "# x\na\n---"),
            (2, "---\nb\n...\nc\n---"),
            (6, "--- d\n---"),
            (7, "---\te\r\n---"),
            (8, "---\r\n---"),
            (9, "---")
        ])
    );
}

#[test]
fn what_only_looks_like_a_marker_is_none() {
    for text in ["a: b\n ---\n", "a\n----\n", "a\n---b\n", "a\n--\n", "a\n-- -\n"] {
        assert_eq!(cut(text), Some(vec![(0, text)]));
    }
}

#[test]
fn a_text_whose_pieces_may_be_bound_together_is_not_cut() {
    for text in [
        "%YAML 1.2\n---\na\n",
        "a\n...\n%TAG ! x\n---\nb\n",
        "a: &b c\n---\nd\n",
        "&a b\n---\nc\n",
        "a: [&b c]\n---\nd\n",
        "a\n---\nb: !!merge c\n",
        "!x a\n---\nb\n",
        "a:\n  <<: {b: c}\n---\nd\n",
        "\u{feff}a\n---\nb\n",
        "a\n...\n\u{feff}---\nb\n",
        "a\0\n---\nb\n",
        "a\n---\nb\0",
        "a\r---\rb\r\n",
        "a\n---\nb\r",
    ] {
        assert_eq!(cut(text), None, "{text:?}");
    }
    assert_eq!(cut(&"a".repeat(MAX_BYTES + 1)), None);
}

#[test]
fn ampersands_and_exclamation_marks_within_words_or_alone_bind_nothing() {
    let text = "a: /x?y=1&z=2\n---\nb: fish & chips! now! yes!\n---\nc: 100%\n";
    assert_eq!(cut(text).map(|pieces| pieces.len()), Some(3));
}
