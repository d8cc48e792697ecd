//! Proposals on the wire and ours: offering, choosing, checking the answer.

use std::fmt::Write as _;

use model::suite::{Encryption, Esn, Group, Integrity, Prf, Proposal, Purpose};

use super::{Transform, WireProposal};

const ENCRYPTION: u8 = 1;
const PRF: u8 = 2;
const INTEGRITY: u8 = 3;
const KEY_EXCHANGE: u8 = 4;
const ESN: u8 = 5;
/// The first of the additional key exchanges (RFC 9370), which go on to 12.
const ADDITIONAL: u8 = 6;
const ADDITIONAL_LAST: u8 = 12;

/// What a responder has chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// What is answered, but still with the initiator's SPI: see [`Self::answer`].
    pub wire: WireProposal,
    /// The same as ours: one of each kind.
    pub suite: Proposal,
}

impl Chosen {
    /// The proposal to answer with, under our own SPI.
    pub fn answer(&self, spi: &[u8]) -> WireProposal {
        WireProposal { spi: spi.to_vec(), ..self.wire.clone() }
    }
}

/// Our proposals as they are sent. One with ciphers of both sorts becomes two, as a proposal on
/// the wire cannot say which of them needs an integrity algorithm.
pub fn offer(proposals: &[Proposal], purpose: Purpose, spi: &[u8]) -> Vec<WireProposal> {
    let numbered = (1..=u8::MAX).zip(parts(proposals));
    let wire = numbered.map(|(number, proposal)| WireProposal {
        number,
        protocol: protocol(purpose),
        spi: spi.to_vec(),
        transforms: transforms(&proposal, purpose),
    });
    wire.collect()
}

/// The first of our proposals that one of theirs fits, with the best of each kind by our order;
/// as key exchange `prefer` if that will do (the one that came in the KE payload).
pub fn choose(
    ours: &[Proposal],
    purpose: Purpose,
    theirs: &[WireProposal],
    prefer: Option<Group>,
) -> Option<Chosen> {
    let theirs: Vec<_> = theirs.iter().filter(|one| one.protocol == protocol(purpose)).collect();
    parts(ours).into_iter().find_map(|ours| {
        let preferred = prefer
            .filter(|group| ours.groups.contains(group))
            .map(|group| Proposal { groups: vec![group], ..ours.clone() });
        let mut tries = preferred.into_iter().chain([ours]);
        tries.find_map(|ours| theirs.iter().find_map(|theirs| fit(&ours, purpose, theirs)))
    })
}

/// What an answer to [`offer`] of the same proposals has chosen. None if it is not one of each
/// kind out of the proposal of that number.
pub fn accept(ours: &[Proposal], purpose: Purpose, answer: &WireProposal) -> Option<Proposal> {
    let ours = parts(ours).into_iter().nth(usize::from(answer.number).checked_sub(1)?)?;
    let mut kinds: Vec<u8> = answer.transforms.iter().map(|one| one.kind).collect();
    kinds.sort_unstable();
    let twice = kinds.windows(2).any(|pair| matches!(pair, [one, other] if one == other));
    if twice || answer.protocol != protocol(purpose) {
        return None;
    }
    fit(&ours, purpose, answer).map(|chosen| chosen.suite)
}

/// The same without key exchanges: as IKE_AUTH offers them, whose child SA takes its keys from the
/// IKE SA. What the other end sends there has to be stripped, too, should it have any:
/// [`WireProposal::strip_key_exchange`].
pub fn without_key_exchange(proposals: &[Proposal]) -> Vec<Proposal> {
    let mut stripped: Vec<Proposal> = Vec::new();
    for proposal in proposals {
        let one = Proposal { groups: Vec::new(), additional: Vec::new(), ..proposal.clone() };
        if !stripped.contains(&one) {
            stripped.push(one);
        }
    }
    stripped
}

impl WireProposal {
    /// Takes the key exchanges out.
    pub fn strip_key_exchange(&mut self) {
        self.transforms
            .retain(|one| !matches!(one.kind, KEY_EXCHANGE | ADDITIONAL..=ADDITIONAL_LAST));
    }
}

/// IANA's number of the protocol.
fn protocol(purpose: Purpose) -> u8 {
    match purpose {
        Purpose::Ike => 1,
        Purpose::Esp => 3,
    }
}

