//! `gateway vpn import`: the strongSwan chart's values, as a VpnConnection and its Secret.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

/// The arguments of `gateway vpn import`.
#[derive(Args, Clone, Debug)]
pub struct ImportArgs {
    /// The chart's values
    #[arg(long, value_name = "FILE")]
    values: PathBuf,
}

/// Writes the manifests.
///
/// # Errors
/// If the file can't be read.
pub fn run(args: &ImportArgs, out: &mut impl Write) -> Result<ExitCode> {
    let _ = out;
    bail!("{}: can't be read yet", args.values.display())
}
