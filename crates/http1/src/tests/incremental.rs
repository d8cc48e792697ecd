//! A head gives the same result however its bytes arrive.

use super::Random;
use crate::{HeadError, Limits, Method, parse_request, parse_response};

const REQUESTS: &[&str] = &[
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    "\r\nPOST /x?y HTTP/1.1\r\nHost: a:80\r\nContent-Length: 3\r\nX:\r\n\r\n",
    "GET http://a.test/p HTTP/1.1\r\nhost:a.test\r\nConnection: x, close\r\nX: 1\r\n\r\n",
    "PUT /u HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nExpect: 100-continue\r\n\r\n",
    "OPTIONS * HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n",
    "GET /c HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
    "GET /w HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
];

const RESPONSES: &[&str] = &[
    "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n",
    "HTTP/1.1 204\r\n\r\n",
    "HTTP/1.0 200 Fine Day\r\nConnection: keep-alive, x\r\nX: y\r\nContent-Length: 0\r\n\r\n",
    "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
    "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n",
];

/// What a reader gets that sees one byte more each time: the first result that is final, and after
/// how many bytes.
fn one_by_one<T>(
    wire: &[u8],
    parse: impl Fn(&[u8]) -> Result<Option<T>, HeadError>,
) -> (Result<Option<T>, HeadError>, usize) {
    for end in 0..wire.len() {
        let read = parse(&wire[..end]);
        if !matches!(read, Ok(None)) {
            return (read, end);
        }
    }
    (parse(wire), wire.len())
}

fn request(buf: &[u8]) -> Result<Option<String>, HeadError> {
    let mut fields = Vec::new();
    let head = parse_request(buf, &Limits::default(), &mut fields)?;
    Ok(head.map(|head| format!("{head:?} {fields:?}")))
}

fn response(buf: &[u8]) -> Result<Option<String>, HeadError> {
    let mut fields = Vec::new();
    let head = parse_response(buf, Method::Get, &Limits::default(), &mut fields)?;
    Ok(head.map(|head| format!("{head:?} {fields:?}")))
}

#[test]
fn accepted_head_is_incomplete_up_to_its_last_byte_and_the_same_with_more_behind() {
    for (texts, parse) in [
        (REQUESTS, request as fn(&[u8]) -> Result<Option<String>, HeadError>),
        (RESPONSES, response),
    ] {
        for text in texts {
            let whole = parse(text.as_bytes());
            assert!(matches!(whole, Ok(Some(_))), "{text:?} gave {whole:?}");
            assert_eq!(one_by_one(text.as_bytes(), parse), (whole.clone(), text.len()), "{text:?}");
            assert_eq!(parse(format!("{text}GET / \n\0").as_bytes()), whole, "{text:?}");
        }
    }
}

#[test]
fn damaged_head_is_accepted_in_pieces_exactly_when_it_is_accepted_whole() {
    for seed in 0..20_000 {
        let mut random = Random::new(seed);
        let (texts, parse) = if seed % 2 == 0 {
            (REQUESTS, request as fn(&[u8]) -> Result<Option<String>, HeadError>)
        } else {
            (RESPONSES, response as fn(&[u8]) -> Result<Option<String>, HeadError>)
        };
        let mut wire = texts[random.below(texts.len())].as_bytes().to_vec();
        for _ in 0..=random.below(3) {
            let at = random.below(wire.len());
            let b = b"\r\n\0 \t:,;/1aA\x7f\xff"[random.below(14)];
            match random.below(3) {
                0 => wire[at] = b,
                1 => wire.insert(at, b),
                _ => _ = wire.remove(at),
            }
        }
        let whole = parse(&wire);
        let (pieces, _) = one_by_one(&wire, parse);
        // The same answer, but for which of several faults is named.
        assert_eq!(
            whole.as_ref().map_err(|e| e.status()),
            pieces.as_ref().map_err(|e| e.status()),
            "seed {seed}: {:?}",
            String::from_utf8_lossy(&wire)
        );
    }
}
