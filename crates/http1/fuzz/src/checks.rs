//! What must hold for any input at all. The fuzz targets search for inputs that break it, and
//! `tests/corpus.rs` replays the inputs kept.

#![allow(dead_code)] // reason: each fuzz target includes this file and calls one of its checks

use http1::{
    BodyError, Decoder, Field, FieldId, Framing, HeadError, Limits, Method, RequestHead,
    ResponseHead, Span, Version, parse_request, parse_response, parse_trailers,
};

/// Small limits, so that the fuzzer reaches them.
const LIMITS: Limits = Limits { head_bytes: 1024, target_bytes: 256, fields: 16 };

/// A request head: the same in pieces as whole, clean in all its parts, and the same again when it
/// is written out anew.
pub(crate) fn request_head(data: &[u8]) {
    let parse = |buf: &[u8]| {
        let mut fields = Vec::new();
        Ok(parse_request(buf, &LIMITS, &mut fields)?.map(|head| (head, fields)))
    };
    let whole = in_pieces_as_whole(data, parse, |(head, fields)| request_text(data, head, fields));
    let Ok(Some((head, fields))) = whole else { return };

    assert!(head.len <= data.len() && head.len <= LIMITS.head_bytes);
    assert!(data[..head.len].ends_with(b"\r\n\r\n"));
    assert_clean(data, &fields);
    let named = |id| fields.iter().filter(|f| f.id == id).count();
    assert!(named(FieldId::Host) <= 1 && named(FieldId::ContentLength) <= 1);
    assert!(named(FieldId::Host) == 1 || head.version == Version::Http10);
    assert_framing(head.framing, head.version, data, &fields, Framing::Empty);
    let target = target_of(data, &head);
    assert!(!target.is_empty() && target.len() <= LIMITS.target_bytes);
    assert!(target.iter().all(u8::is_ascii_graphic));
    assert!(head.path_and_query.of(data).starts_with(head.path.of(data)));
    assert!(head.authority.of(data).starts_with(head.host.of(data)));

    let mut again = Vec::new();
    again.extend_from_slice(head.method_span.of(data));
    again.push(b' ');
    again.extend_from_slice(target);
    again.extend_from_slice(match head.version {
        Version::Http11 => b" HTTP/1.1\r\n".as_slice(),
        Version::Http10 => b" HTTP/1.0\r\n",
    });
    write_fields(&mut again, data, &fields);
    // White space may have grown by a space each line.
    let limits = Limits { head_bytes: 2 * LIMITS.head_bytes, ..LIMITS };
    let mut fields_again = Vec::new();
    let head_again = parse_request(&again, &limits, &mut fields_again)
        .expect("a head written anew is valid")
        .expect("a head written anew is whole");
    assert_eq!(head_again.len, again.len());
    assert_eq!(
        request_text(&again, &head_again, &fields_again),
        request_text(data, &head, &fields)
    );
}

/// A response head, likewise. The input's first byte chooses the request's method.
pub(crate) fn response_head(data: &[u8]) {
    let Some((&first, data)) = data.split_first() else { return };
    let method = [Method::Get, Method::Head, Method::Post][usize::from(first % 3)];
    let parse = |buf: &[u8]| {
        let mut fields = Vec::new();
        Ok(parse_response(buf, method, &LIMITS, &mut fields)?.map(|head| (head, fields)))
    };
    let whole = in_pieces_as_whole(data, parse, |(head, fields)| response_text(data, head, fields));
    let Ok(Some((head, fields))) = whole else { return };

    assert!(head.len <= data.len() && head.len <= LIMITS.head_bytes);
    assert!((100..=999).contains(&head.status));
    assert_clean(data, &fields);
    assert!(head.reason.of(data).iter().all(|b| !matches!(b, b'\r' | b'\n' | 0)));
    if method == Method::Head || head.status < 200 || matches!(head.status, 204 | 304) {
        assert_eq!(head.framing, Framing::Empty);
    } else {
        assert_framing(head.framing, head.version, data, &fields, Framing::UntilClose);
    }

    let mut again = Vec::new();
    again.extend_from_slice(match head.version {
        Version::Http11 => b"HTTP/1.1 ".as_slice(),
        Version::Http10 => b"HTTP/1.0 ",
    });
    again.extend_from_slice(format!("{} ", head.status).as_bytes());
    again.extend_from_slice(head.reason.of(data));
    again.extend_from_slice(b"\r\n");
    write_fields(&mut again, data, &fields);
    let limits = Limits { head_bytes: 2 * LIMITS.head_bytes, ..LIMITS };
    let mut fields_again = Vec::new();
    let head_again = parse_response(&again, method, &limits, &mut fields_again)
        .expect("a head written anew is valid")
        .expect("a head written anew is whole");
    assert_eq!(
        response_text(&again, &head_again, &fields_again),
        response_text(data, &head, &fields)
    );
}

