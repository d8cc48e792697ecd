//! Faults on demand: parties to a run that are killed, paused, restarted, cut off or slowed down
//! in the middle of it.
//!
//! [`Plan::parse`] reads and checks what a scenario says, [`Stage::start`] starts the parties that
//! are programs and waits for them, and the loop that drives the load calls [`Stage::tick`] no
//! later than [`Stage::next_due`]. Nothing here runs by itself: no thread, no timer. However a run
//! ends, what was stopped is continued, what was cut off is reachable again, and what was started
//! is ended. A fault happens to processes and addresses of this machine, or of the network
//! namespace that this program runs in.

mod duty;
mod partition;
mod party;
mod plan;

use std::collections::{BTreeMap, VecDeque};
use std::net::TcpListener;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::load::outcome::TimedEvent;
use crate::system::interrupt;
use partition::Partitions;
use party::Party;
pub(crate) use plan::{FaultForm, PartyForm, Plan};
use plan::{Move, Ready, Step};

/// What the event of a fault's beginning starts with.
pub(crate) const BEGINS: &str = "fault: ";
/// What the event of its end starts with.
pub(crate) const IS_OVER: &str = "fault over: ";
/// What the event of a fault that could not be carried out starts with.
pub(crate) const FAILED: &str = "fault failed: ";
/// What other news of a party starts with.
const NEWS: &str = "party: ";

/// How often a party that is starting is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// The parties of a run, and the faults that are still to happen to them.
#[derive(Debug)]
pub(crate) struct Stage {
    parties: BTreeMap<String, Party>,
    steps: VecDeque<Step>,
    partitions: Option<Partitions>,
    over: bool,
}

impl Stage {
    /// Starts the parties that are programs, in the order of the plan, each once the one before it
    /// is ready; their output is appended to `NAME.log` in `folder`.
    ///
    /// # Errors
    ///
    /// A party that does not start or is not there, and a partition that this user, or this
    /// machine, can't make: all of it before there is any load.
    pub(crate) fn start(plan: Plan, folder: &Path) -> anyhow::Result<Self> {
        let Plan { parties, steps, partitioned } = plan;
        let partitions = match partitioned.is_empty() {
            true => None,
            false => Some(Partitions::prepare(&partitioned)?),
        };
        let mut stage =
            Self { parties: BTreeMap::new(), steps: steps.into(), partitions, over: false };
        for form in parties {
            check_free(&form)?;
            let mut party = Party::new(&form, folder)?;
            party.bring_up(Duration::ZERO)?;
            let (name, within) = (form.name.clone(), form.ready_within());
            // In the stage before it is waited for: an error on the way ends it too.
            let party = stage.parties.entry(name).or_insert(party);
            let deadline = Instant::now() + within;
            while !party.is_ready()? {
                interrupt::check()?;
                if Instant::now() >= deadline {
                    bail!(
                        "party {}: not ready within {within:?}: {}",
                        form.name,
                        party.last_words()
                    );
                }
                std::thread::sleep(LOOK);
            }
        }
        Ok(stage)
    }

    /// The root process of a party as it stands now.
    ///
    /// # Errors
    ///
    /// There is no such party, or it has no process.
    pub(crate) fn process(&self, party: &str) -> anyhow::Result<nix::unistd::Pid> {
        self.parties.get(party).with_context(|| format!("party {party}: there is none"))?.root()
    }

    /// Does what is due. `now` counts from the beginning of the load.
    ///
    /// What can't be done becomes an event as well: the load goes on, and the report says so.
    pub(crate) fn tick(&mut self, now: Duration) -> Vec<TimedEvent> {
        let mut events = Vec::new();
        let mut tell = |start: &str, what: String| {
            events.push(TimedEvent { at: now.as_secs_f64(), what: format!("{start}{what}") });
        };
        while self.steps.front().is_some_and(|step| step.at <= now) {
            let Some(step) = self.steps.pop_front() else { break };
            let start = if step.movement.begins() { BEGINS } else { IS_OVER };
            match self.make(&step, now) {
                Ok(what) => tell(start, format!("{} {what}", step.party)),
                Err(error) => tell(FAILED, format!("{}: {error:#}", step.party)),
            }
        }
        for (name, party) in &mut self.parties {
            match party.tick(now) {
                Ok(None) => {}
                Ok(Some(party::News::IsBack(what))) => tell(IS_OVER, format!("{name} {what}")),
                Ok(Some(party::News::Other(what))) => tell(NEWS, format!("{name} {what}")),
                Err(error) => tell(FAILED, format!("{name}: {error:#}")),
            }
        }
        if let Some(said) = self.partitions.as_mut().and_then(Partitions::complaint) {
            tell(FAILED, said);
        }
        events
    }

    /// When [`Self::tick`] has something to do again, on the clock of its `now`; nothing if never.
    pub(crate) fn next_due(&self) -> Option<Duration> {
        let step = self.steps.front().map(|step| step.at);
        let parties = self.parties.values().filter_map(Party::next_due);
        let partitions = self.partitions.as_ref().and_then(Partitions::next_due);
        parties.chain(step).chain(partitions).min()
    }

    /// Undoes everything and ends what was started; says which programs had ended by themselves.
    ///
    /// # Errors
    ///
    /// Something could not be undone; all else was.
    pub(crate) fn finish(mut self) -> anyhow::Result<Vec<String>> {
        self.undo()
    }

    fn make(&mut self, step: &Step, now: Duration) -> anyhow::Result<String> {
        let party = self.parties.get_mut(&step.party).context("there is no such party")?;
        match step.movement {
            Move::CutOff | Move::Reconnect => {
                let partitions = self.partitions.as_mut().context("no partition was prepared")?;
                partitions.set(&step.party, step.movement == Move::CutOff, now)
            }
            other => party.make(other, now),
        }
    }

    fn undo(&mut self) -> anyhow::Result<Vec<String>> {
        if std::mem::replace(&mut self.over, true) {
            return Ok(Vec::new());
        }
        let mut news = Vec::new();
        let mut result = match self.partitions.take().map(Partitions::remove) {
            Some(Err(error)) => Err(error),
            _ => Ok(()),
        };
        for (name, party) in &mut self.parties {
            match party.end() {
                Ok(Some(what)) => news.push(format!("party {name} {what}")),
                Ok(None) => {}
                Err(error) => result = Err(error.context(format!("party {name}"))),
            }
        }
        result.map(|()| news)
    }
}

/// Whether the addresses of a party that is to be started are free: another program that answers
/// there would be taken for it.
fn check_free(form: &PartyForm) -> anyhow::Result<()> {
    if form.command.is_empty() || form.ready == Some(Ready::Started) {
        return Ok(());
    }
    for address in form.addresses.iter().filter_map(|address| address.socket()) {
        if let Err(error) = TcpListener::bind(address)
            && error.kind() == std::io::ErrorKind::AddrInUse
        {
            bail!(
                "party {}: addresses: {address}: somebody listens there already; end it, or give \
                 the party another address",
                form.name
            );
        }
    }
    Ok(())
}

impl Drop for Stage {
    fn drop(&mut self) {
        if let Err(error) = self.undo() {
            eprintln!("loadtest: a fault can't be undone: {error:#}");
        }
    }
}

#[cfg(test)]
mod tests;