/// Proposals whose ciphers are all of one sort.
fn parts(proposals: &[Proposal]) -> Vec<Proposal> {
    let mut parts = Vec::with_capacity(proposals.len());
    for proposal in proposals {
        let (aead, other): (Vec<_>, Vec<_>) =
            proposal.encryption.iter().partition(|one| one.is_aead());
        if !aead.is_empty() {
            let integrity = Vec::new();
            parts.push(Proposal { encryption: aead, integrity, ..proposal.clone() });
        }
        if !other.is_empty() {
            parts.push(Proposal { encryption: other, ..proposal.clone() });
        }
    }
    parts
}

fn transforms(proposal: &Proposal, purpose: Purpose) -> Vec<Transform> {
    let plain = |kind, id| Transform { kind, id, key_bits: None, unknown_attribute: false };
    let mut all = Vec::new();
    for one in &proposal.encryption {
        all.push(Transform { key_bits: one.key_bits(), ..plain(ENCRYPTION, one.number()) });
    }
    if purpose == Purpose::Ike {
        all.extend(proposal.prf.iter().map(|one| plain(PRF, one.number())));
    }
    all.extend(proposal.integrity.iter().map(|one| plain(INTEGRITY, one.number())));
    all.extend(proposal.groups.iter().map(|one| plain(KEY_EXCHANGE, one.number())));
    for (kind, groups) in (ADDITIONAL..=ADDITIONAL_LAST).zip(&proposal.additional) {
        all.extend(groups.iter().map(|one| plain(kind, one.number())));
    }
    if purpose == Purpose::Esp {
        all.extend(esn(proposal).iter().map(|one| plain(ESN, one.number())));
    }
    all
}

/// The sizes of sequence numbers that are allowed; any if nothing is said.
fn esn(proposal: &Proposal) -> &[Esn] {
    if proposal.esn.is_empty() { &[Esn::Yes, Esn::No] } else { &proposal.esn }
}

/// One of our proposals (its ciphers of one sort) against one of theirs.
fn fit(ours: &Proposal, purpose: Purpose, theirs: &WireProposal) -> Option<Chosen> {
    // A kind of transform that we don't know makes a proposal unacceptable (RFC 7296, 3.3.6).
    let known = |kind| match kind {
        PRF => purpose == Purpose::Ike,
        ESN => purpose == Purpose::Esp,
        kind => (ENCRYPTION..=ADDITIONAL_LAST).contains(&kind),
    };
    if !theirs.transforms.iter().all(|one| known(one.kind)) {
        return None;
    }
    let mut pick = Pick { theirs, chosen: Vec::new() };

    let encryption = ours.encryption.iter().copied().find(|one| {
        pick.take(|theirs| {
            theirs.kind == ENCRYPTION
                && Encryption::from_number(theirs.id, theirs.key_bits) == Some(*one)
        })
    })?;
    let prf = match purpose {
        Purpose::Ike => vec![pick.first(PRF, &ours.prf, Prf::number)?],
        Purpose::Esp => Vec::new(),
    };
    let integrity = if encryption.is_aead() {
        pick.none(INTEGRITY)?;
        Vec::new()
    } else {
        vec![pick.first(INTEGRITY, &ours.integrity, Integrity::number)?]
    };
    let groups = match (ours.groups.as_slice(), purpose) {
        ([], Purpose::Ike) => return None,
        ([], Purpose::Esp) => {
            pick.none(KEY_EXCHANGE)?;
            Vec::new()
        }
        (groups, _) => vec![pick.first(KEY_EXCHANGE, groups, Group::number)?],
    };
    let mut additional: Vec<Vec<Group>> = Vec::new();
    for (index, kind) in (ADDITIONAL..=ADDITIONAL_LAST).enumerate() {
        let choice = ours.additional.get(index).map(Vec::as_slice).unwrap_or_default();
        if choice.is_empty() {
            pick.none(kind)?;
            additional.push(Vec::new());
            continue;
        }
        // No key exchange may be there twice (RFC 9370, 2.2.1).
        let used =
            |one: &Group| groups.contains(one) || additional.iter().flatten().any(|u| u == one);
        let free: Vec<_> = choice.iter().copied().filter(|one| !used(one)).collect();
        additional.push(vec![pick.first(kind, &free, Group::number)?]);
    }
    while additional.last().is_some_and(Vec::is_empty) {
        additional.pop();
    }
    let esn = match purpose {
        Purpose::Ike => Vec::new(),
        // Some leave it out; that has always meant 32 bits.
        Purpose::Esp if !pick.has(ESN) => vec![esn(ours).iter().copied().find(|e| *e == Esn::No)?],
        Purpose::Esp => vec![pick.first(ESN, esn(ours), Esn::number)?],
    };
    let suite = Proposal { encryption: vec![encryption], integrity, prf, groups, additional, esn };
    let wire = WireProposal { transforms: pick.chosen, ..theirs.clone() };
    Some(Chosen { wire, suite })
}