/// A chunked body: the decoder agrees with a plain reference, whole and in pieces. The input's
/// first byte sets the pieces' length.
pub(crate) fn chunked(data: &[u8]) {
    let Some((&first, wire)) = data.split_first() else { return };
    let expected = reference(wire);
    for piece in [wire.len().max(1), usize::from(first).max(1), 1] {
        let got = decode_in_pieces(wire, piece);
        match (&got, &expected) {
            (Ok(got), Ok(expected)) => assert_eq!(got, expected, "in pieces of {piece}"),
            (Err(_), Err(())) => {}
            _ => panic!("in pieces of {piece}: decoder {got:?}, reference {expected:?}"),
        }
    }
    if let Ok((_, end, true)) = expected {
        let rest = &wire[end..];
        let parse = |buf: &[u8]| {
            let mut fields = Vec::new();
            Ok(parse_trailers(buf, &LIMITS, &mut fields)?.map(|len| (len, fields)))
        };
        let trailers = in_pieces_as_whole(rest, parse, |trailers| format!("{trailers:?}"));
        if let Ok(Some((len, fields))) = trailers {
            assert!(rest[..len].ends_with(b"\r\n"));
            assert_clean(rest, &fields);
        }
    }
}

/// Reads the whole input, and checks that no shorter part of it gives another final result.
fn in_pieces_as_whole<T>(
    data: &[u8],
    parse: impl Fn(&[u8]) -> Result<Option<T>, HeadError>,
    text: impl Fn(&T) -> String,
) -> Result<Option<T>, HeadError> {
    let whole = parse(data);
    // Every prefix of a short input, some of a longer one.
    let step = data.len() / 128 + 1;
    for end in (0..data.len()).step_by(step) {
        match (parse(&data[..end]), &whole) {
            (Ok(None), _) => {}
            (Ok(Some(part)), Ok(Some(whole))) => assert_eq!(text(&part), text(whole), "at {end}"),
            (Err(_), Err(_)) => {}
            (part, whole) => {
                panic!(
                    "at {end}: {:?}, whole: {:?}",
                    part.as_ref().map(|p| p.as_ref().map(&text)),
                    whole.as_ref().map(|w| w.as_ref().map(&text))
                )
            }
        }
    }
    whole
}

/// No name or value can be taken for anything else by the next reader.
fn assert_clean(data: &[u8], fields: &[Field]) {
    assert!(fields.len() <= LIMITS.fields);
    for field in fields {
        let (name, value) = (field.name.of(data), field.value.of(data));
        assert!(!name.is_empty());
        assert!(name.iter().all(|b| b.is_ascii_graphic() && !b":\"(),/;<=>?@[\\]{}".contains(b)));
        assert!(value.iter().all(|&b| b == b'\t' || (b >= b' ' && b != 0x7f)));
        let blank = |b: Option<&u8>| matches!(b, Some(b' ' | b'\t'));
        assert!(!blank(value.first()) && !blank(value.last()));
    }
}

/// The framing, derived a second time and naively.
fn assert_framing(
    framing: Framing,
    version: Version,
    data: &[u8],
    fields: &[Field],
    without: Framing,
) {
    let values = |wanted: &str| -> Vec<String> {
        fields
            .iter()
            .filter(|f| f.name.of(data).eq_ignore_ascii_case(wanted.as_bytes()))
            .map(|f| String::from_utf8_lossy(f.value.of(data)).to_ascii_lowercase())
            .collect()
    };
    let (lengths, codings) = (values("content-length"), values("transfer-encoding"));
    let expected = match (lengths.as_slice(), codings.as_slice()) {
        ([], []) => without,
        ([length], []) => Framing::Length(length.parse().expect("a number")),
        ([], [coding]) if coding == "chunked" && version == Version::Http11 => Framing::Chunked,
        other => panic!("accepted {other:?}"),
    };
    assert_eq!(framing, expected);
}

/// The target as it stood in the request line.
fn target_of<'a>(data: &'a [u8], head: &RequestHead) -> &'a [u8] {
    let rest = &data[head.method_span.end as usize + 1..];
    let end = rest.iter().position(|&b| b == b' ').expect("a space behind the target");
    &rest[..end]
}

