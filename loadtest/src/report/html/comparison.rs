//! The page of a comparison.

use std::fmt::Write;

use super::bars::{Bar, Dot, Group, bars, dots};
use super::markup::{callout, escape, page, table};
use super::one_run::distributions;
use crate::load::outcome::Distribution;
use crate::report::compared::{Compared, Kind, Scenario, Verdict};
use crate::report::table::{bytes, figure, latency, range};

/// The page of a comparison.
pub(crate) fn compare(report: &Compared) -> String {
    let mut body = String::new();
    if report.settings.quick {
        body.push_str(&callout(
            "A quick run: it shows that everything works, its figures mean nothing.",
        ));
    }
    for left_out in &report.left_out {
        body.push_str(&callout(&format!("{} was not measured: {}", left_out.id, left_out.reason)));
    }
    body.push_str(&overview(report));
    let mut suites: Vec<&str> = Vec::new();
    for scenario in &report.scenarios {
        if !suites.contains(&scenario.suite.as_str()) {
            suites.push(&scenario.suite);
        }
    }
    for suite in suites {
        let _ = writeln!(body, "<section><h2>Suite {}</h2>", escape(suite));
        for scenario in report.scenarios.iter().filter(|scenario| scenario.suite == suite) {
            body.push_str(&of_scenario(report, scenario));
        }
        body.push_str("</section>\n");
    }
    page("Side by side", "Comparison", &lead(report), &body)
}

fn lead(report: &Compared) -> String {
    let settings = &report.settings;
    let mut text = String::from("<ul class=\"targets\">");
    for (number, (name, version)) in report.targets.iter().enumerate() {
        let _ = write!(
            text,
            "<li class=\"{}\"><b>{}</b> {}</li>",
            super::plot::colour(number),
            escape(name),
            escape(version)
        );
    }
    let cores: Vec<_> =
        settings.cores.iter().map(|(who, core)| format!("{who} on core {core}")).collect();
    let _ = write!(
        text,
        "</ul><p class=\"quiet\">{}. {}. {} passes of {} s, forwards and backwards in turn; \
         medians, with ranges in brackets. Ratios are taken pass by pass.</p>",
        escape(&report.machine),
        escape(&cores.join(", ")),
        settings.passes,
        figure(settings.window)
    );
    text
}

/// The colour of a target: the same all over the page.
fn colour(report: &Compared, scenario: &Scenario, target: &str) -> usize {
    let known = report.targets.iter().position(|(name, _)| name == target);
    known.or_else(|| scenario.targets().iter().position(|name| *name == target)).unwrap_or(0)
}

fn overview(report: &Compared) -> String {
    let groups: Vec<Group> = report.scenarios.iter().filter_map(|s| group(report, s)).collect();
    if groups.is_empty() {
        return String::new();
    }
    let goals = || report.scenarios.iter().flat_map(|scenario| &scenario.verdicts);
    let met = goals().filter(|verdict| verdict.met).count();
    let subject = report.targets.first().map_or("", |(name, _)| name.as_str());
    let goal = match goals().count() {
        0 => String::new(),
        all => format!(" The upright bar is the goal; {met} of all {all} goals are met."),
    };
    let about = format!(
        "What an operation costs {subject}, divided by what it costs the other, on a logarithmic \
         axis: left of 1 it is cheaper. The line is the range over all passes.{goal}"
    );
    let dots = dots("overview", "Cost beside the others", &about, &groups);
    format!("<section><h2>At a glance</h2>\n{dots}</section>\n")
}

fn group(report: &Compared, scenario: &Scenario) -> Option<Group> {
    let targets = scenario.targets();
    let (subject, others) = targets.split_first()?;
    let dot = |other: &&str| {
        let ratio = scenario.ratio(subject, other, Kind::Cost)?;
        Some(Dot {
            name: format!("/ {other}"),
            colour: colour(report, scenario, other),
            value: ratio.median,
            least: ratio.min,
            most: ratio.max,
            text: format!("{} ({}–{})", figure(ratio.median), figure(ratio.min), figure(ratio.max)),
        })
    };
    let dots: Vec<Dot> = others.iter().filter_map(dot).collect();
    let goal = scenario.verdicts.iter().find(|verdict| verdict.of == "cost");
    (!dots.is_empty()).then(|| Group {
        title: format!(
            "<a href=\"#s-{}\">{}</a> {}",
            escape(&scenario.id),
            escape(&scenario.title),
            scenario.verdicts.iter().map(chip).collect::<String>()
        ),
        name: scenario.title.clone(),
        dots,
        goal: goal.and_then(|verdict| Some((*verdict.goal.get("ratio")?, verdict.met))),
    })
}

fn chip(verdict: &Verdict) -> String {
    let (class, mark, word) =
        if verdict.met { ("met", "✓", "met") } else { ("missed", "✗", "missed") };
    format!(
        "<span class=\"chip {class}\">{mark} {}: {word} ({})</span>",
        escape(&verdict.goal_text()),
        verdict.figure_text()
    )
}

