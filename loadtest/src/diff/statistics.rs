//! Whether two samples differ by more than their noise.
//!
//! Samples are logarithms of figures or of ratios, so that a difference of means is a factor.
//! Welch's test: it asks for neither equal variances nor equal sizes. Its intervals are those of
//! Student's t with the degrees of freedom of Welch and Satterthwaite.

/// The least standard deviation that a sample of logarithms is taken to have: figures that happen
/// to repeat exactly still come from a finite clock and whole pages.
const LEAST_DEVIATION: f64 = 0.002;

/// A difference of two means, with its interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Shift {
    /// The second mean less the first.
    pub(super) mean: f64,
    /// The lower end of the interval.
    pub(super) low: f64,
    /// Its upper end.
    pub(super) high: f64,
}

/// The mean of b less that of a, with an interval that misses the true one with probability
/// `alpha`; nothing if a sample has fewer than two values.
pub(super) fn shift(a: &[f64], b: &[f64], alpha: f64) -> Option<Shift> {
    let (mean_a, error_a) = mean_and_error(a)?;
    let (mean_b, error_b) = mean_and_error(b)?;
    let variance = error_a + error_b;
    let freedom = |n: usize| n as f64 - 1.0;
    let degrees = variance.powi(2)
        / (error_a.powi(2) / freedom(a.len()) + error_b.powi(2) / freedom(b.len()));
    let half = student_quantile(1.0 - alpha / 2.0, degrees) * variance.sqrt();
    let mean = mean_b - mean_a;
    Some(Shift { mean, low: mean - half, high: mean + half })
}

/// The mean of a sample with its interval; nothing if it has fewer than two values.
pub(super) fn mean(sample: &[f64], alpha: f64) -> Option<Shift> {
    let (mean, error) = mean_and_error(sample)?;
    let half = student_quantile(1.0 - alpha / 2.0, sample.len() as f64 - 1.0) * error.sqrt();
    Some(Shift { mean, low: mean - half, high: mean + half })
}

/// The mean, and the square of its standard error.
fn mean_and_error(sample: &[f64]) -> Option<(f64, f64)> {
    if sample.len() < 2 {
        return None;
    }
    let n = sample.len() as f64;
    let mean = sample.iter().sum::<f64>() / n;
    let variance = sample.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (n - 1.0);
    Some((mean, variance.max(LEAST_DEVIATION.powi(2)) / n))
}

/// The value that Student's t stays below with this probability, above 0.5, by bisection.
pub(super) fn student_quantile(probability: f64, degrees: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1e6);
    for _ in 0..100 {
        let middle = f64::midpoint(low, high);
        let tail = 0.5 * beta(degrees / (degrees + middle * middle), degrees / 2.0, 0.5);
        if 1.0 - tail < probability {
            low = middle;
        } else {
            high = middle;
        }
    }
    f64::midpoint(low, high)
}

/// The regularised incomplete beta function, by its continued fraction (Abramowitz and Stegun
/// 26.5.8, evaluated as Lentz does).
fn beta(x: f64, a: f64, b: f64) -> f64 {
    if x <= 0.0 {
        return 0.0;
    }
    if x >= 1.0 {
        return 1.0;
    }
    if x > (a + 1.0) / (a + b + 2.0) {
        return 1.0 - beta(1.0 - x, b, a);
    }
    const TINY: f64 = 1e-300;
    let away_from_zero = |value: f64| if value.abs() < TINY { TINY } else { value };
    let mut c = 1.0;
    let mut d = 1.0 / away_from_zero(1.0 - (a + b) * x / (a + 1.0));
    let mut fraction = d;
    for step in 1..1_000 {
        let m = f64::from(step);
        let even = m * (b - m) * x / ((a + 2.0 * m - 1.0) * (a + 2.0 * m));
        let odd = -(a + m) * (a + b + m) * x / ((a + 2.0 * m) * (a + 2.0 * m + 1.0));
        let mut factor = 1.0;
        for term in [even, odd] {
            d = 1.0 / away_from_zero(1.0 + term * d);
            c = away_from_zero(1.0 + term / c);
            factor = c * d;
            fraction *= factor;
        }
        if (factor - 1.0).abs() < 1e-14 {
            break;
        }
    }
    let front = a * x.ln() + b * (1.0 - x).ln() - ln_beta(a, b);
    front.exp() * fraction / a
}

fn ln_beta(a: f64, b: f64) -> f64 {
    ln_gamma(a) + ln_gamma(b) - ln_gamma(a + b)
}

/// The logarithm of the gamma function: Stirling's series, from 10 on, where six terms are good for
/// twelve digits.
fn ln_gamma(mut x: f64) -> f64 {
    let mut shifted = 0.0;
    while x < 10.0 {
        shifted -= x.ln();
        x += 1.0;
    }
    let terms = [1.0 / 12.0, -1.0 / 360.0, 1.0 / 1260.0, -1.0 / 1680.0, 1.0 / 1188.0];
    let series: f64 = terms.iter().rev().fold(0.0, |sum, term| sum / (x * x) + term) / x;
    shifted + (x - 0.5) * x.ln() - x + 0.5 * (2.0 * std::f64::consts::PI).ln() + series
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_tables() {
        for (probability, degrees, expected) in [
            (0.975, 1.0, 12.706_205),
            (0.975, 10.0, 2.228_139),
            (0.995, 5.0, 4.032_143),
            (0.9995, 10.0, 4.586_894),
            (0.975, 1e6, 1.959_966),
        ] {
            let got = student_quantile(probability, degrees);
            assert!((got - expected).abs() < 1e-4, "{probability} {degrees}: {got}");
        }
    }

    #[test]
    fn the_interval_is_welchs() {
        let (a, b) = ([1.0, 2.0, 3.0, 4.0], [3.0, 5.0, 7.0, 9.0, 11.0]);
        let shift = shift(&a, &b, 0.05).expect("an interval");
        // The variances are 5/3 and 10, so the error is sqrt(5/12 + 2), its degrees of freedom 5.52.
        let expected = 2.4993 * (5.0_f64 / 12.0 + 2.0).sqrt();
        assert!((shift.mean - 4.5).abs() < 1e-12);
        assert!((shift.high - shift.mean - expected).abs() < 1e-3, "{shift:?}");
        assert_eq!(super::shift(&[1.0], &b, 0.05), None);
    }
}
