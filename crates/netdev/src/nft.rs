//! nftables transactions, by the program `nft`.
//!
//! A transaction's text is handed over whole (a file in memory, not a pipe): whatever happens to
//! this process meanwhile, `nft` never takes a beginning for the whole.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde_json::Value;

mod error;
mod monitor;
mod process;

pub use error::{Line, NftError};
pub use monitor::{Event, Monitor, current_generation};

/// Where `nft` is looked for besides `PATH`.
const PLACES: [&str; 4] = ["/usr/sbin", "/sbin", "/usr/local/sbin", "/usr/bin"];
/// How long one call may take: a table of 100,000 elements loads in a few seconds.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The program `nft`.
///
/// Clones know each other's processes, so that their [`Monitor`], of which there may be one, tells
/// what others change from what this process does.
#[derive(Clone, Debug)]
pub struct Nft {
    program: PathBuf,
    timeout: Duration,
    own: Own,
}

impl Nft {
    /// Finds the program, in `PATH` or where distributions put it.
    ///
    /// # Errors
    /// [`NftError::Missing`].
    pub fn find() -> Result<Self, NftError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
        for place in PLACES.map(PathBuf::from) {
            if !folders.contains(&place) {
                folders.push(place);
            }
        }
        let program = folders.iter().map(|folder| folder.join("nft")).find(|file| runnable(file));
        program.map(Self::at).ok_or(NftError::Missing { folders })
    }

    /// The program at a known place.
    pub fn at(program: PathBuf) -> Self {
        Self { program, timeout: TIMEOUT, own: Own::default() }
    }

    /// The same, with another bound on one call's time (60 s otherwise).
    #[must_use]
    pub fn with_timeout(self, timeout: Duration) -> Self {
        Self { timeout, ..self }
    }

    /// Where the program is.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Applies a text, as one transaction: all of it or nothing.
    ///
    /// # Errors
    /// Any but [`NftError::Missing`]; nothing has changed then, except after
    /// [`NftError::TimedOut`] where that is unknown.
    pub fn apply(&self, text: &str) -> Result<(), NftError> {
        process::run(&self.program, &["-f", "-"], text, self.timeout, Some(&self.own)).map(drop)
    }

    /// Has a text checked, by `nft` and the kernel, without effect.
    ///
    /// # Errors
    /// What [`Nft::apply`] would have said.
    pub fn check(&self, text: &str) -> Result<(), NftError> {
        self.run(&["--check", "-f", "-"], text).map(drop)
    }

    /// What `nft -j list …` prints, such as of `["table", "inet", "tidegate"]`.
    ///
    /// # Errors
    /// Any but [`NftError::Missing`]; what isn't there is [`NftError::Refused`], and
    /// [`NftError::is_not_there`].
    pub fn list_json(&self, args: &[&str]) -> Result<Value, NftError> {
        let args: Vec<&str> = ["-j", "list"].iter().chain(args).copied().collect();
        let output = self.run(&args, "")?;
        serde_json::from_slice(&output)
            .map_err(|source| NftError::Output { args: args.join(" "), source })
    }

    /// What `nft -j -t list table …` prints: all but the elements of sets.
    ///
    /// # Errors
    /// As [`Nft::list_json`].
    pub fn list_rules(&self, family: &str, table: &str) -> Result<Value, NftError> {
        let args = ["-j", "-t", "list", "table", family, table];
        let output = self.run(&args, "")?;
        serde_json::from_slice(&output)
            .map_err(|source| NftError::Output { args: args.join(" "), source })
    }

    /// What `nft list …` prints, as text.
    ///
    /// # Errors
    /// As [`Nft::list_json`].
    pub fn list(&self, args: &[&str]) -> Result<String, NftError> {
        let args: Vec<&str> = ["list"].iter().chain(args).copied().collect();
        Ok(String::from_utf8_lossy(&self.run(&args, "")?).into_owned())
    }

    /// Whether this process may use nftables and the kernel has all that the gateway uses of it.
    /// Changes nothing.
    ///
    /// # Errors
    /// [`NftError::Permission`], or [`NftError::Unsupported`] naming what is missing.
    pub fn probe(&self) -> Result<(), NftError> {
        for (what, text) in PROBES {
            self.check(text).map_err(|error| error.missing(what))?;
        }
        Ok(())
    }

    /// Sees to it that others' changes to a table are told; `family name`, as nft has it.
    ///
    /// # Errors
    /// [`NftError::Netlink`]: the kernel has no nf_tables, or a family that is none.
    pub fn monitor(&self, table: &str) -> Result<Monitor, NftError> {
        Monitor::open(table, self.own.clone())
    }

    fn run(&self, args: &[&str], input: &str) -> Result<Vec<u8>, NftError> {
        process::run(&self.program, args, input, self.timeout, None)
    }
}

