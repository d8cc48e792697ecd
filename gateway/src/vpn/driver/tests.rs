//! The driver between a kernel and a data path that only take notes.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::{Mutex, mpsc};

use ipnet::IpNet;
use ipsec::crypto::rng::SeededRng;
use ipsec::ike::config::Settings as IkeSettings;
use ipsec::ike::event::Transmit;
use ipsec::sa::{ChildSa, Path};
use model::Settings;
use netdev::route::table::Route;
use netdev::rule::Rule;
use plan::vpn::Policy;

use super::*;
use crate::l4::kernel::Fault;
use crate::source::directory;
use crate::vpn::dataplane::Counters;

/// What was done, in order.
#[derive(Clone, Debug, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl Notes {
    fn write(&self, note: impl Into<String>) {
        self.0.lock().unwrap().push(note.into());
    }

    fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

struct FakeKernel {
    notes: Notes,
    /// How many transactions are refused.
    refuses: Arc<Mutex<u32>>,
    rules: Vec<Rule>,
    routes: Vec<Route>,
}

impl Kernel for FakeKernel {
    fn transaction(&mut self, text: &str) -> Result<(), Fault> {
        let mut refuses = self.refuses.lock().unwrap();
        if *refuses > 0 {
            *refuses -= 1;
            self.notes.write("guard refused");
            return Err(Fault("nft says no".to_owned()));
        }
        let is_table = text.contains("table inet tidegate-vpn {");
        self.notes.write(if is_table { "guard" } else { "no guard" });
        Ok(())
    }

    fn rules(&mut self) -> Result<Vec<Rule>, Fault> {
        Ok(self.rules.clone())
    }

    fn add_rule(&mut self, rule: &Rule) -> Result<(), Fault> {
        self.rules.push(rule.clone());
        self.notes.write("rule");
        Ok(())
    }

    fn remove_rule(&mut self, rule: &Rule) -> Result<(), Fault> {
        self.rules.retain(|other| other != rule);
        self.notes.write("no rule");
        Ok(())
    }

    fn routes(&mut self, _: u32) -> Result<Vec<Route>, Fault> {
        Ok(self.routes.clone())
    }

    fn add_routes(&mut self, _: u32, routes: &[Route]) -> Vec<Fault> {
        self.routes.extend(routes);
        self.notes.write("routes");
        Vec::new()
    }

    fn remove_routes(&mut self, _: u32, routes: &[Route]) -> Vec<Fault> {
        self.routes.retain(|other| !routes.contains(other));
        Vec::new()
    }

    fn interface(&mut self, _: &str) -> Option<u32> {
        Some(7)
    }

    fn addresses(&mut self) -> Result<Vec<IpNet>, Fault> {
        Ok(Vec::new())
    }

    fn source_to(&mut self, _: IpAddr) -> Result<IpAddr, Fault> {
        Ok([192, 0, 2, 1].into())
    }

    fn forward(&mut self, _: bool) -> Result<bool, Fault> {
        self.notes.write("forwarding");
        Ok(false)
    }
}

#[derive(Default)]
struct FakeDataplane {
    notes: Notes,
    /// It is none at all.
    lacks: Arc<Mutex<bool>>,
    wire: Arc<Mutex<VecDeque<Transmit>>>,
    counters: Arc<Mutex<Counters>>,
    /// Its interface was taken away.
    ended: Arc<Mutex<bool>>,
}

impl Dataplane for FakeDataplane {
    fn name(&self) -> &'static str {
        "fake"
    }

    fn set_policies(&mut self, _: BTreeMap<ConnectionName, Vec<Policy>>) {
        self.notes.write("policies");
    }

    fn install(
        &mut self,
        _: &Arc<ChildSa>,
        _: bool,
        _: Option<ipsec::sa::ChildSaId>,
    ) -> Result<(), String> {
        self.notes.write("install");
        Ok(())
    }

    fn send(&mut self, _: ipsec::sa::ChildSaId) {}

    fn remove(&mut self, _: ipsec::sa::ChildSaId, _: Duration) {
        self.notes.write("remove");
    }

    fn set_path(&mut self, _: &[ipsec::sa::ChildSaId], _: Path, _: bool) {}

    fn is_broken(&self) -> bool {
        *self.ended.lock().unwrap()
    }

    fn carries(&self) -> bool {
        !*self.lacks.lock().unwrap()
    }

    fn transmit(&mut self, message: &Transmit) {
        self.notes.write("transmit");
        self.wire.lock().unwrap().push_back(message.clone());
    }

    fn counters(&self) -> Counters {
        self.counters.lock().unwrap().clone()
    }
}

