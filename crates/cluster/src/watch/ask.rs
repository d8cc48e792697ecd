//! Questions to the API: lists, pages of lists, and watches.

use std::time::Duration;

use http::{Request, Response, StatusCode};
use kube::Client;
use kube::client::Body;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Selected;
use super::lines::Lines;
use crate::connect;
use crate::kind::Place;

/// Until an answer begins.
const ANSWER: Duration = Duration::from_secs(15);
/// Until a page has come.
const PAGE: Duration = Duration::from_secs(60);
/// How many objects a page has.
const PAGE_SIZE: usize = 500;
/// How long the server lets a watch run: between this and twice as long.
const WATCH_SECONDS: u64 = 240;

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum AskError {
    /// The API can't be reached, or isn't well.
    #[error("{0}")]
    Outage(String),
    /// It answers, and isn't well.
    #[error("{0}")]
    Ill(String),
    /// It has too much to do.
    #[error("it has too much to do: {reason}")]
    Busy { reason: String, after: Duration },
    /// What was asked for is forgotten (410).
    #[error("the place in the course of changes is forgotten")]
    Gone,
    /// It doesn't understand the question.
    #[error("{0}")]
    NotUnderstood(String),
    /// There is no such kind.
    #[error("there is no such kind")]
    Absent,
    /// It isn't allowed.
    #[error("{0}")]
    Denied(String),
}

impl AskError {
    /// Whether others needn't ask either.
    pub(super) fn outage(&self) -> Option<String> {
        match self {
            Self::Outage(reason) | Self::Ill(reason) => Some(reason.clone()),
            _ => None,
        }
    }
}

/// What the API says when it doesn't do what it was asked.
#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Status {
    pub(super) code: u16,
    pub(super) message: String,
    pub(super) reason: String,
    details: Option<Details>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Details {
    retry_after_seconds: u64,
}

impl Status {
    pub(super) fn error(self, retry_after: Option<u64>) -> AskError {
        let asked = self.details.map(|details| details.retry_after_seconds);
        let after = retry_after.or(asked).unwrap_or(1).clamp(1, 30);
        let reason = if self.message.is_empty() { self.reason } else { self.message };
        match self.code {
            410 => AskError::Gone,
            // It has started anew and counts from the beginning, or another one answers.
            504 if reason.contains("Too large resource version") => AskError::Gone,
            404 => AskError::Absent,
            403 => AskError::Denied(reason),
            429 => AskError::Busy { reason, after: Duration::from_secs(after) },
            400 | 405 | 406 | 422 => AskError::NotUnderstood(reason),
            401 => AskError::Ill(format!("it doesn't know who asks (401): {reason}")),
            code => AskError::Ill(format!("it answers {code}: {reason}")),
        }
    }
}

/// A page of a list.
pub(super) struct Page {
    bytes: Vec<u8>,
    /// Where the list stands in the course of changes.
    pub(super) version: String,
    /// How to ask for the next page; none if this is the last.
    pub(super) next: Option<String>,
}

#[derive(Deserialize)]
struct List<'a> {
    #[serde(default)]
    metadata: ListMeta,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ListMeta {
    resource_version: String,
    #[serde(rename = "continue")]
    next: Option<String>,
}

impl Page {
    /// The objects, unread.
    pub(super) fn items(&self) -> Vec<&[u8]> {
        let list: Option<List<'_>> = serde_json::from_slice(&self.bytes).ok();
        let items = list.and_then(|list| list.items).unwrap_or_default();
        items.into_iter().map(|item| item.get().as_bytes()).collect()
    }
}

/// Asks for one kind's objects at one place.
#[derive(Clone)]
pub(super) struct Asker {
    pub(super) client: Client,
    pub(super) selected: Selected,
}

impl Asker {
    /// All objects as a stream, which goes on as a watch.
    pub(super) async fn stream(&self, place: Place) -> Result<Lines, AskError> {
        let query = [("sendInitialEvents", "true"), ("resourceVersionMatch", "NotOlderThan")];
        self.begin_watch(place, &query).await
    }

    /// What changes after the place in the course of changes.
    pub(super) async fn watch(&self, place: Place, version: &str) -> Result<Lines, AskError> {
        self.begin_watch(place, &[("resourceVersion", version)]).await
    }

    async fn begin_watch(&self, place: Place, query: &[(&str, &str)]) -> Result<Lines, AskError> {
        let seconds = (WATCH_SECONDS + fastrand::u64(0..WATCH_SECONDS)).to_string();
        let mut all =
            vec![("watch", "true"), ("allowWatchBookmarks", "true"), ("timeoutSeconds", &seconds)];
        all.extend(query);
        let response = self.ask(place, &all).await?;
        Ok(Lines::new(response.into_body()))
    }

