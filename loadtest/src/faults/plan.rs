//! What a scenario says about parties and faults, and whether it can be done.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use serde::Deserialize;

/// Time for a party to be ready, if the scenario says nothing.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// The longest time that a fault may be away or last.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
/// The least share of CPU that a slowed party keeps.
const LEAST_SHARE: f64 = 0.01;
/// The most faults of a run.
const MOST: usize = 1_000;

/// Somebody who takes part in a run, in a scenario's words.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct PartyForm {
    /// The name that faults call it by.
    pub(crate) name: String,
    /// The program and its arguments, started before the load and ended after it.
    #[serde(default)]
    pub(crate) command: Vec<String>,
    /// A process that runs already.
    pub(crate) pid: Option<i32>,
    /// A file that holds the number of one, read anew for each fault.
    pub(crate) pidfile: Option<PathBuf>,
    /// Where it listens (`127.0.0.1:8080`), or where it is (`10.0.0.7`).
    #[serde(default)]
    pub(crate) addresses: Vec<Address>,
    /// When a started program counts as ready.
    pub(crate) ready: Option<Ready>,
    /// Time for it, as in `20s`.
    pub(crate) ready_within: Option<Span>,
}

impl PartyForm {
    /// Time for the party to be ready.
    pub(crate) fn ready_within(&self) -> Duration {
        self.ready_within.map_or(READY_WITHIN, |span| span.0)
    }
}

/// When a started program counts as ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Ready {
    /// Once its first address accepts a TCP connection; so it is if there is one with a port.
    Accepts,
    /// At once.
    Started,
}

/// An address with a port, or all of a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub(crate) enum Address {
    /// One port.
    Socket(SocketAddr),
    /// All ports.
    Host(IpAddr),
}

impl Address {
    /// The address with its port, if there is one.
    pub(crate) fn socket(self) -> Option<SocketAddr> {
        match self {
            Self::Socket(address) => Some(address),
            Self::Host(_) => None,
        }
    }
}

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let socket = text.parse().map(Self::Socket);
        socket.or_else(|_| text.parse().map(Self::Host)).map_err(|_| {
            format!("{text:?} is no address: write 127.0.0.1:8080, [::1]:8080 or 10.0.0.7")
        })
    }
}

/// A length of time, as in `250ms`, `10s`, `1.5m` or `1h`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(try_from = "String")]
pub(crate) struct Span(pub(crate) Duration);

impl TryFrom<String> for Span {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let number = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
        let factor = match text.get(number.len()..) {
            Some("ms") => 0.001,
            Some("s") => 1.0,
            Some("m") => 60.0,
            Some("h") => 3600.0,
            _ => f64::NAN,
        };
        let seconds = number.parse::<f64>().map_or(f64::NAN, |number| number * factor);
        if seconds >= 0.0 && seconds <= LONGEST.as_secs_f64() {
            return Ok(Self(Duration::from_secs_f64(seconds)));
        }
        Err(format!("{text:?} is no length of time up to a week: write 250ms, 10s, 1.5m or 1h"))
    }
}

/// What happens to a party, in a scenario's words.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct FaultForm {
    /// When, after the beginning of the load.
    pub(crate) at: Span,
    /// To whom.
    pub(crate) party: String,
    /// What.
    pub(crate) action: Action,
    /// For how long; until the end of the run if it does not say.
    #[serde(rename = "for")]
    pub(crate) time: Option<Span>,
    /// The share of time that a slowed party may run, 0.01 to 0.99.
    pub(crate) share: Option<f64>,
}

impl FaultForm {
    /// The same with its times in proportion to a load that is `factor` times as long.
    pub(crate) fn scaled(self, factor: f64) -> Self {
        let scaled = |span: Span| Span(span.0.mul_f64(factor));
        Self { at: scaled(self.at), time: self.time.map(scaled), ..self }
    }
}

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Action {
    /// SIGKILL to the processes; `for` is the time until the program is started again.
    Kill,
    /// SIGSTOP, and SIGCONT after `for`.
    Pause,
    /// SIGTERM, and the program started again once it has ended, after `for` at the earliest.
    Restart,
    /// Packets to and from the addresses are dropped.
    Partition,
    /// SIGSTOP and SIGCONT in quick turn, so that it runs a `share` of the time.
    Slow,
}

