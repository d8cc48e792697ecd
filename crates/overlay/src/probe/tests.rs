use super::*;

fn key(number: u8) -> PrivateKey {
    PrivateKey::new([number; 32])
}

fn pairs() -> (Pair, Pair) {
    let (one, two) = (key(1), key(2));
    (Pair::new(&one, &two.public()).unwrap(), Pair::new(&two, &one.public()).unwrap())
}

fn probe() -> Message {
    let probe = Probe { node: "node-1".to_owned(), generation: 3, use_key: true, knows: 0 };
    Message { sequence: 7, answers: None, body: Body::Probe(probe) }
}

fn holds() -> Holds {
    Holds {
        vpn: BTreeMap::from([(ObjectKey::new("a", "b"), 4), (ObjectKey::new("a", "c"), 1)]),
        vips: vec!["192.0.2.1".parse().unwrap(), "2001:db8::1".parse().unwrap()],
    }
}

fn all() -> Vec<Message> {
    let nonce = Some(Nonce([9; 12]));
    let answer = Answer {
        edge: "edge-1".to_owned(),
        incarnation: 5,
        drain: false,
        hash: holds().hash(),
        holds: Some(holds()),
    };
    let brief = Answer { holds: None, drain: true, ..answer.clone() };
    let message = |answers, body| Message { sequence: u64::MAX, answers, body };
    vec![
        probe(),
        message(nonce, Body::Answer(answer)),
        message(nonce, Body::Answer(brief)),
        message(None, Body::AliveAsked(1)),
        message(nonce, Body::Alive(2)),
        message(None, Body::PromiseAsked(b"for two seconds".to_vec())),
        message(nonce, Body::Promise(Vec::new())),
        message(nonce, Body::Behind(7)),
    ]
}

#[test]
fn what_one_seals_the_other_opens() {
    let (one, two) = pairs();
    for message in all() {
        let datagram = one.seal(Nonce([5; 12]), &message).unwrap();
        let (from, to) = parties(&datagram).unwrap();
        assert_eq!((from, to), (Hint::of(&key(1).public()), Hint::of(&key(2).public())));
        assert_eq!(two.open(&datagram).unwrap(), (Nonce([5; 12]), message));
    }
}

#[test]
fn ones_own_message_is_not_the_others() {
    let (one, two) = pairs();
    let datagram = one.seal(Nonce([5; 12]), &probe()).unwrap();
    assert_eq!(one.open(&datagram), Err(ProbeError::OtherKey));
    // Nor if who it is from and for is changed.
    let mut turned = datagram.clone();
    turned[4..12].copy_from_slice(&datagram[12..20]);
    turned[12..20].copy_from_slice(&datagram[4..12]);
    assert_eq!(one.open(&turned), Err(ProbeError::Unauthentic));
    assert!(two.open(&datagram).is_ok());
}

#[test]
fn a_changed_octet_is_noticed_wherever_it_is() {
    let (one, two) = pairs();
    let datagram = one.seal(Nonce([5; 12]), &probe()).unwrap();
    for place in 0..datagram.len() {
        let mut changed = datagram.clone();
        changed[place] ^= 1;
        assert!(two.open(&changed).is_err(), "octet {place}");
        assert!(two.open(&datagram[..place]).is_err(), "cut off at {place}");
    }
    let third = Pair::new(&key(3), &key(1).public()).unwrap();
    assert_eq!(third.open(&datagram), Err(ProbeError::OtherKey));
}

#[test]
fn there_is_one_spelling_of_each_message() {
    for message in all() {
        let octets = encode(&message).unwrap();
        assert_eq!(decode(&octets), Ok(message.clone()));
        let is_opaque = matches!(message.body, Body::Promise(_) | Body::PromiseAsked(_));
        let longer = [octets.as_slice(), &[0]].concat();
        assert_eq!(decode(&longer).is_err(), !is_opaque, "{message:?}");
        for length in 0..octets.len() {
            assert!(is_opaque || decode(&octets[..length]).is_err(), "{message:?} {length}");
        }
    }
    let mut no_answer = probe();
    no_answer.answers = Some(Nonce([1; 12]));
    assert_eq!(decode(&encode(&no_answer).unwrap()), Err(ProbeError::Malformed));
}

#[test]
fn what_is_too_long_is_not_sent() {
    let (one, _) = pairs();
    let mut long = probe();
    long.body = Body::Promise(vec![0; LARGEST]);
    assert_eq!(one.seal(Nonce([1; 12]), &long), Err(ProbeError::TooLong));
    let name = "n".repeat(MAX_NAME + 1);
    long.body = Body::Probe(Probe { node: name, generation: 0, use_key: false, knows: 0 });
    assert_eq!(one.seal(Nonce([1; 12]), &long), Err(ProbeError::TooLong));
}

#[test]
fn a_request_is_taken_once() {
    let mut fresh = Fresh::default();
    let (one, two) = (key(1).public(), key(2).public());
    let taken: Vec<bool> = [5, 5, 4, 6, 6].map(|sequence| fresh.accept(&one, sequence)).into();
    assert_eq!(taken, [true, false, false, true, false]);
    assert!(fresh.accept(&two, 1));
    fresh.retain(|key| *key == two);
    assert!(fresh.accept(&one, 1));
}

#[test]
fn who_is_behind_catches_up_but_not_with_anything() {
    let micros = 1_800_000_000_000_000;
    let day = 86_400_000_000;
    assert_eq!(next_sequence(5, micros), micros);
    assert_eq!(caught_up(micros, micros + day, micros), micros + day);
    assert_eq!(next_sequence(micros + day, micros), micros + day + 1);
    assert_eq!(caught_up(micros, micros - day, micros), micros);
    assert_eq!(caught_up(micros, u64::MAX, micros), micros);
}

#[test]
fn keys_that_are_weak_are_those_that_nothing_is_sealed_for() {
    let mut low = vec![[0; 32], std::array::from_fn(|at| u8::from(at == 0))];
    for first in 0xec..=0xee {
        let octet = |at| match at {
            0 => first,
            31 => 0x7f,
            _ => 0xff,
        };
        low.push(std::array::from_fn(octet));
    }
    for text in [
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    ] {
        let octet = |at: usize| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).unwrap();
        low.push(std::array::from_fn(octet));
    }
    let others = low.clone().into_iter().map(|mut octets| {
        octets[31] |= 0x80;
        octets
    });
    for octets in low.clone().into_iter().chain(others) {
        let key = PublicKey(octets);
        assert!(key.is_weak() && Pair::new(&super::PrivateKey::new([1; 32]), &key).is_err());
    }
    assert!(!key(1).public().is_weak() && !PublicKey([7; 32]).is_weak());
}

#[test]
fn nothing_is_sealed_for_a_key_of_low_order() {
    for weak in [PublicKey([0; 32]), PublicKey(std::array::from_fn(|at| u8::from(at == 0)))] {
        assert_eq!(Pair::new(&key(1), &weak).unwrap_err(), WeakKey(weak));
    }
}

#[test]
fn what_is_held_has_a_hash_that_is_never_none() {
    let mut other = holds();
    other.vpn.insert(ObjectKey::new("a", "b"), 5);
    assert_ne!(holds().hash(), other.hash());
    assert_ne!(Holds::default().hash(), 0);
}
