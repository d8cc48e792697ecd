//! Reports: on the terminal, as one HTML file, and read back from JSON.

pub(crate) mod compared;
pub(crate) mod html;
pub(crate) mod impact;
pub(crate) mod progress;
pub(crate) mod run_tables;
pub(crate) mod table;
pub(crate) mod terminal;

use std::io::{Read as _, Write as _};
use std::path::Path;

use anyhow::{Context, bail};

use crate::cli;
use crate::load::outcome::RunReport;
use compared::Compared;

/// The version of the JSON forms that this program writes.
pub(crate) const FORMAT: u32 = 2;
/// The most bytes that a report may have.
const LARGEST: u64 = 1 << 30;

/// A report of either kind.
#[derive(Clone, Debug)]
pub(crate) enum Document {
    /// Of `loadtest run`.
    Run(Box<RunReport>),
    /// Of `loadtest compare`.
    Compare(Box<Compared>),
}

impl Document {
    /// Reads a file.
    ///
    /// # Errors
    ///
    /// The file can't be read, is no report, or is one of a later version.
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let name = path.display();
        if !std::fs::metadata(path).with_context(|| format!("{name}"))?.is_file() {
            bail!("{name}: is no regular file; name a report's JSON");
        }
        let file = std::fs::File::open(path).with_context(|| format!("{name}"))?;
        let mut bytes = Vec::new();
        // One byte more than is allowed, as a file may have become longer.
        file.take(LARGEST + 1).read_to_end(&mut bytes).with_context(|| format!("{name}"))?;
        if bytes.len() as u64 > LARGEST {
            bail!("{name}: is too large for a report; {LARGEST} bytes are allowed");
        }
        Self::parse(&bytes).with_context(|| format!("{name}"))
    }

    /// Reads JSON.
    ///
    /// # Errors
    ///
    /// As for [`Self::read`].
    pub(crate) fn parse(json: &[u8]) -> anyhow::Result<Self> {
        const MADE_BY: &str =
            "write one with `loadtest run … --json FILE` or `loadtest compare … --json FILE`";
        let value: serde_json::Value =
            serde_json::from_slice(json).with_context(|| format!("no JSON; {MADE_BY}"))?;
        let format = value.get("format").and_then(serde_json::Value::as_u64).unwrap_or(0);
        let kind = value.get("kind").and_then(serde_json::Value::as_str);
        let is_compare =
            kind == Some("compare") || (kind.is_none() && value.get("scenarios").is_some());
        if format == 0 || !(is_compare || kind == Some("run")) {
            bail!("no report of loadtest: format and kind are missing; {MADE_BY}");
        }
        if format > u64::from(FORMAT) {
            bail!(
                "format {format} is of a later version of loadtest; this one reads up to {FORMAT}"
            );
        }
        let what = "a report with a field missing or of another form";
        Ok(if is_compare {
            Self::Compare(Box::new(serde_json::from_value(value).context(what)?))
        } else {
            Self::Run(Box::new(serde_json::from_value(value).context(what)?))
        })
    }
}

/// `loadtest report`: shows a report, or writes it as HTML.
///
/// # Errors
///
/// Files that can't be read or written.
pub(crate) fn report(arguments: &cli::Report) -> anyhow::Result<bool> {
    let document = Document::read(&arguments.file)?;
    let mut out = std::io::stdout().lock();
    match &arguments.html {
        Some(path) => {
            let page = match &document {
                Document::Run(report) => html::run(report),
                Document::Compare(report) => html::compare(report),
            };
            std::fs::write(path, page).with_context(|| format!("{}", path.display()))?;
            writeln!(out, "{} written", path.display()).context("standard output")?;
        }
        None => {
            let text = match &document {
                Document::Run(report) => terminal::run(report),
                Document::Compare(report) => terminal::compare(report),
            };
            write!(out, "{text}").context("standard output")?;
        }
    }
    Ok(true)
}

#[cfg(test)]
mod tests;
