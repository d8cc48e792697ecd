//! Proposals: offering, choosing, accepting.

use model::suite::{
    Encryption, Esn, Group, Proposal, Purpose, default_esp, default_ike, parse_list, with_ml_kem,
};

use super::*;

fn ike(text: &str) -> Vec<Proposal> {
    parse_list(text, Purpose::Ike, true).unwrap()
}

fn esp(text: &str) -> Vec<Proposal> {
    parse_list(text, Purpose::Esp, true).unwrap()
}

/// What a responder with `ours` makes of an initiator's `theirs`; the initiator accepts it.
fn negotiate(ours: &[Proposal], theirs: &[Proposal], purpose: Purpose) -> Option<String> {
    let chosen = choose(ours, purpose, &offer(theirs, purpose, &[1, 2, 3, 4]), None)?;
    let answer = chosen.answer(&[5, 6, 7, 8]);
    assert_eq!(answer.spi, [5, 6, 7, 8]);
    assert_eq!(chosen.wire.spi, [1, 2, 3, 4]);
    assert_eq!(accept(theirs, purpose, &answer).as_ref(), Some(&chosen.suite));
    Some(chosen.suite.to_string())
}

#[test]
fn our_order_decides() {
    let ours = ike("aes256gcm16-prfsha384-x25519, aes128-aes256-sha256-modp2048-ecp256");
    let theirs = ike("aes256-aes128-sha512-sha256-ecp256-modp2048, aes256gcm16-prfsha384-x25519");
    let chosen = negotiate(&ours, &theirs, Purpose::Ike);
    assert_eq!(chosen.as_deref(), Some("aes256gcm16-prfsha384-x25519"));
    let chosen = negotiate(&ours[1..], &theirs, Purpose::Ike);
    assert_eq!(chosen.as_deref(), Some("aes128-sha256-prfsha256-modp2048"));
    assert_eq!(negotiate(&ike("aes256-sha1-modp1024"), &theirs, Purpose::Ike), None);
}

#[test]
fn the_key_exchange_that_came_is_taken_if_it_will_do() {
    let ours = ike("aes256gcm16-prfsha256-x25519-ecp256");
    let theirs = offer(&ike("aes256gcm16-prfsha256-ecp256-x25519-modp2048"), Purpose::Ike, &[]);
    let group = |prefer| choose(&ours, Purpose::Ike, &theirs, prefer).unwrap().suite.groups;
    assert_eq!(group(Some(Group::P256)), [Group::P256]);
    assert_eq!(group(Some(Group::Modp2048)), [Group::X25519]);
    assert_eq!(group(None), [Group::X25519]);
    // In whichever of their proposals it is.
    let theirs = offer(
        &ike("aes256gcm16-prfsha256-x25519, aes256gcm16-prfsha256-ecp256"),
        Purpose::Ike,
        &[],
    );
    let chosen = choose(&ours, Purpose::Ike, &theirs, Some(Group::P256)).unwrap();
    assert_eq!((chosen.suite.groups, chosen.wire.number), (vec![Group::P256], 2));
}

#[test]
fn ciphers_of_both_sorts_are_two_proposals() {
    let mut both = ike("aes128-sha256-prfsha256-x25519").remove(0);
    both.encryption.insert(0, Encryption::Aes256Gcm16);
    let wire = offer(&[both], Purpose::Ike, &[]);
    let ids = |index: usize| -> Vec<_> {
        wire[index].transforms.iter().map(|one| (one.kind, one.id, one.key_bits)).collect()
    };
    assert_eq!(wire.len(), 2);
    assert_eq!(ids(0), [(1, 20, Some(256)), (2, 5, None), (4, 31, None)]);
    assert_eq!(ids(1), [(1, 12, Some(128)), (2, 5, None), (3, 12, None), (4, 31, None)]);
    assert_eq!((wire[0].number, wire[1].number), (1, 2));
}

