//! Columns of text, and figures in words.

use std::fmt::Write;

/// Rows with their columns under each other: the first to the left, all others to the right. Two
/// spaces stand before each line.
pub(crate) fn aligned(rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let mut text = String::new();
    for row in rows {
        let mut line = String::from("  ");
        for (column, cell) in row.iter().enumerate() {
            let width = width(column).unwrap_or(0);
            if column == 0 {
                let _ = write!(line, "{cell:<width$}");
            } else {
                let _ = write!(line, "  {cell:>width$}");
            }
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// Three significant digits or so.
pub(crate) fn figure(value: f64) -> String {
    let digits = match value.abs() {
        value if value >= 100.0 => 0,
        value if value >= 10.0 => 1,
        _ => 2,
    };
    let text = format!("{value:.digits$}");
    // 9,999.6 has five digits, 99.96 is 100.
    if value.abs() >= 10_000.0 { thousands(&text) } else { text }
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
    fn figures_have_three_digits_that_count() {
        let shown: Vec<_> =
            [0.8512, 11.73, 274.4, -0.5, 61_234.5].into_iter().map(figure).collect();
        assert_eq!(shown, ["0.85", "11.7", "274", "-0.50", "61,234"]);
        assert_eq!([count(0), count(999), count(1_234_567)], ["0", "999", "1,234,567"]);
        assert_eq!(
            [latency(850.0), latency(12_340.0), latency(2.5e6)],
            ["850 µs", "12.3 ms", "2.50 s"]
        );
        assert_eq!([bytes(10.0), bytes(3.5 * 1_048_576.0)], ["10 B", "3.50 MiB"]);
        assert_eq!([percent(0.0), percent(0.00001), percent(0.5)], ["0 %", "0.0010 %", "50 %"]);
        assert_eq!([change(0.1), change(-0.034)], ["+10.0 %", "−3.4 %"]);
    }
}
