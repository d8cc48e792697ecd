//! The task that runs the engine. It has a thread of its own, so that nothing keeps it from
//! renewing its Lease.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use holding::{Answer, Claim, Engine, Event, Former, Message, Request, Settings, Sight, Wanted};
use model::net::Visibility;
use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::Holdings;
use super::leases::{Leases, News};
use super::mail::{Letter, Mail};
use super::wanted::at_present;
use crate::config;
use crate::l4::view::View;
use crate::source::kubernetes;
use crate::status::Holders;

/// News that may wait.
const QUEUE: usize = 1024;
/// How long everything may take to be released at the end.
const RELEASE: Duration = Duration::from_secs(3);
/// The rest before the API is tried again that a configuration doesn't lead to.
const REST: Duration = Duration::from_secs(1);

/// What it works with.
pub struct Options {
    /// The way to the API.
    pub api: config::Kubernetes,
    /// Where the Leases are.
    pub namespace: String,
    /// The engine's.
    pub settings: Settings,
    /// What this edge is able to hold.
    pub offers: BTreeSet<String>,
    /// How this edge stands to the nodes at first.
    pub sight: Sight,
    /// What the L4 plane has done, where there is one.
    pub l4: Option<watch::Receiver<Arc<View>>>,
    /// To the other edges and from them, where they can speak to each other.
    pub mail: Option<Mail>,
}

/// What has been acted on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Acted {
    /// The revision of what is held.
    pub revision: u64,
    /// The VIPs that are on interfaces.
    pub on: Arc<BTreeSet<IpAddr>>,
    /// The sides of which an interface works; none before that is known.
    pub sides: Option<Vec<Visibility>>,
}

/// What is counted.
#[derive(Debug, Default)]
pub struct Counts {
    /// Renewals of the own Lease that have succeeded.
    pub renewals: AtomicU64,
    /// Writes of Leases that have failed, or about which nothing is known.
    pub failures: AtomicU64,
    /// Claims that were taken.
    pub taken: AtomicU64,
    /// Claims that were given up or lost.
    pub lost: AtomicU64,
    /// Edges that were fenced.
    pub fenced: AtomicU64,
}

/// Who holds what, for people.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// This edge.
    pub name: String,
    /// Its incarnation; 0 if it has none now.
    pub incarnation: u64,
    /// For how many milliseconds more it holds what it holds, if nothing comes.
    pub holds_for_ms: u64,
    /// How many milliseconds ago the last renewal that has succeeded was sent.
    pub renewed_ms_ago: Option<u64>,
    /// The other edges.
    pub edges: BTreeMap<String, ReportEdge>,
    /// By claim, its edge and how often that has changed.
    pub claims: BTreeMap<String, (String, u32)>,
    /// Leases that mean nothing.
    pub faults: Vec<String>,
}

/// Another edge.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReportEdge {
    /// Its incarnation, if that isn't over.
    pub incarnation: Option<u64>,
    /// Whether its Lease was renewed of late.
    pub live: bool,
    /// Whether it gives up what it holds.
    pub drain: bool,
    /// Whether no node answers it.
    pub cut_off: bool,
}

/// The task, running.
#[derive(Debug)]
pub struct Handle {
    /// What this edge holds. It only tells of changes of what is held, not of how long.
    pub holdings: watch::Receiver<Arc<Holdings>>,
    /// Whether it leads.
    pub leader: watch::Receiver<bool>,
    /// Who holds what; none before that is known.
    pub holders: watch::Receiver<Option<Arc<Holders>>>,
    /// The same for people.
    pub report: watch::Receiver<Arc<Report>>,
    /// All claims that there are; nothing is taken before that is known.
    pub wanted: watch::Sender<BTreeMap<Claim, Wanted>>,
    /// Whether to give everything up to others.
    pub drain: watch::Sender<bool>,
    /// How it stands to the nodes.
    pub sight: watch::Sender<Sight>,
    /// What is counted.
    pub counts: Arc<Counts>,
    stop: CancellationToken,
    thread: std::thread::JoinHandle<()>,
}

impl Handle {
    /// Gives everything up, and ends. Takes a few seconds at most.
    pub async fn stop(self) {
        self.stop.cancel();
        let joined = tokio::task::spawn_blocking(move || self.thread.join()).await;
        if !matches!(joined, Ok(Ok(()))) {
            tracing::error!("the edges thread panicked");
        }
    }

    /// Begins to give everything up; [`Self::stop`] waits for it.
    pub fn give_up(&self) {
        self.stop.cancel();
    }

