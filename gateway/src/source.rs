//! Where objects come from.
//!
//! A source turns what it watches into [`Delivery`]s and decides nothing. The latest one stands in
//! a [`tokio::sync::watch`] channel: who is late sees the newest state and none of those between.

use std::sync::Arc;

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config;
use directory::{Directory, Pace};
use kubernetes::Kubernetes;

pub use ::source::{Delivery, directory, store};

pub mod kubernetes;

/// A source that delivers.
pub struct Source {
    /// What it knows.
    pub deliveries: watch::Receiver<Arc<Delivery>>,
    /// The Kubernetes API, if it is that.
    pub kubernetes: Option<Kubernetes>,
}

impl Source {
    /// Opens the source that the configuration names. It runs until `stop`.
    ///
    /// # Errors
    /// If it can't be used.
    pub async fn open(
        source: &config::Source,
        tasks: &TaskTracker,
        stop: &CancellationToken,
    ) -> Result<Self> {
        if let Some(options) = &source.kubernetes {
            let kubernetes = Kubernetes::open(options, tasks, stop.clone()).await?;
            let deliveries = kubernetes.watching.deliveries.clone();
            return Ok(Self { deliveries, kubernetes: Some(kubernetes) });
        }
        let manifests = source
            .manifests
            .clone()
            .context("source.manifests is missing: name the directory that holds the manifests")?;
        let (directory, deliveries) = Directory::open(manifests, Pace::default())?;
        tasks.spawn(directory.run(stop.clone()));
        Ok(Self { deliveries, kubernetes: None })
    }

    /// Waits until it knows all objects once; false if it ends before.
    pub async fn first(&mut self) -> bool {
        match &mut self.kubernetes {
            Some(kubernetes) => kubernetes.watching.first().await,
            None => true,
        }
    }
}
