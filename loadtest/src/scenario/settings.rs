//! What is run, in words: for reports, and to tell whether two of them are of the same load.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::form::{Form, ProtocolForm};
use crate::load::Reuse;
use crate::load::pace::Phase;
use crate::load::plan::{Pace, Plan};

/// The settings of a job. All but `target` and `date` have to be the same in runs that are
/// compared.
pub(super) fn settings(form: &Form, plan: &Plan, host: &str) -> BTreeMap<String, String> {
    let protocol = match form.protocol {
        ProtocolForm::Http1 => "HTTP/1.1",
        ProtocolForm::Http2 => "HTTP/2",
        ProtocolForm::WebSocket => "WebSocket",
        ProtocolForm::Tcp => "TCP",
        ProtocolForm::Udp => "UDP",
    };
    let tls = match (plan.tls.is_some(), form.target.tls.as_ref()) {
        (false, _) => String::new(),
        (true, Some(tls)) if tls.resume => " over TLS, sessions resumed".to_owned(),
        (true, _) => " over TLS".to_owned(),
    };
    let kind = match (plan.reuse, &plan.pace) {
        (Reuse::Hold, _) => "idle connections",
        (_, Pace::Open { .. }) => "open loop",
        (_, Pace::Closed { .. }) => "closed loop",
    };
    let reuse = if plan.reuse == Reuse::Never { ", a connection for each operation" } else { "" };
    let streams = match plan.streams {
        1 => String::new(),
        streams => format!(", {streams} at once on each connection"),
    };
    let levels: Vec<String> = plan.profile().phases().map(|(phase, ..)| level(phase)).collect();
    let mut all = vec![
        ("target", format!("{host} at {}", plan.address)),
        ("protocol", format!("{protocol}{tls}")),
        ("load", format!("{kind}{reuse}{streams}")),
        ("mix", mix(form, plan, host)),
        ("date", date(SystemTime::now())),
    ];
    match &plan.pace {
        Pace::Open { connections, max_connections, .. } => {
            all.push(("rate", format!("{} a second", levels.join(", "))));
            all.push(("connections", format!("{connections} to {max_connections}")));
        }
        Pace::Closed { .. } => all.push(("connections", levels.join(", "))),
    }
    all.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}

fn level(phase: &Phase) -> String {
    match phase.from.to_bits() == phase.to.to_bits() {
        true => phase.from.to_string(),
        false => format!("{} to {}", phase.from, phase.to),
    }
}

/// Each entry with its weight. The target's own host is left out, as its address may change.
fn mix(form: &Form, plan: &Plan, host: &str) -> String {
    let entries = plan.entries.iter().enumerate().map(|(index, entry)| {
        let form = form.mix.get(index);
        let name = match form.is_some_and(|form| form.name.is_some()) {
            true => entry.name.clone(),
            false => entry.name.replacen(host, "", 1),
        };
        match form.and_then(|form| form.weight) {
            None | Some(1) => name,
            Some(weight) => format!("{name} × {weight}"),
        }
    });
    entries.collect::<Vec<_>>().join(", ")
}

/// A date in UTC, to the minute.
fn date(now: SystemTime) -> String {
    let seconds = now.duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    let (mut days, minutes) = (seconds / 86_400, seconds / 60 % 1_440);
    let is_leap = |year: u64| {
        year.is_multiple_of(4) && (!year.is_multiple_of(100) || year.is_multiple_of(400))
    };
    let mut year = 1970;
    while days >= 365 + u64::from(is_leap(year)) {
        days -= 365 + u64::from(is_leap(year));
        year += 1;
    }
    let february = 28 + u64::from(is_leap(year));
    let mut month = 1;
    for length in [31, february, 31, 30, 31, 30, 31, 31, 30, 31, 30] {
        if days < length {
            break;
        }
        days -= length;
        month += 1;
    }
    format!("{year}-{month:02}-{:02} {:02}:{:02} UTC", days + 1, minutes / 60, minutes % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_those_of_the_calendar() {
        for (seconds, shown) in [
            (0, "1970-01-01 00:00 UTC"),
            (951_782_400, "2000-02-29 00:00 UTC"),
            (1_735_689_599, "2024-12-31 23:59 UTC"),
            (1_740_787_200, "2025-03-01 00:00 UTC"),
        ] {
            assert_eq!(date(UNIX_EPOCH + Duration::from_secs(seconds)), shown);
        }
    }
}
