//! A table that follows its plan.
//!
//! Where Services lead elsewhere than before, only their own elements are made anew and compared.
//! What others have in common with them is counted: it goes with the last who needs it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::settings::L4Settings;

use super::super::{L4Plan, PortPlan, ServicePlan};
use super::builder::{Builder, Entrance, Fate, SetName, Usual, Wanted, fates, text_of};
use super::{AlbPorts, rules};
use crate::nft::{Flat, FlatBuilder, Key, Table, Value};

/// Of so many Services or fewer it is quicker to make a part than the whole.
const PART: usize = 4;

/// The table of a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruleset {
    plan: Arc<L4Plan>,
    table: Table,
    /// Of every Service's ports, one after the other, the numbers.
    numbers: Vec<u32>,
    /// Where each Service's begin there.
    begins: Vec<usize>,
    common: Common,
}

/// What several ports have in common, and how many ask for it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Common {
    /// Elements that were added more than once.
    elements: BTreeMap<(SetName, Key), usize>,
    chains: BTreeMap<String, usize>,
    usual: BTreeMap<Usual, usize>,
    /// Frontends of several ports.
    frontends: BTreeSet<Entrance>,
}

/// The way from a table to that of another plan.
#[derive(Debug)]
pub struct Step {
    plan: Arc<L4Plan>,
    before: Table,
    after: Table,
    /// How many ask for what is in common then.
    elements: Vec<((SetName, Key), usize)>,
    chains: Vec<(String, usize)>,
    usual: Vec<(Usual, usize)>,
}

impl Ruleset {
    /// The table that [`super::table`] makes, merged with another.
    pub fn new(
        plan: &Arc<L4Plan>,
        settings: &L4Settings,
        alb_ports: &AlbPorts,
        other: Table,
    ) -> Self {
        let mut builder = Builder::default();
        builder.plan(plan, alb_ports);
        let common = Common::of(&mut builder);
        let numbers = std::mem::take(&mut builder.numbers);
        let mut table = builder.finish(settings);
        table.merge(other);
        let mut next = 0;
        let begin = |service: &Arc<ServicePlan>| {
            let begin = next;
            next += service.ports.len();
            begin
        };
        Self {
            plan: Arc::clone(plan),
            table,
            numbers,
            begins: plan.services.iter().map(begin).collect(),
            common,
        }
    }

    /// The plan.
    pub fn plan(&self) -> &Arc<L4Plan> {
        &self.plan
    }

    /// The table.
    pub fn table(&self) -> &Table {
        &self.table
    }

    /// The way to another plan, by the elements of the Services that have changed. None where that
    /// doesn't do: other Services, ports or addresses, or something that not only those have to do
    /// with.
    pub fn step(&self, plan: &Arc<L4Plan>) -> Option<Step> {
        let (was, is) = (&*self.plan, &**plan);
        if was.vips != is.vips || was.albs != is.albs || was.vpn != is.vpn {
            return None;
        }
        let changes = is.changes(was)?;
        if changes.len() > is.services.len() / PART + 1 {
            return None;
        }
        let (mut before, mut after) = (Builder::default(), Builder::default());
        for (at, was, is) in &changes {
            if !has_same_ports(was, is) {
                return None;
            }
            let begin = *self.begins.get(*at)?;
            for (nth, (was_port, is_port)) in was.ports.iter().zip(&is.ports).enumerate() {
                let number = *self.numbers.get(begin + nth)?;
                before.port(was, was_port, number);
                after.port(is, is_port, number);
            }
        }
        let was = fates(changes.iter().flat_map(|(_, was, _)| &was.ports));
        let is = fates(changes.iter().flat_map(|(_, _, is)| &is.ports));
        let (was, is) = (self.own_fates(was), self.own_fates(is));
        if was.1 != is.1 {
            return None;
        }
        before.refuse(was.0);
        after.refuse(is.0);
        self.compare(plan, before, after)
    }

    /// Those of frontends that one port has, and those of frontends that others have too.
    fn own_fates(
        &self,
        fates: BTreeMap<Entrance, Fate>,
    ) -> (BTreeMap<Entrance, Fate>, BTreeMap<Entrance, Fate>) {
        fates.into_iter().partition(|(entrance, _)| !self.common.frontends.contains(entrance))
    }

    fn compare(&self, plan: &Arc<L4Plan>, before: Builder, after: Builder) -> Option<Step> {
        let mut step = Step {
            plan: Arc::clone(plan),
            before: Table::default(),
            after: Table::default(),
            elements: Vec::new(),
            chains: Vec::new(),
            usual: Vec::new(),
        };
        let usual = both(before.usual, after.usual);
        for (usual, (was, is)) in usual {
            let (was, is) = (was.unwrap_or_default(), is.unwrap_or_default());
            let asked = self.common.usual.get(&usual).copied().unwrap_or_default();
            let others = asked.checked_sub(was)?;
            if (asked > 0) != (others + is > 0) {
                return None;
            }
            step.usual.push((usual, others + is));
        }
        for (name, (was, is)) in both(before.sets, after.sets) {
            self.compare_set(name, was.unwrap_or_default(), is.unwrap_or_default(), &mut step)?;
        }
        for (name, (was, is)) in both(before.chains, after.chains) {
            self.compare_chain(name, was, is, &mut step)?;
        }
        Some(step)
    }

