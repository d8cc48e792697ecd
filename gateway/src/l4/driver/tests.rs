use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use model::net::{PortRange, Protocol, Visibility};
use model::settings::FailSafe;
use model::snapshot::{Algorithm, Announce, Endpoint};
use model::{HostAddress, ObjectKey};
use plan::l4::traffic::Listing;
use plan::l4::{Frontend, Path, PortPlan, Vip};

use super::super::kernel::{Entry, Host, Probed};
use super::super::state::Taken;
use super::*;

/// A kernel that notes what it is asked, in order.
#[derive(Clone, Default)]
struct Fake(Rc<RefCell<Machine>>);

#[derive(Default)]
struct Machine {
    host: Host,
    done: Vec<String>,
    /// What is refused, by its first word.
    refuses: BTreeSet<&'static str>,
    /// Seconds after which addresses go by themselves.
    limits: BTreeMap<IpAddr, u32>,
    tracked: Vec<Entry>,
    /// How often tracked connections were gone through.
    looks: usize,
    state: std::path::PathBuf,
}

impl Machine {
    fn note(&mut self, what: &'static str, about: String) -> Result<(), Fault> {
        if self.refuses.contains(what) {
            return Err(Fault(format!("{what} refused")));
        }
        self.done.push(if about.is_empty() { what.to_owned() } else { format!("{what} {about}") });
        Ok(())
    }

    /// The state file knows the address.
    fn is_remembered(&self, address: IpAddr) -> bool {
        let text = std::fs::read_to_string(self.state.join("allocations.json")).unwrap_or_default();
        text.contains(&address.to_string())
    }
}

impl Kernel for Fake {
    fn wait(&mut self, _: Option<Instant>) -> Events {
        Events::default()
    }

    fn host(&mut self) -> Result<Host, Fault> {
        Ok(self.0.borrow().host.clone())
    }

    fn limit_address(&mut self, _: &str, address: IpAddr, seconds: u32) -> Result<(), Fault> {
        self.0.borrow_mut().limits.insert(address, seconds);
        Ok(())
    }

    fn add_address(&mut self, interface: &str, address: IpAddr) -> Result<(), Fault> {
        let mut machine = self.0.borrow_mut();
        assert!(machine.is_remembered(address), "{address} isn't on the disk");
        machine.note("add", format!("{address} {interface}"))?;
        let network = address.into();
        machine.host.addresses.push(HostAddress { interface: interface.to_owned(), network });
        Ok(())
    }

    fn remove_address(&mut self, interface: &str, address: IpAddr) -> Result<(), Fault> {
        let mut machine = self.0.borrow_mut();
        machine.note("remove", format!("{address} {interface}"))?;
        machine.host.addresses.retain(|own| own.network.addr() != address);
        Ok(())
    }

    fn settle(&mut self) -> Vec<(IpAddr, Fault)> {
        let mut machine = self.0.borrow_mut();
        let Err(fault) = machine.note("settle", String::new()) else {
            machine.done.pop();
            return Vec::new();
        };
        let lost = |own: &mut HostAddress| own.interface == "lo";
        let lost = machine.host.addresses.extract_if(.., lost);
        lost.map(|own| (own.network.addr(), fault.clone())).collect()
    }

    fn probe(&mut self, addresses: Vec<Taken>) {
        let mut machine = self.0.borrow_mut();
        for Taken { address, .. } in addresses {
            assert!(machine.is_remembered(address), "{address} isn't on the disk");
            machine.note("probe", address.to_string()).unwrap();
        }
    }

    fn announce(&mut self, addresses: &[Taken]) -> Vec<(Taken, Fault)> {
        for Taken { address, .. } in addresses {
            self.0.borrow_mut().note("announce", address.to_string()).unwrap();
        }
        Vec::new()
    }

    fn transaction(&mut self, text: &str) -> Result<(), Fault> {
        let whole = text.contains("delete table inet tidegate\n");
        let brings = text.contains("table inet tidegate {");
        let what = if whole && brings {
            "load"
        } else if whole {
            "unload"
        } else {
            "change"
        };
        self.0.borrow_mut().note(what, String::new())
    }

    fn listing(&mut self, _: &str, _: &str) -> Result<Option<Listing>, Fault> {
        Ok(None)
    }

