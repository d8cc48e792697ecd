//! Paths for the upstream: ingress-nginx's `rewrite-target`.

use regex::Regex;

/// A template, taken apart once.
#[derive(Debug)]
pub(super) struct Rewrite {
    regex: Option<Regex>,
    parts: Vec<Part>,
}

#[derive(Debug)]
enum Part {
    Text(Box<str>),
    Group(usize),
}

impl Rewrite {
    /// Takes a template apart: `$1` to `$9` are the groups of the route's regular expression,
    /// empty where it has no such group or the route has none; any other `$` stands for itself.
    pub(super) fn new(template: &str, regex: Option<Regex>) -> Self {
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut chars = template.chars().peekable();
        while let Some(char) = chars.next() {
            let group = (char == '$')
                .then(|| chars.peek().and_then(|next| next.to_digit(10)))
                .flatten()
                .filter(|&digit| digit != 0);
            match group {
                Some(group) => {
                    chars.next();
                    if !text.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut text).into()));
                    }
                    parts.push(Part::Group(group as usize));
                }
                None => text.push(char),
            }
        }
        if !text.is_empty() {
            parts.push(Part::Text(text.into()));
        }
        Self { regex, parts }
    }

    /// The whole path is replaced, as nginx does, also what the pattern didn't cover. `path` is
    /// decoded, so the groups are encoded again: what the client wrote as `%0a`, `%20` or `%3F`
    /// must not end the request line or begin a query.
    pub(super) fn apply(&self, path: &str) -> String {
        let captures = self.regex.as_ref().and_then(|regex| regex.captures(path));
        let mut rewritten = String::with_capacity(path.len() + 1);
        for part in &self.parts {
            match part {
                Part::Text(text) => rewritten.push_str(text),
                Part::Group(group) => {
                    let group = captures.as_ref().and_then(|captures| captures.get(*group));
                    encode(group.map_or("", |group| group.as_str()), &mut rewritten);
                }
            }
        }
        if !rewritten.starts_with('/') {
            rewritten.insert(0, '/');
        }
        rewritten
    }
}

/// Appends decoded text of a path; every byte that may not stand in one (RFC 3986, 3.3: `pchar`
/// and `/`) becomes its escape.
fn encode(text: &str, out: &mut String) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    for byte in text.bytes() {
        if is_path_byte(byte) {
            out.push(char::from(byte));
        } else {
            let digit = |nibble: u8| char::from(HEX[usize::from(nibble & 0xf)]);
            out.extend(['%', digit(byte >> 4), digit(byte)]);
        }
    }
}

fn is_path_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::super::compile;
    use super::*;
    use crate::l7::path::for_matching;

    #[test]
    fn groups_are_encoded_again_and_the_template_stays_as_written() {
        let rewrite = Rewrite::new("/in%20/$1", Some(compile("/x/(.*)").unwrap()));
        for (sent, expected) in [
            ("/x/a/b", "/in%20/a/b"),
            ("/x/a%20b", "/in%20/a%20b"),
            ("/x/a%25b%2541", "/in%20/a%25b%2541"),
            ("/x/a%3Fb=c%23d", "/in%20/a%3Fb=c%23d"),
            // `.` ends before a line feed.
            ("/x/a%20HTTP/1.1%0d%0aX:%20y", "/in%20/a%20HTTP/1.1%0D"),
            ("/x/caf%c3%a9", "/in%20/caf%C3%A9"),
            ("/x/%22%3c%5c%7f", "/in%20/%22%3C%5C%7F"),
            ("/x/-._~!$&'()*+,;=:@", "/in%20/-._~!$&'()*+,;=:@"),
        ] {
            let matched = for_matching(sent.as_bytes()).unwrap();
            assert_eq!(rewrite.apply(&matched), expected, "{sent}");
        }
        let all = Rewrite::new("/$1", Some(compile("(?s)/x/(.*)").unwrap()));
        assert_eq!(all.apply("/x/a HTTP/1.1\r\nX: y"), "/a%20HTTP/1.1%0D%0AX:%20y");
    }

    #[test]
    fn every_byte_of_a_rewritten_path_may_stand_in_a_request_line() {
        let rewrite = Rewrite::new("$1", Some(compile("(?s)(.*)").unwrap()));
        for char in (1..=0x2ff).filter_map(char::from_u32) {
            let rewritten = rewrite.apply(&format!("/{char}"));
            assert!(rewritten.bytes().all(|b| b == b'%' || is_path_byte(b)), "{rewritten}");
            assert_eq!(
                for_matching(rewritten.as_bytes()).unwrap(),
                match char {
                    '/' | '.' => "/".to_owned(),
                    _ => format!("/{char}"),
                }
            );
        }
    }
}
