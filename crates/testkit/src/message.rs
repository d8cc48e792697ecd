//! A naive view of messages, for asserting on them.

use std::fmt;

use crate::client::End;

/// A head split into its lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Head {
    /// The request line or status line.
    pub line: String,
    /// Field names, as sent, and values in order.
    pub fields: Vec<(String, String)>,
}

impl Head {
    /// Splits a head's text, with or without its closing empty line.
    pub fn parse(text: &[u8]) -> Self {
        let text = String::from_utf8_lossy(text);
        let mut lines = text.split("\r\n");
        let line = lines.next().unwrap_or_default().to_owned();
        let fields = lines
            .take_while(|line| !line.is_empty())
            .map(|line| {
                let (name, value) = line.split_once(':').unwrap_or((line, ""));
                (name.to_owned(), value.trim_matches([' ', '\t']).to_owned())
            })
            .collect();
        Self { line, fields }
    }

    /// All values of a field, in order; the name's case doesn't matter.
    pub fn values(&self, name: &str) -> Vec<&str> {
        self.fields
            .iter()
            .filter(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, v)| v.as_str())
            .collect()
    }

    /// The only value of a field, none where it is missing. Several fail the test.
    #[track_caller]
    pub fn value(&self, name: &str) -> Option<&str> {
        let values = self.values(name);
        assert!(values.len() <= 1, "several {name} fields: {values:?}");
        values.first().copied()
    }

    /// The status code of a status line.
    #[track_caller]
    pub fn status(&self) -> u16 {
        let code = self.line.split(' ').nth(1).and_then(|code| code.parse().ok());
        code.unwrap_or_else(|| panic!("no status line: {:?}", self.line))
    }

    /// Whether a body in chunks follows.
    pub fn is_chunked(&self) -> bool {
        self.value("transfer-encoding").is_some_and(|v| v.eq_ignore_ascii_case("chunked"))
    }

    /// Content-Length as a number.
    pub fn content_length(&self) -> Option<usize> {
        self.value("content-length").map(|v| v.parse().unwrap())
    }
}

/// A response that has come whole.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// The head.
    pub head: Head,
    /// 1xx responses that came before it.
    pub interim: Vec<Head>,
    /// The body without its framing.
    pub body: Vec<u8>,
    /// Lengths of the chunks, where it came in chunks.
    pub chunks: Vec<usize>,
    /// The trailer fields.
    pub trailers: Head,
}

impl Response {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The only value of a field.
    #[track_caller]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.value(name)
    }
}

impl fmt::Debug for Response {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?} ", self.head.line, self.head.fields)?;
        let shown = self.body.get(..self.body.len().min(1000)).unwrap_or_default();
        write!(f, "body of {}: {:?}", self.body.len(), String::from_utf8_lossy(shown))
    }
}

/// What had come of a response when the connection ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Incomplete {
    /// The head, where that had come.
    pub head: Option<Head>,
    /// Body so far.
    pub body: Vec<u8>,
    /// How the connection ended.
    pub end: End,
}
