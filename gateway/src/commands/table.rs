//! Columns for people to read.

use std::io::{self, Write};

/// Writes rows below their headings, columns two spaces apart. The last column may be of any
/// length.
pub(super) fn write<const N: usize>(
    out: &mut impl Write,
    headings: [&str; N],
    rows: &[[String; N]],
) -> io::Result<()> {
    let mut widths = headings.map(|heading| heading.chars().count());
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    line(out, &headings.map(str::to_owned), &widths)?;
    rows.iter().try_for_each(|row| line(out, row, &widths))
}

fn line(out: &mut impl Write, cells: &[String], widths: &[usize]) -> io::Result<()> {
    let padded: Vec<String> =
        cells.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
    writeln!(out, "{}", padded.join("  ").trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_longest_cell() {
        let mut out = Vec::new();
        let rows = [["a".to_owned(), "b".to_owned()], ["ähnlich".to_owned(), String::new()]];
        write(&mut out, ["ONE", "TWO"], &rows).unwrap();
        assert_eq!(String::from_utf8(out).unwrap(), "ONE      TWO\na        b\nähnlich\n");
    }
}