fn write_fields(out: &mut Vec<u8>, data: &[u8], fields: &[Field]) {
    for field in fields {
        out.extend_from_slice(field.name.of(data));
        out.extend_from_slice(b": ");
        out.extend_from_slice(field.value.of(data));
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

fn fields_text(data: &[u8], fields: &[Field]) -> String {
    let text = |span: Span| span.of(data).escape_ascii().to_string();
    fields.iter().map(|f| format!("{:?} {}: {}\n", f.id, text(f.name), text(f.value))).collect()
}

/// What a request head says, without the positions.
fn request_text(data: &[u8], head: &RequestHead, fields: &[Field]) -> String {
    let text = |span: Span| span.of(data).escape_ascii().to_string();
    format!(
        "{:?} {} {:?} {:?} path {} query {} host {} authority {} {:?} {:?} {} {:?} {} {}\n{}",
        head.method,
        text(head.method_span),
        head.version,
        head.form,
        text(head.path),
        text(head.path_and_query),
        text(head.host),
        text(head.authority),
        head.port,
        head.framing,
        head.keep_alive,
        head.upgrade.map(text),
        head.expect_continue,
        head.te_trailers,
        fields_text(data, fields),
    )
}

/// What a response head says, without the positions.
fn response_text(data: &[u8], head: &ResponseHead, fields: &[Field]) -> String {
    let text = |span: Span| span.of(data).escape_ascii().to_string();
    format!(
        "{} {} {:?} {:?} {:?} {} {:?}\n{}",
        head.status,
        text(head.reason),
        head.version,
        head.framing,
        head.content_length,
        head.keep_alive,
        head.upgrade.map(text),
        fields_text(data, fields),
    )
}

/// Data, bytes used up, and whether the last chunk was reached.
type Body = (Vec<u8>, usize, bool);

fn decode_in_pieces(wire: &[u8], piece: usize) -> Result<Body, BodyError> {
    let mut decoder = Decoder::new(Framing::Chunked);
    let (mut data, mut end, mut buf) = (Vec::new(), 0, Vec::new());
    for piece in wire.chunks(piece) {
        buf.extend_from_slice(piece);
        let decoded = decoder.decode(&mut buf)?;
        assert!(decoded.data.start <= decoded.data.end && decoded.data.end <= decoded.consumed);
        data.extend_from_slice(&buf[decoded.data.clone()]);
        buf.drain(..decoded.consumed);
        assert!(buf.is_empty() || decoder.at_trailers(), "the decoder leaves nothing over");
        end += decoded.consumed;
    }
    Ok((data, end, decoder.at_trailers()))
}

/// A chunked body read by whole lines, as far as the bytes go; an error where they are malformed.
fn reference(wire: &[u8]) -> Result<Body, ()> {
    const EXTENSION_BYTES: usize = 16 * 1024;
    let (mut data, mut at, mut extensions) = (Vec::new(), 0usize, 0usize);
    loop {
        let line_end = wire[at..].iter().position(|&b| b == b'\n' || b == b'\r');
        let line = &wire[at..line_end.map_or(wire.len(), |end| at + end)];
        let mut parts = line.splitn(2, |&b| b == b';');
        let digits = parts.next().unwrap_or_default();
        if !digits.iter().all(u8::is_ascii_hexdigit) || digits.len() > 15 {
            return Err(());
        }
        let extension = parts.next();
        if digits.is_empty() && (extension.is_some() || line_end.is_some()) {
            return Err(());
        }
        let extension = extension.unwrap_or_default();
        extensions += extension.len();
        if extension.iter().any(|&b| b != b'\t' && (b < b' ' || b == 0x7f)) {
            return Err(());
        }
        // The CR behind an extension counts as part of it.
        let counted = usize::from(line.contains(&b';') && line_end.is_some());
        extensions += counted;
        if extensions > EXTENSION_BYTES {
            return Err(());
        }
        let Some(line_end) = line_end else { return Ok((data, wire.len(), false)) };
        let behind = match &wire[at + line_end..] {
            [b'\r', b'\n', ..] => at + line_end + 2,
            [b'\r'] => return Ok((data, wire.len(), false)),
            _ => return Err(()),
        };
        let digits = std::str::from_utf8(digits).map_err(|_| ())?;
        let size = usize::from_str_radix(digits, 16).map_err(|_| ())?;
        if size == 0 {
            return Ok((data, behind, true));
        }
        let rest = &wire[behind..];
        data.extend_from_slice(&rest[..size.min(rest.len())]);
        at = match rest.get(size..).unwrap_or_default() {
            [] | [b'\r'] => return Ok((data, wire.len(), false)),
            [b'\r', b'\n', ..] => behind + size + 2,
            _ => return Err(()),
        };
    }
}
