//! A text cut at its document markers.

use super::MAX_BYTES;

const MARKER: &str = "---";

/// Some of a text's documents, mostly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Piece<'a> {
    /// How many lines stand before it.
    pub lines_before: u64,
    /// Its text, from its document marker to the next one's dashes. Those belong to it, because
    /// what ends a document can tell where its last scalar is said to stand; an empty document is
    /// all they add.
    pub text: &'a str,
}

/// Cuts a text before every document marker, if each piece by itself then means what it means
/// where it stands, so that [`super::documents`] of the pieces, one after the other and their
/// lines shifted, are those of the text. That holds if none of them is a syntax error: which one
/// of a text's errors is told is decided over the text as a whole.
///
/// None if that isn't certain: what only seems to bind pieces together is taken to do so.
pub fn pieces(text: &str) -> Option<Vec<Piece<'_>>> {
    if text.len() > MAX_BYTES || may_bind_pieces(text) {
        return None;
    }
    let mut pieces = Vec::new();
    let (mut from, mut lines_before) = (0, 0);
    let (mut at, mut lines) = (0, 0);
    for line in text.split_inclusive('\n') {
        if at > from && is_marker(line) {
            pieces.push(Piece { lines_before, text: &text[from..at + MARKER.len()] });
            (from, lines_before) = (at, lines);
        }
        at += line.len();
        lines += 1;
    }
    pieces.push(Piece { lines_before, text: &text[from..] });
    Some(pieces)
}

/// Such a line begins a document wherever it stands, be it within a block scalar (YAML 1.2.2,
/// section 9.1.2); within quotes or brackets it is an error, on both sides of the cut.
fn is_marker(line: &str) -> bool {
    line.strip_prefix(MARKER)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', '\n', '\r']))
}

fn may_bind_pieces(text: &str) -> bool {
    // A merge key: their number is limited over the whole text.
    text.contains("<<")
        // Allowed between documents, and never seen there.
        || text.contains('\u{feff}')
        // What isn't seen by looking at a character's neighbours.
        || text.starts_with(['%', '&', '!'])
        || text.ends_with('\r')
        || text.as_bytes().windows(2).any(|pair| match pair {
            // The parser may take it for the end.
            [0, _] | [_, 0] => true,
            // A line break of its own, which is no line's end here.
            [b'\r', after] => *after != b'\n',
            // A directive, which may hold for the document after the next marker.
            [b'\n', b'%'] => true,
            _ => false,
        })
        // An anchor, whose aliases' costs are added up over the whole text; or a tag, which may
        // be that of merge keys. After a letter or digit neither begins.
        || text.as_bytes().windows(3).any(|three| match three {
            [before, b'&' | b'!', after] => {
                !before.is_ascii_alphanumeric() && !after.is_ascii_whitespace()
            }
            _ => false,
        })
}

#[cfg(test)]
mod tests;
