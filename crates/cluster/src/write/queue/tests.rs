use serde_json::json;

use super::super::Kind;
use super::*;

fn patch(name: &str, ip: &str) -> Patch {
    Patch {
        target: Target {
            kind: Kind::Ingress,
            namespace: Some("shop".to_owned()),
            name: name.to_owned(),
        },
        uid: Some(format!("uid-{name}")),
        author: Author::Leader,
        status: StatusChange::Apply {
            fields: json!({"loadBalancer": {"ingress": [{"ip": ip}]}}),
            force: true,
        },
        finalizer: None,
    }
}

fn written(patches: &[Patch]) -> Written {
    Written { patches: patches.to_vec(), events: Vec::new() }
}

/// A queue, and the time in it.
struct World {
    queue: Queue,
    now: Instant,
}

impl World {
    fn new() -> Self {
        Self { queue: Queue::new(1), now: Instant::now() }
    }

    fn want(&mut self, patches: &[Patch]) {
        self.queue.want(&written(patches), true, self.now);
    }

    /// What is begun now.
    fn begun(&mut self) -> Vec<Arc<Patch>> {
        std::iter::from_fn(|| self.queue.next(self.now)).collect()
    }

    /// All that is begun becomes so.
    fn run(&mut self, outcome: &Outcome) -> usize {
        let begun = self.begun();
        for patch in &begun {
            self.queue.finished(&patch.target, Some(outcome.clone()), self.now);
        }
        begun.len()
    }

    /// Goes on to the next time that something may be done; how long that is.
    fn wait(&mut self) -> Duration {
        let wake = self.queue.wake().expect("something is to be done");
        let waited = wake.saturating_duration_since(self.now);
        self.now = wake.max(self.now);
        waited
    }
}

#[test]
fn nothing_is_made_twice_while_it_is_not_seen() {
    let mut world = World::new();
    let mut one = patch("a", "192.0.2.1");
    world.want(std::slice::from_ref(&one));
    assert_eq!(world.run(&Outcome::Done), 1);
    // Another look, a second later, at objects that are still as they were.
    if let StatusChange::Apply { fields, .. } = &mut one.status {
        fields["conditions"] = json!([]);
    }
    world.want(&[patch("a", "192.0.2.1")]);
    assert_eq!(world.run(&Outcome::Done), 0);
    // Lost, or undone at once: it is made again, and later each time.
    assert_eq!(world.wait(), UNSEEN);
    assert_eq!(world.run(&Outcome::Done), 1);
    assert!(world.wait() > UNSEEN);
}

#[test]
fn times_of_conditions_make_no_change() {
    let mut world = World::new();
    let at = |time: &str| {
        let mut patch = patch("a", "192.0.2.1");
        patch.status = StatusChange::Apply {
            fields: json!({"conditions": [{"type": "A", "lastTransitionTime": time}]}),
            force: true,
        };
        patch
    };
    world.want(&[at("one")]);
    assert_eq!(world.run(&Outcome::Done), 1);
    world.want(&[at("two")]);
    assert_eq!(world.run(&Outcome::Done), 0);
}

#[test]
fn the_newest_counts_also_while_an_older_one_is_under_way() {
    let mut world = World::new();
    world.want(&[patch("a", "192.0.2.1")]);
    let first = world.begun();
    world.want(&[patch("a", "192.0.2.2")]);
    world.want(&[patch("a", "192.0.2.3")]);
    assert_eq!(world.begun(), []);
    world.queue.finished(&first[0].target, Some(Outcome::Done), world.now);
    let second = world.begun();
    assert_eq!(*second[0], patch("a", "192.0.2.3"));
    assert_eq!(second.len(), 1);
}

#[test]
fn who_undoes_a_change_over_and_over_is_answered_ever_later() {
    let mut world = World::new();
    let mut rests = Vec::new();
    for _ in 0..10 {
        world.want(&[patch("a", "192.0.2.1")]);
        if world.queue.is_idle() {
            rests.push(world.wait());
        }
        assert_eq!(world.run(&Outcome::Done), 1);
        // It was seen as it should be, and is undone.
        world.want(&[]);
    }
    assert!(rests.len() >= 4 && rests.is_sorted() && rests[3] >= 4 * rests[0], "{rests:?}");
}

