use super::*;

const STEP: Duration = Duration::from_millis(10);

/// Two edges and a node, with a clock and a network that tests turn.
struct Lab {
    now: Instant,
    start: Instant,
    choice: Choice,
    nonce: u64,
    /// Edges that answer, and what.
    up: BTreeMap<String, Answer>,
    delay: Duration,
    /// Answers under way.
    flying: Vec<(Instant, String, Nonce, Answer)>,
    /// Of every so many probes one is lost.
    lose: Option<u64>,
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("default", name)
}

fn answer(edge: &str, vpn: &[(&str, u64)]) -> Answer {
    let vpn = vpn.iter().map(|(name, epoch)| (key(name), *epoch)).collect();
    let holds = Holds { vpn, vips: Vec::new() };
    Answer {
        edge: edge.to_owned(),
        incarnation: 1,
        drain: false,
        hash: holds.hash(),
        holds: Some(holds),
    }
}

impl Lab {
    fn new(edges: &[&str]) -> Self {
        let start = Instant::now();
        let mut choice = Choice::new("node-1", Timing::default());
        let told = edges.iter().map(|name| ((*name).to_owned(), Told::default())).collect();
        choice.set_edges(told, start);
        let up = edges.iter().map(|name| ((*name).to_owned(), answer(name, &[]))).collect();
        let delay = Duration::from_millis(5);
        Self { now: start, start, choice, nonce: 0, up, delay, flying: Vec::new(), lose: None }
    }

    fn step(&mut self) {
        self.now += STEP;
        for due in self.choice.due(self.now) {
            self.nonce += 1;
            let mut nonce = Nonce([0; 12]);
            nonce.0[..8].copy_from_slice(&self.nonce.to_be_bytes());
            self.choice.sent(&due.edge, nonce, self.now);
            let is_lost = self.lose.is_some_and(|every| self.nonce.is_multiple_of(every));
            if let Some(answer) = self.up.get(&due.edge).filter(|_| !is_lost) {
                let mut answer = answer.clone();
                if due.knows == answer.hash {
                    answer.holds = None;
                }
                self.flying.push((self.now + self.delay, due.edge, nonce, answer));
            }
        }
        let now = self.now;
        let (come, flying) = self.flying.drain(..).partition(|(at, ..)| *at <= now);
        self.flying = flying;
        let come: Vec<(Instant, String, Nonce, Answer)> = come;
        for (_, edge, nonce, answer) in come {
            self.choice.answered(&edge, nonce, &answer, now);
        }
        self.choice.tick(now);
    }

    fn run(&mut self, time: Duration) {
        let until = self.now + time;
        while self.now < until {
            self.step();
        }
    }

    /// How long until it holds.
    fn until(&mut self, what: impl Fn(&Chosen) -> bool) -> Duration {
        let from = self.now;
        while !what(&self.choice.chosen()) {
            self.step();
            assert!(self.now - from < Duration::from_secs(60), "never");
        }
        self.now - from
    }

    fn egress(&self) -> Option<String> {
        self.choice.chosen().egress
    }
}

const MANY: [&str; 2] = ["edge-1", "edge-2"];

fn other(edge: &str) -> &'static str {
    if edge == MANY[0] { MANY[1] } else { MANY[0] }
}

#[test]
fn an_edge_that_stops_is_left_within_a_second() {
    for stop in 0..25 {
        let mut lab = Lab::new(&MANY);
        lab.run(Duration::from_secs(2) + STEP * stop);
        let first = lab.egress().unwrap();
        lab.up.remove(&first);
        let second = other(&first).to_owned();
        let took = lab.until(|chosen| chosen.egress.as_ref() == Some(&second));
        assert!(took <= Duration::from_secs(1), "{took:?}");
        assert!(took > Duration::from_millis(500), "{took:?}: three are to be missed");
    }
}

#[test]
fn single_losses_are_no_loss() {
    let mut lab = Lab::new(&MANY);
    // Coprime to the number of edges, so that each has losses.
    lab.lose = Some(3);
    lab.run(Duration::from_secs(2));
    let first = lab.egress();
    assert!(first.is_some());
    let until = lab.now + Duration::from_secs(60);
    while lab.now < until {
        lab.step();
        assert_eq!(lab.egress(), first);
    }
    for edge in MANY {
        assert_eq!(lab.choice.state(edge).unwrap().0, State::Alive);
    }
}

#[test]
fn a_slow_link_is_no_loss() {
    let mut lab = Lab::new(&MANY);
    lab.delay = Duration::from_millis(600);
    lab.run(Duration::from_secs(20));
    assert_eq!(lab.choice.state("edge-1").unwrap().0, State::Alive);
    let round_trip = lab.choice.state("edge-1").unwrap().1.unwrap();
    assert!(round_trip >= Duration::from_millis(600), "{round_trip:?}");
}

#[test]
fn the_preferred_edge_is_gone_back_to_only_after_a_while() {
    let mut lab = Lab::new(&MANY);
    lab.run(Duration::from_secs(40));
    let preferred = lab.egress().unwrap();
    let answers = lab.up.remove(&preferred).unwrap();
    lab.run(Duration::from_secs(2));
    assert_ne!(lab.egress().unwrap(), preferred);
    lab.up.insert(preferred.clone(), answers);
    let took = lab.until(|chosen| chosen.egress.as_ref() == Some(&preferred));
    assert!(took >= Timing::default().back_after, "{took:?}");
    // One that comes and goes isn't gone back to at all.
    let answers = lab.up.remove(&preferred).unwrap();
    lab.run(Duration::from_secs(2));
    for _ in 0..20 {
        lab.up.insert(preferred.clone(), answers.clone());
        lab.run(Duration::from_secs(5));
        assert_ne!(lab.egress().unwrap(), preferred);
        lab.up.remove(&preferred);
        lab.run(Duration::from_secs(2));
    }
}

