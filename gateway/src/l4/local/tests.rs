use super::*;

/// Routes as a kernel has them, and what was done to them.
#[derive(Default)]
struct Fake {
    routes: BTreeSet<Ipv4Net>,
    single: BTreeSet<Ipv4Addr>,
    refuses: Vec<Ipv4Net>,
    done: Vec<String>,
    /// Must be held at any time.
    always: Vec<Ipv4Addr>,
}

impl Fake {
    fn change(
        &mut self,
        networks: &[Ipv4Net],
        word: &str,
        change: fn(&mut BTreeSet<Ipv4Net>, Ipv4Net),
    ) -> Vec<Result<(), Fault>> {
        let mut results = Vec::new();
        for network in networks {
            if self.refuses.contains(network) {
                results.push(Err(Fault(format!("{network} refused"))));
                continue;
            }
            change(&mut self.routes, *network);
            self.done.push(format!("{word}{network}"));
            self.check();
            results.push(Ok(()));
        }
        results
    }

    fn check(&self) {
        for address in &self.always {
            let is_held = self.routes.iter().any(|network| network.contains(address));
            assert!(is_held || self.single.contains(address), "{address} after {:?}", self.done);
        }
    }

    fn done(&mut self) -> String {
        std::mem::take(&mut self.done).join(" ")
    }
}

impl Routes for Fake {
    fn add(&mut self, networks: &[Ipv4Net]) -> Vec<Result<(), Fault>> {
        self.change(networks, "+", |routes, network| _ = routes.insert(network))
    }

    fn remove(&mut self, networks: &[Ipv4Net]) -> Vec<Result<(), Fault>> {
        self.change(networks, "-", |routes, network| _ = routes.remove(&network))
    }

    fn remove_address(&mut self, address: Ipv4Addr) -> Result<(), Fault> {
        self.single.remove(&address);
        self.done.push(format!("-{address}"));
        self.check();
        Ok(())
    }
}

fn ip(last: u8) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, last)
}

fn net(text: &str) -> Ipv4Net {
    text.parse().unwrap()
}

/// With these of 192.0.2.0/24, settled.
fn with(lasts: impl IntoIterator<Item = u8>) -> (Local, Fake) {
    let (mut local, mut kernel) = (Local::default(), Fake::default());
    lasts.into_iter().for_each(|last| local.add(ip(last)));
    assert_eq!(local.settle(&mut kernel), []);
    (local, kernel)
}

#[test]
fn the_fewest_prefixes_hold_the_addresses_and_no_other() {
    let (mut local, mut kernel) = with([0, 1, 2, 3, 4, 5, 7]);
    assert_eq!(kernel.done(), "+192.0.2.0/30 +192.0.2.4/31 +192.0.2.7/32");
    local.add(ip(0));
    assert_eq!((local.settle(&mut kernel), kernel.done()), (Vec::new(), String::new()));
    let many = (0..0x2_0001).map(|number| Ipv4Addr::from_bits(0x0a00_0000 + number)).collect();
    let expected = ["10.0.0.0/16", "10.1.0.0/16", "10.2.0.0/32"];
    assert_eq!(fewest(&many), expected.map(net).into());
}

#[test]
fn an_address_that_stays_is_held_all_the_time() {
    let (mut local, mut kernel) = with(0..=6);
    kernel.always = (0..=6).map(ip).collect();
    kernel.done();
    local.add(ip(7));
    local.settle(&mut kernel);
    assert_eq!(kernel.done(), "+192.0.2.0/29 -192.0.2.0/30 -192.0.2.4/31 -192.0.2.6/32");
    kernel.always = (1..=7).map(ip).collect();
    local.remove(&mut kernel, ip(0)).unwrap();
    local.settle(&mut kernel);
    assert_eq!(kernel.done(), "+192.0.2.1/32 +192.0.2.2/31 +192.0.2.4/30 -192.0.2.0/29");
}

#[test]
fn a_refused_route_fails_the_addresses_that_no_other_holds_and_is_tried_again() {
    let (mut local, mut kernel) = with([0, 1]);
    kernel.done();
    kernel.always = vec![ip(0), ip(1)];
    kernel.refuses = vec![net("192.0.2.0/30")];
    [2, 3, 9].into_iter().for_each(|last| local.add(ip(last)));
    let fault = Fault("192.0.2.0/30 refused".into());
    assert_eq!(local.settle(&mut kernel), [(ip(2), fault.clone()), (ip(3), fault)]);
    assert_eq!(kernel.done(), "+192.0.2.9/32");
    assert_eq!(local.addresses().collect::<Vec<_>>(), [ip(0), ip(1), ip(9)]);
    kernel.refuses.clear();
    local.add(ip(2));
    local.add(ip(3));
    assert_eq!(local.settle(&mut kernel), []);
    assert_eq!(kernel.done(), "+192.0.2.0/30 -192.0.2.0/31");
}

#[test]
fn a_route_that_can_not_be_removed_is_tried_again() {
    let (mut local, mut kernel) = with([5]);
    kernel.done();
    kernel.refuses = vec![net("192.0.2.5/32")];
    local.remove(&mut kernel, ip(5)).unwrap();
    assert_eq!(local.settle(&mut kernel), []);
    kernel.refuses.clear();
    local.settle(&mut kernel);
    assert_eq!(kernel.done(), "-192.0.2.5/32");
}

#[test]
fn what_is_there_at_the_start_stays_until_it_is_removed_and_is_aggregated() {
    let (mut local, mut kernel) = (Local::default(), Fake::default());
    kernel.always = vec![ip(1)];
    kernel.routes = ["192.0.2.0/32", "192.0.2.1/32", "192.0.2.8/31"].map(net).into();
    local.look(kernel.routes.iter().copied().chain([net("10.0.0.0/8")]).collect(), BTreeMap::new());
    assert_eq!(local.addresses().collect::<Vec<_>>(), [0, 1, 8, 9].map(ip));
    local.remove(&mut kernel, ip(9)).unwrap();
    local.settle(&mut kernel);
    let expected = "+192.0.2.0/31 +192.0.2.8/32 -192.0.2.0/32 -192.0.2.1/32 -192.0.2.8/31";
    assert_eq!(kernel.done(), expected);
}

#[test]
fn single_addresses_go_once_a_route_holds_them_but_foreign_ones_stay() {
    let (mut local, mut kernel) = (Local::default(), Fake::default());
    kernel.always = vec![ip(1), ip(2)];
    kernel.single = [1, 2, 3, 4].map(ip).into();
    let marked = [(ip(1), true), (ip(2), false), (ip(3), true), (ip(4), true)];
    local.look(Vec::new(), marked.into());
    local.add(ip(1));
    local.add(ip(2));
    local.remove(&mut kernel, ip(4)).unwrap();
    assert_eq!(local.settle(&mut kernel), []);
    // The third is neither wanted nor given up yet.
    assert_eq!(kernel.done(), "-192.0.2.4 +192.0.2.1/32 +192.0.2.2/32 -192.0.2.1");
    assert_eq!(kernel.single, [2, 3].map(ip).into());
}
