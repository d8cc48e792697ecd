//! Lengths of time, as they are written: `500ms`, `30s`, `5m`, `3h`, `1d`, `1h30m`.

use std::time::Duration;

/// Longest that can be written: a week.
const MAX: Duration = Duration::from_secs(7 * 24 * 3600);

/// Reads one; none if it is none, or over a week.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let (number, after) = rest.split_at(rest.find(|c: char| !c.is_ascii_digit())?);
        let end = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let millis: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        let part = number.parse::<u64>().ok()?.checked_mul(millis)?;
        total = total.checked_add(Duration::from_millis(part))?;
        rest = after;
    }
    (total <= MAX).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_have_numbers_and_units() {
        let seconds = |text| parse(text).map(|period| period.as_secs_f64());
        assert_eq!(seconds("1h30m"), Some(5400.0));
        assert_eq!(seconds("1d"), Some(86400.0));
        assert_eq!(seconds("500ms"), Some(0.5));
        assert_eq!(seconds("0s"), Some(0.0));
        for text in ["", "30", "s", "1.5h", "-1s", "8d", "1w", "99999999999999999999s"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