/// A driver with what it does.
struct Bench {
    driver: Driver<FakeKernel>,
    view: watch::Receiver<Arc<View>>,
    mailbox: Arc<Mailbox>,
    network: mpsc::SyncSender<FromNetwork>,
    notes: Notes,
    wire: Arc<Mutex<VecDeque<Transmit>>>,
    refuses: Arc<Mutex<u32>>,
    lacks: Arc<Mutex<bool>>,
    counters: Arc<Mutex<Counters>>,
    /// Of the first data path.
    ended: Arc<Mutex<bool>>,
}

impl Bench {
    fn new(on_stop: OnStop) -> Self {
        let (network, receiver) = mpsc::sync_channel(64);
        let mailbox = Arc::new(Mailbox::new(network.clone()));
        let dataplane = FakeDataplane::default();
        let (notes, wire) = (dataplane.notes.clone(), Arc::clone(&dataplane.wire));
        let refuses = Arc::<Mutex<u32>>::default();
        let lacks = Arc::clone(&dataplane.lacks);
        let counters = Arc::clone(&dataplane.counters);
        let ended = Arc::clone(&dataplane.ended);
        let again = FakeDataplane {
            notes: notes.clone(),
            wire: Arc::clone(&wire),
            ..FakeDataplane::default()
        };
        let renewals = Mutex::new(vec![again]);
        let kernel = FakeKernel {
            notes: notes.clone(),
            refuses: Arc::clone(&refuses),
            rules: Vec::new(),
            routes: Vec::new(),
        };
        let rng = Box::new(SeededRng::new(7));
        let epoch = (Instant::now(), Duration::from_secs(1_700_000_000));
        let (driver, view) = Driver::new(Parts {
            kernel,
            engine: Engine::new(IkeSettings::default(), rng, epoch),
            dataplane: Box::new(dataplane),
            renewal: Box::new(move || match renewals.lock().unwrap().pop() {
                Some(dataplane) => Ok(Box::new(dataplane)),
                None => Err(Fault("no more".to_owned()).into()),
            }),
            network: receiver,
            mailbox: Arc::clone(&mailbox),
            counts: None,
            settings: VpnSettings::default(),
            on_stop,
            metrics: Arc::new(Metrics::new(1)),
        });
        Self { driver, view, mailbox, network, notes, wire, refuses, lacks, counters, ended }
    }

    fn apply(&mut self, generation: u64, plan: VpnPlan) {
        let desired = Desired { generation, plan: Arc::new(plan) };
        self.mailbox.post(|mail| mail.desired = Some(desired));
        assert!(self.driver.turn());
    }

    /// Hands what this one sends to another one; whether there was something.
    fn deliver(&self, to: &mut Self) -> bool {
        let Some(Transmit { path, payload }) = self.wire.lock().unwrap().pop_front() else {
            return false;
        };
        let path = Path { local: path.remote, remote: path.local };
        let message = FromNetwork::Ike { path, datagram: payload, at: Instant::now() };
        to.network.send(message).unwrap();
        to.driver.turn()
    }
}

impl Bench {
    /// What has been counted of the child so far.
    fn count(&self, counted: SaCounters) {
        let key = ("default/site".into(), "site".into());
        self.counters.lock().unwrap().children.insert(key, counted);
    }

    /// What is found to be wrong, in single words.
    fn reasons(&mut self) -> Vec<&'static str> {
        let report = self.driver.report(Instant::now());
        let causes = crate::vpn::diagnose::diagnose(&report, &report.connections[0]);
        causes.iter().map(|cause| cause.reason).collect()
    }
}

