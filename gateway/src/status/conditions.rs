//! Conditions, as meta/v1 has them.

use ingest::crds::vpn_connection::ConditionStatus;
use k8s_openapi::jiff::Timestamp;

use super::text_of;

/// Conditions of one object in the making.
pub(super) struct Conditions<'a> {
    before: &'a [ConditionStatus],
    generation: Option<i64>,
    now: Timestamp,
    all: Vec<ConditionStatus>,
}

impl<'a> Conditions<'a> {
    /// With what the object has.
    pub(super) fn new(
        before: &'a [ConditionStatus],
        generation: Option<i64>,
        now: Timestamp,
    ) -> Self {
        Self { before, generation, now, all: Vec::new() }
    }

    /// Adds one. It changes at the time when its status does.
    pub(super) fn add(
        &mut self,
        kind: &str,
        status: Option<bool>,
        reason: &str,
        message: impl Into<String>,
    ) {
        let status = match status {
            Some(true) => "True",
            Some(false) => "False",
            None => "Unknown",
        };
        let before = self.before.iter().find(|one| one.kind == kind && one.status == status);
        let since = before.and_then(|before| before.last_transition_time.clone());
        self.all.push(ConditionStatus {
            kind: kind.to_owned(),
            status: status.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.into()),
            last_transition_time: Some(since.unwrap_or_else(|| text_of(self.now))),
            observed_generation: self.generation,
        });
    }

    /// All of them, sorted by name.
    pub(super) fn finish(mut self) -> Vec<ConditionStatus> {
        self.all.sort_by(|one, other| one.kind.cmp(&other.kind));
        self.all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_change_only_with_the_status() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut first = Conditions::new(&[], Some(1), at(0));
        first.add("Ready", Some(true), "Serving", "");
        let first = first.finish();
        let mut second = Conditions::new(&first, Some(2), at(60));
        second.add("Ready", Some(true), "Draining", "soon");
        let second = second.finish();
        assert_eq!(second[0].last_transition_time.as_deref(), Some("1970-01-01T00:00:00Z"));
        assert_eq!(second[0].reason.as_deref(), Some("Draining"));
        assert_eq!(second[0].observed_generation, Some(2));
        let mut third = Conditions::new(&second, Some(2), at(60));
        third.add("Ready", Some(false), "Stopping", "");
        let third = third.finish();
        assert_eq!(third[0].last_transition_time.as_deref(), Some("1970-01-01T00:01:00Z"));
    }
}