    fn forget(&mut self, stale: &dyn Fn(&Entry) -> bool) -> Result<usize, Fault> {
        let mut machine = self.0.borrow_mut();
        machine.looks += 1;
        let before = machine.tracked.len();
        machine.tracked.retain(|entry| !stale(entry));
        let forgotten = before - machine.tracked.len();
        if forgotten > 0 {
            machine.note("forget", forgotten.to_string())?;
        }
        Ok(forgotten)
    }

    fn forward(&mut self, _: bool) -> Result<bool, Fault> {
        Ok(false)
    }
}

struct Bench {
    machine: Rc<RefCell<Machine>>,
    driver: Driver<Fake>,
    view: watch::Receiver<Arc<View>>,
    now: Instant,
    generation: u64,
    policy: Arc<plan::policy::Compiled>,
    folder: Option<tempfile::TempDir>,
}

fn settings() -> L4Settings {
    L4Settings {
        node_name: "edge".into(),
        public: vec!["eth0".into(), "eth2".into()],
        private: Vec::new(),
        node_ports: PortRange { first: 30000, last: 32767 },
        snat: false,
        load_balancer_class: "tidegate.io/l4".into(),
        default_class: true,
        fail_safe: FailSafe::default(),
    }
}

fn own(interface: &str, network: &str) -> HostAddress {
    HostAddress { interface: interface.into(), network: network.parse().unwrap() }
}

impl Bench {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut bench = Self::at(folder.path(), Machine::default());
        bench.folder = Some(folder);
        bench
    }

    fn at(state: &std::path::Path, machine: Machine) -> Self {
        let mut machine = machine;
        machine.state = state.to_owned();
        if machine.host.interfaces.is_empty() {
            machine.host.interfaces = ["lo", "eth0", "eth2"].map(str::to_owned).into();
            machine.host.up = machine.host.interfaces.clone();
            machine.host.addresses =
                vec![own("eth0", "192.0.2.250/24"), own("eth2", "198.51.100.250/24")];
        }
        let machine = Rc::new(RefCell::new(machine));
        let (driver, view) = Driver::new(
            Fake(Rc::clone(&machine)),
            settings(),
            AlbPorts::new(),
            State::open(state).unwrap(),
            Arc::new(Mailbox::new().unwrap()),
            Arc::new(Metrics::new(1)),
        )
        .unwrap();
        Self {
            machine,
            driver,
            view,
            now: Instant::now(),
            generation: 0,
            policy: Arc::default(),
            folder: None,
        }
    }

    fn plan(&mut self, services: &[(&str, &str)]) {
        self.desire(&Arc::new(plan(services)));
    }

    fn desire(&mut self, plan: &Arc<L4Plan>) {
        self.generation += 1;
        let (plan, policy) = (Arc::clone(plan), Arc::clone(&self.policy));
        let desired = Some(Desired { generation: self.generation, plan, policy });
        self.driver.handle(Mail { desired, ..Mail::default() }, Events::default(), self.now);
    }

    /// The endpoints of the only Service become these.
    fn endpoints(&mut self, addresses: &[&str]) {
        let desired = self.driver.desired.as_ref().unwrap();
        let mut plan = L4Plan::clone(&desired.plan);
        let port = &mut Arc::make_mut(&mut plan.services[0]).ports[0];
        port.endpoints = addresses.iter().map(|address| endpoint(address)).collect();
        self.desire(&Arc::new(plan));
    }

    fn looks(&self) -> usize {
        std::mem::take(&mut self.machine.borrow_mut().looks)
    }

    fn events(&mut self, events: Events) {
        self.driver.handle(Mail::default(), events, self.now);
    }

    fn probed(&mut self, address: &str, interface: &str, found: Option<&str>) {
        let taken = Taken { interface: interface.into(), address: address.parse().unwrap() };
        let probed = vec![Probed { taken, found: Ok(found.map(str::to_owned)) }];
        self.events(Events { probed, ..Events::default() });
    }

    fn after(&mut self, milliseconds: u64) {
        self.now += Duration::from_millis(milliseconds);
        self.events(Events::default());
    }

    fn done(&self) -> Vec<String> {
        std::mem::take(&mut self.machine.borrow_mut().done)
    }

    fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.borrow())
    }

    fn findings(&self) -> Vec<String> {
        self.view().diagnostics.iter().map(ToString::to_string).collect()
    }
}