impl Action {
    fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::Pause => "pause",
            Self::Restart => "restart",
            Self::Partition => "partition",
            Self::Slow => "slow",
        }
    }
}

/// One thing to do to a party.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Move {
    /// SIGKILL.
    Kill,
    /// Start the program again.
    Start,
    /// SIGSTOP.
    Stop,
    /// SIGCONT.
    Continue,
    /// SIGTERM, and start again after so long.
    Restart(Duration),
    /// Let it run this share of the time.
    Slow(f64),
    /// Let it run all the time.
    FullSpeed,
    /// Drop its packets.
    CutOff,
    /// Let them pass.
    Reconnect,
}

impl Move {
    /// Whether a fault begins with it.
    pub(super) fn begins(self) -> bool {
        !matches!(self, Self::Start | Self::Continue | Self::FullSpeed | Self::Reconnect)
    }
}

/// A move with its time and party.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step {
    pub(super) at: Duration,
    pub(super) party: String,
    pub(super) movement: Move,
}

/// Parties and faults that belong together and can be carried out.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(super) parties: Vec<PartyForm>,
    /// In the order of time.
    pub(super) steps: Vec<Step>,
    /// Parties that are cut off at some time, with their addresses.
    pub(super) partitioned: Vec<(String, Vec<Address>)>,
}

impl Plan {
    /// Checks parties and faults, and puts the steps in order.
    ///
    /// # Errors
    ///
    /// Names the party or fault, the field and what to write instead.
    pub(crate) fn parse(parties: Vec<PartyForm>, faults: Vec<FaultForm>) -> anyhow::Result<Self> {
        let mut names = BTreeSet::new();
        for party in &parties {
            check_party(party).with_context(|| format!("party {:?}", party.name))?;
            if !names.insert(&party.name) {
                bail!("party {:?}: there are two of this name; give one another", party.name);
            }
        }
        if faults.len() > MOST {
            bail!("faults: there are {}, {MOST} are allowed", faults.len());
        }
        let mut steps = Vec::new();
        let mut partitioned: Vec<(String, Vec<Address>)> = Vec::new();
        for (place, fault) in faults.iter().enumerate() {
            let what = || format!("faults[{place}] ({} {:?})", fault.action.name(), fault.party);
            let Some(party) = parties.iter().find(|party| party.name == fault.party) else {
                let known: Vec<_> = names.iter().map(|name| name.as_str()).collect();
                bail!("{}: no such party; there are: {}", what(), known.join(", "));
            };
            let moves = moves(fault, party).with_context(what)?;
            if fault.action == Action::Partition
                && !partitioned.iter().any(|(name, _)| *name == party.name)
            {
                partitioned.push((party.name.clone(), party.addresses.clone()));
            }
            for (at, movement) in moves {
                steps.push(Step { at, party: party.name.clone(), movement });
            }
        }
        check_overlaps(&faults)?;
        // Stable: at the same moment, what ends comes first, and else the scenario's order holds.
        steps.sort_by_key(|step| (step.at, step.movement.begins()));
        Ok(Self { parties, steps, partitioned })
    }
}

#[cfg(test)]
impl Plan {
    /// When something is done, in the order of time.
    pub(crate) fn times(&self) -> Vec<Duration> {
        self.steps.iter().map(|step| step.at).collect()
    }
}

