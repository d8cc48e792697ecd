//! The commands that lead from one table to another.
//!
//! nft runs them in order and the kernel takes them all at once, or none. So what is referred to
//! comes before what refers to it, and goes after it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::{Chain, Flat, Set, TABLE, Table, element};

impl Table {
    /// The text that makes this table out of another one that is in the kernel; none if they are
    /// the same. Elements of dynamic sets stay, unless the set itself has to be made anew.
    pub fn change_from(&self, old: &Self) -> Option<String> {
        let (before, after) = (old.all_sets(), self.all_sets());
        // A set can't be altered: another one takes its name.
        let lasting: BTreeSet<&str> = after
            .iter()
            .filter(|(name, set)| before.get(*name).is_some_and(|was| was.same_head(set)))
            .map(|(name, _)| *name)
            .collect();
        let leaving: BTreeSet<&str> =
            before.keys().copied().filter(|name| !lasting.contains(name)).collect();
        // A base chain's hook can't be altered either.
        let kept = |name: &str| match (old.chains.get(name), self.chains.get(name)) {
            (Some(was), Some(is)) => was.hook == is.hook,
            _ => false,
        };

        let mut text = String::new();
        // 1. Rules go where they change, or where they refer to a set that goes.
        let mut refilled: Vec<(&String, &Chain)> = Vec::new();
        for (name, was) in &old.chains {
            let same = kept(name) && self.chains.get(name).is_some_and(|is| is.rules == was.rules);
            if !same || refers_to(was, &leaving) {
                if !was.rules.is_empty() {
                    command(&mut text, format_args!("flush chain {TABLE} {name}"));
                }
                refilled.extend(self.chains.get(name).map(|is| (name, is)));
            }
        }
        // 2. New chains, still empty: elements may lead to them.
        for (name, is) in self.chains.iter().filter(|(name, _)| !kept(name)) {
            if old.chains.contains_key(name) {
                command(&mut text, format_args!("delete chain {TABLE} {name}"));
            } else {
                refilled.push((name, is));
            }
            match &is.hook {
                Some(hook) => {
                    command(&mut text, format_args!("add chain {TABLE} {name} {{ {hook} }}"));
                }
                None => command(&mut text, format_args!("add chain {TABLE} {name}")),
            }
        }
        // 3. Sets that go, with their elements; then new ones and changed elements.
        for name in &leaving {
            let kind = before.get(name).map_or("set", AnySet::kind);
            command(&mut text, format_args!("delete {kind} {TABLE} {name}"));
        }
        for (name, set) in &after {
            if !lasting.contains(name) {
                let (kind, head) = (set.kind(), set.head());
                command(&mut text, format_args!("add {kind} {TABLE} {name} {{ {head} }}"));
            }
            let nothing = set.emptied();
            let was = before.get(name).filter(|_| lasting.contains(name));
            let (gone, new) = set.change_from(was.unwrap_or(&nothing.borrow()));
            if !gone.is_empty() {
                command(&mut text, format_args!("delete element {TABLE} {name} {{ {gone} }}"));
            }
            if !new.is_empty() {
                command(&mut text, format_args!("add element {TABLE} {name} {{ {new} }}"));
            }
        }
        // 4. Rules, now that there is all that they refer to.
        for (name, chain) in refilled {
            for rule in &chain.rules {
                command(&mut text, format_args!("add rule {TABLE} {name} {rule}"));
            }
        }
        // 5. Chains that nothing leads to any more.
        for name in old.chains.keys().filter(|name| !self.chains.contains_key(*name)) {
            command(&mut text, format_args!("delete chain {TABLE} {name}"));
        }
        (!text.is_empty()).then_some(text)
    }

    fn all_sets(&self) -> BTreeMap<&str, AnySet<'_>> {
        let named = self.sets.iter().map(|(name, set)| (name.as_str(), AnySet::Named(set)));
        let flat = self.flat.iter().map(|(name, set)| (name.as_str(), AnySet::Flat(set)));
        named.chain(flat).collect()
    }
}

/// A set of either representation.
#[derive(Clone, Copy)]
enum AnySet<'a> {
    Named(&'a Set),
    Flat(&'a Flat),
}

/// A set without its elements.
enum Emptied {
    Named(Set),
    Flat(Flat),
}

impl Emptied {
    fn borrow(&self) -> AnySet<'_> {
        match self {
            Self::Named(set) => AnySet::Named(set),
            Self::Flat(set) => AnySet::Flat(set),
        }
    }
}

impl AnySet<'_> {
    fn kind(&self) -> &'static str {
        match self {
            Self::Named(set) => set.kind(),
            Self::Flat(set) => set.kind(),
        }
    }

    fn head(&self) -> &str {
        match self {
            Self::Named(set) => &set.head,
            Self::Flat(set) => &set.head,
        }
    }

    fn same_head(&self, other: &Self) -> bool {
        let same_form = matches!(
            (self, other),
            (Self::Named(_), Self::Named(_)) | (Self::Flat(_), Self::Flat(_))
        );
        same_form && self.kind() == other.kind() && self.head() == other.head()
    }

    fn emptied(&self) -> Emptied {
        match self {
            Self::Named(_) => Emptied::Named(Set::default()),
            Self::Flat(_) => Emptied::Flat(Flat::default()),
        }
    }

    fn change_from(&self, old: &AnySet<'_>) -> (String, String) {
        match (self, old) {
            (Self::Flat(is), AnySet::Flat(was)) => is.change_from(was),
            (Self::Named(is), AnySet::Named(was)) if !is.dynamic => {
                let differ =
                    |a: &Set, b: &Set, key: &String| a.elements.get(key) != b.elements.get(key);
                let gone = was.elements.keys().filter(|key| differ(was, is, key));
                let new = is.elements.iter().filter(|(key, _)| differ(was, is, key));
                let gone: Vec<&str> = gone.map(String::as_str).collect();
                let new: Vec<String> = new.map(|(key, value)| element(key, value)).collect();
                (gone.join(", "), new.join(", "))
            }
            _ => Default::default(),
        }
    }
}

fn command(text: &mut String, command: std::fmt::Arguments<'_>) {
    let _ = writeln!(text, "{command}");
}

/// Whether a rule has one of the sets, which stand in rules as `@name`.
fn refers_to(chain: &Chain, sets: &BTreeSet<&str>) -> bool {
    let name = |text: &str| {
        let end = text.find(|c: char| !(c.is_ascii_alphanumeric() || "_-./".contains(c)));
        text.get(..end.unwrap_or(text.len())).is_some_and(|name| sets.contains(name))
    };
    !sets.is_empty() && chain.rules.iter().any(|rule| rule.split('@').skip(1).any(name))
}