fn endpoint(address: &str) -> Endpoint {
    Endpoint { address: address.parse().unwrap(), weight: 1, terminating: false, local: true }
}

/// Services by name and VIP, each with one UDP port and one endpoint.
fn plan(services: &[(&str, &str)]) -> L4Plan {
    let mut plan = L4Plan::default();
    for (name, vip) in services {
        let address: IpAddr = vip.parse().unwrap();
        let announce = if vip.starts_with("203.0.113.9") { Announce::None } else { Announce::L2 };
        Arc::make_mut(&mut plan.vips).push(Vip {
            address,
            pool: "portable".into(),
            visibility: if vip.starts_with("10.") {
                Visibility::Private
            } else {
                Visibility::Public
            },
            announce,
        });
        let allocations = Arc::make_mut(&mut plan.allocations);
        allocations.services.insert(format!("shop/{name}"), vec![address]);
        plan.services.push(Arc::new(ServicePlan {
            service: ObjectKey::new("shop", *name),
            load_balancer: true,
            addresses: vec![address],
            pending: None,
            ports: vec![PortPlan {
                name: String::new(),
                protocol: Protocol::Udp,
                number: 53,
                frontends: vec![Frontend::Vip((address, 53).into())],
                endpoints: [endpoint("10.1.0.1:53")].into(),
                only_remote: false,
                algorithm: Algorithm::Random,
                path: Path::Kernel,
            }],
            source_ranges: Vec::new(),
            affinity: None,
            snat: false,
            local_only: false,
            health_check_node_port: None,
            local_endpoints: 0,
        }));
    }
    Arc::make_mut(&mut plan.vips).sort();
    plan
}

#[test]
fn an_address_is_taken_after_its_rules_and_only_if_nobody_has_it() {
    let mut bench = Bench::new();
    bench.plan(&[("a", "192.0.2.1")]);
    assert_eq!(bench.done(), ["probe 192.0.2.1", "load"]);
    assert!(!bench.view().settled);
    bench.probed("192.0.2.1", "eth0", None);
    assert_eq!(bench.done(), ["add 192.0.2.1 eth0", "announce 192.0.2.1"]);
    let view = bench.view();
    assert_eq!((view.desired, view.applied, view.settled), (1, 1, true));
    assert_eq!(view.plan.vips.len(), 1);
    assert_eq!(view.host[..], [own("eth0", "192.0.2.250/24"), own("eth2", "198.51.100.250/24")]);
}

#[test]
fn an_address_is_announced_five_times_and_on_request() {
    let mut bench = Bench::new();
    bench.plan(&[("a", "192.0.2.1")]);
    bench.probed("192.0.2.1", "eth0", None);
    bench.done();
    let mut times = Vec::new();
    for second in 1..20 {
        bench.after(1000);
        times.extend(bench.done().into_iter().map(|_| second));
    }
    assert_eq!(times, [1, 2, 4, 8]);
    bench.driver.handle(Mail { announce: true, ..Mail::default() }, Events::default(), bench.now);
    assert_eq!(bench.done(), ["announce 192.0.2.1"]);
}

#[test]
fn an_address_goes_after_its_rules() {
    let mut bench = Bench::new();
    bench.plan(&[("a", "192.0.2.1"), ("b", "192.0.2.2")]);
    bench.probed("192.0.2.1", "eth0", None);
    bench.probed("192.0.2.2", "eth0", None);
    bench.done();
    bench.plan(&[("b", "192.0.2.2")]);
    assert_eq!(bench.done(), ["change", "remove 192.0.2.1 eth0"]);
    assert!(!bench.machine.borrow().is_remembered("192.0.2.1".parse().unwrap()));
    assert!(bench.machine.borrow().is_remembered("192.0.2.2".parse().unwrap()));
}