    /// Whether the thread is there.
    pub fn is_whole(&self) -> bool {
        !self.thread.is_finished()
    }
}

/// Starts it.
///
/// # Errors
/// No thread can be started.
pub fn start(options: Options) -> std::io::Result<Handle> {
    // Until something is known nothing is held.
    let none = Holdings { until: Some(Instant::now()), ..Holdings::default() };
    let (holdings, of_holdings) = watch::channel(Arc::new(none));
    let (leader, leads) = watch::channel(false);
    let (holders, of_holders) = watch::channel(None);
    let (report, of_report) = watch::channel(Arc::default());
    let (wanted, of_wanted) = watch::channel(BTreeMap::new());
    let (drain, of_drain) = watch::channel(false);
    let (sight, of_sight) = watch::channel(options.sight);
    let counts = Arc::new(Counts::default());
    let stop = CancellationToken::new();
    let task = Task {
        engine: Engine::new(options.settings.clone()),
        name: options.settings.name.clone(),
        holdings,
        leader,
        holders,
        report,
        counts: Arc::clone(&counts),
        unconfirmed: BTreeMap::new(),
        // Without an L4 plane nothing is ever on an interface.
        acted: match options.l4 {
            None => Acted { revision: u64::MAX, ..Acted::default() },
            Some(_) => Acted::default(),
        },
        answers: JoinSet::new(),
        leases: None,
        out: None,
        revision: 0,
    };
    let inputs = Inputs { wanted: of_wanted, drain: of_drain, sight: of_sight, stop: stop.clone() };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let thread = std::thread::Builder::new()
        .name("edges".to_owned())
        .spawn(move || runtime.block_on(task.run(options, inputs)))?;
    Ok(Handle {
        holdings: of_holdings,
        leader: leads,
        holders: of_holders,
        report: of_report,
        wanted,
        drain,
        sight,
        counts,
        stop,
        thread,
    })
}

struct Inputs {
    wanted: watch::Receiver<BTreeMap<Claim, Wanted>>,
    drain: watch::Receiver<bool>,
    sight: watch::Receiver<Sight>,
    stop: CancellationToken,
}

struct Task {
    engine: Engine,
    name: String,
    holdings: watch::Sender<Arc<Holdings>>,
    leader: watch::Sender<bool>,
    holders: watch::Sender<Option<Arc<Holders>>>,
    report: watch::Sender<Arc<Report>>,
    counts: Arc<Counts>,
    /// Claims that are lost, and the revision of what is held that says so first.
    unconfirmed: BTreeMap<Claim, u64>,
    /// What the L4 plane has done.
    acted: Acted,
    answers: JoinSet<(u64, Answer)>,
    leases: Option<Leases>,
    out: Option<mpsc::Sender<Letter>>,
    revision: u64,
}

impl Task {
    async fn run(mut self, options: Options, mut inputs: Inputs) {
        let Some(cluster) = connect(&options.api, &inputs.stop).await else { return };
        let leases = Leases::new(cluster.client, &options.namespace);
        let (news, mut told) = mpsc::channel(QUEUE);
        let watching = tokio::spawn(leases.clone().follow(news));
        self.leases = Some(leases);
        let mut into = None;
        if let Some(Mail { out, into: receiver }) = options.mail {
            (self.out, into) = (Some(out), Some(receiver));
        }
        let mut l4 = options.l4;
        let offers = options.offers;
        self.engine.offer(Instant::now(), offers.clone());
        self.engine.sight(Instant::now(), options.sight);
        let mut deadline = None;
        let mut ended = false;
        while !ended {
            let wake = self.engine.poll_timeout().unwrap_or_else(|| Instant::now() + REST);
            let wake = deadline.map_or(wake, |deadline| wake.min(deadline));
            tokio::select! {
                Some(news) = told.recv() => {
                    self.take_in(news);
                    // A crash of an edge brings many at once.
                    while let Ok(news) = told.try_recv() {
                        self.take_in(news);
                    }
                }
                Some(answered) = self.answers.join_next(), if !self.answers.is_empty() => {
                    if let Ok((id, answer)) = answered {
                        self.answered(id, answer);
                    }
                }
                Some(letter) = receive(into.as_mut()) => self.read(&letter),
                Ok(()) = inputs.wanted.changed() => {
                    let wanted = inputs.wanted.borrow_and_update().clone();
                    self.engine.want(Instant::now(), wanted);
                }
                Ok(()) = inputs.drain.changed() => {
                    let drain = *inputs.drain.borrow_and_update();
                    self.engine.drain(Instant::now(), drain);
                }
                Ok(()) = inputs.sight.changed() => {
                    let sight = *inputs.sight.borrow_and_update();
                    self.engine.sight(Instant::now(), sight);
                }
                Some(acted) = acted(l4.as_mut()) => {
                    if let Some(sides) = &acted.sides {
                        self.engine.offer(Instant::now(), at_present(&offers, sides));
                    }
                    self.acted = acted;
                }
                () = tokio::time::sleep_until(wake.into()) => {
                    self.engine.handle_timeout(Instant::now());
                }
                () = inputs.stop.cancelled(), if deadline.is_none() => {
                    deadline = Some(Instant::now() + RELEASE);
                    self.engine.stop(Instant::now());
                }
            }
            self.drive();
            ended = deadline.is_some_and(|deadline| deadline <= Instant::now())
                || self.engine.is_stopped();
        }
        if !self.engine.is_stopped() {
            tracing::warn!("not everything that this edge held could be released");
        }
        let _ = self.leader.send_replace(false);
        watching.abort();
    }

