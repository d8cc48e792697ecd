//! The overlay's plane as the reconciler sees it.

use std::net::IpAddr;
use std::sync::Arc;

use anyhow::{Result, bail};
use model::{Diagnostic, ObjectRef, Snapshot};
use overlay::probe::Holds;
use plan::l4::L4Plan;
use tokio::sync::watch;

use super::{Desired, Plane, View};
use crate::config::Config;
use crate::edges::Holdings;

/// What this edge holds, as agents are told.
#[derive(Clone, Debug)]
pub struct Held {
    /// It.
    pub holds: Holds,
    /// Until when at most, as it stands there at each moment; none for ever.
    pub until: Option<watch::Receiver<Arc<Holdings>>>,
    /// The edge's incarnation.
    pub incarnation: u64,
}

/// The plane, and what it was told last.
#[derive(Debug)]
pub struct Follower {
    /// The plane.
    pub plane: Plane,
    /// What is in force.
    pub view: watch::Receiver<Arc<View>>,
    generation: u64,
    objects: Arc<Snapshot>,
    vips: Vec<IpAddr>,
    held: Option<Held>,
}

impl Follower {
    /// Before the first objects.
    pub fn new(plane: Plane) -> Self {
        let view = plane.view();
        let (objects, vips) = (Arc::default(), Vec::new());
        Self { plane, view, generation: 0, objects, vips, held: None }
    }

    /// Whether nobody has told yet what this edge holds.
    pub fn is_untold(&self) -> bool {
        self.held.is_none()
    }

    /// Hands objects on, if they are others.
    pub fn apply(&mut self, objects: Arc<Snapshot>, l4: Option<&L4Plan>) {
        let vips = l4.iter().flat_map(|plan| &*plan.vips).map(|vip| vip.address);
        let same =
            Arc::ptr_eq(&self.objects, &objects) && self.vips.iter().copied().eq(vips.clone());
        if same && self.generation > 0 {
            return;
        }
        self.vips = vips.collect();
        self.objects = objects;
        self.generation += 1;
        self.tell();
    }

    /// What this edge holds among several from now on. Without a word of it, it is alone, and
    /// holds all there is.
    pub fn hold(&mut self, held: Held) {
        // Where its end stands is always the same.
        let same =
            |before: &Held| before.holds == held.holds && before.incarnation == held.incarnation;
        if self.held.as_ref().is_some_and(same) {
            return;
        }
        self.held = Some(held);
        if self.generation > 0 {
            self.tell();
        }
    }

    fn tell(&self) {
        let vpn = self.plane.has_vpn();
        let held = self.held.clone().unwrap_or_else(|| Held {
            holds: super::all(&self.objects, vpn, &self.vips),
            until: None,
            incarnation: 1,
        });
        let Held { holds, until, incarnation } = held;
        self.plane.apply(Desired {
            generation: self.generation,
            snapshot: Arc::clone(&self.objects),
            holds,
            until,
            incarnation,
        });
    }
}

/// Waits for news of the plane; for ever where there is none.
///
/// # Errors
/// It has ended.
pub async fn changed(follower: Option<&mut Follower>) -> Result<(), watch::error::RecvError> {
    match follower {
        Some(follower) => follower.view.changed().await,
        None => std::future::pending().await,
    }
}

/// The interfaces that face the internet, where that is known.
pub(crate) fn outside(config: &Config) -> Option<Vec<String>> {
    let written = config.overlay.as_ref().and_then(|overlay| overlay.outside.clone());
    written.or_else(|| config.l4.as_ref().map(|l4| l4.settings.public.clone()))
}

/// Starts the plane, if it is configured and the machine allows it. Without, the reason is
/// answered, and the rest serves all the same.
///
/// # Errors
/// There is no overlay, and nothing else that could serve.
pub fn start(config: &Config) -> Result<(Option<Plane>, Vec<Diagnostic>)> {
    start_with(config, Box::new(|_, _| {}))
}

/// The same; `letters` is called for what other edges send.
///
/// # Errors
/// As [`start`].
pub fn start_with(
    config: &Config,
    letters: super::Letters,
) -> Result<(Option<Plane>, Vec<Diagnostic>)> {
    let Some(overlay) = &config.overlay else { return Ok((None, Vec::new())) };
    let vpn = config.vpn.as_ref().map(|vpn| vpn.settings.interface.clone());
    let outside = outside(config);
    let unknown = outside.is_none().then(|| {
        let object = ObjectRef::cluster("GatewayConfig", "gateway");
        let reason = "is not written, and without l4.enabled the gateway doesn't know which interfaces \
                      face the internet: it drops nothing that comes from there straight to pods, \
                      Services and nodes";
        Diagnostic::warning(object, "overlay.outside", reason).remedy(
            "write overlay.outside: [eth0], or [] if there are none or another firewall sees to it",
        )
    });
    let ends = (vpn, outside.unwrap_or_default());
    let error = match Plane::start(overlay, &config.state, ends, letters) {
        Ok(plane) => return Ok((Some(plane), unknown.into_iter().collect())),
        Err(error) => error,
    };
    let others = config.l4.is_some() || config.vpn.is_some();
    if config.enabled_albs().next().is_none() && !others {
        bail!("the overlay can't be started, and nothing else is enabled: {error}");
    }
    let object = ObjectRef::cluster("GatewayConfig", "gateway");
    let finding =
        Diagnostic::error(object, "overlay.enabled", format!("the overlay is off: {error}"))
            .remedy("mend that and start the gateway again; the rest serves meanwhile");
    Ok((None, vec![finding]))
}
