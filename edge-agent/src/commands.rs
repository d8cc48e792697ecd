//! The commands besides `run`.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use crate::config::file::File;

pub mod check;
pub mod status;
pub mod uninstall;

/// How a command writes its result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// The configuration.
#[derive(Args, Clone, Debug)]
pub struct ConfigArgs {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    pub config: PathBuf,
}

/// Writes the configuration's JSON schema.
///
/// # Errors
/// If it can't be written.
pub fn schema(out: &mut impl Write) -> Result<ExitCode> {
    json(out, &schemars::schema_for!(File))?;
    Ok(ExitCode::SUCCESS)
}

fn json(out: &mut impl Write, value: &impl serde::Serialize) -> Result<()> {
    serde_json::to_writer_pretty(&mut *out, value).context("writing the result")?;
    writeln!(out).context("writing the result")
}

/// Waits for something asynchronous.
fn block_on<T>(future: impl Future<Output = T>) -> Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the event loop")?;
    let result = runtime.block_on(future);
    // A name that is being looked up would be waited for.
    runtime.shutdown_background();
    Ok(result)
}

/// Writes rows in columns as wide as their longest cell, the first row as their headings.
fn columns(out: &mut impl Write, rows: &[Vec<String>]) -> Result<()> {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |at: usize| {
        let cells = rows.iter().filter_map(|row| row.get(at));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    for row in rows {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        writeln!(out, "{}", line.trim_end()).context("writing the result")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_schema_has_not_drifted() {
        let mut out = Vec::new();
        schema(&mut out).unwrap();
        let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/agent-schema.json");
        let committed = std::fs::read_to_string(committed).unwrap_or_default();
        assert!(
            String::from_utf8(out).unwrap() == committed,
            "write it anew: cargo run -p edge-agent -- schema > configs/agent-schema.json"
        );
    }
}
