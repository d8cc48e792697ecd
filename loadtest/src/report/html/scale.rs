//! From figures to places on an axis, and the figures that are written beside it.

/// How figures are spread over an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Scale {
    /// Evenly.
    Linear,
    /// Evenly by factors.
    Log,
    /// A quantile by how little is above it: 0, 0.9, 0.99, 0.999 stand evenly.
    Nines,
}

/// An axis.
#[derive(Clone, Debug)]
pub(super) struct Axis {
    pub(super) title: String,
    pub(super) scale: Scale,
    pub(super) ticks: Vec<(f64, String)>,
    low: f64,
    high: f64,
}

impl Axis {
    /// Evenly from 0 to a round figure at or above the greatest.
    pub(super) fn from_zero(title: &str, most: f64, text: impl Fn(f64) -> String) -> Self {
        let step = round_step(most.max(1e-9) / 4.0);
        let steps = (most / step).ceil().max(1.0) as usize;
        let ticks = (0..=steps).map(|number| number as f64 * step);
        Self {
            title: title.to_owned(),
            scale: Scale::Linear,
            low: 0.0,
            high: steps as f64 * step,
            ticks: ticks.map(|tick| (tick, text(tick))).collect(),
        }
    }

    /// Seconds from the beginning to the end.
    pub(super) fn seconds(end: f64) -> Self {
        let step = [1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0]
            .into_iter()
            .find(|step| end / step <= 8.0)
            .unwrap_or_else(|| round_step(end / 6.0));
        let step = if end < 2.0 { round_step(end / 4.0) } else { step };
        let count = (end / step).floor() as usize;
        let text = |at: f64| match (step >= 60.0, step.fract() == 0.0) {
            (true, _) => format!("{:.0} min", at / 60.0),
            (_, true) => format!("{at:.0} s"),
            _ => format!("{at:.2} s"),
        };
        let ticks = (0..=count).map(|number| number as f64 * step);
        Self {
            title: "seconds after the load began".to_owned(),
            scale: Scale::Linear,
            low: 0.0,
            high: end.max(1e-3),
            ticks: ticks.map(|at| (at, text(at))).collect(),
        }
    }

    /// By factors, from a round figure at or below the least to one at or above the greatest.
    pub(super) fn log(title: &str, least: f64, most: f64, text: impl Fn(f64) -> String) -> Self {
        let rounds = |from: i32, to: i32, parts: &[f64]| -> Vec<f64> {
            (from..=to)
                .flat_map(|power| parts.iter().map(move |part| decimal(*part, power)))
                .collect()
        };
        let least = if least > 0.0 { least } else { 1.0 };
        let most = most.max(least * 1.01);
        let (from, to) = (least.log10().floor() as i32 - 1, most.log10().ceil() as i32 + 1);
        let all = rounds(from, to, &[1.0, 2.0, 5.0]);
        let low = all.iter().copied().filter(|tick| *tick <= least).fold(f64::NAN, f64::max);
        let high = all.iter().copied().filter(|tick| *tick >= most).fold(f64::NAN, f64::min);
        let parts: &[f64] = match (high / low).log10() {
            decades if decades < 1.1 => &[1.0, 1.5, 2.0, 3.0, 5.0, 7.0],
            decades if decades < 2.6 => &[1.0, 2.0, 5.0],
            _ => &[1.0],
        };
        let inside = |tick: &f64| (low * 0.999..=high * 1.001).contains(tick);
        let ticks = rounds(from, to, parts).into_iter().filter(inside);
        Self {
            title: title.to_owned(),
            scale: Scale::Log,
            low,
            high,
            ticks: ticks.map(|tick| (tick, text(tick))).collect(),
        }
    }

    /// Quantiles up to the last that so many operations tell.
    pub(super) fn quantiles(highest: f64) -> Self {
        let ticks = [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999, 0.999_999];
        let text = |quantile: f64| format!("p{}", (quantile * 1e8).round() / 1e6);
        Self {
            title: "share of operations that were faster; each step holds a tenth of the rest"
                .to_owned(),
            scale: Scale::Nines,
            low: 0.0,
            high: highest.max(0.9),
            ticks: ticks
                .into_iter()
                .filter(|tick| *tick <= highest.max(0.9) + 1e-9)
                .map(|tick| (tick, text(tick)))
                .collect(),
        }
    }

    /// Where a figure stands, 0 to 1 from the low end to the high one; the ends if it is beyond.
    pub(super) fn place(&self, figure: f64) -> f64 {
        let spread = |figure: f64| match self.scale {
            Scale::Linear => figure,
            Scale::Log => figure.max(1e-12).log10(),
            Scale::Nines => -(1.0 - figure).max(1e-12).log10(),
        };
        let (low, high) = (spread(self.low), spread(self.high));
        ((spread(figure) - low) / (high - low)).clamp(0.0, 1.0)
    }
}

/// A part times a power of ten, as near as its decimal form: 0.7 and not 0.7000000000000001.
fn decimal(part: f64, power: i32) -> f64 {
    format!("{part}e{power}").parse().unwrap_or(part * 10_f64.powi(power))
}

/// 1, 2, 2.5 or 5 times a power of ten, at or above this.
fn round_step(step: f64) -> f64 {
    let power = 10_f64.powf(step.log10().floor());
    let part = [1.0, 2.0, 2.5, 5.0, 10.0].into_iter().find(|part| part * power >= step * 0.999);
    part.unwrap_or(10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_written_as_people_write_them() {
        let texts: Vec<_> = Axis::log("", 0.6, 1.3, |tick| tick.to_string()).ticks;
        let texts: Vec<_> = texts.iter().map(|(_, text)| text.as_str()).collect();
        assert_eq!(texts, ["0.5", "0.7", "1", "1.5", "2"]);
    }

    #[test]
    fn axes_hold_their_figures_and_have_ticks() {
        for (least, most) in [(3.0, 4.0), (90.0, 1.2e6), (0.31, 1.9), (0.0, 0.0), (5.0, 5.0)] {
            let axis = Axis::log("", least, most, |tick| format!("{tick}"));
            assert!(axis.ticks.len() >= 2 && axis.ticks.len() <= 9, "{axis:?}");
            assert!((0.0..=1.0).contains(&axis.place(least)) && axis.place(most) <= 1.0);
            let axis = Axis::from_zero("", most, |tick| format!("{tick}"));
            assert!(axis.ticks.len() >= 2 && axis.ticks.len() <= 9, "{axis:?}");
        }
        let axis = Axis::quantiles(0.9999);
        assert_eq!(axis.ticks.last().map(|(_, text)| text.as_str()), Some("p99.99"));
        for (quantile, place) in [(0.0, 0.0), (0.9, 0.25), (0.99, 0.5), (0.9999, 1.0), (1.0, 1.0)] {
            assert!((axis.place(quantile) - place).abs() < 1e-9, "{quantile}");
        }
        for end in [0.5, 3.0, 60.0, 86_400.0] {
            let count = Axis::seconds(end).ticks.len();
            assert!((2..=10).contains(&count), "{end}: {count}");
        }
    }
}