#[test]
fn integrity_none_is_echoed_with_a_cipher_that_authenticates() {
    let ours = esp("aes128gcm16-noesn");
    let mut theirs = offer(&ours, Purpose::Esp, &[0; 4]);
    theirs[0].transforms.push(transform(3, 0));
    let chosen = choose(&ours, Purpose::Esp, &theirs, None).unwrap();
    assert!(chosen.wire.transforms.contains(&transform(3, 0)));
    assert!(accept(&ours, Purpose::Esp, &chosen.wire).is_some());
    theirs[0].transforms.pop();
    theirs[0].transforms.push(transform(3, 12));
    assert_eq!(choose(&ours, Purpose::Esp, &theirs, None), None);
}

#[test]
fn forward_secrecy_is_agreed_on_or_not() {
    let (with, without) = (esp("aes128gcm16-x25519"), esp("aes128gcm16"));
    let purpose = Purpose::Esp;
    assert_eq!(negotiate(&with, &with, purpose).as_deref(), Some("aes128gcm16-x25519-esn"));
    assert_eq!(negotiate(&without, &without, purpose).as_deref(), Some("aes128gcm16-esn"));
    assert_eq!(negotiate(&with, &without, purpose), None);
    assert_eq!(negotiate(&without, &with, purpose), None);
    // NONE among theirs: it may be left out.
    let mut optional = offer(&with, purpose, &[0; 4]);
    optional[0].transforms.push(transform(4, 0));
    let chosen = choose(&without, purpose, &optional, None).unwrap();
    assert!(chosen.suite.groups.is_empty() && chosen.wire.transforms.contains(&transform(4, 0)));
    assert_eq!(choose(&with, purpose, &optional, None).unwrap().suite.groups, [Group::X25519]);
    // IKE_AUTH has none at all.
    assert_eq!(without_key_exchange(&with), without);
    assert_eq!(without_key_exchange(&default_esp()).len(), 2);
    optional[0].strip_key_exchange();
    assert!(choose(&without, purpose, &optional, None).is_some());
    assert_eq!(negotiate(&default_esp(), &without, purpose).as_deref(), Some("aes128gcm16-esn"));
}

#[test]
fn sequence_numbers_are_agreed_on() {
    let esn = |ours: &str, theirs: &str| negotiate(&esp(ours), &esp(theirs), Purpose::Esp);
    assert_eq!(esn("aes128gcm16", "aes128gcm16-noesn").as_deref(), Some("aes128gcm16-noesn"));
    assert_eq!(esn("aes128gcm16-noesn-esn", "aes128gcm16").as_deref(), Some("aes128gcm16-noesn"));
    assert_eq!(esn("aes128gcm16-esn", "aes128gcm16-noesn"), None);
    // Left out it is 32 bits.
    let mut theirs = offer(&esp("aes128gcm16"), Purpose::Esp, &[0; 4]);
    theirs[0].transforms.retain(|one| one.kind != 5);
    let chosen = choose(&esp("aes128gcm16"), Purpose::Esp, &theirs, None).unwrap();
    assert_eq!(chosen.suite.esn, [Esn::No]);
    assert_eq!(choose(&esp("aes128gcm16-esn"), Purpose::Esp, &theirs, None), None);
}