fn check_party(party: &PartyForm) -> anyhow::Result<()> {
    let plain = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
    if party.name.is_empty() || party.name.len() > 60 || !party.name.chars().all(plain) {
        bail!("name: write 1 to 60 of a–z, A–Z, 0–9, '-', '_' and '.'");
    }
    let sources = [!party.command.is_empty(), party.pid.is_some(), party.pidfile.is_some()];
    match sources.iter().filter(|is_given| **is_given).count() {
        0 if party.addresses.is_empty() => {
            bail!("nothing to act on: write command, pid or pidfile, or addresses")
        }
        0 | 1 => {}
        _ => bail!("command, pid and pidfile: write one of them"),
    }
    if let Some(pid) = party.pid
        && (pid <= 1 || u32::try_from(pid) == Ok(std::process::id()))
    {
        bail!("pid {pid}: write the number of a process other than init and loadtest");
    }
    if party.command.is_empty() && (party.ready.is_some() || party.ready_within.is_some()) {
        bail!("ready and readyWithin are for parties with a command");
    }
    if party.ready == Some(Ready::Accepts)
        && !party.addresses.iter().any(|address| address.socket().is_some())
    {
        bail!("ready: accepts: write an address with a port in addresses");
    }
    Ok(())
}

fn moves(fault: &FaultForm, party: &PartyForm) -> anyhow::Result<Vec<(Duration, Move)>> {
    let has_process = !party.command.is_empty() || party.pid.is_some() || party.pidfile.is_some();
    if fault.action == Action::Partition {
        if party.addresses.is_empty() {
            bail!("the party has no addresses to cut off; write addresses: [\"127.0.0.1:8080\"]");
        }
    } else if !has_process {
        bail!("the party has no process; give it command, pid or pidfile");
    }
    let starts = match fault.action {
        Action::Restart => true,
        Action::Kill => fault.time.is_some(),
        _ => false,
    };
    if starts && party.command.is_empty() {
        bail!("only a party with a command can be started again; give it one, or leave out for");
    }
    let share = match (fault.action, fault.share) {
        (Action::Slow, Some(share)) if (LEAST_SHARE..=0.99).contains(&share) => share,
        (Action::Slow, Some(share)) => bail!("share {share}: write 0.01 to 0.99"),
        (Action::Slow, None) => bail!("share is missing; write share: 0.1 for a tenth"),
        (_, Some(_)) => bail!("share belongs to slow only; leave it out"),
        (_, None) => 1.0,
    };
    let (at, time) = (fault.at.0, fault.time.map(|span| span.0));
    let (first, last) = match fault.action {
        Action::Restart => return Ok(vec![(at, Move::Restart(time.unwrap_or_default()))]),
        Action::Kill => (Move::Kill, Move::Start),
        Action::Pause => (Move::Stop, Move::Continue),
        Action::Partition => (Move::CutOff, Move::Reconnect),
        Action::Slow => (Move::Slow(share), Move::FullSpeed),
    };
    if time == Some(Duration::ZERO) {
        bail!("for: write more than nothing, as in 5s");
    }
    Ok([Some((at, first)), time.map(|time| (at + time, last))].into_iter().flatten().collect())
}

/// Two faults of one party at once would undo each other.
fn check_overlaps(faults: &[FaultForm]) -> anyhow::Result<()> {
    let mut sorted: Vec<_> = faults.iter().collect();
    sorted.sort_by_key(|fault| (&fault.party, fault.at));
    for pair in sorted.windows(2) {
        let [first, second] = pair else { continue };
        let network = |fault: &FaultForm| fault.action == Action::Partition;
        if first.party != second.party || network(first) != network(second) {
            continue;
        }
        let end = match (first.action, first.time) {
            // A party that was killed for good may be started again.
            (Action::Kill, None) if second.action == Action::Restart => continue,
            (Action::Restart, time) => first.at.0 + time.unwrap_or_default().0,
            (_, Some(time)) => first.at.0 + time.0,
            (_, None) => Duration::MAX,
        };
        if end > second.at.0 {
            bail!(
                "faults of party {:?}: {} at {:?} is not over when {} begins at {:?}; \
                 give the first a shorter for, or move the second",
                first.party,
                first.action.name(),
                first.at.0,
                second.action.name(),
                second.at.0
            );
        }
    }
    Ok(())
}
