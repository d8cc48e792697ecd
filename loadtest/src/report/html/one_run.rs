//! The page of a run.

use std::fmt::Write;

use super::bars::{Bar, bars};
use super::markup::{callout, escape, page, table, tile};
use super::plot::{Line, Mark, Plot};
use super::scale::Axis;
use crate::faults::{BEGINS, FAILED, IS_OVER};
use crate::load::outcome::{Distribution, RunReport, Slice};
use crate::report::impact::{failed_faults, impacts};
use crate::report::run_tables::{self, Table, quantile, rate};
use crate::report::table::{bytes, count, figure, latency, percent};

/// Distributions in one plot at most.
const TOGETHER: usize = 6;

/// The page of a run.
pub(crate) fn run(report: &RunReport) -> String {
    let mut body = String::new();
    for note in report.notes.iter().cloned().chain(failed_faults(report)) {
        body.push_str(&callout(&note));
    }
    body.push_str(&tiles(report));
    let marks = marks(report);
    if !report.series.is_empty() {
        body.push_str("<section><h2>Over time</h2>\n");
        body.push_str(&rates(report, &marks));
        body.push_str(&latencies(report, &marks));
        body.push_str("</section>\n");
    }
    let tables = run_tables::all(report);
    let find = |title: &str| tables.iter().find(|table| table.title == title);
    body.push_str("<section><h2>Latency</h2>\n");
    body.push_str(&distribution(report));
    {
        let title = "Rates and latencies";
        body.push_str(&find(title).map_or_else(String::new, shown));
    }
    body.push_str("</section>\n");
    let bad: String =
        ["Faults", "Failures"].iter().filter_map(|title| find(title)).map(shown).collect();
    if !bad.is_empty() {
        let _ = writeln!(body, "<section><h2>What went wrong</h2>{bad}</section>");
    }
    if !report.processes.is_empty() {
        body.push_str("<section><h2>What it cost</h2>\n");
        body.push_str(&processes(report, &marks));
        body.push_str(&find("Processes").map_or_else(String::new, shown));
        body.push_str("</section>\n");
    }
    body.push_str("<section><h2>Counts</h2>\n");
    for title in ["Totals", "Backends", "Settings"] {
        body.push_str(&find(title).map_or_else(String::new, shown));
    }
    body.push_str("</section>\n");
    let mut lead = String::new();
    if !report.description.is_empty() {
        let _ = write!(lead, "<p>{}</p>", escape(report.description.trim()));
    }
    let _ = write!(lead, "<p class=\"quiet\">{}</p>", escape(&report.machine));
    let title = if report.name.is_empty() { "A run" } else { &report.name };
    page(title, "Load test", &lead, &body)
}

fn shown(table: &Table) -> String {
    let note = table
        .note
        .as_ref()
        .map_or_else(String::new, |note| format!("<p class=\"quiet\">{}</p>", escape(note)));
    let markup = self::table(table.title, &table.head, &table.rows, |_| String::new());
    format!("<div class=\"card\">{markup}{note}</div>\n")
}

fn tiles(report: &RunReport) -> String {
    let total = &report.total;
    let all = total.failed.saturating_add(total.succeeded).max(1) as f64;
    let at = |wanted| quantile(&total.latency, wanted).map_or_else(|| "–".to_owned(), latency);
    let mut text = String::from("<dl class=\"tiles\">\n");
    let succeeded = format!("{} in all", count(total.succeeded));
    text.push_str(&tile("Succeeded", &format!("{}/s", figure(rate(total))), &succeeded));
    let failed = format!("{} in all", count(total.failed));
    text.push_str(&tile("Failed", &percent(total.failed as f64 / all), &failed));
    let mean = format!("mean {}", latency(total.latency.mean_us));
    text.push_str(&tile("Median", &at(0.5), &mean));
    text.push_str(&tile("p99", &at(0.99), &format!("p99.9 {}", at(0.999))));
    text.push_str(&tile("Slowest", &latency(total.latency.max_us), "of those that succeeded"));
    text.push_str("</dl>\n");
    text
}