#[test]
fn additional_key_exchanges_are_agreed_on() {
    let (with, without) =
        (ike("aes256gcm16-prfsha256-x25519-ke1_mlkem768"), ike("aes256gcm16-prfsha256-x25519"));
    let purpose = Purpose::Ike;
    let hybrid = with[0].to_string();
    assert_eq!(negotiate(&with, &with, purpose), Some(hybrid.clone()));
    assert_eq!(negotiate(&with, &without, purpose), None);
    assert_eq!(negotiate(&without, &with, purpose), None);
    let both = with_ml_kem(&without);
    assert_eq!(negotiate(&both, &without, purpose), Some(without[0].to_string()));
    assert_eq!(negotiate(&without, &both, purpose), Some(without[0].to_string()));
    assert_eq!(negotiate(&both, &both, purpose), Some(hybrid));
    let mut optional = offer(&with, purpose, &[]);
    optional[0].transforms.push(transform(6, 0));
    let chosen = choose(&without, purpose, &optional, None).unwrap();
    assert!(chosen.suite.additional.is_empty());
    assert!(chosen.wire.transforms.contains(&transform(6, 0)));
    // None is done twice.
    let twice = ike("aes256gcm16-prfsha256-x25519-ke1_x25519-ke1_ecp256-ke2_ecp256-ke2_mlkem768");
    let chosen = negotiate(&twice, &twice, purpose).unwrap();
    assert_eq!(chosen, "aes256gcm16-prfsha256-x25519-ke1_ecp256-ke2_mlkem768");
}

#[test]
fn what_is_not_known_is_not_chosen() {
    let ours = ike("aes256gcm16-prfsha256-x25519");
    let good = offer(&ours, Purpose::Ike, &[]);
    let refused = |change: &dyn Fn(&mut WireProposal)| {
        let mut theirs = good.clone();
        change(&mut theirs[0]);
        assert_eq!(choose(&ours, Purpose::Ike, &theirs, None), None);
        assert_eq!(accept(&ours, Purpose::Ike, &theirs[0]), None);
    };
    refused(&|one| one.transforms.push(transform(13, 1)));
    refused(&|one| one.transforms.push(transform(5, 1)));
    refused(&|one| one.transforms[0].unknown_attribute = true);
    refused(&|one| one.transforms[0].key_bits = None);
    refused(&|one| one.transforms[0].key_bits = Some(192));
    refused(&|one| one.transforms[1].key_bits = Some(256));
    refused(&|one| one.protocol = 3);
    refused(&|one| one.transforms.clear());
    // One that we don't know beside one that we do is no harm.
    let mut theirs = good.clone();
    theirs[0].transforms.insert(0, transform(1, 99));
    assert!(choose(&ours, Purpose::Ike, &theirs, None).is_some());
}

#[test]
fn an_answer_must_be_one_of_each_out_of_its_proposal() {
    let ours = ike("aes256gcm16-prfsha256-x25519-ecp256, aes256gcm16-prfsha512-x25519");
    let mut answer = offer(&ours, Purpose::Ike, &[]).remove(1);
    assert!(accept(&ours, Purpose::Ike, &answer).is_some());
    for number in [0, 1, 3, 255] {
        answer.number = number;
        assert_eq!(accept(&ours, Purpose::Ike, &answer), None, "{number}");
    }
    let both = offer(&ours, Purpose::Ike, &[]).remove(0);
    assert_eq!(accept(&ours, Purpose::Ike, &both), None);
}

#[test]
fn theirs_are_described_in_our_notation() {
    let proposals = default_ike();
    let text: Vec<_> = proposals.iter().map(ToString::to_string).collect();
    let described = describe(&offer(&proposals, Purpose::Ike, &[]));
    let sorted = |text: &str| {
        let mut words: Vec<_> = text.split('-').map(ToOwned::to_owned).collect();
        words.sort();
        words
    };
    assert_eq!(sorted(&described), sorted(&text.join(", ")));
    let odd = WireProposal {
        number: 1,
        protocol: 1,
        spi: vec![],
        transforms: vec![
            Transform { key_bits: Some(256), ..transform(1, 23) },
            Transform { unknown_attribute: true, ..transform(2, 5) },
            transform(6, 35),
            transform(99, 1),
        ],
    };
    let expected = "encr#23/256-prfsha256(unknown attribute)-ke1_group#35-type99#1";
    assert_eq!(describe(std::slice::from_ref(&odd)), expected);
    assert!(describe(&vec![odd; 200]).len() < 2000);
}