/// The plan of one connection `default/site`: of its end `a` or `b`.
fn plan(a: bool, gateway: &str) -> VpnPlan {
    let (auto, own, local, remote) = match a {
        true => ("start", "192.0.2.1", 1, 2),
        false => ("add", "192.0.2.2", 2, 1),
    };
    let (id, peer) = if a { ("a.test", "b.test") } else { ("b.test", "a.test") };
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "apiVersion: tidegate.io/v1alpha1
kind: VpnConnection
metadata: {{name: site}}
spec:
  auto: {auto}
  auth: {{psk: {{secretName: psk, key: psk}}}}
  local: {{address: {own}, id: {id}, subnets: [10.{local}.0.0/24]}}
  remote: {{gateway: {gateway}, id: {peer}, subnets: [10.{remote}.0.0/24]}}
---
apiVersion: v1
kind: Secret
metadata: {{name: psk}}
stringData: {{psk: \"long enough, and for tests alone\"}}
"
    );
    std::fs::write(folder.path().join("site.yaml"), text).unwrap();
    let delivery = directory::read(folder.path()).unwrap();
    let settings = Settings { vpn: Some(VpnSettings::default()), ..Settings::default() };
    let (snapshot, found) = ingest::ingest(&delivery.objects, &settings);
    assert_eq!(found, []);
    let (plan, found) = plan::vpn::plan(&snapshot, &settings, &BTreeMap::new());
    assert_eq!(found, []);
    plan
}

#[test]
fn guard_comes_first_then_routes_then_policies_and_only_then_anything_is_sent() {
    let mut bench = Bench::new(OnStop::Keep);
    bench.apply(1, plan(true, "192.0.2.2"));
    let notes = bench.notes.take();
    assert_eq!(notes, ["guard", "routes", "rule", "forwarding", "policies", "transmit"]);
    let view = bench.view.borrow().clone();
    assert_eq!((view.desired, view.applied, view.settled), (1, 1, true));
    assert_eq!(view.diagnostics, []);
}

#[test]
fn nothing_is_begun_without_the_guard_and_it_is_tried_again() {
    let mut bench = Bench::new(OnStop::Keep);
    *bench.refuses.lock().unwrap() = 1;
    bench.apply(1, plan(true, "192.0.2.2"));
    assert_eq!(bench.notes.take(), ["guard refused"]);
    let view = bench.view.borrow().clone();
    assert_eq!((view.desired, view.applied, view.settled), (1, 0, true));
    assert!(view.diagnostics.iter().any(|finding| finding.reason.contains("nft says no")));
    // By itself, after a rest.
    while bench.view.borrow().applied == 0 {
        assert!(bench.driver.turn());
    }
    assert_eq!(bench.notes.take().first().unwrap(), "guard");
    assert_eq!(bench.view.borrow().diagnostics, []);
}

#[test]
fn plan_that_is_taken_back_leaves_no_failure_of_the_guard() {
    let mut bench = Bench::new(OnStop::Keep);
    let first = plan(true, "192.0.2.2");
    bench.apply(1, first.clone());
    *bench.refuses.lock().unwrap() = 1;
    bench.apply(2, VpnPlan::default());
    assert!(!bench.view.borrow().diagnostics.is_empty());
    bench.apply(3, first);
    assert_eq!((bench.view.borrow().applied, bench.view.borrow().diagnostics.len()), (3, 0));
    // Nothing is to be tried again: there would be no end of it.
    assert_eq!(bench.driver.guard.next(), None);
}

#[test]
fn driver_rests_while_the_guard_waits() {
    let mut bench = Bench::new(OnStop::Keep);
    bench.apply(1, plan(true, "hq.example.net"));
    // Both the name and the guard are to be tried again; the name not before the guard is there.
    *bench.refuses.lock().unwrap() = u32::MAX;
    bench.apply(2, VpnPlan::default());
    let (driver, guard) = (&bench.driver, bench.driver.guard.next().unwrap());
    assert!(driver.place.next().is_some() && driver.routes.next().is_some());
    assert_eq!(driver.next_pass(), Some(guard));
}

#[test]
fn changed_guard_is_mended_at_once() {
    let mut bench = Bench::new(OnStop::Keep);
    bench.apply(1, plan(true, "192.0.2.2"));
    bench.notes.take();
    bench.mailbox.post(|mail| mail.foreign = Some("nft".to_owned()));
    assert!(bench.driver.turn());
    assert_eq!(bench.notes.take(), ["guard"]);
}

#[test]
fn without_a_data_path_remote_networks_are_guarded_all_the_same() {
    let mut bench = Bench::new(OnStop::Keep);
    *bench.lacks.lock().unwrap() = true;
    bench.apply(1, plan(true, "192.0.2.2"));
    assert_eq!(bench.notes.take(), ["guard", "routes", "rule"]);
    let routes = &bench.driver.parts.kernel.routes;
    assert!(!routes.is_empty());
    assert!(routes.iter().all(|route| route.target == netdev::route::table::Target::Blackhole));
    assert!(bench.view.borrow().settled);
}

#[test]
fn a_child_sa_takes_packets_before_its_answer_is_sent() {
    let [mut a, mut b] = [(); 2].map(|()| Bench::new(OnStop::Keep));
    b.apply(1, plan(false, "192.0.2.1"));
    a.apply(1, plan(true, "192.0.2.2"));
    a.notes.take();
    b.notes.take();
    while a.deliver(&mut b) | b.deliver(&mut a) {}
    assert_eq!(b.notes.take(), ["transmit", "install", "transmit"]);
    assert_eq!(a.notes.take(), ["transmit", "install"]);
    // What is asked is answered.
    let (reply, mut answer) = tokio::sync::oneshot::channel();
    a.mailbox.ask(Request::Report { reply });
    a.driver.turn();
    let report = answer.try_recv().unwrap();
    assert_eq!(report.connections[0].state(), "up");
    assert_eq!(report.connections[0].status.as_ref().unwrap().children.len(), 1);
}

#[test]
fn a_data_path_whose_interface_is_taken_away_is_made_anew_with_other_sas() {
    let [mut a, mut b] = [(); 2].map(|()| Bench::new(OnStop::Keep));
    b.apply(1, plan(false, "192.0.2.1"));
    a.apply(1, plan(true, "192.0.2.2"));
    while a.deliver(&mut b) | b.deliver(&mut a) {}
    let before = a.driver.sas.clone();
    assert_eq!(before.len(), 1);
    a.notes.take();
    b.notes.take();
    *a.ended.lock().unwrap() = true;
    a.network.send(FromNetwork::Wake).unwrap();
    assert!(a.driver.turn());
    assert_eq!(a.notes.take(), ["routes", "policies", "transmit"]);
    while a.deliver(&mut b) | b.deliver(&mut a) {}
    let notes = a.notes.take();
    assert!(notes.contains(&"install".to_owned()), "{notes:?}");
    assert!(b.notes.take().contains(&"remove".to_owned()));
    assert!(a.driver.sas.len() == 1 && a.driver.sas.is_disjoint(&before));
    // Not again so soon.
    assert!(!a.driver.renew(Instant::now()));
}

#[test]
fn at_the_end_the_other_end_is_told_and_the_guard_stays() {
    for (on_stop, last) in [(OnStop::Keep, "remove"), (OnStop::Remove, "no rule")] {
        let [mut a, mut b] = [(); 2].map(|()| Bench::new(on_stop));
        b.apply(1, plan(false, "192.0.2.1"));
        a.apply(1, plan(true, "192.0.2.2"));
        while a.deliver(&mut b) | b.deliver(&mut a) {}
        a.notes.take();
        b.notes.take();
        a.mailbox.post(|mail| mail.stop = true);
        assert!(a.driver.turn());
        assert!(a.deliver(&mut b));
        assert!(b.notes.take().contains(&"remove".to_owned()));
        // The answer ends it before the deadline.
        assert!(!b.deliver(&mut a));
        a.driver.finish();
        let notes = a.notes.take();
        assert_eq!(notes.last().unwrap(), last);
        assert!(!notes.contains(&"no guard".to_owned()), "{notes:?}");
    }
}

#[test]
fn name_of_the_other_end_is_waited_for() {
    let mut bench = Bench::new(OnStop::Keep);
    bench.apply(1, plan(true, "hq.example.net"));
    let notes = bench.notes.take();
    assert!(!notes.contains(&"transmit".to_owned()), "{notes:?}");
    let finding = bench.view.borrow().diagnostics[0].to_string();
    assert!(finding.contains("spec.remote.gateway") && finding.contains("hq.example.net"));
    let names = [("hq.example.net".to_owned(), vec![[192, 0, 2, 2].into()])];
    bench.mailbox.post(|mail| mail.names = Some(names.into()));
    assert!(bench.driver.turn());
    assert_eq!(bench.notes.take(), ["transmit"]);
    assert_eq!(bench.view.borrow().diagnostics, []);
}

#[test]
fn what_cant_be_done_is_refused_with_the_reason() {
    let mut bench = Bench::new(OnStop::Keep);
    bench.apply(1, plan(true, "192.0.2.2"));
    let mut ask = |connection: &str, action: Action| {
        let (reply, mut answer) = tokio::sync::oneshot::channel();
        bench.mailbox.ask(Request::Act { connection: connection.into(), action, reply });
        bench.driver.turn();
        answer.try_recv().unwrap()
    };
    use ipsec::ike::event::Rekey;
    assert!(matches!(ask("default/other", Action::Up), Err(Refused::Unknown(_))));
    let child = Action::Rekey(Rekey::Child("no".into()));
    assert!(matches!(ask("default/site", child), Err(Refused::NoChild { .. })));
    assert_eq!(ask("default/site", Action::Up), Ok(()));
    assert_eq!(ask("default/site", Action::Down), Ok(()));
}

#[test]
fn connections_that_stay_the_same_are_left_alone() {
    let mut bench = Bench::new(OnStop::Keep);
    let first = plan(true, "192.0.2.2");
    bench.apply(1, first.clone());
    let connection = || ConnectionName::from("default/site");
    let before = Arc::clone(bench.driver.connections.by_name(&connection()).unwrap());
    bench.notes.take();
    bench.apply(2, first);
    let after = Arc::clone(bench.driver.connections.by_name(&connection()).unwrap());
    assert!(Arc::ptr_eq(&before, &after));
    assert_eq!(bench.notes.take(), ["policies"]);
    assert_eq!(bench.view.borrow().applied, 2);
    // Read from another file, and otherwise the same.
    bench.apply(3, plan(true, "192.0.2.2"));
    assert_eq!(bench.notes.take(), ["policies"]);
}

#[test]
fn findings_are_of_what_was_counted_since_it_came_up() {
    let [mut a, mut b] = [(); 2].map(|()| Bench::new(OnStop::Keep));
    let before = SaCounters { sent_packets: 5, outside_selectors: 3, ..SaCounters::default() };
    b.count(before);
    b.apply(1, plan(false, "192.0.2.1"));
    a.apply(1, plan(true, "192.0.2.2"));
    while a.deliver(&mut b) | b.deliver(&mut a) {}
    assert_eq!(b.reasons(), [""; 0]);
    b.count(SaCounters { sent_packets: 6, outside_selectors: 4, ..before });
    assert_eq!(b.reasons(), ["nothing-comes-back", "narrowed"]);
}

#[test]
fn end_that_waits_again_does_not_say_that_nobody_came() {
    let [mut a, mut b] = [(); 2].map(|()| Bench::new(OnStop::Keep));
    b.apply(1, plan(false, "192.0.2.1"));
    assert_eq!(b.reasons(), ["nobody-came"]);
    a.apply(1, plan(true, "192.0.2.2"));
    while a.deliver(&mut b) | b.deliver(&mut a) {}
    let down = Command::Terminate { connection: "default/site".into() };
    a.driver.parts.engine.command(Instant::now(), down);
    a.driver.pump(Instant::now());
    // It is going down until the other end has answered.
    let report = a.driver.report(Instant::now());
    assert_eq!(report.connections[0].state(), "down");
    assert_eq!(report.connections[0].status.as_ref().unwrap().ike.len(), 1);
    while a.deliver(&mut b) | b.deliver(&mut a) {}
    assert_eq!(a.reasons(), ["down"]);
    assert_eq!(b.reasons(), ["ended"]);
}