/// Faults with their ends, and all other events.
fn marks(report: &RunReport) -> Vec<Mark> {
    let impacts = impacts(report);
    let mut faults = impacts.iter();
    let events = report.events.iter().filter(|event| !event.what.starts_with(FAILED));
    events
        .filter_map(|event| {
            let impact = if event.what.starts_with(BEGINS) { faults.next() } else { None };
            // Its end is the end of a fault's band.
            let is_end = event.what.starts_with(IS_OVER);
            (!is_end).then(|| Mark {
                at: event.at,
                until: impact.and_then(|impact| impact.over),
                what: match impact {
                    Some(impact) => format!("{}: {}", event.what, impact.back.text()),
                    None => event.what.clone(),
                },
                is_fault: impact.is_some(),
            })
        })
        .collect()
}

fn line(name: &str, colour: usize, is_dashed: bool, values: Vec<Option<f64>>) -> Line {
    Line { name: name.to_owned(), colour, is_dashed, values }
}

fn end(report: &RunReport) -> f64 {
    report.series.last().map_or(report.seconds, |slice| slice.at + slice.seconds)
}

fn seconds(at: f64) -> String {
    format!("{at:.1} s")
}

/// The middle of each slice.
fn middles(report: &RunReport) -> Vec<f64> {
    report.series.iter().map(|slice| slice.at + slice.seconds / 2.0).collect()
}

fn rates(report: &RunReport, marks: &[Mark]) -> String {
    let each = |of: fn(&Slice) -> u64| -> Vec<Option<f64>> {
        let rate = |slice: &Slice| Some(of(slice) as f64 / slice.seconds);
        report.series.iter().map(rate).collect()
    };
    let lines = vec![
        line("due", 5, true, each(|slice| slice.due)),
        line("succeeded", 0, false, each(|slice| slice.succeeded)),
        line("failed", 1, false, each(|slice| slice.failed)),
    ];
    let values = lines.iter().flat_map(|line| &line.values).flatten();
    let most = values.copied().fold(0.0, f64::max);
    Plot {
        id: "rate",
        title: "Operations a second",
        description: format!(
            "{} succeeded and {} failed over {:.0} seconds; {} a second succeeded on the whole.",
            count(report.total.succeeded),
            count(report.total.failed),
            end(report),
            figure(rate(&report.total))
        ),
        height: 280.0,
        x: Axis::seconds(end(report)),
        y: Axis::from_zero("operations/s", most, figure),
        places: middles(report),
        lines,
        marks,
        place_name: "at",
        place_text: &seconds,
        value_text: &|value| format!("{}/s", figure(value)),
    }
    .draw()
}

fn latencies(report: &RunReport, marks: &[Mark]) -> String {
    let each = |of: fn(&Slice) -> f64| -> Vec<Option<f64>> {
        report.series.iter().map(|slice| (slice.succeeded > 0).then(|| of(slice))).collect()
    };
    let lines = vec![
        line("p50", 0, false, each(|slice| slice.p50_us)),
        line("p99", 2, false, each(|slice| slice.p99_us)),
        line("slowest", 1, true, each(|slice| slice.max_us)),
    ];
    let (least, most) = extent(lines.iter().flat_map(|line| &line.values).flatten().copied());
    Plot {
        id: "latency-over-time",
        title: "Latency over time",
        description: format!(
            "The median, the 99th percentile and the slowest answer of each slice, between {} and {}.",
            latency(least),
            latency(most)
        ),
        height: 280.0,
        x: Axis::seconds(end(report)),
        y: Axis::log("latency, logarithmic", least, most, latency),
        places: middles(report),
        lines,
        marks,
        place_name: "at",
        place_text: &seconds,
        value_text: &latency,
    }
    .draw()
}

/// The least and the greatest above zero.
pub(super) fn extent(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (least, most) =
        values.filter(|value| *value > 0.0).fold((f64::INFINITY, 0.0), |(least, most), value| {
            (f64::min(least, value), f64::max(most, value))
        });
    if least.is_finite() { (least, most) } else { (1.0, 10.0) }
}

fn distribution(report: &RunReport) -> String {
    let mut parts = vec![("all".to_owned(), &report.total.latency)];
    if report.mix.len() > 1 {
        let entries = report.mix.iter().map(|part| (part.name.clone(), &part.value.latency));
        parts.extend(entries.take(TOGETHER - 1));
    }
    distributions("latency", "Distribution of latency", &parts)
}

