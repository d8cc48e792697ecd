//! `gateway schema`: the configuration file's JSON schema.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;

use super::write_json;
use crate::config::file::File;

/// Writes the schema: what `configs/schema.json` must hold.
///
/// # Errors
/// If it can't be written.
pub fn run(out: &mut impl Write) -> Result<ExitCode> {
    let schema = schemars::schema_for!(File);
    write_json(out, &schema)?;
    Ok(ExitCode::SUCCESS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_schema_has_not_drifted() {
        let mut out = Vec::new();
        run(&mut out).unwrap();
        let committed = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/schema.json");
        let committed = std::fs::read_to_string(committed).unwrap();
        assert!(
            String::from_utf8(out).unwrap() == committed,
            "write it anew: cargo run -p gateway -- schema > configs/schema.json"
        );
    }
}
