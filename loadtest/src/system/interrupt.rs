//! Ending early, in order, when the user or the system asks for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use anyhow::Context;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use thiserror::Error;

/// The exit status of a command that was broken off.
pub(crate) const STATUS: u8 = 130;

/// The user or the system has asked for the end.
#[derive(Clone, Copy, Debug, Error)]
#[error("interrupted")]
pub(crate) struct Interrupted;

static ASKED: OnceLock<Arc<AtomicBool>> = OnceLock::new();

/// From now on SIGINT, SIGTERM and SIGHUP are only noted; a second one ends the process at once.
///
/// # Errors
///
/// The system takes no handler for a signal.
pub(crate) fn install() -> anyhow::Result<()> {
    let asked = ASKED.get_or_init(Arc::default);
    for signal in [SIGINT, SIGTERM, SIGHUP] {
        // In this order: the first signal finds the flag unset and sets it after this look.
        flag::register_conditional_default(signal, asked.clone()).context("signals")?;
        flag::register(signal, asked.clone()).context("signals")?;
    }
    Ok(())
}

/// Whether the end was asked for.
pub(crate) fn is_asked() -> bool {
    ASKED.get().is_some_and(|asked| asked.load(Ordering::Relaxed))
}

/// An error once the end was asked for.
///
/// # Errors
///
/// [`Interrupted`].
pub(crate) fn check() -> anyhow::Result<()> {
    if is_asked() {
        return Err(Interrupted.into());
    }
    Ok(())
}
