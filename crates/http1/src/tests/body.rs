use super::Random;
use crate::{
    BodyError, Decoder, FieldId, Framing, HeadError, Limits, chunk_header, parse_trailers,
};

/// Feeds `wire` in pieces of the given lengths (the last piece is the rest), as a reader does:
/// what isn't consumed is offered again together with the next piece.
fn decode(wire: &[u8], pieces: &[usize]) -> Result<(Vec<u8>, usize, bool), BodyError> {
    let mut decoder = Decoder::new(Framing::Chunked);
    let mut buf = Vec::new();
    let mut data = Vec::new();
    let mut consumed = 0;
    let mut offered = 0;
    let rest = [wire.len()];
    for &piece in pieces.iter().chain(&rest) {
        let end = (offered + piece).min(wire.len());
        buf.extend_from_slice(&wire[offered..end]);
        offered = end;
        let decoded = decoder.decode(&mut buf)?;
        assert!(decoded.data.end <= decoded.consumed, "data outside the consumed part");
        data.extend_from_slice(&buf[decoded.data.clone()]);
        buf.drain(..decoded.consumed);
        consumed += decoded.consumed;
    }
    Ok((data, consumed, decoder.at_trailers()))
}

#[test]
fn chunks_are_joined_inside_the_buffer() {
    let mut decoder = Decoder::new(Framing::Chunked);
    let mut buf = b"3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\nnext".to_vec();
    let decoded = decoder.decode(&mut buf).unwrap();
    assert_eq!(&buf[decoded.data], b"abcde");
    assert!(decoder.at_trailers() && !decoder.is_done());
    assert_eq!(&buf[decoded.consumed..], b"\r\nnext");
    let again = decoder.decode(&mut buf[decoded.consumed..]).unwrap();
    assert_eq!((again.consumed, again.data), (0, 0..0), "trailers are not the decoder's to read");
    decoder.finish();
    assert!(decoder.is_done());
}

#[test]
fn every_split_of_a_chunked_body_gives_the_same_data() {
    let wire = b"1\r\na\r\nA;n=\"v\"\r\n0123456789\r\n00b\r\nabcdefghijk\r\n0;last\r\n\r\nnext";
    let whole = decode(wire, &[]).unwrap();
    assert_eq!(whole.0, b"a0123456789abcdefghijk");
    for first in 0..=wire.len() {
        for second in 0..=wire.len() - first {
            assert_eq!(decode(wire, &[first, second]).unwrap(), whole, "at {first}+{second}");
        }
    }
    assert_eq!(decode(wire, &vec![1; wire.len()]).unwrap(), whole);
}

#[test]
fn what_is_encoded_is_decoded_for_random_chunks_and_splits() {
    for seed in 0..400 {
        let mut random = Random::new(seed);
        let mut wire = Vec::new();
        let mut body = Vec::new();
        for _ in 0..random.below(8) {
            let len = 1 + random.below(if seed % 7 == 0 { 70_000 } else { 40 });
            let chunk: Vec<u8> = (0..len).map(|_| random.next() as u8).collect();
            wire.extend_from_slice(chunk_header(len).as_bytes());
            wire.extend_from_slice(&chunk);
            wire.extend_from_slice(b"\r\n");
            body.extend_from_slice(&chunk);
        }
        wire.extend_from_slice(chunk_header(0).as_bytes());
        let end = wire.len();
        wire.extend_from_slice(b"\r\nGET / HTTP/1.1\r\n");
        let most = 1 + random.below(wire.len());
        let pieces: Vec<usize> = (0..random.below(60)).map(|_| random.below(most)).collect();
        assert_eq!(decode(&wire, &pieces), Ok((body, end, true)), "seed {seed}");
    }
}

#[test]
fn chunk_headers_are_lower_case_hex_without_leading_zeros() {
    for (len, line) in [
        (0, "0\r\n"),
        (9, "9\r\n"),
        (10, "a\r\n"),
        (16, "10\r\n"),
        (0xdead_beef, "deadbeef\r\n"),
        (usize::MAX, "ffffffffffffffff\r\n"),
    ] {
        assert_eq!(chunk_header(len).as_bytes(), line.as_bytes());
    }
}

#[test]
fn chunk_sizes_in_any_hex_spelling_are_read() {
    for (wire, size) in [("a", 10), ("A", 10), ("0a", 10), ("000000000000001", 1), ("fF", 255)] {
        let mut text = format!("{wire}\r\n").into_bytes();
        text.extend(vec![b'x'; size]);
        text.extend_from_slice(b"\r\n0\r\n");
        let (data, _, done) = decode(&text, &[]).unwrap();
        assert_eq!((data.len(), done), (size, true), "{wire}");
    }
    let largest = decode(b"fffffffffffffff\r\nabc", &[]).unwrap();
    assert_eq!((largest.0.as_slice(), largest.2), (b"abc".as_slice(), false));
}

#[test]
fn bad_chunk_sizes_are_refused() {
    for wire in [
        "\r\n",
        ";x\r\n",
        "x\r\n",
        "-1\r\n",
        "+1\r\n",
        "0x1\r\n",
        " 1\r\n",
        "\t1\r\n",
        "1 \r\n",
        "1\t;x\r\n",
        "1 ;x\r\n",
        "1_0\r\n",
        "1g\r\n",
        "1,\r\n",
        "\n1\r\n",
        "1\n",
        "1\0\r\n",
        "1.0\r\n",
        "0000000000000001\r\n",
        "1000000000000000\r\n",
        "ffffffffffffffff\r\n",
        "10000000000000001\r\n",
        "\u{661}\r\n",
    ] {
        assert_eq!(decode(wire.as_bytes(), &[]), Err(BodyError::ChunkSize), "{wire:?}");
    }
}

