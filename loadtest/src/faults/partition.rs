//! Packets to and from addresses, dropped by nftables.
//!
//! The table belongs to an `nft` process that is fed line by line (`flags owner`, nft(8)): the
//! kernel removes it when that process ends, and it ends when this one does, even by SIGKILL.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::{IpAddr, SocketAddr};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::plan::Address;

/// Time for the table to be there, or gone.
const WITHIN: Duration = Duration::from_secs(5);
/// Time after a change at which it is looked whether `nft` complained.
const LOOK: Duration = Duration::from_millis(100);

/// A table with a chain for each party that may be cut off.
#[derive(Debug)]
pub(super) struct Partitions {
    nft: Child,
    commands: Option<ChildStdin>,
    complaints: File,
    table: String,
    parties: Vec<String>,
    cut_off: Vec<bool>,
    look: Option<Duration>,
    has_complained: bool,
}

impl Partitions {
    /// Makes the table, with nobody cut off.
    ///
    /// # Errors
    ///
    /// `nft` is not installed, or this user may not use it.
    pub(super) fn prepare(parties: &[(String, Vec<Address>)]) -> anyhow::Result<Self> {
        if !nix::unistd::geteuid().is_root() {
            bail!("partition needs root, for nftables: run loadtest as root, or leave it out");
        }
        let complaints = tempfile::tempfile().context("a temporary file")?;
        let mut nft = Command::new("nft")
            .arg("-i")
            .env("PATH", search_path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(complaints.try_clone().context("a temporary file")?)
            .spawn()
            .context("partition needs the program nft (Debian: apt-get install nftables)")?;
        let commands = nft.stdin.take();
        let mut this = Self {
            nft,
            commands,
            complaints,
            table: format!("loadtest_{}", std::process::id()),
            parties: parties.iter().map(|(name, _)| name.clone()).collect(),
            cut_off: vec![false; parties.len()],
            look: None,
            has_complained: false,
        };
        this.say(&definition(&this.table, parties))?;
        let deadline = Instant::now() + WITHIN;
        while !this.is_there()? {
            if let Some(said) = this.complaint_now() {
                bail!("partition can't be made: {said}");
            }
            if Instant::now() >= deadline {
                bail!("partition can't be made: no table within {WITHIN:?}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(this)
    }

    /// Cuts a party off, or ends that.
    pub(super) fn set(&mut self, party: &str, off: bool, now: Duration) -> anyhow::Result<String> {
        let place = self.parties.iter().position(|name| name == party);
        let flag = place.and_then(|place| self.cut_off.get_mut(place));
        *flag.context("was not prepared for a partition")? = off;
        // All in one transaction: flushed, and filled with those that are cut off now.
        let mut line = String::new();
        for hook in HOOKS {
            let _ = write!(line, "flush chain inet {} {hook}; ", self.table);
            for (number, _) in self.cut_off.iter().enumerate().filter(|(_, off)| **off) {
                let _ = write!(line, "add rule inet {} {hook} jump {hook}_{number}; ", self.table);
            }
        }
        line.push('\n');
        self.say(&line)?;
        self.look = Some(now + LOOK);
        Ok(if off { "cut off".to_owned() } else { "reachable again".to_owned() })
    }

    /// When [`Self::complaint`] should be asked.
    pub(super) fn next_due(&self) -> Option<Duration> {
        self.look
    }

    /// What `nft` had to say against the last change, once.
    pub(super) fn complaint(&mut self) -> Option<String> {
        self.look = None;
        let said = self.complaint_now();
        match said {
            Some(said) if !std::mem::replace(&mut self.has_complained, true) => Some(said),
            _ => None,
        }
    }

    /// Removes the table.
    pub(super) fn remove(mut self) -> anyhow::Result<()> {
        self.end()
    }

    fn end(&mut self) -> anyhow::Result<()> {
        drop(self.commands.take());
        let deadline = Instant::now() + WITHIN;
        while self.nft.try_wait().context("nft")?.is_none() {
            if Instant::now() >= deadline {
                self.nft.kill().context("nft")?;
                self.nft.wait().context("nft")?;
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn say(&mut self, line: &str) -> anyhow::Result<()> {
        let commands = self.commands.as_mut().context("nft has ended")?;
        commands.write_all(line.as_bytes()).and_then(|()| commands.flush()).context("nft")
    }

    fn complaint_now(&mut self) -> Option<String> {
        let mut said = String::new();
        self.complaints.rewind().ok()?;
        self.complaints.read_to_string(&mut said).ok()?;
        let said: Vec<&str> = said.lines().take(3).map(str::trim).collect();
        match (said.is_empty(), self.nft.try_wait()) {
            (false, _) => Some(said.join(" ")),
            (true, Ok(Some(status))) if self.commands.is_some() => Some(format!("nft: {status}")),
            _ => None,
        }
    }

    fn is_there(&self) -> anyhow::Result<bool> {
        let listed = Command::new("nft")
            .args(["list", "table", "inet", &self.table])
            .env("PATH", search_path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()
            .context("nft")?;
        Ok(listed.success())
    }
}

impl Drop for Partitions {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            eprintln!("loadtest: nft: {error:#}");
        }
    }
}

const HOOKS: [&str; 3] = ["input", "forward", "output"];

/// `nft` is often where only root looks for programs.
fn search_path() -> String {
    let own = std::env::var("PATH").unwrap_or_default();
    format!("{own}:/usr/sbin:/sbin")
}

/// The table on one line. What leaves through another interface than loopback is dropped at the
/// output; what stays here is dropped at the input, since a sender is told of drops at the output.
fn definition(table: &str, parties: &[(String, Vec<Address>)]) -> String {
    let mut text = format!("add table inet {table} {{ flags owner; ");
    for hook in HOOKS {
        for (number, (_, addresses)) in parties.iter().enumerate() {
            let _ = write!(text, "chain {hook}_{number} {{ ");
            if hook == "output" {
                text.push_str("oif \"lo\" return; ");
            }
            for address in addresses {
                text.push_str(&rules(*address));
            }
            text.push_str("}; ");
        }
        let _ = write!(
            text,
            "chain {hook} {{ type filter hook {hook} priority -300; policy accept; }}; "
        );
    }
    text.push_str("}\n");
    text
}

fn rules(address: Address) -> String {
    let family = |ip: IpAddr| if ip.is_ipv4() { "ip" } else { "ip6" };
    match address {
        Address::Host(ip) => {
            let family = family(ip);
            format!("{family} daddr {ip} counter drop; {family} saddr {ip} counter drop; ")
        }
        Address::Socket(socket) => {
            let (ip, port): (IpAddr, u16) = (SocketAddr::ip(&socket), socket.port());
            let family = family(ip);
            format!(
                "{family} daddr {ip} meta l4proto {{ tcp, udp }} th dport {port} counter drop; \
                 {family} saddr {ip} meta l4proto {{ tcp, udp }} th sport {port} counter drop; "
            )
        }
    }
}