#[test]
fn a_duplicate_is_refused_by_name_and_asked_for_again_while_others_serve() {
    let mut bench = Bench::new();
    bench.plan(&[("a", "192.0.2.1"), ("b", "192.0.2.2")]);
    bench.probed("192.0.2.2", "eth0", None);
    bench.done();
    bench.probed("192.0.2.1", "eth0", Some("02:00:00:00:00:07"));
    assert_eq!(bench.done(), ["change"]);
    let view = bench.view();
    assert_eq!(view.plan.vips.len(), 1);
    assert!(view.settled && view.applied == 1);
    let found = bench.findings().join("\n");
    for part in ["Service shop/a", "192.0.2.1", "portable", "eth0", "02:00:00:00:00:07"] {
        assert!(found.contains(part), "{part}: {found}");
    }
    bench.after(4_000);
    bench.done();
    bench.after(1_000);
    assert!(bench.done().contains(&"probe 192.0.2.1".to_owned()));
    bench.probed("192.0.2.1", "eth0", None);
    assert_eq!(bench.done(), ["change", "add 192.0.2.1 eth0", "announce 192.0.2.1"]);
    assert_eq!((bench.findings(), bench.view().plan.vips.len()), (Vec::new(), 2));
}

#[test]
fn while_the_gateway_drains_vips_are_kept_and_none_is_taken() {
    let mut bench = Bench::new();
    bench.plan(&[("a", "192.0.2.1"), ("b", "192.0.2.2"), ("c", "192.0.2.3")]);
    bench.probed("192.0.2.1", "eth0", None);
    bench.probed("192.0.2.2", "eth0", Some("02:00:00:00:00:07"));
    bench.driver.handle(Mail { drain: true, ..Mail::default() }, Events::default(), bench.now);
    bench.done();
    bench.probed("192.0.2.3", "eth0", None);
    for _ in 0..60 {
        bench.after(1000);
    }
    let done = bench.done();
    let taking = |text: &&String| text.starts_with("add") || text.starts_with("probe");
    assert_eq!(done.iter().find(taking), None, "{done:?}");
    assert!(bench.driver.next().is_none_or(|at| at > bench.now), "it would never rest");
    // What is held is put back.
    bench.machine.borrow_mut().host.addresses.truncate(2);
    bench.events(Events { links: true, ..Events::default() });
    assert!(bench.done().contains(&"add 192.0.2.1 eth0".to_owned()));
}

#[test]
fn after_a_restart_addresses_are_kept_without_asking_and_unwanted_ones_go() {
    let folder = tempfile::tempdir().unwrap();
    let mut first = Bench::at(folder.path(), Machine::default());
    first.plan(&[("a", "192.0.2.1"), ("b", "192.0.2.2")]);
    first.probed("192.0.2.1", "eth0", None);
    first.probed("192.0.2.2", "eth0", None);
    let host = first.machine.borrow().host.clone();
    drop(first);
    let mut second = Bench::at(folder.path(), Machine { host, ..Machine::default() });
    assert_eq!(second.view().host.len(), 2);
    second.plan(&[("b", "192.0.2.2")]);
    let expected = ["load", "add 192.0.2.2 eth0", "remove 192.0.2.1 eth0", "announce 192.0.2.2"];
    assert_eq!(second.done(), expected);
    assert!(second.view().settled);
}

#[test]
fn nothing_new_is_in_force_that_the_disk_has_not() {
    let mut bench = Bench::new();
    bench.plan(&[("a", "192.0.2.1")]);
    bench.probed("192.0.2.1", "eth0", None);
    bench.done();
    let state = bench.machine.borrow().state.clone();
    std::fs::create_dir(state.join(".allocations.new")).unwrap();
    bench.plan(&[("a", "192.0.2.1"), ("b", "192.0.2.2")]);
    // Its endpoints may be known to the kernel, but nothing leads to them.
    assert_eq!(bench.done(), ["change"]);
    let found = bench.findings().join("\n");
    assert!(found.contains("state") && found.contains("not in force"), "{found}");
    assert_eq!((bench.view().applied, bench.view().plan.vips.len()), (1, 1));
    std::fs::remove_dir(state.join(".allocations.new")).unwrap();
    bench.after(200);
    assert_eq!(bench.done(), ["probe 192.0.2.2", "change"]);
    bench.probed("192.0.2.2", "eth0", None);
    assert_eq!(bench.view().applied, 2);
    assert!(bench.findings().is_empty());
}

