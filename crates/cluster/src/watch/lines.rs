//! An answer's body, line by line.

use std::time::Duration;

use http_body_util::BodyExt;
use kube::client::Body;

/// The longest line that is read: far over what the API stores as one object.
const LONGEST: usize = 32 << 20;

/// Lines of an answer that goes on and on.
pub(super) struct Lines {
    body: Body,
    buffer: Vec<u8>,
    /// Where the next line begins.
    start: usize,
    /// Up to where there is no line's end.
    searched: usize,
}

/// Why there is no next line.
#[derive(Debug)]
pub(super) enum End {
    /// The answer is at its end, or the connection is.
    Closed,
    /// Nothing has come for as long as one may wait.
    Silent,
    /// A line has no end.
    TooLong,
}

impl Lines {
    pub(super) fn new(body: Body) -> Self {
        Self { body, buffer: Vec::new(), start: 0, searched: 0 }
    }

    /// The next line, without its end.
    pub(super) async fn next(&mut self, patience: Duration) -> Result<&[u8], End> {
        loop {
            let rest = self.buffer.get(self.searched..).unwrap_or_default();
            if let Some(length) = memchr::memchr(b'\n', rest) {
                let (start, end) = (self.start, self.searched + length);
                self.start = end + 1;
                self.searched = self.start;
                return Ok(self.buffer.get(start..end).unwrap_or_default());
            }
            self.searched = self.buffer.len();
            if self.searched - self.start > LONGEST {
                return Err(End::TooLong);
            }
            self.make_room();
            let frame = tokio::time::timeout(patience, self.body.frame()).await;
            match frame.map_err(|_| End::Silent)? {
                Some(Ok(frame)) => {
                    if let Some(data) = frame.data_ref() {
                        self.buffer.extend_from_slice(data);
                    }
                }
                Some(Err(_)) | None => return Err(End::Closed),
            }
        }
    }

    /// Forgets what was read.
    fn make_room(&mut self) {
        if self.start > 0 {
            self.buffer.drain(..self.start);
            self.searched -= self.start;
            self.start = 0;
        }
        // A list's first burst isn't kept for hours.
        if self.buffer.is_empty() && self.buffer.capacity() > 1 << 20 {
            self.buffer.shrink_to(64 << 10);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_are_found_wherever_they_are_cut() {
        let text = b"{\"a\":1}\n\n{\"b\":2}\nrest".to_vec();
        let mut lines = Lines::new(Body::from(text));
        let patience = Duration::from_secs(1);
        assert_eq!(lines.next(patience).await.unwrap(), b"{\"a\":1}");
        assert_eq!(lines.next(patience).await.unwrap(), b"");
        assert_eq!(lines.next(patience).await.unwrap(), b"{\"b\":2}");
        // What has no end isn't whole.
        assert!(matches!(lines.next(patience).await, Err(End::Closed)));
    }
}
