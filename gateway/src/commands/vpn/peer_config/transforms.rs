//! A child's proposals for those who have one group for forward secrecy, not one for each proposal.

use model::suite::{Encryption, Group, Integrity, Proposal};

/// A cipher with its hash.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Set {
    pub(super) cipher: Encryption,
    /// None for a cipher that authenticates.
    pub(super) integrity: Option<Integrity>,
    /// Groups with which this edge takes it.
    groups: Vec<Group>,
    /// Whether this edge takes it without a group, too.
    without: bool,
}

/// Whether a rekeying has a key exchange of its own.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Secrecy {
    /// With this group, which each set has.
    Group(Group),
    /// Without: each set goes without, or else some do, and the others can't be said beside them.
    Off,
    /// This one is the first one's; no group is that of all.
    First(Group),
}

/// All that this edge takes for a child, in order of preference.
#[derive(Debug)]
pub(super) struct Transforms {
    pub(super) sets: Vec<Set>,
    pub(super) secrecy: Secrecy,
    /// Whether something is left out that needs an additional key exchange (RFC 9370).
    lacks_additional: bool,
}

impl Transforms {
    pub(super) fn new(proposals: &[Proposal]) -> Self {
        let mut sets: Vec<Set> = Vec::new();
        let plain = |proposal: &&Proposal| proposal.additional.is_empty();
        for proposal in proposals.iter().filter(plain) {
            for cipher in &proposal.encryption {
                let hashes: Vec<Option<Integrity>> = match proposal.integrity.as_slice() {
                    [] => vec![None],
                    some => some.iter().copied().map(Some).collect(),
                };
                for integrity in hashes {
                    let same = |set: &&mut Set| set.cipher == *cipher && set.integrity == integrity;
                    let groups = &proposal.groups;
                    match sets.iter_mut().find(same) {
                        Some(set) => {
                            set.groups.extend(groups);
                            set.without |= groups.is_empty();
                        }
                        None => sets.push(Set {
                            cipher: *cipher,
                            integrity,
                            groups: groups.clone(),
                            without: groups.is_empty(),
                        }),
                    }
                }
            }
        }
        let firsts = sets.first().map(|set| set.groups.as_slice()).unwrap_or_default();
        let of_all = |group: &&Group| sets.iter().all(|set| set.groups.contains(group));
        let secrecy = match (firsts.iter().find(of_all), firsts.first()) {
            (Some(group), _) => Secrecy::Group(*group),
            (None, Some(first)) if !sets.iter().any(|set| set.without) => Secrecy::First(*first),
            (None, _) => Secrecy::Off,
        };
        let lacks_additional = proposals.iter().any(|one| !one.additional.is_empty());
        Self { sets, secrecy, lacks_additional }
    }

    /// What can't be said where one group is for all, with each set as `name` has it.
    pub(super) fn notes(&self, name: impl Fn(&Set) -> String) -> Vec<String> {
        let mut notes = Vec::new();
        let lost = |misses: &dyn Fn(&Set) -> bool| {
            let lost: Vec<String> = self.sets.iter().filter(|set| misses(set)).map(&name).collect();
            lost.join(", ")
        };
        let other = match self.secrecy {
            Secrecy::Group(_) => String::new(),
            Secrecy::Off => lost(&|set| !set.without),
            Secrecy::First(group) => lost(&|set| !set.groups.contains(&group)),
        };
        if !other.is_empty() {
            let but = match self.secrecy {
                Secrecy::Off => "without a group, as some proposals have none",
                _ => "with the first proposal's group, as no group is that of all",
            };
            notes.push(format!("One group is for all proposals here: they are written {but}."));
            notes.push(format!(
                "This edge takes these with another group only, so that a rekeying must choose \
                 among the rest: {other}"
            ));
        }
        if self.lacks_additional {
            notes.push("Proposals with an additional key exchange are left out.".to_owned());
        }
        notes
    }
}
