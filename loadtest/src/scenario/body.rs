//! Entries of a mix: what is sent, and what has to come back.

use std::io::Read;
use std::path::Path;

use http::{HeaderName, HeaderValue, Method};
use rustls::pki_types::ServerName;

use super::Problem;
use super::form::{BodyForm, EntryForm, ExpectForm};
use crate::load::plan::Entry;
use crate::load::session::http2;
use crate::load::session::{Expect, Operation, Prepared};

/// The most bytes that an operation may send.
const LARGEST: u64 = 256 << 20;
/// Header fields that follow from other fields of an entry.
const OWN_FIELDS: [&str; 3] = ["host", "content-length", "transfer-encoding"];

/// What entries have by default.
#[derive(Clone, Debug)]
pub(super) struct Defaults<'a> {
    /// Host and port of the URL.
    pub(super) host: &'a str,
    /// Path and query of the URL.
    pub(super) path: &'a str,
    /// Whether TLS is spoken, so that the host has to be a server name.
    pub(super) is_tls: bool,
    /// Where files are.
    pub(super) folder: &'a Path,
}

/// What of an entry is the same for all protocols of HTTP.
#[derive(Clone, Debug)]
pub(super) struct HttpRequest {
    pub(super) method: Method,
    pub(super) host: String,
    pub(super) path: String,
    pub(super) headers: Vec<(String, String)>,
    pub(super) content: Vec<u8>,
    pub(super) server_name: ServerName<'static>,
}

/// The request of an entry. `at` is the entry's place in the scenario.
pub(super) fn http_request(
    form: &EntryForm,
    at: &str,
    defaults: &Defaults<'_>,
) -> anyhow::Result<HttpRequest> {
    let field = |name: &str| format!("{at}.{name}");
    let content = match &form.body {
        Some(body) => content(body, &field("body"), defaults.folder)?,
        None => Vec::new(),
    };
    let method = match (&form.method, &form.body) {
        (Some(method), _) => Method::from_bytes(method.as_bytes()).map_err(|_| {
            Problem::at(field("method"), format!("{method:?} is no method; write GET, POST, …"))
        })?,
        (None, Some(_)) => Method::POST,
        (None, None) => Method::GET,
    };
    let host = form.host.as_deref().unwrap_or(defaults.host);
    if http::uri::Authority::try_from(host).is_err() {
        let what = format!("{host:?} is no host; write a name as in www.example.com");
        return Err(Problem::at(field("host"), what).into());
    }
    let path = form.path.as_deref().unwrap_or(defaults.path);
    if !path.starts_with('/') || http::uri::PathAndQuery::try_from(path).is_err() {
        let what = format!("{path:?} is no path; begin it with / and percent-encode spaces");
        return Err(Problem::at(field("path"), what).into());
    }
    let mut headers = Vec::new();
    for (name, value) in &form.headers {
        let of_headers = field("headers");
        let at = format!("{of_headers}.{name}");
        let lower = name.to_ascii_lowercase();
        if OWN_FIELDS.contains(&lower.as_str()) {
            let what = "follows from host and body; remove it here";
            return Err(Problem::at(at, what).into());
        }
        if HeaderName::try_from(name).is_err() || HeaderValue::try_from(value).is_err() {
            return Err(Problem::at(at, format!("{name:?}: {value:?} is no header field")).into());
        }
        headers.push((name.clone(), value.clone()));
    }
    let server_name = server_name(host, defaults.is_tls, &field("host"))?;
    let (host, path) = (host.to_owned(), path.to_owned());
    Ok(HttpRequest { method, host, path, headers, content, server_name })
}

/// The entry as it goes over HTTP/1.1.
pub(super) fn http1(form: &EntryForm, at: &str, request: HttpRequest) -> anyhow::Result<Entry> {
    let HttpRequest { method, host, path, headers, content, server_name } = request;
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {host}\r\n");
    let has = |name: &str| headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name));
    for (name, value) in [("User-Agent", "tidegate-loadtest"), ("Accept", "*/*")] {
        if !has(name) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    for (name, value) in &headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if form.body.is_some() || matches!(method, Method::POST | Method::PUT | Method::PATCH) {
        head.push_str(&format!("Content-Length: {}\r\n", content.len()));
    }
    head.push_str("\r\n");
    let mut bytes = head.into_bytes();
    bytes.extend_from_slice(&content);
    let is_head = method == Method::HEAD;
    let name = form.name.clone().unwrap_or_else(|| format!("{method} {host}{path}"));
    let expect = expect(&form.expect, &format!("{at}.expect"), Some(200))?;
    let operation = Operation { prepared: Prepared::Http1 { bytes, is_head }, expect };
    Ok(Entry { name, operation, server_name })
}

/// The entry as it goes over HTTP/2.
pub(super) fn http2(
    form: &EntryForm,
    at: &str,
    request: HttpRequest,
    is_tls: bool,
) -> anyhow::Result<Entry> {
    let HttpRequest { method, host, path, mut headers, content, server_name } = request;
    let name = form.name.clone().unwrap_or_else(|| format!("{method} {host}{path}"));
    for (name, value) in [("user-agent", "tidegate-loadtest"), ("accept", "*/*")] {
        if !headers.iter().any(|(given, _)| given.eq_ignore_ascii_case(name)) {
            headers.push((name.to_owned(), value.to_owned()));
        }
    }
    let request = http2::Request {
        method: method.as_str(),
        scheme: if is_tls { "https" } else { "http" },
        authority: &host,
        path: &path,
        headers: &headers,
        body: content,
    };
    let expect = expect(&form.expect, &format!("{at}.expect"), Some(200))?;
    let operation =
        http2::operation(request, expect).map_err(|error| Problem::at(at, format!("{error:#}")))?;
    Ok(Entry { name, operation, server_name })
}