    fn compare_set(
        &self,
        set: SetName,
        was: FlatBuilder,
        is: FlatBuilder,
        step: &mut Step,
    ) -> Option<()> {
        let name = text_of(set);
        let whole = self.table.flat.get(&name)?;
        let (mut before, mut after) = (whole.emptied(), whole.emptied());
        for (key, (was, is)) in both(was.counted(), is.counted()) {
            let times = |part: &Option<(Value, usize)>| part.as_ref().map_or(0, |part| part.1);
            let (wanted, wants) = (times(&was), times(&is));
            let asked = self.common.times(set, whole, &key);
            let others = asked.checked_sub(wanted)?;
            if asked != others + wants {
                step.elements.push(((set, key.clone()), others + wants));
            }
            let (was, is) = (was.map(|part| part.0), is.map(|part| part.0));
            if others > 0 {
                // The first of all has the say what it leads to.
                let plain = |value: &Option<Value>| {
                    value.as_ref().is_none_or(|value| *value == Value::None)
                };
                if was == is || plain(&was) && plain(&is) {
                    continue;
                }
                return None;
            }
            if let Some(value) = was {
                before.push(key.clone(), value);
            }
            if let Some(value) = is {
                after.push(key, value);
            }
        }
        // A set that only chains refer to is there while it has elements.
        let left = (whole.keys() + after.keys()).checked_sub(before.keys())?;
        if left == 0 && !rules::is_fixed(&name) {
            return None;
        }
        step.before.flat.insert(name.clone(), before);
        step.after.flat.insert(name, after);
        Some(())
    }

    fn compare_chain(
        &self,
        name: String,
        was: Option<Wanted>,
        is: Option<Wanted>,
        step: &mut Step,
    ) -> Option<()> {
        let times = |part: &Option<Wanted>| part.as_ref().map_or(0, |part| part.times);
        let (wanted, wants) = (times(&was), times(&is));
        let asked = self.common.chains.get(&name).copied().unwrap_or_default();
        let others = asked.checked_sub(wanted)?;
        let is_usual = [&was, &is].into_iter().flatten().any(|asked| asked.usual.is_some());
        if others == 0 && !is_usual {
            let chains = was.map(|asked| (&mut step.before, asked));
            let chains = chains.into_iter().chain(is.map(|asked| (&mut step.after, asked)));
            for (table, asked) in chains {
                table.chains.insert(name.clone(), asked.chain);
            }
        }
        if asked != others + wants {
            step.chains.push((name, others + wants));
        }
        Some(())
    }

    /// Goes that way.
    pub fn take(&mut self, step: Step) {
        for (name, after) in step.after.flat {
            if let (Some(flat), Some(before)) =
                (self.table.flat.get_mut(&name), step.before.flat.get(&name))
            {
                flat.replace(before, after);
            }
        }
        for name in step.before.chains.keys() {
            self.table.chains.remove(name);
        }
        self.table.chains.extend(step.after.chains);
        // One is no matter of several.
        note(&mut self.common.elements, step.elements, 2);
        note(&mut self.common.chains, step.chains, 1);
        note(&mut self.common.usual, step.usual, 1);
        self.plan = step.plan;
    }
}

impl Step {
    /// The text that goes it in the kernel; none if the tables are the same.
    pub fn text(&self) -> Option<String> {
        self.after.change_from(&self.before)
    }
}

impl Common {
    fn of(builder: &mut Builder) -> Self {
        let mut elements = BTreeMap::new();
        for (set, flat) in &mut builder.sets {
            elements.extend(flat.repeated().into_iter().map(|(key, n)| ((*set, key), n)));
        }
        let chains = builder.chains.iter().map(|(name, wanted)| (name.clone(), wanted.times));
        Self {
            elements,
            chains: chains.collect(),
            usual: builder.usual.clone(),
            frontends: std::mem::take(&mut builder.crowded),
        }
    }

    /// How often an element was added.
    fn times(&self, set: SetName, whole: &Flat, key: &Key) -> usize {
        let once = || usize::from(whole.get(key).is_some());
        // Nearly all sets have nothing in common.
        self.elements.get(&(set, key.clone())).copied().unwrap_or_else(once)
    }
}

/// Whether it is the same but for where it leads, and to whom.
fn has_same_ports(was: &ServicePlan, is: &ServicePlan) -> bool {
    let same = |(was, is): (&PortPlan, &PortPlan)| {
        (was.protocol, was.number) == (is.protocol, is.number) && was.frontends == is.frontends
    };
    was.ports.len() == is.ports.len() && was.ports.iter().zip(&is.ports).all(same)
}

/// What each key has in the one and in the other.
fn both<K: Ord, V>(was: BTreeMap<K, V>, is: BTreeMap<K, V>) -> BTreeMap<K, (Option<V>, Option<V>)> {
    let mut both: BTreeMap<K, (Option<V>, Option<V>)> =
        was.into_iter().map(|(key, value)| (key, (Some(value), None))).collect();
    for (key, value) in is {
        both.entry(key).or_default().1 = Some(value);
    }
    both
}

/// Takes note of how many there are now, unless they are fewer than `least`.
fn note<K: Ord>(counts: &mut BTreeMap<K, usize>, news: Vec<(K, usize)>, least: usize) {
    for (key, count) in news {
        if count < least {
            counts.remove(&key);
        } else {
            counts.insert(key, count);
        }
    }
}

#[cfg(test)]
mod tests;
