//! Pieces of HTML: text, tables, the page.

use std::fmt::Write;

/// Text as it may stand in content and in quoted attributes.
pub(super) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match letter {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            letter => escaped.push(letter),
        }
    }
    escaped
}

/// A table whose first column names the rows. `attributes` are put into the tag of the row of that
/// number, and are markup already.
pub(super) fn table(
    caption: &str,
    head: &[String],
    rows: &[Vec<String>],
    attributes: impl Fn(usize) -> String,
) -> String {
    let mut text = format!(
        "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"{0}\"><table>\
         <caption>{0}</caption>",
        escape(caption)
    );
    if head.iter().any(|cell| !cell.is_empty()) {
        text.push_str("<thead><tr>");
        for cell in head {
            let _ = write!(text, "<th scope=\"col\">{}</th>", escape(cell));
        }
        text.push_str("</tr></thead>");
    }
    text.push_str("<tbody>");
    for (number, row) in rows.iter().enumerate() {
        let _ = write!(text, "<tr{}>", attributes(number));
        for (column, cell) in row.iter().enumerate() {
            let _ = match column {
                0 => write!(text, "<th scope=\"row\">{}</th>", escape(cell)),
                _ => write!(text, "<td>{}</td>", escape(cell)),
            };
        }
        text.push_str("</tr>\n");
    }
    text.push_str("</tbody></table></div>");
    text
}

/// A note that must be seen.
pub(super) fn callout(text: &str) -> String {
    format!("<p class=\"callout\"><strong>Note</strong> {}</p>\n", escape(text))
}

/// A figure that stands out, with what it is.
pub(super) fn tile(name: &str, value: &str, more: &str) -> String {
    format!(
        "<div class=\"tile\"><dt>{}</dt><dd>{}<small>{}</small></dd></div>\n",
        escape(name),
        escape(value),
        escape(more)
    )
}

/// The whole page: nothing in it is fetched from anywhere, and nothing may be.
pub(super) fn page(title: &str, kind: &str, lead: &str, body: &str) -> String {
    let (style, script) = (include_str!("page.css"), include_str!("page.js"));
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<link rel=\"icon\" href=\"data:,\">\n\
         <title>{title} – loadtest</title>\n<style>\n{style}</style>\n</head>\n<body>\n\
         <a class=\"skip\" href=\"#content\">To the figures</a>\n\
         <header><div><p class=\"kind\">{kind}</p><h1>{title}</h1>{lead}</div>\
         <button type=\"button\" id=\"theme\" hidden>Dark</button></header>\n\
         <main id=\"content\">\n{body}</main>\n\
         <footer><p>Made by Tidegate's loadtest {version}. Everything is in this one file; \
         below each plot is its data.</p></footer>\n<script>\n{script}</script>\n</body>\n</html>\n",
        title = escape(title),
        kind = escape(kind),
        version = env!("CARGO_PKG_VERSION"),
    )
}
