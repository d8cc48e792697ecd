//! `gateway vpn`: connections to other sites, from their manifests and in a running gateway.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

pub mod import;
pub mod live;
mod pcap;
pub mod peer_config;

/// What about them.
#[derive(Subcommand, Clone, Debug)]
pub enum VpnCommand {
    /// Turn a values file of the strongSwan chart into manifests
    Import(import::ImportArgs),
    /// Print the other end's configuration for a connection
    PeerConfig(peer_config::PeerConfigArgs),
    /// Show how the connections of a running gateway are
    Status(live::StatusArgs),
    /// Begin a connection of a running gateway
    Up(live::ActArgs),
    /// End a connection of a running gateway; it stays down until it is begun
    Down(live::ActArgs),
    /// Rekey a connection of a running gateway now
    Rekey(live::RekeyArgs),
    /// Say why a connection of a running gateway doesn't work, and what to change
    Diagnose(live::ActArgs),
    /// Keep IKE messages of a running gateway's connection, decrypted, for a while
    Capture(live::CaptureArgs),
}

/// Does what is asked for.
///
/// # Errors
/// If what is asked for can't be read, or not be done.
pub fn run(command: &VpnCommand, out: &mut impl Write) -> Result<ExitCode> {
    match command {
        VpnCommand::Import(args) => import::run(args, out),
        VpnCommand::PeerConfig(args) => peer_config::run(args, out),
        VpnCommand::Status(args) => live::status(args, out),
        VpnCommand::Up(args) => live::act(args, "up", out),
        VpnCommand::Down(args) => live::act(args, "down", out),
        VpnCommand::Rekey(args) => live::rekey(args, out),
        VpnCommand::Diagnose(args) => live::diagnose(args, out),
        VpnCommand::Capture(args) => live::capture(args, out),
    }
}
