//! `gateway vpn peer-config`: how the other end is to be configured.

use std::io::Write;
use std::net::IpAddr;
use std::process::ExitCode;
use std::time::Duration;

use ::plan::vpn::{ConnectionPlan, Policy};
use anyhow::{Result, bail};
use clap::{Args, ValueEnum};
use ipnet::IpNet;
use model::ObjectKey;
use model::snapshot::vpn::{Auto, LocalAddress, RemoteGateway, VpnAuth};
use model::suite::Proposal;

use super::super::{Input, Loaded};

mod libreswan;
mod strongswan;
#[cfg(test)]
mod tests;
mod transforms;
mod vyos;

/// The arguments of `gateway vpn peer-config`.
#[derive(Args, Clone, Debug)]
pub struct PeerConfigArgs {
    /// The connection: namespace/name, or its name alone where only one has it
    name: String,
    #[command(flatten)]
    input: Input,
    /// For what the configuration is
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// This edge's address as the other end sees it, where the connection doesn't say it
    #[arg(long, value_name = "ADDRESS")]
    address: Option<IpAddr>,
    /// Write the preshared key, too
    #[arg(long)]
    show_secrets: bool,
}

/// For what a configuration is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// strongSwan's swanctl.conf.
    #[default]
    Strongswan,
    /// Libreswan's ipsec.conf and ipsec.secrets.
    Libreswan,
    /// VyOS's commands, from version 1.4 on.
    Vyos,
}

/// Writes the configuration.
///
/// # Errors
/// If the manifests can't be read, or there is no such connection.
pub fn run(args: &PeerConfigArgs, out: &mut impl Write) -> Result<ExitCode> {
    let loaded = Loaded::from(&args.input)?;
    let Some(plan) = &loaded.vpn else {
        bail!("the VPN plane isn't enabled; write vpn.enabled: true in the configuration");
    };
    let named = |key: &&ObjectKey| key.to_string() == args.name || key.name == args.name;
    let found: Vec<&ObjectKey> = plan.connections.keys().filter(named).collect();
    let key = match found.as_slice() {
        [key] => *key,
        [] => {
            let known: Vec<String> = plan.connections.keys().map(ToString::to_string).collect();
            let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
            bail!(
                "there is no VpnConnection {} in force, only: {known}; `gateway check` says what is \
                 refused",
                args.name
            );
        }
        several => {
            let all: Vec<String> = several.iter().map(ToString::to_string).collect();
            bail!("{} is the name of several; write one of {}", args.name, all.join(", "));
        }
    };
    let Some(plan) = plan.connections.get(key) else { bail!("there is no VpnConnection {key}") };
    let peer = Peer::new(key, plan, args);
    let text = match args.format {
        Format::Strongswan => strongswan::text(&peer),
        Format::Libreswan => libreswan::text(&peer),
        Format::Vyos => vyos::text(&peer),
    };
    for note in peer.notes() {
        writeln!(out, "# {note}")?;
    }
    write!(out, "{text}")?;
    Ok(ExitCode::SUCCESS)
}

/// A connection as the other end has it: what is remote here is local there.
struct Peer<'a> {
    key: &'a ObjectKey,
    /// A name for its parts.
    name: String,
    plan: &'a ConnectionPlan,
    /// Its own address, if it has one that is known.
    local: Option<String>,
    /// This edge's.
    remote: Option<IpAddr>,
    local_id: Option<String>,
    remote_id: Option<String>,
    secret: Secret<'a>,
    /// Whether it begins.
    begins: bool,
}

/// What both prove themselves by.
enum Secret<'a> {
    /// A key that isn't shown.
    Hidden,
    /// A key.
    Shown(&'a [u8]),
    /// Certificates.
    Certificate,
}

impl<'a> Peer<'a> {
    fn new(key: &'a ObjectKey, plan: &'a ConnectionPlan, args: &PeerConfigArgs) -> Self {
        let connection = &plan.connection;
        let local = match &connection.remote.gateway {
            RemoteGateway::Any => None,
            RemoteGateway::Address(address) => Some(address.to_string()),
            RemoteGateway::Name(name) => Some(name.clone()),
        };
        let own = match &connection.local.address {
            LocalAddress::Route => None,
            LocalAddress::Address(address) => Some(*address),
            LocalAddress::Pool(_) => plan.vip,
        };
        let remote = args.address.or(own);
        let id =
            |written: &Option<String>, otherwise: Option<String>| written.clone().or(otherwise);
        Self {
            key,
            name: key.name.replace('.', "-"),
            plan,
            local_id: id(&connection.remote.id, local.clone()),
            remote_id: id(&connection.local.id, own.map(|address| address.to_string())),
            local,
            remote,
            secret: match &connection.auth {
                VpnAuth::Psk(key) if args.show_secrets => Secret::Shown(&key.0),
                VpnAuth::Psk(_) => Secret::Hidden,
                VpnAuth::Certificate { .. } => Secret::Certificate,
            },
            begins: connection.auto == Auto::Add,
        }
    }

    /// What the reader has to see to.
    fn notes(&self) -> Vec<String> {
        let mut notes =
            vec![format!("The other end of VpnConnection {}, written by Tidegate.", self.key)];
        if self.remote.is_none() {
            notes.push(format!(
                "Put this edge's address in the place of {EDGE}, or name it with --address."
            ));
        }
        if matches!(self.secret, Secret::Hidden) {
            notes.push("The preshared key is written with --show-secrets.".to_owned());
        }
        if self.plan.connection.force_udp {
            notes.push("ESP always goes in UDP: port 4500 must be open.".to_owned());
        } else {
            notes.push("UDP 500 and 4500 and ESP (protocol 50) must be open.".to_owned());
        }
        if self.plan.connection.single_source.is_some() {
            notes.push("Only this edge's side begins flows: all come from one address.".to_owned());
        }
        notes
    }

    fn remote_or_blank(&self) -> String {
        self.remote.map_or_else(|| EDGE.to_owned(), |address| address.to_string())
    }

    fn remote_id_or_blank(&self) -> String {
        self.remote_id.clone().unwrap_or_else(|| self.remote_or_blank())
    }

    /// Each child with its proposals.
    fn children(&self) -> impl Iterator<Item = (&'a Policy, &'a [Proposal])> {
        let connection = &self.plan.connection;
        self.plan.policies.iter().zip(&connection.children).map(|(policy, child)| {
            let own = (!child.esp.is_empty()).then_some(&child.esp);
            (policy, own.unwrap_or(&connection.esp).as_slice())
        })
    }
}

/// In the place of an address that isn't known.
const EDGE: &str = "EDGE-ADDRESS";
/// In the place of a key that isn't shown.
const HIDDEN: &str = "THE-PRESHARED-KEY";

fn joined(networks: &[IpNet], separator: &str) -> String {
    networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(separator)
}

fn seconds(period: Duration) -> u64 {
    period.as_secs().max(1)
}

/// A key as text, if it is all of plain characters.
fn plain(key: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(key).ok()?;
    let ordinary =
        |byte: u8| (byte.is_ascii_graphic() || byte == b' ') && !b"\"'\\".contains(&byte);
    (text.bytes().all(ordinary) && !text.starts_with("0x") && !text.starts_with("0s"))
        .then_some(text)
}

/// A key as hexadecimal digits, as both swans read it.
fn hexadecimal(key: &[u8]) -> String {
    let digits: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("0x{digits}")
}