#[test]
fn a_draining_edge_is_left_at_its_next_answer() {
    let mut lab = Lab::new(&MANY);
    lab.run(Duration::from_secs(2));
    let first = lab.egress().unwrap();
    lab.up.get_mut(&first).unwrap().drain = true;
    let second = other(&first).to_owned();
    let took = lab.until(|chosen| chosen.egress.as_ref() == Some(&second));
    assert!(took <= Duration::from_millis(300), "{took:?}");
    // Unless it is the only one.
    lab.up.remove(&second);
    assert!(lab.until(|chosen| chosen.egress.as_ref() == Some(&first)) <= Duration::from_secs(1));
}

#[test]
fn a_connection_goes_by_the_edge_that_says_that_it_holds_it() {
    let mut lab = Lab::new(&MANY);
    let told = Told { vpn: BTreeSet::from([key("a")]), drain: false };
    let all = [("edge-1".to_owned(), told), ("edge-2".to_owned(), Told::default())];
    lab.choice.set_edges(all.into(), lab.now);
    // Before anyone has spoken, what stands in the cluster counts.
    assert_eq!(lab.choice.chosen().vpn[&key("a")], "edge-1");
    lab.up.insert("edge-2".to_owned(), answer("edge-2", &[("a", 2)]));
    lab.run(Duration::from_secs(1));
    assert_eq!(lab.choice.chosen().vpn[&key("a")], "edge-2");
    // Both say so: the newer epoch.
    lab.up.insert("edge-1".to_owned(), answer("edge-1", &[("a", 3)]));
    lab.run(Duration::from_secs(1));
    assert_eq!(lab.choice.chosen().vpn[&key("a")], "edge-1");
    lab.up.insert("edge-2".to_owned(), answer("edge-2", &[]));
    lab.up.remove("edge-1");
    let took = lab.until(|chosen| !chosen.vpn.contains_key(&key("a")));
    assert!(took <= Duration::from_secs(1), "{took:?}");
}

#[test]
fn a_connection_moves_as_soon_as_the_next_holder_says_so() {
    let mut lab = Lab::new(&MANY);
    lab.up.insert("edge-1".to_owned(), answer("edge-1", &[("a", 2)]));
    lab.run(Duration::from_secs(1));
    lab.up.insert("edge-1".to_owned(), answer("edge-1", &[]));
    lab.up.insert("edge-2".to_owned(), answer("edge-2", &[("a", 3)]));
    let took = lab.until(|chosen| chosen.vpn.get(&key("a")).is_some_and(|edge| edge == "edge-2"));
    assert!(took <= Duration::from_millis(300), "{took:?}");
}

#[test]
fn what_is_known_is_not_repeated_and_what_is_not_is_asked_for() {
    let mut lab = Lab::new(&["edge-1"]);
    lab.up.insert("edge-1".to_owned(), answer("edge-1", &[("a", 2)]));
    lab.run(Duration::from_secs(1));
    let hash = lab.up["edge-1"].hash;
    lab.now += Duration::from_secs(1);
    assert_eq!(lab.choice.due(lab.now), [Due { edge: "edge-1".to_owned(), knows: hash }]);
    let nonce = Nonce([1; 12]);
    lab.choice.sent("edge-1", nonce, lab.now);
    let changed = Answer { holds: None, hash: 77, ..lab.up["edge-1"].clone() };
    assert_eq!(lab.choice.answered("edge-1", nonce, &changed, lab.now), Taken::Changed);
    lab.now += Duration::from_secs(1);
    assert_eq!(lab.choice.due(lab.now)[0].knows, 0);
}

#[test]
fn answers_that_nobody_asked_for_are_refused() {
    let mut lab = Lab::new(&MANY);
    lab.run(Duration::from_secs(1));
    let nonce = Nonce([7; 12]);
    let now = lab.now;
    let take =
        |lab: &mut Lab, edge: &str, said: &Answer| lab.choice.answered(edge, nonce, said, now);
    assert_eq!(take(&mut lab, "edge-1", &answer("edge-1", &[])), Taken::Refused);
    lab.choice.sent("edge-1", nonce, now);
    assert_eq!(take(&mut lab, "edge-1", &answer("edge-2", &[])), Taken::Refused);
    assert_eq!(take(&mut lab, "edge-3", &answer("edge-3", &[])), Taken::Refused);
    let former = Answer { incarnation: 0, ..answer("edge-1", &[]) };
    assert_eq!(take(&mut lab, "edge-1", &former), Taken::Refused);
    // And each is taken once.
    lab.choice.sent("edge-1", nonce, now);
    assert_eq!(take(&mut lab, "edge-1", &answer("edge-1", &[])), Taken::Same);
    assert_eq!(take(&mut lab, "edge-1", &answer("edge-1", &[])), Taken::Refused);
}

#[test]
fn nodes_spread_over_edges() {
    let mut counts = BTreeMap::<String, usize>::new();
    for node in 0..300 {
        let node = format!("node-{node}");
        let best = ["edge-1", "edge-2", "edge-3"].iter().min_by_key(|edge| preference(&node, edge));
        *counts.entry((*best.unwrap()).to_owned()).or_default() += 1;
    }
    assert!(counts.values().all(|count| (70..130).contains(count)), "{counts:?}");
}

#[test]
fn it_says_when_it_has_something_to_do() {
    let mut lab = Lab::new(&MANY);
    assert_eq!(lab.choice.next(), Some(lab.start));
    lab.run(Duration::from_secs(1));
    let next = lab.choice.next().unwrap();
    assert!(next > lab.now && next <= lab.now + Duration::from_millis(250));
}