#[test]
fn a_refused_change_is_loaded_whole_and_a_refused_load_leaves_what_was() {
    let mut bench = Bench::new();
    bench.plan(&[("a", "192.0.2.1")]);
    bench.probed("192.0.2.1", "eth0", None);
    bench.done();
    bench.machine.borrow_mut().refuses.insert("change");
    bench.plan(&[("a", "192.0.2.2")]);
    assert_eq!(bench.done()[..2], ["probe 192.0.2.2", "load"]);
    bench.probed("192.0.2.2", "eth0", None);
    bench.done();
    bench.machine.borrow_mut().refuses.insert("load");
    bench.plan(&[("a", "192.0.2.3")]);
    // The old address stays, as its rules do, and the new one isn't taken.
    bench.probed("192.0.2.3", "eth0", None);
    assert_eq!(bench.done(), ["probe 192.0.2.3"]);
    let view = bench.view();
    assert_eq!((view.desired, view.applied), (3, 2));
    assert_eq!(view.plan.vips[0].address.to_string(), "192.0.2.2");
    assert!(bench.findings()[0].contains("load refused"), "{:?}", bench.findings());
    bench.machine.borrow_mut().refuses.clear();
    bench.after(5_000);
    let done = bench.done();
    assert!(done.contains(&"remove 192.0.2.2 eth0".to_owned()), "{done:?}");
    assert_eq!(bench.view().applied, 3);
}

#[test]
fn a_table_that_others_change_is_loaded_again_but_not_without_end() {
    let mut bench = Bench::new();
    bench.plan(&[("a", "203.0.113.9")]);
    bench.done();
    let mut loads = Vec::new();
    for ms in 0..20_000u64 {
        // Somebody changes it every 10 ms.
        let foreign = (ms % 10 == 0).then(|| "iptables (process 7)".to_owned());
        bench.events(Events { foreign, ..Events::default() });
        loads.extend(bench.done().into_iter().filter(|what| what == "load").map(|_| ms));
        bench.now += Duration::from_millis(1);
    }
    assert_eq!(loads[0], 0);
    assert!(loads.len() < 12, "{loads:?}");
    let repairs = bench.driver.metrics.l4.drift_repairs.get();
    assert_eq!(repairs, loads.len() as u64);
}

#[test]
fn an_address_that_somebody_takes_off_is_put_back() {
    let mut bench = Bench::new();
    bench.plan(&[("a", "192.0.2.1")]);
    bench.probed("192.0.2.1", "eth0", None);
    bench.done();
    let lost: IpAddr = "192.0.2.1".parse().unwrap();
    bench.machine.borrow_mut().host.addresses.retain(|own| own.network.addr() != lost);
    bench.events(Events { links: true, ..Events::default() });
    assert_eq!(bench.done(), ["add 192.0.2.1 eth0", "announce 192.0.2.1"]);
}

#[test]
fn an_address_that_is_not_on_loopback_after_all_has_failed_and_is_tried_again() {
    let mut bench = Bench::new();
    bench.machine.borrow_mut().refuses.insert("settle");
    bench.plan(&[("a", "203.0.113.9"), ("b", "192.0.2.1")]);
    bench.probed("192.0.2.1", "eth0", None);
    let state =
        |bench: &Bench, address: &str| bench.view().vips[&address.parse::<IpAddr>().unwrap()].state;
    assert_eq!((state(&bench, "203.0.113.9"), state(&bench, "192.0.2.1")), ("failed", "held"));
    let found = bench.findings().join("\n");
    assert!(found.contains("203.0.113.9") && found.contains("settle refused"), "{found}");
    assert_eq!(bench.view().applied, 0);
    bench.machine.borrow_mut().refuses.clear();
    bench.done();
    bench.after(5_000);
    assert!(bench.done().contains(&"add 203.0.113.9 lo".to_owned()));
    assert_eq!((state(&bench, "203.0.113.9"), bench.view().applied), ("held", 1));
}

