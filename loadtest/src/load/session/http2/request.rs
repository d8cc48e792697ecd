//! Requests made ready to be sent often.

use anyhow::bail;

use super::hpack;
use crate::load::session::{Expect, Operation, Prepared};

/// A request as one would write it down.
#[derive(Clone, Debug)]
pub(crate) struct Request<'a> {
    /// `GET`, `POST`, …
    pub(crate) method: &'a str,
    /// `http` or `https`.
    pub(crate) scheme: &'a str,
    /// Host and, if it is not the scheme's own, port.
    pub(crate) authority: &'a str,
    /// Path and query.
    pub(crate) path: &'a str,
    /// Further fields.
    pub(crate) headers: &'a [(String, String)],
    /// Content; `content-length` is added if there is any.
    pub(crate) body: Vec<u8>,
}

/// Makes an operation of a request. An error if it can't be said in HTTP/2 (RFC 9113, section 8).
pub(crate) fn operation(request: Request<'_>, expect: Expect) -> anyhow::Result<Operation> {
    let Request { method, scheme, authority, path, headers, body } = request;
    let mut block = Vec::new();
    for (name, value) in
        [(":method", method), (":scheme", scheme), (":authority", authority), (":path", path)]
    {
        if value.is_empty() || value.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            bail!("{name} {value:?}: must neither be empty nor have spaces or control characters");
        }
        hpack::encode(name, value, &mut block);
    }
    for (name, value) in headers {
        let name = name.to_ascii_lowercase();
        check(&name, value)?;
        if name == "content-length" && value.parse() != Ok(body.len()) {
            bail!("content-length: {value}: the content has {} bytes; leave it out", body.len());
        }
        hpack::encode(&name, value, &mut block);
    }
    let has_length = headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    if !body.is_empty() && !has_length {
        hpack::encode("content-length", &body.len().to_string(), &mut block);
    }
    let is_head = method == "HEAD";
    Ok(Operation { prepared: Prepared::Http2 { block, body, is_head }, expect })
}

fn check(name: &str, value: &str) -> anyhow::Result<()> {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    if name.is_empty() || !name.bytes().all(is_token) {
        bail!("header {name:?}: not a field name");
    }
    match name {
        "host" => bail!("header host: HTTP/2 has :authority for it; set the host of the URL"),
        "connection" | "keep-alive" | "proxy-connection" | "transfer-encoding" | "upgrade" => {
            bail!("header {name}: does not exist in HTTP/2; leave it out")
        }
        "te" if value != "trailers" => bail!("header te: {value}: only `trailers` in HTTP/2"),
        _ => {}
    }
    if value.bytes().any(|byte| matches!(byte, 0 | b'\r' | b'\n')) || value.trim() != value {
        bail!("header {name}: {value:?}: no line ends, no spaces around it");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Request<'static> = Request {
        method: "POST",
        scheme: "https",
        authority: "bench.test",
        path: "/a?b",
        headers: &[],
        body: Vec::new(),
    };

    #[test]
    fn a_prepared_request_says_all_its_fields_in_order() {
        let headers = [("X-Own".to_owned(), "v w".to_owned())];
        let request = Request { headers: &headers, body: vec![1; 7], ..PLAIN };
        let made = operation(request, Expect::default()).expect("an operation");
        let Prepared::Http2 { block, body, is_head: false } = made.prepared else {
            panic!("{made:?}");
        };
        let mut fields = String::new();
        hpack::Decoder::default()
            .decode(&block, |name, value| {
                let [name, value] = [name, value].map(String::from_utf8_lossy);
                fields += &format!("{name}={value};");
            })
            .expect("a block");
        assert_eq!(
            fields,
            ":method=POST;:scheme=https;:authority=bench.test;:path=/a?b;x-own=v w;content-length=7;"
        );
        assert_eq!(body, [1; 7]);
    }

    #[test]
    fn what_http2_can_not_say_is_refused_with_the_remedy() {
        for (name, value, expected) in [
            ("Host", "x", "set the host of the URL"),
            ("Connection", "close", "leave it out"),
            ("Transfer-Encoding", "chunked", "leave it out"),
            ("te", "gzip", "only `trailers`"),
            ("a b", "x", "not a field name"),
            (":path", "/", "not a field name"),
            ("a", "x\r\ny", "no line ends"),
            ("content-length", "5", "the content has 0 bytes"),
        ] {
            let headers = [(name.to_owned(), value.to_owned())];
            let request = Request { headers: &headers, ..PLAIN };
            let error = operation(request, Expect::default()).expect_err(name).to_string();
            assert!(error.contains(expected), "{name}: {error}");
        }
        let spaced = operation(Request { path: "/a b", ..PLAIN }, Expect::default());
        assert!(spaced.expect_err("a space").to_string().contains(":path"));
    }
}