fn of_scenario(report: &Compared, scenario: &Scenario) -> String {
    let id = escape(&scenario.id);
    let mut text = format!(
        "<article class=\"scenario\" id=\"s-{id}\"><h3>{} <code>{id}</code></h3><p class=\"chips\">{}</p>\n",
        escape(&scenario.title),
        scenario.verdicts.iter().map(chip).collect::<String>()
    );
    for note in &scenario.notes {
        text.push_str(&callout(note));
    }
    let is_idle = scenario.trials.iter().any(|trial| trial.after.is_some());
    text.push_str("<div class=\"pair\">");
    text.push_str(&figure_bars(report, scenario, Kind::Cost));
    text.push_str(&figure_bars(report, scenario, Kind::Memory));
    text.push_str("</div>\n");
    if !is_idle {
        let all: Vec<(String, Distribution)> = scenario
            .targets()
            .iter()
            .filter_map(|target| Some(((*target).to_owned(), scenario.latency(target)?)))
            .collect();
        let parts: Vec<_> = all.iter().map(|(name, all)| (name.clone(), all)).collect();
        text.push_str(&distributions(&format!("latency-{id}"), "Latency", &parts));
    }
    text.push_str(&summary(scenario));
    text.push_str(&passes(scenario));
    text.push_str("</article>\n");
    text
}

/// A figure with its unit.
fn shown(scenario: &Scenario, kind: Kind, value: f64) -> String {
    match kind {
        Kind::Cost => {
            format!("{} {}", figure(value), scenario.unit.split('/').next().unwrap_or(""))
        }
        Kind::Rate => format!("{}/s", figure(value)),
        Kind::P50 | Kind::P99 => latency(value),
        Kind::Memory => bytes(value),
        Kind::Failures => figure(value),
    }
}

fn figure_bars(report: &Compared, scenario: &Scenario, kind: Kind) -> String {
    let bar = |target: &&str| {
        let spread = scenario.spread(target, kind)?;
        Some(Bar {
            name: (*target).to_owned(),
            colour: colour(report, scenario, target),
            value: spread.median,
            least: spread.min,
            most: spread.max,
            text: shown(scenario, kind, spread.median),
            more: match kind {
                Kind::Memory => format!("({})", range(&bytes(spread.min), &bytes(spread.max))),
                _ => format!("({}–{})", figure(spread.min), figure(spread.max)),
            },
        })
    };
    let all: Vec<Bar> = scenario.targets().iter().filter_map(bar).collect();
    if all.is_empty() {
        return String::new();
    }
    let (title, about) = match kind {
        Kind::Memory => {
            ("Memory".to_owned(), "Resident, shared pages in part (Pss); shorter is better.")
        }
        _ => {
            (scenario.unit.clone(), "Medians with their ranges over all passes; shorter is better.")
        }
    };
    bars(&format!("{}-{}", kind.name(), escape(&scenario.id)), &title, about, &all)
}

fn summary(scenario: &Scenario) -> String {
    let targets = scenario.targets();
    let there = |kind: &Kind| targets.iter().any(|target| scenario.spread(target, *kind).is_some());
    let kinds: Vec<Kind> = Kind::OF_TRIALS.into_iter().filter(there).collect();
    let name = |kind: &Kind| match kind {
        Kind::Cost => scenario.unit.clone(),
        kind => kind.name().to_owned(),
    };
    let head: Vec<String> = std::iter::once(String::new()).chain(kinds.iter().map(name)).collect();
    let cells = |of: &dyn Fn(Kind) -> Option<String>| -> Vec<String> {
        kinds.iter().map(|kind| of(*kind).unwrap_or_else(|| "–".to_owned())).collect()
    };
    let mut rows: Vec<Vec<String>> = Vec::new();
    for target in &targets {
        let own = |kind| Some(shown(scenario, kind, scenario.spread(target, kind)?.median));
        rows.push([vec![(*target).to_owned()], cells(&own)].concat());
    }
    for other in targets.iter().skip(1) {
        let Some(subject) = targets.first() else { continue };
        let ratio = |kind| {
            let ratio = scenario.ratio(subject, other, kind)?;
            let [median, min, max] = [ratio.median, ratio.min, ratio.max].map(figure);
            Some(format!("{median} ({min}–{max})"))
        };
        rows.push([vec![format!("{subject} / {other}")], cells(&ratio)].concat());
    }
    format!(
        "<div class=\"card\">{}</div>\n",
        table("Medians and ratios", &head, &rows, |_| String::new())
    )
}

fn passes(scenario: &Scenario) -> String {
    let rows: Vec<Vec<String>> = scenario
        .trials
        .iter()
        .map(|trial| {
            let of = |kind| {
                trial.figure(kind).map_or_else(|| "–".to_owned(), |v| shown(scenario, kind, v))
            };
            let busy =
                trial.target_busy.map_or_else(|| "–".to_owned(), |b| format!("{:.0} %", b * 100.0));
            let first = [trial.target.clone(), (trial.pass + 1).to_string()];
            first.into_iter().chain(Kind::OF_TRIALS.map(of)).chain([busy]).collect()
        })
        .collect();
    let head =
        ["target", "pass", "cost", "rate", "p50", "p99", "memory", "core busy"].map(str::to_owned);
    format!(
        "<details><summary>Every pass</summary>{}</details>\n",
        table("Every pass", &head, &rows, |_| String::new())
    )
}