/// What the gateway uses, each with a text that needs it.
const PROBES: [(&str, &str); 10] = [
    ("nf_tables", "table inet tidegate_probe {\n}\n"),
    (
        "nf_tables' filter chains of the inet family",
        "table inet tidegate_probe {\n chain c {\n  type filter hook prerouting priority -150; \
         policy accept;\n }\n}\n",
    ),
    (
        "NAT of the inet family (nft_chain_nat, nft_nat)",
        "table inet tidegate_probe {\n chain c {\n  type nat hook prerouting priority -100; policy \
         accept;\n  meta l4proto tcp dnat ip to 192.0.2.1:80\n }\n}\n",
    ),
    (
        "masquerading (nft_masq)",
        "table inet tidegate_probe {\n chain c {\n  type nat hook postrouting priority 100; policy \
         accept;\n  meta mark 1 masquerade\n }\n}\n",
    ),
    (
        "connection tracking in rules (nft_ct)",
        "table inet tidegate_probe {\n chain c {\n  type filter hook forward priority 0; policy \
         accept;\n  ct state established,related accept\n }\n}\n",
    ),
    (
        "random numbers and hashes in rules (nft_numgen, nft_hash)",
        "table inet tidegate_probe {\n chain c {\n  meta mark set numgen random mod 2\n  meta mark \
         set jhash ip saddr mod 2\n }\n}\n",
    ),
    (
        "looking up routes in rules (nft_fib_inet)",
        "table inet tidegate_probe {\n chain c {\n  type filter hook prerouting priority -150; \
         policy accept;\n  fib daddr type local accept\n }\n}\n",
    ),
    (
        "sets that packets add to, with time-outs",
        "table inet tidegate_probe {\n set s {\n  type ipv4_addr\n  flags dynamic,timeout\n  \
         timeout 1s\n }\n chain c {\n  update @s { ip saddr }\n }\n}\n",
    ),
    (
        "logging (nft_log)",
        "table inet tidegate_probe {\n chain c {\n  log prefix \"probe\"\n }\n}\n",
    ),
    (
        "rejecting (nft_reject_inet)",
        "table inet tidegate_probe {\n chain c {\n  type filter hook input priority 0; policy \
         accept;\n  meta l4proto tcp reject with tcp reset\n }\n}\n",
    ),
];

fn runnable(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    file.metadata().is_ok_and(|data| data.is_file() && data.permissions().mode() & 0o111 != 0)
}

/// The processes of this one's transactions that have not been notified of yet.
#[derive(Clone, Debug, Default)]
struct Own(Arc<Mutex<VecDeque<(u32, Instant)>>>);

impl Own {
    /// A transaction that changed nothing is never notified of; its id is forgotten after that
    /// time, since another process may get it.
    const KEEP: Duration = Duration::from_secs(120);

    /// Starts a process; nobody is told whether an id is ours before this one's is known.
    fn start(&self, command: &mut Command) -> io::Result<Child> {
        let mut pids = self.lock();
        let child = command.spawn()?;
        pids.retain(|(_, at)| at.elapsed() < Self::KEEP);
        pids.push_back((child.id(), Instant::now()));
        Ok(child)
    }

    /// Whether it is one of those, and from now on no more: each has one transaction.
    fn take(&self, pid: u32) -> bool {
        let mut pids = self.lock();
        let place = pids.iter().position(|(own, _)| *own == pid);
        place.is_some_and(|place| pids.remove(place).is_some())
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<(u32, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
