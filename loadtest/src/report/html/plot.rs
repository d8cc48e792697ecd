//! Plots in SVG, each with its data as a table.

use std::fmt::Write;

use super::markup::{escape, table};
use super::scale::Axis;

const WIDTH: f64 = 720.0;
const LEFT: f64 = 78.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 44.0;
/// Different colours of the page's style.
const COLOURS: usize = 6;
/// Rows of a plot's table, above which only every so many stand.
const ROWS: usize = 600;

/// A line of a plot.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) name: String,
    pub(super) colour: usize,
    pub(super) is_dashed: bool,
    /// One for each of the plot's places; nothing where there is no figure.
    pub(super) values: Vec<Option<f64>>,
}

/// A moment that is marked.
#[derive(Clone, Debug)]
pub(super) struct Mark {
    pub(super) at: f64,
    pub(super) until: Option<f64>,
    pub(super) what: String,
    pub(super) is_fault: bool,
}

/// A plot of lines over common places.
pub(super) struct Plot<'a> {
    pub(super) id: &'a str,
    pub(super) title: &'a str,
    /// What there is to see, for those who don't see it.
    pub(super) description: String,
    pub(super) height: f64,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) places: Vec<f64>,
    pub(super) lines: Vec<Line>,
    pub(super) marks: &'a [Mark],
    pub(super) place_name: &'a str,
    pub(super) place_text: &'a dyn Fn(f64) -> String,
    pub(super) value_text: &'a dyn Fn(f64) -> String,
}

/// The class of a colour.
pub(super) fn colour(number: usize) -> String {
    format!("c{}", number % COLOURS)
}

