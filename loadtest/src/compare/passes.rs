//! The passes over all targets: their order, and how far they are.

use std::time::Duration;

use super::scenario::{L4, Measure, Scenario, Vpn};
use super::{Settings, cluster, entrants, vpn};
use crate::lab::Product;
use crate::lab::estate::steered;
use crate::report::progress::Progress;

/// How often a line is written where no bar can be drawn, beside one for each scenario.
const LINE: Duration = Duration::from_secs(60);

/// Forwards in even passes, backwards in odd ones.
pub(super) fn there_and_back<T>(items: impl DoubleEndedIterator<Item = T>, pass: u32) -> Vec<T> {
    if pass.is_multiple_of(2) { items.collect() } else { items.rev().collect() }
}

/// Counts measurements for the progress that is shown.
#[derive(Debug)]
pub(super) struct Passes {
    progress: Progress,
    /// The scenarios that are still to come, each with its measurements.
    planned: Vec<(&'static str, u32)>,
    all: u32,
    done: u32,
    /// The scenario that is being measured, and the count of `done` when it is over.
    current: (&'static str, u32),
}

impl Passes {
    /// Of a whole comparison, which begins now.
    pub(super) fn planned(
        scenarios: &[&'static Scenario],
        products: &[Box<dyn Product>],
        settings: &Settings,
    ) -> Self {
        let planned: Vec<_> = scenarios
            .iter()
            .map(|scenario| (scenario.id, measurements(scenario, products, settings)))
            .collect();
        let all = planned.iter().map(|(_, count)| count).sum();
        let progress = Progress::with_lines_every(LINE);
        Self { progress, planned, all, done: 0, current: ("", 0) }
    }

    /// A scenario begins.
    pub(super) fn begin(&mut self, scenario: &Scenario) {
        let planned = self.planned.iter().find(|(id, _)| *id == scenario.id);
        let (id, count) = planned.copied().unwrap_or((scenario.id, 0));
        self.current = (id, self.done + count);
    }

    /// A measurement begins: the next one of the scenario.
    pub(super) fn next(&mut self, what: &str, pass: u32, of: u32, target: &str) {
        let share = f64::from(self.done) / f64::from(self.all.max(1));
        let figure = format!("{what} {} of {of}: {target}", pass + 1);
        self.progress.show(share, self.current.0, &figure);
        self.done = (self.done + 1).min(self.current.1);
    }

    /// The scenario is over, and something else is printed next.
    pub(super) fn end(&mut self) {
        // If it broke off, the rest of it will not come.
        self.done = self.current.1;
        self.progress.clear();
    }
}

/// Measurements of a scenario, those of the capacity too.
fn measurements(
    scenario: &'static Scenario,
    products: &[Box<dyn Product>],
    settings: &Settings,
) -> u32 {
    let targets = match scenario.measure {
        Measure::Control { .. } => {
            products.iter().filter(|product| is_steered(&***product)).count()
        }
        Measure::L4(what) if products.iter().any(|product| product.name() == "gateway") => {
            match what {
                L4::Connection { .. } => 2,
                L4::Services { .. } | L4::Changes { .. } => 1,
                L4::Bulk => 3,
            }
        }
        Measure::L4(_) => 0,
        Measure::Vpn(what) => vpn::kinds(scenario.suite, what, products).len(),
        Measure::Cluster(_) => usize::from(products.iter().any(|one| one.name() == "gateway")),
        _ => entrants(scenario, products).len(),
    };
    let passes = match scenario.measure {
        Measure::Traffic(_) | Measure::Routes { .. } => settings.passes,
        Measure::Latency { .. } => settings.few_passes() + settings.passes,
        Measure::L4(L4::Changes { .. }) => settings.few_passes(),
        Measure::Vpn(Vpn::Tunnels { .. }) => settings.few_passes(),
        Measure::L4(_) | Measure::Vpn(_) => settings.passes,
        Measure::Idle { .. } | Measure::Control { .. } => settings.few_passes(),
        Measure::Cluster(_) => cluster::PASSES,
    };
    passes * u32::try_from(targets).unwrap_or(u32::MAX)
}

fn is_steered(product: &dyn Product) -> bool {
    product.locate().is_ok_and(|program| steered(product.name(), program).is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_go_there_and_back() {
        assert_eq!(there_and_back([1, 2, 3].iter(), 0), [&1, &2, &3]);
        assert_eq!(there_and_back([1, 2, 3].iter(), 1), [&3, &2, &1]);
    }
}