/// Picks from their transforms.
struct Pick<'a> {
    theirs: &'a WireProposal,
    chosen: Vec<Transform>,
}

impl Pick<'_> {
    fn has(&self, kind: u8) -> bool {
        self.theirs.transforms.iter().any(|one| one.kind == kind)
    }

    /// Takes a transform if they have it.
    fn take(&mut self, is_it: impl Fn(&Transform) -> bool) -> bool {
        let found = self.theirs.transforms.iter().find(|one| !one.unknown_attribute && is_it(one));
        self.chosen.extend(found);
        found.is_some()
    }

    /// Takes the first of ours that they have.
    fn first<T: Copy>(&mut self, kind: u8, ours: &[T], number: fn(T) -> u16) -> Option<T> {
        ours.iter().copied().find(|one| {
            self.take(|theirs| {
                theirs.kind == kind && theirs.id == number(*one) && theirs.key_bits.is_none()
            })
        })
    }

    /// Agrees on nothing of a kind: they have none of it, or NONE among others, which is echoed.
    fn none(&mut self, kind: u8) -> Option<()> {
        let fits = !self.has(kind) || self.take(|one| one.kind == kind && one.id == 0);
        fits.then_some(())
    }
}

/// Theirs in swanctl's notation, for people; with numbers where we know no name.
pub fn describe(theirs: &[WireProposal]) -> String {
    // As many as anyone wants to read.
    const PROPOSALS: usize = 16;
    const TRANSFORMS: usize = 40;
    let mut text = String::new();
    for (index, proposal) in theirs.iter().take(PROPOSALS).enumerate() {
        text.push_str(if index > 0 { ", " } else { "" });
        let words: Vec<_> = proposal.transforms.iter().take(TRANSFORMS).map(word).collect();
        text.push_str(&words.join("-"));
        if proposal.transforms.len() > TRANSFORMS {
            text.push_str("-…");
        }
    }
    if theirs.len() > PROPOSALS {
        text.push_str(", …");
    }
    text
}

fn word(transform: &Transform) -> String {
    let id = transform.id;
    let name = match transform.kind {
        ENCRYPTION => Encryption::from_number(id, transform.key_bits).map(Encryption::name),
        PRF => Prf::from_number(id).map(Prf::name),
        INTEGRITY if id == 0 => Some("no integrity"),
        INTEGRITY => Integrity::from_number(id).map(Integrity::name),
        KEY_EXCHANGE | ADDITIONAL..=ADDITIONAL_LAST => match id {
            0 => Some("none"),
            id => Group::from_number(id).map(Group::name),
        },
        ESN => Esn::from_number(id).map(Esn::name),
        _ => None,
    };
    let mut word = match transform.kind {
        kind @ ADDITIONAL..=ADDITIONAL_LAST => format!("ke{}_", kind - ADDITIONAL + 1),
        _ => String::new(),
    };
    match (name, transform.kind) {
        (Some(name), _) => word.push_str(name),
        (None, ENCRYPTION) => word.push_str("encr"),
        (None, PRF) => word.push_str("prf"),
        (None, INTEGRITY) => word.push_str("auth"),
        (None, KEY_EXCHANGE | ADDITIONAL..=ADDITIONAL_LAST) => word.push_str("group"),
        (None, ESN) => word.push_str("esn"),
        (None, kind) => {
            let _ = write!(word, "type{kind}");
        }
    }
    if name.is_none() {
        let _ = write!(word, "#{id}");
        if let Some(bits) = transform.key_bits {
            let _ = write!(word, "/{bits}");
        }
    }
    if transform.unknown_attribute {
        word.push_str("(unknown attribute)");
    }
    word
}