/// The entry as a message of WebSocket, or as bytes over TCP.
pub(super) fn message(
    form: &EntryForm,
    at: &str,
    defaults: &Defaults<'_>,
    is_tcp: bool,
) -> anyhow::Result<Entry> {
    for (field, is_given) in [
        ("host", form.host.is_some()),
        ("path", form.path.is_some()),
        ("method", form.method.is_some()),
        ("headers", !form.headers.is_empty()),
        ("expect.status", form.expect.status.is_some()),
        ("expect.backendHeader", form.expect.backend_header.is_some()),
        ("receive", form.receive.is_some() && !is_tcp),
    ] {
        if is_given {
            let what = "is not part of a message; remove it";
            return Err(Problem::at(format!("{at}.{field}"), what).into());
        }
    }
    let content = match &form.body {
        Some(body) => content(body, &format!("{at}.body"), defaults.folder)?,
        None if is_tcp && form.receive.is_some() => Vec::new(),
        None => {
            let what = "is missing: what is sent? Write body: {size: 100}";
            return Err(Problem::at(format!("{at}.body"), what).into());
        }
    };
    let name = form.name.clone().unwrap_or_else(|| format!("{} bytes", content.len()));
    let binary = form.body.as_ref().is_some_and(|body| body.text.is_none());
    let prepared = match is_tcp {
        true => Prepared::Tcp {
            send: content.len() as u64,
            pattern: content,
            receive: form.receive.map(|size| size.0),
        },
        false => Prepared::WebSocket { payload: content, binary },
    };
    Ok(Entry {
        name,
        operation: Operation {
            prepared,
            expect: expect(&form.expect, &format!("{at}.expect"), None)?,
        },
        server_name: server_name(defaults.host, defaults.is_tls, "target")?,
    })
}

/// What has to come back.
pub(super) fn expect(
    form: &ExpectForm,
    at: &str,
    default_status: Option<u16>,
) -> Result<Expect, Problem> {
    let status = form.status.or(default_status);
    if let Some(status) = status.filter(|status| !(100..=999).contains(status)) {
        return Err(Problem::at(format!("{at}.status"), format!("{status} is no status code")));
    }
    Ok(Expect {
        status,
        length: form.length.map(|size| size.0),
        sha256: form
            .sha256
            .as_deref()
            .map(|digits| {
                digest(digits).ok_or_else(|| {
                    let what = format!("{digits:?} is no SHA-256; write 64 hexadecimal digits");
                    Problem::at(format!("{at}.sha256"), what)
                })
            })
            .transpose()?,
        counted_header: form.backend_header.as_ref().map(|name| name.to_ascii_lowercase()),
    })
}

/// The name that TLS asks for; any where there is no TLS.
pub(super) fn server_name(
    host: &str,
    is_tls: bool,
    at: &str,
) -> Result<ServerName<'static>, Problem> {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.trim_start_matches('[').trim_end_matches(']').to_owned();
    match ServerName::try_from(name) {
        Ok(name) => Ok(name),
        Err(_) if !is_tls => Ok(ServerName::from(std::net::Ipv4Addr::UNSPECIFIED)),
        Err(_) => {
            let what = format!("{host:?} is no server name, which TLS needs; write a DNS name");
            Err(Problem::at(at, what))
        }
    }
}

/// What is sent.
pub(super) fn content(form: &BodyForm, at: &str, folder: &Path) -> anyhow::Result<Vec<u8>> {
    let too_large = |size: u64| {
        Problem::at(at, format!("{size} bytes are too many; {LARGEST} can be sent at once"))
    };
    match form {
        BodyForm { size: Some(size), text: None, file: None } => {
            if size.0 > LARGEST {
                return Err(too_large(size.0).into());
            }
            Ok(vec![b'x'; size.0 as usize])
        }
        BodyForm { size: None, text: Some(text), file: None } => Ok(text.clone().into_bytes()),
        BodyForm { size: None, text: None, file: Some(file) } => {
            let path = folder.join(file);
            let unreadable = |error: std::io::Error| {
                Problem::at(format!("{at}.file"), format!("{}: {error}", path.display()))
            };
            let kind = std::fs::metadata(&path).map_err(unreadable)?;
            if !kind.is_file() {
                let what = format!("{} is no regular file; name one", path.display());
                return Err(Problem::at(format!("{at}.file"), what).into());
            }
            let opened = std::fs::File::open(&path).map_err(unreadable)?;
            let mut bytes = Vec::new();
            // One byte more than is allowed, as a file may have become longer.
            opened.take(LARGEST + 1).read_to_end(&mut bytes).map_err(unreadable)?;
            if bytes.len() as u64 > LARGEST {
                return Err(too_large(kind.len().max(bytes.len() as u64)).into());
            }
            Ok(bytes)
        }
        _ => Err(Problem::at(at, "write one of size, text and file").into()),
    }
}

fn digest(digits: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if digits.len() != 64 || !digits.is_ascii() {
        return None;
    }
    for (nth, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(digits.get(2 * nth..2 * nth + 2)?, 16).ok()?;
    }
    Some(digest)
}
