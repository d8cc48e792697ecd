//! `gateway vpn`: connections to other sites, from their manifests and in a running gateway.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

pub mod import;
pub mod peer_config;

/// What about them.
#[derive(Subcommand, Clone, Debug)]
pub enum VpnCommand {
    /// Turn a values file of the strongSwan chart into manifests
    Import(import::ImportArgs),
    /// Print the other end's configuration for a connection
    PeerConfig(peer_config::PeerConfigArgs),
}

/// Does what is asked for.
///
/// # Errors
/// If what is asked for can't be read, or not be done.
pub fn run(command: &VpnCommand, out: &mut impl Write) -> Result<ExitCode> {
    match command {
        VpnCommand::Import(args) => import::run(args, out),
        VpnCommand::PeerConfig(args) => peer_config::run(args, out),
    }
}