    /// A page of all objects, the first one or the next; without `paged` all of them at once.
    pub(super) async fn page(
        &self,
        place: Place,
        next: Option<&str>,
        paged: bool,
    ) -> Result<Page, AskError> {
        let limit = PAGE_SIZE.to_string();
        let mut query = Vec::new();
        if paged {
            query.push(("limit", limit.as_str()));
        }
        query.extend(next.map(|next| ("continue", next)));
        let response = self.ask(place, &query).await?;
        let body = tokio::time::timeout(PAGE, response.into_body().collect_bytes()).await;
        let body = body.map_err(|_| AskError::Outage("a list doesn't end".to_owned()))?;
        let bytes: Vec<u8> = body.map_err(|error| AskError::Outage(connect::chain(&error)))?.into();
        let list: List<'_> = serde_json::from_slice(&bytes)
            .map_err(|error| AskError::Outage(format!("a list can't be read: {error}")))?;
        let ListMeta { resource_version: version, next } = list.metadata;
        Ok(Page { version, next: next.filter(|next| !next.is_empty()), bytes })
    }

    async fn ask(&self, place: Place, query: &[(&str, &str)]) -> Result<Response<Body>, AskError> {
        let Selected { namespace, fields, labels, .. } = &self.selected;
        let mut uri = place.path(namespace.as_deref());
        let selectors = [("fieldSelector", fields), ("labelSelector", labels)];
        let selectors =
            selectors.iter().filter_map(|(name, value)| Some((*name, value.as_deref()?)));
        for (position, (name, value)) in query.iter().copied().chain(selectors).enumerate() {
            uri.push(if position == 0 { '?' } else { '&' });
            uri.push_str(name);
            uri.push('=');
            escape(value, &mut uri);
        }
        let request = Request::get(uri)
            .header(http::header::ACCEPT, "application/json")
            .body(Body::empty())
            .map_err(|error| AskError::NotUnderstood(error.to_string()))?;
        let answer = tokio::time::timeout(ANSWER, self.client.send(request)).await;
        let answer = answer.map_err(|_| AskError::Outage("it doesn't answer".to_owned()))?;
        let response = answer.map_err(|error| AskError::Outage(connect::chain(&error)))?;
        if response.status() == StatusCode::OK {
            return Ok(response);
        }
        Err(refusal(response).await)
    }
}

async fn refusal(response: Response<Body>) -> AskError {
    let code = response.status().as_u16();
    let retry_after = response.headers().get(http::header::RETRY_AFTER);
    let retry_after = retry_after.and_then(|value| value.to_str().ok()?.parse().ok());
    let body = tokio::time::timeout(ANSWER, response.into_body().collect_bytes()).await;
    let bytes = body.ok().and_then(Result::ok).unwrap_or_default();
    let mut status: Status = serde_json::from_slice(&bytes).unwrap_or_else(|_| Status {
        message: String::from_utf8_lossy(bytes.get(..200).unwrap_or(&bytes)).trim().to_owned(),
        ..Status::default()
    });
    status.code = code;
    status.error(retry_after)
}

/// Puts a value into a query (RFC 3986, section 2.1).
fn escape(value: &str, into: &mut String) {
    const DIGITS: &[u8; 16] = b"0123456789ABCDEF";
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push('%');
            for half in [byte >> 4, byte & 15] {
                into.push(char::from(DIGITS.get(usize::from(half)).copied().unwrap_or(b'0')));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_escaped() {
        let mut text = String::new();
        escape("type=kubernetes.io/tls,a b", &mut text);
        assert_eq!(text, "type%3Dkubernetes.io%2Ftls%2Ca%20b");
    }

    #[test]
    fn answers_are_told_apart_by_what_helps() {
        let error = |code, message: &str| {
            Status { code, message: message.to_owned(), ..Status::default() }.error(None)
        };
        assert_eq!(error(410, ""), AskError::Gone);
        assert_eq!(error(504, "Timeout: Too large resource version: 9"), AskError::Gone);
        assert!(
            matches!(error(429, "later"), AskError::Busy { after, .. } if after.as_secs() == 1)
        );
        assert!(error(503, "").outage().is_some() && error(401, "").outage().is_some());
        assert!(error(403, "").outage().is_none() && error(404, "").outage().is_none());
    }
}