impl Plot<'_> {
    fn left(&self, figure: f64) -> f64 {
        LEFT + self.x.place(figure) * (WIDTH - LEFT - RIGHT)
    }

    fn top(&self, figure: f64) -> f64 {
        self.height - BOTTOM - self.y.place(figure) * (self.height - BOTTOM - TOP)
    }

    /// The figure with title, legend, drawing and data.
    pub(super) fn draw(&self) -> String {
        let id = self.id;
        let mut text = format!(
            "<figure class=\"plot\" id=\"{id}\"><figcaption><h3>{}</h3>{}</figcaption>\n\
             <div class=\"drawing\"><svg viewBox=\"0 0 {WIDTH} {}\" role=\"img\" tabindex=\"0\" \
             aria-labelledby=\"{id}-t {id}-d\"><title id=\"{id}-t\">{}</title>\
             <desc id=\"{id}-d\">{}</desc>\n",
            escape(self.title),
            legend(self.lines.iter().map(|l| (l.name.as_str(), l.colour, l.is_dashed))),
            self.height,
            escape(self.title),
            escape(&self.description),
        );
        self.axes(&mut text);
        self.marks(&mut text);
        for line in &self.lines {
            self.line(&mut text, line);
        }
        text.push_str("<g class=\"cursor\" hidden></g></svg></div>\n");
        if !self.marks.is_empty() {
            text.push_str("<ol class=\"marks\">");
            for mark in self.marks {
                let class = if mark.is_fault { " class=\"fault\"" } else { "" };
                let _ =
                    write!(text, "<li{class}><b>{:.1} s</b> {}</li>", mark.at, escape(&mark.what));
            }
            text.push_str("</ol>");
        }
        text.push_str(&self.data());
        text.push_str("</figure>\n");
        text
    }

    fn axes(&self, text: &mut String) {
        let (right, bottom) = (WIDTH - RIGHT, self.height - BOTTOM);
        for (tick, label) in &self.y.ticks {
            let y = self.top(*tick);
            let _ = writeln!(
                text,
                "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{right}\"/>\
                 <text class=\"tick end\" x=\"{:.1}\" y=\"{:.1}\">{}</text>",
                LEFT - 8.0,
                y + 4.0,
                escape(label)
            );
        }
        for (tick, label) in &self.x.ticks {
            let x = self.left(*tick);
            let _ = writeln!(
                text,
                "<path class=\"grid\" d=\"M{x:.1} {TOP}V{bottom}\"/>\
                 <text class=\"tick middle\" x=\"{x:.1}\" y=\"{:.1}\">{}</text>",
                bottom + 18.0,
                escape(label)
            );
        }
        let _ = writeln!(
            text,
            "<path class=\"axis\" d=\"M{LEFT} {bottom}H{right}\"/>\
             <text class=\"name\" x=\"0\" y=\"13\">{}</text>\
             <text class=\"name end\" x=\"{right}\" y=\"{:.1}\">{}</text>",
            escape(&self.y.title),
            self.height - 6.0,
            escape(&self.x.title)
        );
    }

    fn marks(&self, text: &mut String) {
        let bottom = self.height - BOTTOM;
        for (number, mark) in self.marks.iter().enumerate() {
            let x = self.left(mark.at);
            let class = if mark.is_fault { "mark fault" } else { "mark" };
            if let Some(until) = mark.until {
                let _ = write!(
                    text,
                    "<rect class=\"band\" x=\"{x:.1}\" y=\"{TOP}\" width=\"{:.1}\" \
                     height=\"{:.1}\"/>",
                    (self.left(until) - x).max(1.0),
                    bottom - TOP
                );
            }
            let _ = writeln!(
                text,
                "<g class=\"{class}\"><title>{}</title><path d=\"M{x:.1} {TOP}V{bottom}\"/>\
                 <text class=\"middle\" x=\"{x:.1}\" y=\"{:.1}\">{}</text></g>",
                escape(&mark.what),
                TOP - 5.0,
                number + 1
            );
        }
    }

    fn line(&self, text: &mut String, line: &Line) {
        let mut path = String::new();
        let mut is_drawing = false;
        for (place, value) in self.places.iter().zip(&line.values) {
            match value {
                Some(value) => {
                    let command = if is_drawing { 'L' } else { 'M' };
                    let (x, y) = (self.left(*place), self.top(*value));
                    let _ = write!(path, "{command}{x:.1} {y:.1}");
                    is_drawing = true;
                }
                None => is_drawing = false,
            }
        }
        let dashed = if line.is_dashed { " dashed" } else { "" };
        let colour = colour(line.colour);
        let _ = writeln!(text, "<path class=\"line {colour}{dashed}\" d=\"{path}\"/>");
    }

    fn data(&self) -> String {
        let every = self.places.len().div_ceil(ROWS).max(1);
        let shown: Vec<usize> = (0..self.places.len()).step_by(every).collect();
        let value = |line: &Line, number: usize| line.values.get(number).copied().flatten();
        let rows: Vec<Vec<String>> = shown
            .iter()
            .map(|number| {
                let place = self.places.get(*number).copied().unwrap_or_default();
                let cells = self.lines.iter().map(|line| {
                    value(line, *number)
                        .map_or_else(|| "–".to_owned(), |value| (self.value_text)(value))
                });
                std::iter::once((self.place_text)(place)).chain(cells).collect()
            })
            .collect();
        let head: Vec<String> = std::iter::once(self.place_name.to_owned())
            .chain(self.lines.iter().map(|line| line.name.clone()))
            .collect();
        let attributes = |row: usize| {
            let number = shown.get(row).copied().unwrap_or_default();
            let place = self.places.get(number).copied().unwrap_or_default();
            let heights: Vec<String> = self
                .lines
                .iter()
                .map(|line| value(line, number))
                .map(|value| value.map_or_else(String::new, |v| format!("{:.1}", self.top(v))))
                .collect();
            format!(" data-x=\"{:.1}\" data-y=\"{}\"", self.left(place), heights.join(","))
        };
        let thinned = match every {
            1 => String::new(),
            every => format!(", every {every}th point"),
        };
        format!(
            "<details><summary>Data{thinned}</summary>{}</details>",
            table(self.title, &head, &rows, attributes)
        )
    }
}

/// Names beside samples of their lines.
pub(super) fn legend<'a>(entries: impl Iterator<Item = (&'a str, usize, bool)>) -> String {
    let mut text = String::from("<ul class=\"legend\">");
    for (name, number, is_dashed) in entries {
        let dashed = if is_dashed { " dashed" } else { "" };
        let _ = write!(
            text,
            "<li><svg viewBox=\"0 0 24 10\" aria-hidden=\"true\"><path class=\"line {}{dashed}\" \
             d=\"M1 5H23\"/></svg>{}</li>",
            colour(number),
            escape(name)
        );
    }
    text.push_str("</ul>");
    text
}
