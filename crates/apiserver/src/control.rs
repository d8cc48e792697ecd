//! `/_double/…`: faults, compaction and counters by HTTP.
//!
//! | request | does |
//! |---|---|
//! | `GET faults` | the faults in force, with their numbers |
//! | `POST faults` | puts a [`Fault`] in force, answers its number |
//! | `DELETE faults`, `DELETE faults/N` | lifts all, or one |
//! | `POST drop-watches` | ends the watches of whom the [`Fault`] in the body meets; none: all |
//! | `POST refuse?milliseconds=N` | breaks and refuses all connections for so long |
//! | `POST compact` | forgets the history |
//! | `GET`, `POST`, `DELETE denials` | what is denied; one more [`Denial`]; none |
//! | `GET`, `DELETE counters` | requests by verb, resource, client and code; from 0 again |
//! | `GET version` | the last version |

use std::time::{Duration, Instant};

use http::{Method, Response, StatusCode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::access::Denial;
use crate::body::Answer;
use crate::faults::{Fault, Gone};
use crate::refusal::Refusal;
use crate::request::Parameters;
use crate::serve::{Shared, json as reply, refused};

/// Answers a request to control the double.
pub(crate) fn handle(
    shared: &Shared,
    method: &Method,
    path: &str,
    parameters: &Parameters,
    body: &[u8],
) -> Response<Answer> {
    match control(shared, method, path, parameters, body) {
        Ok(value) => reply(StatusCode::OK, &value),
        Err(refusal) => refused(&refusal),
    }
}

fn control(
    shared: &Shared,
    method: &Method,
    path: &str,
    parameters: &Parameters,
    body: &[u8],
) -> Result<Value, Refusal> {
    let faults = &shared.faults;
    let parts: Vec<&str> = path.split('/').collect();
    match (method.as_str(), parts.as_slice()) {
        ("GET", ["faults"]) => {
            let all = faults.list();
            Ok(all.iter().map(|(id, fault)| json!({"id": id, "fault": fault})).collect())
        }
        ("POST", ["faults"]) => Ok(json!({"id": faults.add(parse(body)?)})),
        ("DELETE", ["faults"]) => {
            faults.lift(None);
            Ok(json!({}))
        }
        ("DELETE", ["faults", id]) => {
            let id = id.parse().map_err(|_| Refusal::bad_request("a fault has a number"))?;
            faults.lift(Some(id));
            Ok(json!({}))
        }
        ("POST", ["drop-watches"]) => {
            faults.cut_watches(if body.is_empty() { Fault::default() } else { parse(body)? });
            Ok(json!({}))
        }
        ("POST", ["refuse"]) => {
            let time = parameters.number("milliseconds")?.unwrap_or(1_000);
            let until = Instant::now() + Duration::from_millis(time);
            faults.gone.send_replace(Gone::Until(until));
            Ok(json!({}))
        }
        ("POST", ["compact"]) => {
            shared.store.lock().compact();
            Ok(json!({}))
        }
        ("GET", ["denials"]) => Ok(json!(shared.access.denials())),
        ("POST", ["denials"]) => {
            shared.access.deny(parse::<Denial>(body)?);
            Ok(json!({}))
        }
        ("DELETE", ["denials"]) => {
            shared.access.allow_all();
            Ok(json!({}))
        }
        ("GET", ["counters"]) => Ok(json!(faults.counters())),
        ("DELETE", ["counters"]) => {
            faults.reset_counters();
            Ok(json!({}))
        }
        ("GET", ["version"]) => Ok(json!({"version": shared.store.lock().version()})),
        _ => Err(Refusal::no_such_path()),
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Refusal> {
    serde_json::from_slice(body).map_err(|error| Refusal::bad_request(error.to_string()))
}
