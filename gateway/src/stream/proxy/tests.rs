use super::*;

fn ends(source: &str, destination: &str) -> Ends {
    Ends { source: source.parse().unwrap(), destination: destination.parse().unwrap() }
}

fn written(version: ProxyVersion, ends: &Ends) -> Vec<u8> {
    let mut out = Buf::default();
    write(version, ends, &mut out);
    out.filled().to_vec()
}

fn v2_of(command: u8, kind: u8, len: u16, body: &[u8]) -> Vec<u8> {
    [&V2_SIGNATURE[..], &[command, kind], &len.to_be_bytes(), body].concat()
}

#[test]
fn what_is_written_is_read_back_in_both_versions_and_families() {
    for ends in [
        ends("192.0.2.1:40000", "203.0.113.10:443"),
        ends("[2001:db8::1]:1", "[2001:db8::2]:65535"),
    ] {
        for version in [ProxyVersion::V1, ProxyVersion::V2] {
            let bytes = written(version, &ends);
            let header = Header { ends: Some(ends), len: bytes.len() };
            assert_eq!(parse(&bytes), Ok(Some(header)), "{version:?}");
            let more = [&bytes[..], b"GET / HTTP/1.1\r\n"].concat();
            assert_eq!(parse(&more), Ok(Some(header)), "{version:?}");
            for cut in 0..bytes.len() {
                assert_eq!(parse(&bytes[..cut]), Ok(None), "{version:?} cut at {cut}");
            }
        }
    }
}

#[test]
fn the_first_version_is_a_line_that_anyone_can_read() {
    let ends = ends("192.0.2.1:40000", "203.0.113.10:443");
    assert_eq!(
        written(ProxyVersion::V1, &ends),
        b"PROXY TCP4 192.0.2.1 203.0.113.10 40000 443\r\n"
    );
}

#[test]
fn ends_of_two_families_are_written_as_ipv6() {
    let bytes = written(ProxyVersion::V1, &ends("[::ffff:192.0.2.1]:40000", "[2001:db8::2]:443"));
    assert_eq!(bytes, b"PROXY TCP6 ::ffff:192.0.2.1 2001:db8::2 40000 443\r\n");
}

#[test]
fn a_proxy_that_speaks_for_itself_names_no_ends() {
    for (bytes, len) in [
        (b"PROXY UNKNOWN\r\n".to_vec(), 15),
        (b"PROXY UNKNOWN anything at all\r\n".to_vec(), 31),
        (v2_of(0x20, 0x00, 0, b""), 16),
        (v2_of(0x20, 0x11, 12, &[1; 12]), 28),
        (v2_of(0x21, 0x00, 3, b"abc"), 19),
        (v2_of(0x21, 0x31, 216, &[0; 216]), 232),
    ] {
        assert_eq!(parse(&bytes), Ok(Some(Header { ends: None, len })), "{bytes:?}");
    }
}

#[test]
fn extensions_behind_the_addresses_are_read_past() {
    let body =
        [&[192, 0, 2, 1, 203, 0, 113, 10, 0x9c, 0x40, 0x01, 0xbb][..], &[4, 0, 1, 0]].concat();
    let header = parse(&v2_of(0x21, 0x11, 16, &body)).unwrap().unwrap();
    assert_eq!(header.ends, Some(ends("192.0.2.1:40000", "203.0.113.10:443")));
    assert_eq!(header.len, 32);
}

#[test]
fn what_is_not_exactly_a_header_is_refused() {
    for line in [
        "GET / HTTP/1.1\r\n",
        "PROXY  TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2 \r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 01 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 +1 2\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 65536 2\r\n",
        "PROXY TCP4 192.0.2.01 192.0.2.2 1 2\r\n",
        "PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
        "PROXY TCP6 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY TCP5 192.0.2.1 192.0.2.2 1 2\r\n",
        "PROXY UNKNOWNX\r\n",
        "PROXY TCP4 192.0.2.1 192.0.2.2 1 2\n",
        "proxy TCP4 192.0.2.1 192.0.2.2 1 2\r\n",
    ] {
        assert!(parse(line.as_bytes()).is_err(), "{line:?}");
    }
    for bytes in [
        v2_of(0x22, 0x11, 12, &[0; 12]),
        v2_of(0x11, 0x11, 12, &[0; 12]),
        v2_of(0x21, 0x13, 12, &[0; 12]),
        v2_of(0x21, 0x41, 12, &[0; 12]),
        v2_of(0x21, 0x11, 11, &[0; 11]),
        v2_of(0x21, 0x21, 12, &[0; 12]),
        v2_of(0x21, 0x11, 4097, &[]),
    ] {
        assert!(parse(&bytes).is_err(), "{bytes:?}");
    }
}

#[test]
fn a_line_without_end_is_refused_at_its_bound() {
    let line = [&b"PROXY UNKNOWN "[..], &[b'x'; 200]].concat();
    assert_eq!(parse(&line[..106]), Ok(None));
    assert_eq!(parse(&line[..107]), Err(ProxyError::LineLength));
    assert_eq!(parse(&line), Err(ProxyError::LineLength));
}

#[test]
fn no_bytes_make_it_fail_and_more_bytes_never_change_what_was_found() {
    let mut random = fastrand::Rng::with_seed(7);
    let seeds = [
        written(ProxyVersion::V1, &ends("192.0.2.1:40000", "203.0.113.10:443")),
        written(ProxyVersion::V1, &ends("[2001:db8::1]:1", "[2001:db8::2]:2")),
        written(ProxyVersion::V2, &ends("192.0.2.1:40000", "203.0.113.10:443")),
        written(ProxyVersion::V2, &ends("[2001:db8::1]:1", "[2001:db8::2]:2")),
        v2_of(0x20, 0, 40, &[3; 40]),
        b"PROXY UNKNOWN\r\n".to_vec(),
    ];
    for _ in 0..20_000 {
        let mut bytes = seeds[random.usize(..seeds.len())].clone();
        for _ in 0..random.usize(..4) {
            let at = random.usize(..bytes.len());
            match random.u8(..3) {
                0 => bytes[at] = random.u8(..),
                1 => bytes.insert(at, random.u8(..)),
                _ => drop(bytes.remove(at)),
            }
        }
        bytes.extend((0..random.usize(..40)).map(|_| random.u8(..)));
        let whole = parse(&bytes);
        if let Ok(Some(header)) = whole {
            assert!(header.len <= bytes.len() && header.len <= MOST);
        }
        // What is found early is what is found late.
        let cut = random.usize(..=bytes.len());
        match parse(&bytes[..cut]) {
            Ok(None) => {}
            Err(_) => assert!(whole.is_err(), "{bytes:?} cut at {cut}"),
            found => assert_eq!(found, whole, "{bytes:?} cut at {cut}"),
        }
    }
}