#[test]
fn an_address_goes_to_the_interface_whose_subnet_has_it_and_waits_for_one_that_is_missing() {
    let mut bench = Bench::new();
    bench.plan(&[
        ("a", "198.51.100.1"),
        ("b", "203.0.113.1"),
        ("c", "203.0.113.9"),
        ("d", "10.0.0.1"),
    ]);
    bench.probed("198.51.100.1", "eth2", None);
    bench.probed("203.0.113.1", "eth0", None);
    let interface = |bench: &Bench, address: &str| {
        let vip = bench.view().vips[&address.parse::<IpAddr>().unwrap()].clone();
        (vip.interface, vip.state)
    };
    assert_eq!(interface(&bench, "198.51.100.1"), ("eth2".into(), "held"));
    assert_eq!(interface(&bench, "203.0.113.1"), ("eth0".into(), "held"));
    assert_eq!(interface(&bench, "203.0.113.9"), ("lo".into(), "held"));
    assert_eq!(interface(&bench, "10.0.0.1"), (String::new(), "homeless"));
    let found = bench.findings().join("\n");
    assert!(found.contains("l4.interfaces.private") && found.contains("Service shop/d"), "{found}");
    // The first public interface goes away and comes back.
    bench.done();
    let host = bench.machine.borrow().host.clone();
    bench.machine.borrow_mut().host.interfaces.remove("eth0");
    bench.machine.borrow_mut().host.addresses.retain(|own| own.interface != "eth0");
    bench.events(Events { links: true, ..Events::default() });
    assert_eq!(interface(&bench, "203.0.113.1").1, "homeless");
    bench.machine.borrow_mut().host.interfaces = host.interfaces;
    bench.events(Events { links: true, ..Events::default() });
    assert!(bench.done().contains(&"probe 203.0.113.1".to_owned()));
}

#[test]
fn tracked_connections_to_what_has_gone_are_forgotten_after_the_rules_have_changed() {
    let mut bench = Bench::new();
    bench.plan(&[("a", "203.0.113.9")]);
    bench.done();
    let entry = |answers: &str| Entry {
        protocol: Protocol::Udp,
        destination: "203.0.113.9:53".parse().unwrap(),
        answers: answers.parse().unwrap(),
    };
    bench.machine.borrow_mut().tracked = vec![entry("10.1.0.1:53")];
    bench.plan(&[("a", "203.0.113.9")]);
    assert_eq!(bench.machine.borrow().tracked.len(), 1);
    bench.plan(&[]);
    assert_eq!(bench.done(), ["change", "forget 1", "remove 203.0.113.9 lo"]);
}

#[test]
fn tracked_connections_are_gone_through_at_a_bounded_rate_and_only_if_endpoints_go() {
    let mut bench = Bench::new();
    bench.plan(&[("a", "203.0.113.9")]);
    assert_eq!(bench.looks(), 1);
    bench.endpoints(&["10.1.0.1:53", "10.1.0.2:53"]);
    assert_eq!(bench.looks(), 0);
    let entry = Entry {
        protocol: Protocol::Udp,
        destination: "203.0.113.9:53".parse().unwrap(),
        answers: "10.1.0.1:53".parse().unwrap(),
    };
    bench.machine.borrow_mut().tracked = vec![entry];
    bench.done();
    bench.endpoints(&["10.1.0.2:53"]);
    assert_eq!((bench.looks(), bench.done()), (0, vec!["change".to_owned()]));
    assert_eq!(bench.driver.next(), Some(bench.now + DRAIN_REST));
    bench.after(100);
    assert_eq!((bench.looks(), bench.done()), (1, vec!["forget 1".to_owned()]));
    bench.after(1_000);
    assert_eq!(bench.looks(), 0);
}

#[test]
fn after_a_refused_change_of_endpoints_the_whole_is_loaded_and_changes_go_on() {
    let mut bench = Bench::new();
    bench.plan(&[("a", "203.0.113.9")]);
    bench.done();
    bench.machine.borrow_mut().refuses.insert("change");
    bench.endpoints(&["10.1.0.2:53"]);
    assert_eq!(bench.done(), ["load"]);
    bench.machine.borrow_mut().refuses.insert("load");
    bench.endpoints(&["10.1.0.3:53"]);
    assert_eq!((bench.done(), bench.view().applied), (vec![], 2));
    bench.machine.borrow_mut().refuses.clear();
    bench.after(5_000);
    assert_eq!((bench.done(), bench.view().applied), (vec!["change".to_owned()], 3));
    bench.endpoints(&["10.1.0.3:53"]);
    assert_eq!((bench.done(), bench.view().applied), (vec![], 4));
    bench.events(Events { foreign: Some("x".into()), ..Events::default() });
    bench.after(5_000);
    bench.done();
    bench.endpoints(&["10.1.0.4:53"]);
    assert_eq!((bench.done(), bench.view().applied), (vec!["change".to_owned()], 5));
}

