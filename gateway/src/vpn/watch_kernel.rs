//! The thread that sees what others do to the kernel's state, and tells the driver.

use std::os::fd::AsFd;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use netdev::address;
use netdev::nft::{self, Nft};
use netdev::wait::{self, Waker};
use plan::vpn::table::TABLE;

use super::mailbox::Mailbox;
use crate::l4::kernel::Fault;

/// A rest where something can't be waited for.
const REST: Duration = Duration::from_millis(100);
/// Who it was, where notifications were lost.
const UNKNOWN: &str = "unknown: too many changes at once";

/// The thread. It ends when dropped.
#[derive(Debug)]
pub(super) struct Watch {
    end: Waker,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Starts it.
    ///
    /// # Errors
    /// What can't be watched.
    pub(super) fn start(nft: &Nft, mailbox: Arc<Mailbox>) -> Result<Self, Fault> {
        let tables = nft.monitor(TABLE).map_err(Fault::of)?;
        let links = address::Monitor::open().map_err(Fault::of)?;
        let end = Waker::new().map_err(Fault::of)?;
        let ends = end.clone();
        let thread = std::thread::Builder::new()
            .name("vpn-watch".to_owned())
            .spawn(move || run(tables, links, &ends, &mailbox))
            .map_err(|error| Fault(format!("no thread can be started: {error}")))?;
        Ok(Self { end, thread: Some(thread) })
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.end.wake();
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the vpn-watch thread panicked");
        }
    }
}

fn run(mut tables: nft::Monitor, mut links: address::Monitor, end: &Waker, mailbox: &Mailbox) {
    loop {
        let sources = [end.as_fd(), tables.as_fd(), links.as_fd()];
        let readable = wait::any(&sources, None).unwrap_or_else(|error| {
            tracing::error!(%error, "waiting");
            std::thread::sleep(REST);
            vec![true; sources.len()]
        });
        let is = |at: usize| readable.get(at).copied().unwrap_or(false);
        if is(0) && end.clear() {
            return;
        }
        if is(1)
            && let Some(who) = foreign(&mut tables)
        {
            mailbox.post(|mail| mail.foreign = Some(who));
        }
        if is(2) && changed(&mut links) {
            mailbox.post(|mail| mail.links = true);
        }
    }
}

/// Who has changed the guard table.
fn foreign(tables: &mut nft::Monitor) -> Option<String> {
    let mut who = None;
    loop {
        match tables.wait(Duration::ZERO) {
            Ok(Some(nft::Event::Changed { by_pid, by_name, .. })) => {
                who = Some(format!("{by_name} (process {by_pid})"));
            }
            Ok(Some(nft::Event::Overrun)) => who = who.or(Some(UNKNOWN.to_owned())),
            Ok(None) => return who,
            Err(error) => {
                tracing::error!(%error, "changes of nftables by others are not seen");
                std::thread::sleep(REST);
                return who;
            }
        }
    }
}

/// Whether interfaces or addresses have changed.
fn changed(links: &mut address::Monitor) -> bool {
    let mut changed = false;
    loop {
        match links.wait(Duration::ZERO) {
            Ok(Some(_)) => changed = true,
            Ok(None) => return changed,
            Err(error) => {
                tracing::error!(%error, "changes of interfaces are not seen");
                std::thread::sleep(REST);
                return changed;
            }
        }
    }
}
