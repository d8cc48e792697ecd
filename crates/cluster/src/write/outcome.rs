//! What became of a request.

use std::time::Duration;

use kube::core::Status;

/// What became of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It is written.
    Done,
    /// The object, or another one of the same name, isn't the one that was meant any more.
    Gone,
    /// Somebody else has changed the object meanwhile.
    Raced,
    /// Somebody else writes the same fields: who, or why.
    Foreign(String),
    /// A verb is missing: which, of which resource.
    Forbidden {
        /// The verb, such as `patch`.
        verb: &'static str,
        /// The resource, such as `services/status`.
        resource: String,
    },
    /// The API server has too much to do, or isn't there; perhaps it has said when to come again.
    Busy(Option<Duration>),
    /// The API server failed with this one.
    Failed(String),
    /// The API server doesn't take it: why.
    Refused(String),
}

impl Outcome {
    /// From the error of a request.
    pub(super) fn of(error: &kube::Error, verb: &'static str, resource: &str) -> Self {
        match error {
            kube::Error::Api(status) => Self::of_status(status, verb, resource),
            _ => Self::Busy(None),
        }
    }

    fn of_status(status: &Status, verb: &'static str, resource: &str) -> Self {
        let after = status.details.as_ref().map(|details| details.retry_after_seconds);
        let after = after.filter(|seconds| *seconds > 0).map(|s| Duration::from_secs(s.into()));
        match status.code {
            401 | 403 => Self::Forbidden { verb, resource: resource.to_owned() },
            404 | 410 => Self::Gone,
            409 => match managers(status) {
                Some(managers) => Self::Foreign(managers),
                None => Self::Raced,
            },
            429 | 503 | 504 => Self::Busy(after),
            400 | 405 | 406 | 413 | 415 | 422 => Self::Refused(status.message.clone()),
            _ => Self::Failed(status.message.clone()),
        }
    }
}

/// Who has the fields that an apply conflicts with; none if it is another conflict.
fn managers(status: &Status) -> Option<String> {
    let causes = &status.details.as_ref()?.causes;
    let mut managers: Vec<&str> = causes
        .iter()
        .filter(|cause| cause.reason == "FieldManagerConflict")
        .map(|cause| cause.message.as_str())
        .map(|text| text.split('"').nth(1).unwrap_or(text))
        .collect();
    managers.sort_unstable();
    managers.dedup();
    (!managers.is_empty()).then(|| managers.join(", "))
}

#[cfg(test)]
mod tests {
    use kube::core::response::{StatusCause, StatusDetails};

    use super::*;

    fn details() -> StatusDetails {
        serde_json::from_str("{}").unwrap()
    }

    fn of(code: u16, details: StatusDetails) -> Outcome {
        let status = Status::failure("no", "").with_code(code).with_details(details);
        Outcome::of(&kube::Error::Api(status.boxed()), "patch", "services/status")
    }

    #[test]
    fn codes_tell_who_is_to_blame() {
        let none = details();
        assert_eq!(of(404, none.clone()), Outcome::Gone);
        assert_eq!(of(409, none.clone()), Outcome::Raced);
        assert_eq!(of(500, none.clone()), Outcome::Failed("no".to_owned()));
        assert_eq!(of(422, none.clone()), Outcome::Refused("no".to_owned()));
        let resource = "services/status".to_owned();
        assert_eq!(of(403, none.clone()), Outcome::Forbidden { verb: "patch", resource });
        assert_eq!(of(429, none), Outcome::Busy(None));
        let later = StatusDetails { retry_after_seconds: 3, ..details() };
        assert_eq!(of(429, later), Outcome::Busy(Some(Duration::from_secs(3))));
        let cause = StatusCause {
            reason: "FieldManagerConflict".to_owned(),
            message: "conflict with \"cloud\" using v1".to_owned(),
            field: ".status.loadBalancer".to_owned(),
        };
        let details = StatusDetails { causes: vec![cause.clone(), cause], ..details() };
        assert_eq!(of(409, details), Outcome::Foreign("cloud".to_owned()));
    }
}