#[test]
fn what_no_change_of_endpoints_touches_stays_the_same_in_memory() {
    let mut bench = Bench::new();
    bench.plan(&[("a", "203.0.113.9")]);
    let before = bench.view();
    bench.endpoints(&["10.1.0.2:53"]);
    let after = bench.view();
    assert_eq!(after.applied, 2);
    assert_eq!(after.plan.services[0].ports[0].endpoints[..], [endpoint("10.1.0.2:53")]);
    assert!(Arc::ptr_eq(&before.vips, &after.vips) && Arc::ptr_eq(&before.on, &after.on));
    assert!(Arc::ptr_eq(&before.host, &after.host));
}

#[test]
fn an_end_that_removes_takes_the_rules_first() {
    let mut bench = Bench::new();
    bench.plan(&[("a", "203.0.113.9")]);
    bench.done();
    bench.driver.remove();
    assert_eq!(bench.done(), ["unload", "remove 203.0.113.9 lo"]);
}

#[test]
fn addresses_go_by_themselves_unless_there_are_too_many_to_say_so_again_and_again() {
    let mut bench = Bench::new();
    let names: Vec<_> = (0..=LIMIT.1)
        .map(|n| (format!("s{n}"), format!("192.0.{}.{}", 2 + n / 256, n % 256)))
        .collect();
    let services: Vec<_> = names.iter().map(|(name, vip)| (name.as_str(), vip.as_str())).collect();
    let claims = services.iter().map(|(_, vip)| Claim::Vip(vip.parse().unwrap())).collect();
    let until = Some(bench.now + Duration::from_millis(1500));
    let holdings = Holdings { claims, until, revision: 1, ..Holdings::default() };
    let (_sender, receiver) = watch::channel(Arc::new(holdings));
    let mail = Mail { holdings: Some(receiver), ..Mail::default() };
    bench.driver.handle(mail, Events::default(), bench.now);
    let (last, others) = services.split_last().unwrap();
    bench.plan(others);
    others.iter().for_each(|(_, vip)| bench.probed(vip, "eth0", None));
    bench.after(400);
    let limits = |bench: &Bench| bench.machine.borrow().limits.clone();
    assert_eq!(limits(&bench).len(), LIMIT.1);
    assert!(limits(&bench).values().all(|seconds| *seconds == 1));
    bench.plan(&services);
    bench.probed(last.1, "eth0", None);
    bench.after(1);
    assert_eq!(bench.view().on.len(), LIMIT.1 + 1);
    assert!(limits(&bench).values().all(|seconds| *seconds == u32::MAX));
    bench.after(500);
    assert!(bench.driver.next().is_none_or(|next| next > bench.now));
}

#[test]
fn a_side_whose_interfaces_are_all_missing_or_down_is_none_to_put_vips_on() {
    let mut bench = Bench::new();
    bench.plan(&[("a", "192.0.2.1")]);
    assert_eq!(bench.view().sides, Some(vec![Visibility::Public]));
    bench.machine.borrow_mut().host.interfaces.remove("eth0");
    bench.machine.borrow_mut().host.up.remove("eth0");
    bench.events(Events { links: true, ..Events::default() });
    assert_eq!(bench.view().sides, Some(vec![Visibility::Public]));
    assert!(
        bench.findings()[0].contains("l4.interfaces.public \"eth0\": this machine has no such")
    );
    bench.machine.borrow_mut().host.up.remove("eth2");
    bench.events(Events { links: true, ..Events::default() });
    assert_eq!(bench.view().sides, Some(vec![]));
    assert!(bench.findings()[1].contains("its link is down"), "{:?}", bench.findings());
}