#[test]
fn what_fails_is_tried_again_ever_later_and_keeps_nothing_else() {
    let mut world = World::new();
    world.want(&[patch("a", "192.0.2.1"), patch("b", "192.0.2.1")]);
    let begun = world.begun();
    assert_eq!(begun.len(), 2);
    world.queue.finished(&begun[0].target, Some(Outcome::Failed("no".into())), world.now);
    world.queue.finished(&begun[1].target, Some(Outcome::Done), world.now);
    let mut rests = Vec::new();
    for _ in 0..12 {
        rests.push(world.wait());
        assert_eq!(world.run(&Outcome::Failed("no".into())), 1);
        world.want(&[patch("a", "192.0.2.1")]);
        assert_eq!(world.begun(), []);
    }
    assert!(rests[0] < Duration::from_millis(501), "{rests:?}");
    assert!(rests[11] > Duration::from_secs(29) && rests[11] <= REST.1, "{rests:?}");
}

#[test]
fn an_api_server_with_too_much_to_do_is_left_alone() {
    let mut world = World::new();
    let many: Vec<Patch> = (0..100).map(|n| patch(&format!("i{n}"), "192.0.2.1")).collect();
    world.want(&many);
    let begun = world.begun();
    assert_eq!(begun.len(), AT_ONCE);
    let later = Duration::from_secs(7);
    world.queue.finished(&begun[0].target, Some(Outcome::Busy(Some(later))), world.now);
    assert_eq!(world.begun(), []);
    for patch in &begun[1..] {
        world.queue.finished(&patch.target, Some(Outcome::Done), world.now);
    }
    assert_eq!(world.begun(), []);
    assert_eq!(world.wait(), later);
    let mut made = begun.len() - 1;
    while made < 100 {
        made += world.run(&Outcome::Done);
    }
    assert_eq!((made, world.run(&Outcome::Done)), (100, 0));
}

#[test]
fn only_the_leader_writes_what_is_everybodys() {
    let mut world = World::new();
    let own = Patch { author: Author::Own, ..patch("b", "192.0.2.1") };
    let all = written(&[patch("a", "192.0.2.1"), own]);
    world.queue.want(&all, false, world.now);
    let begun = world.begun();
    assert_eq!((begun.len(), begun[0].author), (1, Author::Own));
    world.queue.finished(&begun[0].target, Some(Outcome::Done), world.now);
    world.queue.want(&all, true, world.now);
    let begun = world.begun();
    assert_eq!((begun.len(), begun[0].author), (1, Author::Leader));
    // Broken off when another edge leads: nothing of it is left.
    world.queue.want(&all, false, world.now);
    world.queue.finished(&begun[0].target, None, world.now);
    assert_eq!((world.begun(), world.queue.is_idle()), (vec![], true));
}

#[test]
fn missing_verbs_and_other_writers_are_told_and_forgotten_once_it_works() {
    let mut world = World::new();
    world.want(&[patch("a", "192.0.2.1"), patch("b", "192.0.2.1")]);
    let begun = world.begun();
    let resource = "ingresses/status".to_owned();
    let forbidden = Outcome::Forbidden { verb: "patch", resource };
    world.queue.finished(&begun[0].target, Some(forbidden), world.now);
    let foreign = Outcome::Foreign("cloud".to_owned());
    world.queue.finished(&begun[1].target, Some(foreign), world.now);
    let texts: Vec<String> = world.queue.findings().iter().map(ToString::to_string).collect();
    assert!(texts[0].contains("RBAC doesn't allow patch of ingresses/status"), "{texts:?}");
    assert!(texts[1].contains("Ingress shop/b: status: cloud writes the same"), "{texts:?}");
    let mut made = 0;
    while made < 2 {
        assert!(world.wait() >= LONG_REST / 2 || made > 0);
        made += world.run(&Outcome::Done);
    }
    assert_eq!(world.queue.findings(), []);
}

#[test]
fn the_last_word_waits_for_no_calm_but_for_what_failed() {
    let mut world = World::new();
    for number in 0..20 {
        world.want(&[patch("a", &format!("192.0.2.{number}"))]);
        world.run(&Outcome::Done);
    }
    assert_eq!(world.begun().len(), 0, "it rests");
    world.queue.hurry();
    assert_eq!(world.run(&Outcome::Done), 1);
    world.want(&[patch("a", "192.0.2.99")]);
    assert_eq!(world.run(&Outcome::Busy(None)), 1);
    assert_eq!(world.begun().len(), 0, "what failed rests");
}
