use super::*;

fn event(object: usize, note: &str) -> Event {
    Event {
        object: Regarding {
            kind: "Ingress".to_owned(),
            name: format!("web-{object}"),
            uid: Some(object.to_string()),
            ..Regarding::default()
        },
        author: Author::Leader,
        warning: true,
        reason: "Refused".to_owned(),
        action: "Planning".to_owned(),
        note: note.to_owned(),
    }
}

/// Sends all that may be sent now.
fn sent(book: &mut Book, now: Instant) -> usize {
    let mut sent = 0;
    while let Some(event) = book.next(now) {
        book.finished(&event, None, now);
        sent += 1;
    }
    sent
}

#[test]
fn what_holds_is_told_once_and_again_before_it_is_forgotten() {
    let limits = Limits::default();
    let (mut book, now) = (Book::new(limits), Instant::now());
    let all = [event(0, "a")];
    for _ in 0..10 {
        book.tell(all.iter(), now);
    }
    assert_eq!(sent(&mut book, now), 1);
    book.tell(all.iter(), now + Duration::from_secs(60));
    assert_eq!(sent(&mut book, now + limits.holds - Duration::from_secs(1)), 0);
    assert_eq!(book.wake(), Some(now + limits.holds));
    assert_eq!(sent(&mut book, now + limits.holds), 1);
}

#[test]
fn what_comes_and_goes_is_raised_every_few_minutes_at_most() {
    let limits = Limits::default();
    let (mut book, start) = (Book::new(limits), Instant::now());
    let all = [event(0, "a")];
    let mut count = 0;
    for second in 0..600 {
        let now = start + Duration::from_secs(second);
        book.tell(all.iter().take(usize::from(second % 2 == 0)), now);
        count += sent(&mut book, now);
    }
    assert_eq!(count, 2);
}

#[test]
fn ten_thousand_broken_objects_are_told_of_one_after_the_other() {
    let limits = Limits::default();
    let (mut book, start) = (Book::new(limits), Instant::now());
    let all: Vec<Event> = (0..10_000).map(|object| event(object, "broken")).collect();
    book.tell(all.iter(), start);
    assert_eq!(sent(&mut book, start), limits.burst as usize);
    let second = Duration::from_secs(1);
    let per_second = sent(&mut book, start + second);
    assert!((9..=10).contains(&per_second), "{per_second}");
    let (mut now, mut count) = (start + second, limits.burst as usize + per_second);
    while count < all.len() {
        let wake = book.wake().unwrap();
        assert!(wake > now);
        now = wake;
        count += sent(&mut book, now);
    }
    let took = now.duration_since(start);
    assert!(took < Duration::from_secs(1_100), "{took:?}");
}

#[test]
fn one_object_does_not_use_up_the_budget_of_the_others() {
    let limits = Limits::default();
    let (mut book, now) = (Book::new(limits), Instant::now());
    let mut all: Vec<Event> = (0..30).map(|n| event(0, &format!("fault {n}"))).collect();
    all.push(event(1, "broken"));
    book.tell(all.iter(), now);
    let mut objects = Vec::new();
    while let Some(event) = book.next(now) {
        book.finished(&event, None, now);
        objects.push(event.object.name);
    }
    assert_eq!(objects.iter().filter(|name| *name == "web-0").count(), 10);
    assert!(objects.contains(&"web-1".to_owned()));
}

#[test]
fn what_is_remembered_is_bounded() {
    let limits = Limits { remembered: 100, burst: 1_000, ..Limits::default() };
    let (mut book, now) = (Book::new(limits), Instant::now());
    for round in 0..20 {
        let all: Vec<Event> = (0..80).map(|n| event(round * 80 + n, "broken")).collect();
        book.tell(all.iter(), now);
        assert!(sent(&mut book, now) <= 80);
        assert!(book.len() <= 100);
    }
    let all: Vec<Event> = (0..300).map(|n| event(n, "broken")).collect();
    book.tell(all.iter(), now);
    assert_eq!((book.len(), book.dropped()), (100, 200));
}

#[test]
fn what_cannot_be_sent_is_tried_again_unless_it_holds_no_more() {
    let (mut book, now) = (Book::new(Limits::default()), Instant::now());
    let all = [event(0, "a"), event(1, "a")];
    book.tell(all.iter(), now);
    let rest = Duration::from_secs(30);
    while let Some(event) = book.next(now) {
        book.finished(&event, Some(rest), now);
    }
    book.tell(all.iter().take(1), now);
    assert_eq!(sent(&mut book, now + rest), 1);
}

#[test]
fn where_no_event_is_taken_none_is_sent_for_a_while() {
    let (mut book, now) = (Book::new(Limits::default()), Instant::now());
    let all: Vec<Event> = (0..100).map(|object| event(object, "a")).collect();
    book.tell(all.iter(), now);
    let first = book.next(now).unwrap();
    let rest = Duration::from_secs(120);
    book.pause(now + rest);
    book.finished(&first, Some(Duration::from_secs(30)), now);
    assert_eq!((book.next(now), book.wake()), (None, Some(now + rest)));
    assert_eq!(sent(&mut book, now + rest), 50);
}