/// A line for each distribution.
pub(super) fn distributions(id: &str, title: &str, parts: &[(String, &Distribution)]) -> String {
    let told = |distribution: &Distribution, at: f64| (1.0 - at) * distribution.count as f64 >= 1.0;
    let mut places: Vec<f64> = parts
        .iter()
        .flat_map(|(_, all)| all.quantiles.iter().map(|[at, _]| *at).filter(|at| told(all, *at)))
        .collect();
    places.sort_by(f64::total_cmp);
    places.dedup_by(|a, b| (*a - *b).abs() < 1e-12);
    if places.len() < 2 {
        return String::new();
    }
    let lines: Vec<Line> = parts
        .iter()
        .enumerate()
        .map(|(number, (name, all))| {
            let value = |place: &f64| {
                let is_it = |[at, _]: &&[f64; 2]| (at - place).abs() < 1e-12 && told(all, *at);
                all.quantiles.iter().find(is_it).map(|[_, us]| *us)
            };
            line(name, number, false, places.iter().map(value).collect())
        })
        .collect();
    let (least, most) = extent(lines.iter().flat_map(|line| &line.values).flatten().copied());
    let medians: Vec<String> = parts
        .iter()
        .filter_map(|(name, all)| {
            let (median, high) = (quantile(all, 0.5)?, quantile(all, 0.99)?);
            Some(format!("{name}: median {}, 99th percentile {}", latency(median), latency(high)))
        })
        .collect();
    Plot {
        id,
        title,
        description: format!("{}.", medians.join("; ")),
        height: 320.0,
        x: Axis::quantiles(places.last().copied().unwrap_or(0.9)),
        y: Axis::log("latency, logarithmic", least, most, latency),
        places,
        lines,
        marks: &[],
        place_name: "quantile",
        place_text: &|quantile| format!("p{}", (quantile * 1e8).round() / 1e6),
        value_text: &latency,
    }
    .draw()
}

fn processes(report: &RunReport, marks: &[Mark]) -> String {
    let costs: Vec<Bar> = report
        .processes
        .iter()
        .enumerate()
        .map(|(number, process)| {
            let cost = process.cpu_us_per_operation;
            Bar {
                name: process.name.clone(),
                colour: number,
                value: cost,
                least: cost,
                most: cost,
                text: format!("{} µs", figure(cost)),
                more: format!("{:.2} s in all", process.cpu_seconds),
            }
        })
        .collect();
    let about = "User and system time of each process, divided by the operations that succeeded.";
    let mut text = bars("cost", "CPU time for each operation", about, &costs);
    let first = report.processes.iter().find(|process| !process.series.is_empty());
    let Some(first) = first else { return text };
    let places: Vec<f64> = first.series.iter().map(|[at, _, _]| *at).collect();
    let lines = |column: usize| -> Vec<Line> {
        let value = |series: &[[f64; 3]], number: usize| {
            series.get(number).and_then(|sample| sample.get(column).copied())
        };
        let of = |(number, process): (usize, &crate::load::outcome::Process)| {
            let values = (0..places.len()).map(|place| value(&process.series, place)).collect();
            line(&process.name, number, false, values)
        };
        report.processes.iter().enumerate().map(of).collect()
    };
    let most = |lines: &[Line]| {
        lines.iter().flat_map(|line| &line.values).flatten().copied().fold(0.0, f64::max)
    };
    let (busy, memory) = (lines(1), lines(2));
    let (most_busy, most_memory) = (most(&busy), most(&memory));
    let plot = |id, title, description: String, y, lines, value_text| {
        Plot {
            id,
            title,
            description,
            height: 240.0,
            x: Axis::seconds(end(report)),
            y,
            places: places.clone(),
            lines,
            marks,
            place_name: "at",
            place_text: &seconds,
            value_text,
        }
        .draw()
    };
    text.push_str(&plot(
        "busy",
        "CPU over time",
        format!("The share of one core that each process used, up to {}.", percent(most_busy)),
        Axis::from_zero("share of one core", most_busy, |share| format!("{:.0} %", share * 100.0)),
        busy,
        &percent,
    ));
    // In mebibytes, so that the ticks are round.
    let mebibyte = 1_048_576.0;
    let memory = memory
        .into_iter()
        .map(|line| {
            let values = line.values.iter().map(|value| value.map(|v| v / mebibyte)).collect();
            Line { values, ..line }
        })
        .collect();
    text.push_str(&plot(
        "memory",
        "Memory over time",
        format!("Resident memory, shared pages in part (Pss), up to {}.", bytes(most_memory)),
        Axis::from_zero("MiB", most_memory / mebibyte, figure),
        memory,
        &|mebibytes| format!("{} MiB", figure(mebibytes)),
    ));
    text
}
