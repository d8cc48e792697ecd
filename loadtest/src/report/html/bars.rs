//! Bars with whiskers, and ratios as dots on a line.

use std::fmt::Write;

use super::markup::{escape, table};
use super::plot::colour;
use super::scale::Axis;

/// A bar: a median with its range.
#[derive(Clone, Debug)]
pub(super) struct Bar {
    pub(super) name: String,
    pub(super) colour: usize,
    pub(super) value: f64,
    pub(super) least: f64,
    pub(super) most: f64,
    /// The median with its unit.
    pub(super) text: String,
    /// The range, and what else there is to say.
    pub(super) more: String,
}

/// A figure with a bar for each target, all on one scale from zero.
pub(super) fn bars(id: &str, title: &str, description: &str, bars: &[Bar]) -> String {
    let most = bars.iter().map(|bar| bar.most.max(bar.value)).fold(f64::MIN_POSITIVE, f64::max);
    let across = |value: f64| (value / most * 100.0).clamp(0.0, 100.0);
    let mut text = format!(
        "<figure class=\"plot bars\" id=\"{id}\" aria-describedby=\"{id}-d\"><figcaption><h3>{}</h3>\
         <p class=\"quiet\" id=\"{id}-d\">{}</p></figcaption>\n",
        escape(title),
        escape(description)
    );
    for bar in bars {
        let Bar { name, value, least, most, text: shown, more, .. } = bar;
        let _ = writeln!(
            text,
            "<div class=\"row\" tabindex=\"0\" data-tip=\"{tip}\"><span class=\"what\">{name}</span>\
             <svg viewBox=\"0 0 100 20\" preserveAspectRatio=\"none\" aria-hidden=\"true\">\
             <rect class=\"fill {class}\" x=\"0\" y=\"3\" width=\"{width:.2}\" height=\"14\"/>\
             <path class=\"whisker\" d=\"M{low:.2} 10H{high:.2}M{low:.2} 6V14M{high:.2} 6V14\"/>\
             </svg><span class=\"value\"><b>{shown}</b> <small>{more}</small></span></div>",
            tip = escape(&format!("{name}: {shown} {more}")),
            name = escape(name),
            class = colour(bar.colour),
            width = across(*value),
            low = across(*least),
            high = across(*most),
            shown = escape(shown),
            more = escape(more),
        );
    }
    let rows: Vec<Vec<String>> =
        bars.iter().map(|bar| vec![bar.name.clone(), bar.text.clone(), bar.more.clone()]).collect();
    let head = ["", "median", "range"].map(str::to_owned);
    let data = table(title, &head, &rows, |_| String::new());
    let _ = writeln!(text, "<details><summary>Data</summary>{data}</details></figure>");
    text
}

/// A ratio with its range.
#[derive(Clone, Debug)]
pub(super) struct Dot {
    pub(super) name: String,
    pub(super) colour: usize,
    pub(super) value: f64,
    pub(super) least: f64,
    pub(super) most: f64,
    pub(super) text: String,
}

/// Ratios that belong together, beside what they are about.
#[derive(Clone, Debug)]
pub(super) struct Group {
    /// Markup.
    pub(super) title: String,
    /// What the group is called in the data.
    pub(super) name: String,
    pub(super) dots: Vec<Dot>,
    /// The ratio that should not be exceeded, and whether it is not.
    pub(super) goal: Option<(f64, bool)>,
}

/// A figure of ratios on one logarithmic axis, on which 1 is marked.
pub(super) fn dots(id: &str, title: &str, description: &str, groups: &[Group]) -> String {
    let all = || groups.iter().flat_map(|group| &group.dots);
    let least = all().map(|dot| dot.least).fold(1.0, f64::min);
    let most = all().map(|dot| dot.most).fold(1.0, f64::max);
    let axis = Axis::log("", least / 1.05, most * 1.05, |tick| format!("{tick}"));
    let across = |value: f64| axis.place(value) * 100.0;
    let mut text = format!(
        "<figure class=\"plot dots\" id=\"{id}\" aria-describedby=\"{id}-d\"><figcaption><h3>{}</h3>\
         <p class=\"quiet\" id=\"{id}-d\">{}</p></figcaption>\n<div class=\"row scale\" \
         aria-hidden=\"true\"><span class=\"what\"></span><span class=\"ticks\">",
        escape(title),
        escape(description)
    );
    for (tick, label) in &axis.ticks {
        let _ = write!(text, "<i style=\"left:{:.2}%\">{}</i>", across(*tick), escape(label));
    }
    text.push_str("</span><span class=\"value\"></span></div>\n");
    let grid: String =
        axis.ticks.iter().map(|(tick, _)| format!("M{:.2} 0V20", across(*tick))).collect();
    for group in groups {
        let _ = writeln!(text, "<div class=\"group\"><div class=\"title\">{}</div>", group.title);
        for dot in &group.dots {
            let goal = group.goal.map_or_else(String::new, |(limit, met)| {
                let class = if met { "goal met" } else { "goal missed" };
                format!("<path class=\"{class}\" d=\"M{:.2} 2V18\"/>", across(limit))
            });
            let _ = writeln!(
                text,
                "<div class=\"row\" tabindex=\"0\" data-tip=\"{tip}\"><span class=\"what\">{name}\
                 </span><svg viewBox=\"0 0 100 20\" preserveAspectRatio=\"none\" \
                 aria-hidden=\"true\"><path class=\"grid\" d=\"{grid}\"/>\
                 <path class=\"one\" d=\"M{one:.2} 0V20\"/>{goal}\
                 <path class=\"line thin {class}\" d=\"M{low:.2} 10H{high:.2}\"/>\
                 <path class=\"dot {class}\" d=\"M{at:.2} 10h0.001\"/></svg>\
                 <span class=\"value\">{shown}</span></div>",
                tip = escape(&format!("{}: {} {}", group.name, dot.name, dot.text)),
                name = escape(&dot.name),
                one = across(1.0),
                class = colour(dot.colour),
                low = across(dot.least),
                high = across(dot.most),
                at = across(dot.value),
                shown = escape(&dot.text),
            );
        }
        text.push_str("</div>\n");
    }
    let rows: Vec<Vec<String>> = groups
        .iter()
        .flat_map(|group| {
            group.dots.iter().map(|dot| {
                let goal =
                    group.goal.map_or_else(|| "–".to_owned(), |(limit, _)| format!("{limit:.2}"));
                vec![group.name.clone(), dot.name.clone(), dot.text.clone(), goal]
            })
        })
        .collect();
    let head = ["scenario", "", "ratio (range)", "goal"].map(str::to_owned);
    let data = table(title, &head, &rows, |_| String::new());
    let _ = writeln!(text, "<details><summary>Data</summary>{data}</details></figure>");
    text
}