#[test]
fn chunk_lines_and_data_must_end_in_crlf() {
    for wire in [
        "1\rX",
        "1\r\r\n",
        "1\r\nab",
        "1\r\na\n",
        "1\r\na\r\r\n",
        "1\r\naX\n",
        "1\r\na\rX",
        "0\r0",
        "1;x\r\r\na",
    ] {
        assert_eq!(decode(wire.as_bytes(), &[]), Err(BodyError::ChunkEnd), "{wire:?}");
    }
}

#[test]
fn fault_behind_good_chunks_is_still_found() {
    assert_eq!(decode(b"1\r\na\r\n1\r\nb\r\nzz\r\n", &[]), Err(BodyError::ChunkSize));
}

#[test]
fn chunk_extensions_are_skipped_but_not_with_line_breaks_or_controls() {
    assert_eq!(decode(b"1;a=b;c=\"d e\";\tf\r\nx\r\n0;z\r\n", &[]).unwrap().0, b"x");
    for wire in ["1;a\nx\r\n", "1;\0\r\n", "1;\x7f\r\n", "1;\x0b\r\n", "0;\n\r\n"] {
        assert_eq!(decode(wire.as_bytes(), &[]), Err(BodyError::ChunkExtension), "{wire:?}");
    }
    assert_eq!(decode(b"1;a\rb\r\nx", &[]), Err(BodyError::ChunkEnd));
}

#[test]
fn chunk_extensions_are_limited_over_the_whole_body() {
    let one = format!("1;{}\r\nx\r\n", "e".repeat(16 * 1024));
    assert_eq!(decode(one.as_bytes(), &[]), Err(BodyError::ChunkExtension));
    let many = format!("1;{}\r\nx\r\n", "e".repeat(1024)).repeat(16);
    assert_eq!(decode(many.as_bytes(), &[]), Err(BodyError::ChunkExtension));
    let few = format!("1;{}\r\nx\r\n", "e".repeat(1000)).repeat(16);
    assert_eq!(decode(few.as_bytes(), &[]).unwrap().0.len(), 16);
}

#[test]
fn body_of_known_length_ends_where_it_should() {
    let mut decoder = Decoder::new(Framing::Length(5));
    let mut buf = *b"abc";
    let decoded = decoder.decode(&mut buf).unwrap();
    assert_eq!((decoded.consumed, decoded.data), (3, 0..3));
    assert_eq!((decoder.remaining(), decoder.is_done()), (Some(2), false));
    let mut buf = *b"deGET";
    let decoded = decoder.decode(&mut buf).unwrap();
    assert_eq!((decoded.consumed, decoded.data), (2, 0..2));
    assert!(decoder.is_done());
    assert_eq!(decoder.decode(&mut buf).unwrap().consumed, 0);
}

#[test]
fn empty_bodies_are_done_at_once() {
    for framing in [Framing::Empty, Framing::Length(0)] {
        let mut decoder = Decoder::new(framing);
        assert!(decoder.is_done());
        assert_eq!(decoder.remaining(), Some(0));
        assert_eq!(decoder.decode(&mut b"GET /".to_vec()).unwrap().consumed, 0);
    }
}

#[test]
fn body_until_close_takes_everything_and_ends_only_when_told() {
    let mut decoder = Decoder::new(Framing::UntilClose);
    assert!(decoder.ends_with_connection());
    let decoded = decoder.decode(&mut b"0\r\n\r\n".to_vec()).unwrap();
    assert_eq!((decoded.consumed, decoded.data), (5, 0..5));
    assert!(!decoder.is_done() && decoder.remaining().is_none());
    decoder.finish();
    assert!(decoder.is_done());
}

#[test]
fn trailers_are_read_up_to_their_empty_line() {
    let mut fields = Vec::new();
    let limits = Limits::default();
    assert_eq!(parse_trailers(b"\r\nnext", &limits, &mut fields), Ok(Some(2)));
    assert!(fields.is_empty());
    let text = b"X-Sum: 1\r\nContent-Length: 5\r\n\r\nnext";
    assert_eq!(parse_trailers(text, &limits, &mut fields), Ok(Some(text.len() - 4)));
    assert_eq!(fields[0].value.of(text), b"1");
    assert_eq!(fields[1].id, FieldId::ContentLength, "so that forwarding can leave it out");
    for end in 0..text.len() - 4 {
        assert_eq!(parse_trailers(&text[..end], &limits, &mut fields), Ok(None), "at {end}");
    }
}

#[test]
fn malformed_trailers_are_refused() {
    let limits = Limits { head_bytes: 32, fields: 2, ..Limits::default() };
    let long = "X: 0123456789012345678901234567890\r\n\r\n";
    for (text, error) in [
        ("X : y\r\n\r\n", HeadError::FieldName),
        ("X: y\n\r\n", HeadError::BareLf),
        ("\n", HeadError::BareLf),
        (" X: y\r\n\r\n", HeadError::ObsFold),
        ("X: \0\r\n\r\n", HeadError::FieldValue),
        ("GET / HTTP/1.1\r\n\r\n", HeadError::FieldName),
        ("A:\r\nB:\r\nC:\r\n\r\n", HeadError::TooManyFields),
        (long, HeadError::TooLarge),
        // That many bytes without an end can't become valid any more.
        (&long[..32], HeadError::TooLarge),
    ] {
        let read = parse_trailers(text.as_bytes(), &limits, &mut Vec::new());
        assert_eq!(read, Err(error), "{text:?}");
    }
    assert_eq!(parse_trailers(&long.as_bytes()[..31], &limits, &mut Vec::new()), Ok(None));
}
