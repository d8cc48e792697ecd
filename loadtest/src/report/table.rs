//! Columns of text, and figures in words.

/// Rows with their columns under each other: the first to the left, all others to the right. Two
/// spaces stand before each line. What would move a terminal's cursor is [`plain`] text here.
pub(crate) fn aligned(rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = Vec::new();
    let mut cells: Vec<Vec<(String, usize)>> = Vec::with_capacity(rows.len());
    for row in rows {
        widths.resize(widths.len().max(row.len()), 0);
        let row: Vec<_> = row
            .iter()
            .map(|cell| {
                let cell = plain(cell).replace('\n', " ");
                let width = cell.chars().count();
                (cell, width)
            })
            .collect();
        for (widest, (_, width)) in widths.iter_mut().zip(&row) {
            *widest = (*widest).max(*width);
        }
        cells.push(row);
    }
    let mut text = String::new();
    for row in cells {
        let mut line = String::from("  ");
        for (column, ((cell, width), widest)) in row.iter().zip(&widths).enumerate() {
            let padding = std::iter::repeat_n(' ', widest - width);
            if column == 0 {
                line.push_str(cell);
                line.extend(padding);
            } else {
                line.push_str("  ");
                line.extend(padding);
                line.push_str(cell);
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Text for a terminal: control characters other than the line's end, and those that turn the
/// direction of what follows, become U+FFFD.
pub(crate) fn plain(text: &str) -> String {
    let is_unsafe = |letter: char| {
        (letter.is_control() && letter != '\n')
            || matches!(letter, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
                | '\u{2066}'..='\u{2069}')
    };
    text.chars().map(|letter| if is_unsafe(letter) { '\u{fffd}' } else { letter }).collect()
}

/// Three significant digits or so.
pub(crate) fn figure(value: f64) -> String {
    if value == 0.0 {
        return "0".to_owned();
    }
    let digits = match value.abs() {
        value if value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    if digits == 0 { thousands(&text) } else { text }
}

/// A figure beside the limit that it is held against, with so many digits that the two differ.
pub(crate) fn beside(value: f64, limit: f64) -> String {
    let told_apart = |digits: &usize| {
        let shown = |value: f64| format!("{value:.0$}", *digits);
        shown(value) != shown(limit)
    };
    match (3..=9).find(told_apart) {
        Some(digits) if figure(value) == figure(limit) => format!("{value:.digits$}"),
        _ => figure(value),
    }
}

/// A count with its thousands apart.
pub(crate) fn count(value: u64) -> String {
    thousands(&value.to_string())
}

fn thousands(digits: &str) -> String {
    let (sign, digits) = digits.strip_prefix('-').map_or(("", digits), |digits| ("-", digits));
    let mut text = String::from(sign);
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A latency with its unit: `850 µs`, `12.3 ms`, `2.50 s`.
pub(crate) fn latency(us: f64) -> String {
    match us {
        us if us >= 1e6 => format!("{} s", figure(us / 1e6)),
        us if us >= 1e3 => format!("{} ms", figure(us / 1e3)),
        us => format!("{} µs", figure(us)),
    }
}

/// An amount of memory with its unit.
pub(crate) fn bytes(bytes: f64) -> String {
    match bytes {
        bytes if bytes >= 1_073_741_824.0 => format!("{} GiB", figure(bytes / 1_073_741_824.0)),
        bytes if bytes >= 1_048_576.0 => format!("{} MiB", figure(bytes / 1_048_576.0)),
        bytes if bytes >= 1024.0 => format!("{} KiB", figure(bytes / 1024.0)),
        bytes => format!("{bytes:.0} B"),
    }
}

/// Two figures with their unit, once if it is the same: `1.20–3.40 ms`, `900 µs–1.10 ms`.
pub(crate) fn range(least: &str, most: &str) -> String {
    match (least.split_once(' '), most.split_once(' ')) {
        (Some((figure, unit)), Some((_, other))) if unit == other => format!("{figure}–{most}"),
        _ => format!("{least}–{most}"),
    }
}

/// A share in percent, with as many digits as a small one needs.
pub(crate) fn percent(share: f64) -> String {
    let percent = share * 100.0;
    match percent.abs() {
        0.0 => "0 %".to_owned(),
        size if size < 0.01 => format!("{percent:.4} %"),
        size if size < 1.0 => format!("{percent:.2} %"),
        size if size < 10.0 => format!("{percent:.1} %"),
        _ => format!("{percent:.0} %"),
    }
}

/// A change in percent, with its sign.
pub(crate) fn change(share: f64) -> String {
    let percent = share * 100.0;
    let digits = usize::from(percent.abs() < 100.0);
    format!("{percent:+.digits$} %").replace('-', "−")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_under_each_other() {
        let rows = [vec!["".into(), "CPU µs".into()], vec!["nginx".into(), "17.3".into()]];
        assert_eq!(aligned(&rows), "         CPU µs\n  nginx    17.3\n");
    }

    #[test]
    fn names_of_any_length_and_kind_do_no_harm() {
        let long = "x".repeat(70_000);
        let rows = [vec![long.clone(), "1".into()], vec!["y".into(), "22".into()]];
        let text = aligned(&rows);
        assert!(text.starts_with(&format!("  {long}   1\n  y ")), "{}", text.len());
        let rows = vec![vec!["a\u{1b}[2J\u{202e}b\nc".to_owned()]; 2];
        assert_eq!(aligned(&rows), "  a\u{fffd}[2J\u{fffd}b c\n".repeat(2));
    }

    #[test]
    fn figures_have_three_digits_that_count() {
        let shown: Vec<_> =
            [0.8512, 11.73, 274.4, -0.5, 61_234.5].into_iter().map(figure).collect();
        assert_eq!(shown, ["0.85", "11.7", "274", "-0.50", "61,234"]);
        assert_eq!(
            [beside(0.8512, 0.85), beside(0.85, 0.85), beside(0.8, 0.85)],
            ["0.851", "0.85", "0.80"]
        );
        assert_eq!(beside(1.000_04, 1.0), "1.00004");
        assert_eq!([count(0), count(999), count(1_234_567)], ["0", "999", "1,234,567"]);
        assert_eq!(
            [latency(850.0), latency(12_340.0), latency(2.5e6)],
            ["850 µs", "12.3 ms", "2.50 s"]
        );
        assert_eq!([bytes(10.0), bytes(3.5 * 1_048_576.0)], ["10 B", "3.50 MiB"]);
        assert_eq!([percent(0.0), percent(0.00001), percent(0.5)], ["0 %", "0.0010 %", "50 %"]);
        assert_eq!(range("1 ms", "2 ms"), "1–2 ms");
        assert_eq!(range("1 µs", "2 ms"), "1 µs–2 ms");
        assert_eq!([change(0.1), change(-0.034)], ["+10.0 %", "−3.4 %"]);
    }
}
