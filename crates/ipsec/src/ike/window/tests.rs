use super::*;

#[test]
fn one_request_at_a_time_and_the_others_in_order() {
    let settings = Settings::default();
    let now = Instant::now();
    let mut window = Outgoing::new(2);
    window.push("b");
    window.push("c");
    window.push_first("a");
    let first = window.pop().unwrap();
    window.sent(first, vec![vec![1]], now, &settings);
    assert_eq!(window.pop(), None, "one is on its way");
    assert!(window.answered(1).is_none() && window.answered(3).is_none());
    assert_eq!(window.answered(2).unwrap().what, "a");
    assert!(window.answered(2).is_none(), "answered already");
    assert_eq!((window.pop(), window.pop(), window.next_id()), (Some("b"), Some("c"), Some(3)));
}

#[test]
fn pauses_between_tries_grow_up_to_the_most_and_then_it_is_given_up() {
    let settings = Settings::default();
    let start = Instant::now();
    let mut now = start;
    let mut window = Outgoing::new(0);
    window.sent((), Vec::new(), now, &settings);
    let mut pauses = Vec::new();
    let given_up = loop {
        match window.due(now, &settings, None) {
            Due::Wait(until) => {
                pauses.push(until - now);
                now = until;
            }
            Due::Again => {}
            Due::GiveUp => break now - start,
        }
    };
    assert_eq!(pauses.len(), 6);
    assert_eq!(pauses[0], Duration::from_millis(500));
    assert!(pauses.windows(2).all(|pair| pair[0] < pair[1]), "{pauses:?}");
    assert!(given_up > Duration::from_secs(15) && given_up < Duration::from_secs(25));
}

#[test]
fn a_timeout_ends_it_exactly_then() {
    let settings = Settings::default();
    let start = Instant::now();
    for seconds in [1, 7, 300] {
        let mut now = start;
        let mut window = Outgoing::new(0);
        window.sent((), Vec::new(), now, &settings);
        let timeout = Some(Duration::from_secs(seconds));
        loop {
            match window.due(now, &settings, timeout) {
                Due::Wait(until) => now = until,
                Due::Again => {}
                Due::GiveUp => break,
            }
        }
        assert_eq!(now - start, Duration::from_secs(seconds));
    }
}

#[test]
fn the_last_answer_is_given_again_and_older_requests_are_outside() {
    let mut window = Incoming::new(5);
    assert_eq!(window.place(5), Place::Next);
    assert_eq!(window.place(4), Place::Again(&[]));
    window.answered(vec![vec![9]]);
    assert_eq!(window.place(5), Place::Again(&[vec![9]]));
    assert_eq!(window.place(6), Place::Next);
    for id in [0, 4, 7, u32::MAX] {
        assert_eq!(window.place(id), Place::Outside, "{id}");
    }
    assert_eq!(Incoming::new(0).place(u32::MAX), Place::Outside);
}