    fn take_in(&mut self, news: News) {
        let now = Instant::now();
        match news {
            News::Listed(leases) => self.engine.listed(now, &leases),
            News::Seen(lease) => self.engine.seen(now, &lease),
            News::Gone(name, version) => self.engine.gone(now, &name, &version),
        }
    }

    fn answered(&mut self, id: u64, answer: Answer) {
        if matches!(answer, Answer::Failed | Answer::Unknown) {
            self.counts.failures.fetch_add(1, Ordering::Relaxed);
        }
        let before = self.engine.renewed();
        self.engine.answer(Instant::now(), id, answer);
        if self.engine.renewed() != before {
            self.counts.renewals.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn read(&mut self, letter: &Letter) {
        match Message::decode(&letter.octets) {
            Some((from, message)) if from == letter.edge => {
                self.engine.message(Instant::now(), &from, message);
            }
            _ => tracing::debug!(edge = letter.edge, "a message of another edge makes no sense"),
        }
    }

    /// Does what the engine wants done.
    fn drive(&mut self) {
        loop {
            self.drive_once();
            self.confirm();
            // What was confirmed may have something else follow.
            let Some((id, request)) = self.engine.poll_request() else { break };
            self.send(id, request);
        }
        self.tell();
    }

    fn drive_once(&mut self) {
        while let Some((id, request)) = self.engine.poll_request() {
            self.send(id, request);
        }
        while let Some((edge, message)) = self.engine.poll_message() {
            let octets = message.encode(&self.name);
            if let Some(out) = &self.out {
                let _ = out.try_send(Letter { edge, octets });
            }
        }
        let mut changed = false;
        let mut lost = Vec::new();
        while let Some(event) = self.engine.poll_event() {
            changed = true;
            self.log(&event);
            if let Event::Lost(claim) = event {
                lost.push(claim);
            }
        }
        self.publish(changed);
        for claim in lost {
            self.unconfirmed.insert(claim, self.revision);
        }
    }

    fn send(&mut self, id: u64, request: Request) {
        if let Some(leases) = self.leases.clone() {
            self.answers.spawn(async move { (id, leases.perform(request).await) });
        }
    }

    /// Tells the planes. Of a longer time alone nobody is woken.
    fn publish(&mut self, changed: bool) {
        let until = self.engine.until().or_else(|| Some(Instant::now()));
        if !changed {
            self.holdings.send_if_modified(|holdings| {
                if holdings.until != until {
                    Arc::make_mut(holdings).until = until;
                }
                false
            });
        } else {
            self.revision += 1;
            let holding = self.engine.holding();
            let is_unsure = |former| matches!(former, Former::Nobody | Former::Silent);
            let unsure = holding.claims.iter().filter(|(_, held)| is_unsure(held.former));
            let holdings = Holdings {
                unsure: unsure.map(|(claim, _)| claim.clone()).collect(),
                epochs: holding.claims.iter().map(|(c, held)| (c.clone(), held.epoch)).collect(),
                claims: holding.claims.into_keys().collect(),
                until,
                incarnation: holding.incarnation,
                revision: self.revision,
            };
            self.holdings.send_replace(Arc::new(holdings));
        }
        let leads = self.holdings.borrow().has(&Claim::Leader, Instant::now());
        self.leader.send_if_modified(|before| std::mem::replace(before, leads) != leads);
    }

    /// Tells the engine what is let go of: a VIP once the L4 plane has it off.
    fn confirm(&mut self) {
        let acted = &self.acted;
        let is_off = |(claim, revision): &(&Claim, &u64)| match claim {
            Claim::Vip(address) => acted.revision >= **revision && !acted.on.contains(address),
            Claim::Leader | Claim::Vpn(_) => true,
        };
        let off: Vec<Claim> =
            self.unconfirmed.iter().filter(is_off).map(|(claim, _)| claim.clone()).collect();
        for claim in off {
            self.unconfirmed.remove(&claim);
            self.engine.gave_up(Instant::now(), &claim);
        }
    }

    fn log(&self, event: &Event) {
        let count = |counter: &AtomicU64| counter.fetch_add(1, Ordering::Relaxed);
        match event {
            Event::Joined(incarnation) => tracing::info!(incarnation, "this edge has joined"),
            Event::Ended(incarnation) => tracing::warn!(incarnation, "this edge's time is over"),
            Event::Held(claim, held) => {
                count(&self.counts.taken);
                tracing::info!(%claim, epoch = held.epoch, former = ?held.former, "held");
            }
            Event::Lost(claim) => {
                count(&self.counts.lost);
                tracing::info!(%claim, "not held any more");
            }
            Event::Lapsed => tracing::warn!("the Lease could not be renewed: nothing is held"),
            Event::Resumed => tracing::info!("the Lease is renewed: what is held counts"),
            Event::Promised => tracing::warn!("the API can't be reached: held on"),
            Event::Fenced(edge, incarnation) => {
                count(&self.counts.fenced);
                tracing::warn!(edge, incarnation, "an edge that is gone was fenced");
            }
            Event::Fault(fault) => tracing::error!("{fault}"),
            Event::Stopped => tracing::info!("all is released"),
        }
    }

    /// Tells people, and who writes statuses.
    fn tell(&mut self) {
        let now = Instant::now();
        let view = self.engine.edges(now);
        let by_claim = self.engine.holders();
        let mut holders = Holders::default();
        holders.live.extend(view.iter().filter(|(_, edge)| edge.is_live).map(|(n, _)| n.clone()));
        if self.engine.until().is_some_and(|until| now < until) {
            holders.live.insert(self.name.clone());
        }
        for (claim, (edge, _)) in &by_claim {
            match claim {
                Claim::Leader => {}
                Claim::Vip(address) => drop(holders.vips.insert(*address, edge.clone())),
                Claim::Vpn(key) => drop(holders.vpn.insert(key.clone(), edge.clone())),
            }
        }
        let known = self.engine.renewed().is_some();
        self.holders.send_if_modified(|before| {
            let changed = known && before.as_deref() != Some(&holders);
            if changed {
                *before = Some(Arc::new(holders));
            }
            changed
        });
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let renewed = self.engine.renewed();
        let edge = |edge: holding::EdgeView| ReportEdge {
            incarnation: edge.incarnation,
            live: edge.is_live,
            drain: edge.drain,
            cut_off: edge.cut_off,
        };
        let until = self.engine.until();
        let report = Report {
            name: self.name.clone(),
            incarnation: self.engine.holding().incarnation,
            holds_for_ms: until.map_or(0, |until| millis(until.saturating_duration_since(now))),
            renewed_ms_ago: renewed.map(|at| millis(now.saturating_duration_since(at))),
            edges: view.into_iter().map(|(name, view)| (name, edge(view))).collect(),
            claims: by_claim.into_iter().map(|(claim, by)| (claim.to_string(), by)).collect(),
            faults: self.engine.faults().values().map(ToString::to_string).collect(),
        };
        self.report.send_replace(Arc::new(report));
    }
}

async fn connect(api: &config::Kubernetes, stop: &CancellationToken) -> Option<cluster::Cluster> {
    loop {
        match kubernetes::connect(api).await {
            Ok(cluster) => return Some(cluster),
            Err(error) => tracing::warn!(%error, "no Leases"),
        }
        tokio::select! {
            () = tokio::time::sleep(REST) => {}
            () = stop.cancelled() => return None,
        }
    }
}

async fn receive(mail: Option<&mut mpsc::Receiver<Letter>>) -> Option<Letter> {
    match mail {
        Some(mail) => mail.recv().await,
        None => std::future::pending().await,
    }
}

/// Waits for news of the L4 plane; for ever where there is none.
async fn acted(l4: Option<&mut watch::Receiver<Arc<View>>>) -> Option<Acted> {
    let view = match l4 {
        Some(view) => view,
        None => return std::future::pending().await,
    };
    view.changed().await.ok()?;
    let view = view.borrow_and_update();
    let (on, sides) = (Arc::clone(&view.on), view.sides.clone());
    Some(Acted { revision: view.acted, on, sides })
}
