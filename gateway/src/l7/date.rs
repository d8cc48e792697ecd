//! Dates for headers and logs, without a calendar library: UTC only.

use std::cell::RefCell;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

/// A moment in UTC, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Civil {
    pub(crate) year: u64,
    pub(crate) month: u64,
    pub(crate) day: u64,
    pub(crate) hour: u64,
    pub(crate) minute: u64,
    pub(crate) second: u64,
    /// 0 is Thursday, as on 1 January 1970.
    pub(crate) weekday: u64,
}

impl Civil {
    /// From seconds since the epoch.
    pub(crate) fn from_unix(seconds: u64) -> Self {
        let days = seconds / 86_400;
        let rest = seconds % 86_400;
        // Years that start in March put the leap day last; eras of 400 years are all alike.
        let shifted = days + 719_468;
        let era = shifted / 146_097;
        let day_of_era = shifted % 146_097;
        let year_of_era =
            (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
        let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
        let shifted_month = (5 * day_of_year + 2) / 153;
        let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
        Self {
            year: year_of_era + era * 400 + u64::from(month <= 2),
            month,
            day: day_of_year - (153 * shifted_month + 2) / 5 + 1,
            hour: rest / 3600,
            minute: rest / 60 % 60,
            second: rest % 60,
            weekday: days % 7,
        }
    }
}

thread_local! {
    static HEADER: RefCell<(u64, Vec<u8>)> = const { RefCell::new((0, Vec::new())) };
}

/// Calls `use_it` with the line `Date: …\r\n` (RFC 9110, 6.6.1), made once a second at the most.
pub(crate) fn with_header<T>(use_it: impl FnOnce(&[u8]) -> T) -> T {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    HEADER.with_borrow_mut(|(made, line)| {
        if *made != now {
            *made = now;
            line.clear();
            format_header(now, line);
        }
        use_it(line)
    })
}

fn format_header(unix: u64, line: &mut Vec<u8>) {
    const WEEKDAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] =
        ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let at = Civil::from_unix(unix);
    let weekday = WEEKDAYS.get(at.weekday as usize).unwrap_or(&"Thu");
    let month = MONTHS.get(at.month as usize - 1).unwrap_or(&"Jan");
    let Civil { year, day, hour, minute, second, .. } = at;
    // Writing to a Vec can't fail.
    let _ = write!(
        line,
        "Date: {weekday}, {day:02} {month} {year:04} {hour:02}:{minute:02}:{second:02} GMT\r\n"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_9110_comes_out() {
        let mut line = Vec::new();
        format_header(784_111_777, &mut line);
        assert_eq!(line, b"Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n");
    }

    #[test]
    fn a_leap_day_is_the_29th_of_february() {
        let at = Civil::from_unix(1_709_164_800);
        assert_eq!((at.year, at.month, at.day), (2024, 2, 29));
    }
}
