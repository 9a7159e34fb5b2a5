//! The statistics that an experiment's questions need: spread, a linear fit with its confidence interval, a threshold
//! and a correlation.
//!
//! Deliberately absent: anything that answers a question that no experiment asks.

use std::f64::consts::PI;

/// Arithmetic mean; `None` of nothing.
pub fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

/// Standard deviation of a sample (divided by n − 1); `None` of fewer than two values.
pub fn sd(values: &[f64]) -> Option<f64> {
    let mean = mean(values)?;
    (values.len() > 1).then(|| {
        let squares: f64 = values.iter().map(|v| (v - mean).powi(2)).sum();
        (squares / (values.len() - 1) as f64).sqrt()
    })
}

/// Pearson's correlation coefficient, −1 to 1; `None` of fewer than three points, of which any two are on a line, or
/// if one side does not vary.
pub fn correlation(points: &[(f64, f64)]) -> Option<f64> {
    let sums = Sums::of(points)?;
    // By comparing them: the squares of what does not vary need not be zero, as the mean is rounded.
    let varies = |of: fn(&(f64, f64)) -> f64| points.iter().any(|point| of(point) != of(&points[0]));
    (points.len() > 2 && varies(|p| p.0) && varies(|p| p.1)).then(|| sums.xy / (sums.xx * sums.yy).sqrt())
}

/// How far from 0 the correlation of so many points that have nothing to do with each other comes by chance, in 95 %
/// of all cases at most: t / √(t² + n − 2), by Student's t. 1 of fewer than three.
pub fn chance_correlation(n: usize) -> f64 {
    match n.checked_sub(2) {
        None | Some(0) => 1.0,
        Some(freedom) => {
            let t = t_quantile(0.95, freedom);
            t / (t * t + freedom as f64).sqrt()
        }
    }
}

/// A line through points by least squares.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Fit {
    /// How much y rises for each x.
    pub slope: f64,
    /// Half the width of the slope's 95 % confidence interval, by Student's t distribution with n − 2 degrees of
    /// freedom. Infinite of two points, which say nothing about their spread.
    pub slope_margin: f64,
    /// y at x = 0.
    pub intercept: f64,
    /// Which part of y's variance the line explains, 0 to 1. 1 if y does not vary at all.
    pub r2: f64,
    /// How many points.
    pub n: usize,
}

impl Fit {
    /// Fits the line; `None` of fewer than two different x.
    pub fn of(points: &[(f64, f64)]) -> Option<Fit> {
        let sums = Sums::of(points)?;
        if sums.xx <= 0.0 {
            return None;
        }
        let n = points.len();
        let slope = sums.xy / sums.xx;
        let intercept = sums.mean_y - slope * sums.mean_x;
        let residual: f64 = points
            .iter()
            .map(|(x, y)| (y - intercept - slope * x).powi(2))
            .sum();
        let r2 = if sums.yy > 0.0 {
            (1.0 - residual / sums.yy).clamp(0.0, 1.0)
        } else {
            1.0
        };
        let slope_margin = if n > 2 {
            let freedom = n - 2;
            t_quantile(0.95, freedom) * (residual / freedom as f64 / sums.xx).sqrt()
        } else {
            f64::INFINITY
        };
        Some(Fit {
            slope,
            slope_margin,
            intercept,
            r2,
            n,
        })
    }

    /// The line's y at this x.
    pub fn at(&self, x: f64) -> f64 {
        self.intercept + self.slope * x
    }
}

/// The first x whose y is below `fraction` of the y at the smallest x, with all y of one x averaged.
///
/// # Example
/// Throughputs 10, 9.5, 8.9 at 0, 100, 200 rules fall under 0.9 of the baseline at 200.
pub fn first_below(points: &[(f64, f64)], fraction: f64) -> Option<f64> {
    let steps = by_x(points);
    let baseline = mean(&steps.first()?.1)?;
    steps
        .iter()
        .find(|(_, ys)| mean(ys).is_some_and(|y| y < fraction * baseline))
        .map(|(x, _)| *x)
}

/// The first x from which on each y is below `fraction` of the y at the smallest x, with all y of one x averaged.
pub fn below_from(points: &[(f64, f64)], fraction: f64) -> Option<f64> {
    let steps = by_x(points);
    let baseline = mean(&steps.first()?.1)?;
    let below = |ys: &[f64]| mean(ys).is_some_and(|y| y < fraction * baseline);
    steps
        .iter()
        .rev()
        .take_while(|(_, ys)| below(ys))
        .last()
        .map(|(x, _)| *x)
}

/// Gathers the y of each x, in the order of x.
pub fn by_x(points: &[(f64, f64)]) -> Vec<(f64, Vec<f64>)> {
    let mut sorted = points.to_vec();
    sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut steps: Vec<(f64, Vec<f64>)> = Vec::new();
    for (x, y) in sorted {
        match steps.last_mut() {
            Some((last, ys)) if *last == x => ys.push(y),
            _ => steps.push((x, vec![y])),
        }
    }
    steps
}

/// The t within which a t-distributed variable lies with this probability, both sides counted: `t_quantile(0.95, 10)`
/// is 2.228. `freedom` is at least 1.
fn t_quantile(probability: f64, freedom: usize) -> f64 {
    let (mut low, mut high) = (0.0, 1e4);
    for _ in 0..100 {
        let middle = (low + high) / 2.0;
        if t_within(middle, freedom) < probability {
            low = middle;
        } else {
            high = middle;
        }
    }
    (low + high) / 2.0
}

/// The probability of lying between −t and t. Closed form for whole degrees of freedom: Abramowitz and Stegun,
/// Handbook of Mathematical Functions, 26.7.3 and 26.7.4.
fn t_within(t: f64, freedom: usize) -> f64 {
    let angle = (t / (freedom as f64).sqrt()).atan();
    let (sin, cos) = angle.sin_cos();
    let odd = freedom % 2 == 1;
    let mut term = if odd { cos } else { 1.0 };
    let mut sum = 0.0;
    // The series' powers of the cosine are 1, 3, … freedom − 2, or 0, 2, … freedom − 2.
    let mut power = if odd { 1 } else { 0 };
    while power + 2 <= freedom {
        sum += term;
        power += 2;
        term *= cos * cos * (power - 1) as f64 / power as f64;
    }
    if odd {
        2.0 / PI * (angle + sin * sum)
    } else {
        sin * sum
    }
}

/// Means and sums of squared differences from them.
struct Sums {
    mean_x: f64,
    mean_y: f64,
    xx: f64,
    xy: f64,
    yy: f64,
}

impl Sums {
    fn of(points: &[(f64, f64)]) -> Option<Sums> {
        if points.len() < 2 {
            return None;
        }
        let n = points.len() as f64;
        let mean_x = points.iter().map(|p| p.0).sum::<f64>() / n;
        let mean_y = points.iter().map(|p| p.1).sum::<f64>() / n;
        let mut sums = Sums {
            mean_x,
            mean_y,
            xx: 0.0,
            xy: 0.0,
            yy: 0.0,
        };
        for (x, y) in points {
            sums.xx += (x - mean_x).powi(2);
            sums.xy += (x - mean_x) * (y - mean_y);
            sums.yy += (y - mean_y).powi(2);
        }
        Some(sums)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: f64, b: f64, within: f64) {
        assert!((a - b).abs() <= within, "{a} is not {b} within {within}");
    }

    #[test]
    fn spread() {
        let values = [2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0];
        close(mean(&values).unwrap(), 5.0, 1e-12);
        close(sd(&values).unwrap(), (32.0f64 / 7.0).sqrt(), 1e-12);
        assert_eq!(mean(&[]), None);
        assert_eq!(sd(&[1.0]), None);
    }

    #[test]
    fn t_quantiles_are_those_of_the_tables() {
        for (freedom, t) in [
            (1, 12.706),
            (2, 4.303),
            (3, 3.182),
            (4, 2.776),
            (5, 2.571),
            (10, 2.228),
            (29, 2.045),
            (30, 2.042),
            (120, 1.980),
        ] {
            close(t_quantile(0.95, freedom), t, 6e-4);
        }
        close(t_quantile(0.99, 10), 3.169, 6e-4);
    }

    #[test]
    fn an_exact_line() {
        let points: Vec<_> = (0..5).map(|x| (f64::from(x), 3.0 + 2.0 * f64::from(x))).collect();
        let fit = Fit::of(&points).unwrap();
        close(fit.slope, 2.0, 1e-12);
        close(fit.intercept, 3.0, 1e-12);
        close(fit.r2, 1.0, 1e-12);
        close(fit.slope_margin, 0.0, 1e-9);
        close(fit.at(10.0), 23.0, 1e-9);
    }

    #[test]
    fn a_line_through_noise() {
        // By hand: mean x 3, mean y 4; sxx 10, sxy 6, syy 6; residual sum 2.4; t(0.95, 3) = 3.1824.
        let fit = Fit::of(&[(1.0, 2.0), (2.0, 4.0), (3.0, 5.0), (4.0, 4.0), (5.0, 5.0)]).unwrap();
        close(fit.slope, 0.6, 1e-12);
        close(fit.intercept, 2.2, 1e-12);
        close(fit.r2, 0.6, 1e-12);
        close(fit.slope_margin, 3.1824 * 0.08f64.sqrt(), 1e-4);
    }

    #[test]
    fn what_has_no_line() {
        assert_eq!(Fit::of(&[(1.0, 2.0)]), None);
        assert_eq!(Fit::of(&[(1.0, 2.0), (1.0, 3.0)]), None);
        assert!(
            Fit::of(&[(1.0, 2.0), (2.0, 3.0)])
                .unwrap()
                .slope_margin
                .is_infinite()
        );
    }

    #[test]
    fn correlations() {
        close(
            correlation(&[(0.0, 1.0), (1.0, 3.0), (2.0, 5.0)]).unwrap(),
            1.0,
            1e-12,
        );
        close(
            correlation(&[(0.0, 5.0), (1.0, 3.0), (2.0, 1.0)]).unwrap(),
            -1.0,
            1e-12,
        );
        close(
            correlation(&[(-1.0, 1.0), (0.0, 0.0), (1.0, 1.0)]).unwrap(),
            0.0,
            1e-12,
        );
        assert_eq!(correlation(&[(0.0, 1.0), (1.0, 1.0), (2.0, 1.0)]), None);
        assert_eq!(
            correlation(&[(0.0, 722.552), (1.0, 722.552), (2.0, 722.552), (4.0, 722.552)]),
            None
        );
        assert_eq!(correlation(&[(0.0, 1.0), (1.0, 2.0)]), None);
        // Tables of Pearson's r, two-sided, 5 %.
        close(chance_correlation(5), 0.878, 6e-4);
        close(chance_correlation(30), 0.361, 6e-4);
        close(chance_correlation(2), 1.0, 0.0);
    }

    #[test]
    fn thresholds() {
        // 200 rules: the mean of 9.2 and 8.6 is 8.9.
        let points = [
            (100.0, 9.5),
            (0.0, 10.0),
            (200.0, 9.2),
            (200.0, 8.6),
            (300.0, 5.0),
        ];
        assert_eq!(first_below(&points, 0.9), Some(200.0));
        assert_eq!(first_below(&points, 0.4), None);
        assert_eq!(first_below(&[], 0.9), None);
        assert_eq!(below_from(&points, 0.9), Some(200.0));
        assert_eq!(below_from(&[(0.0, 10.0), (1.0, 8.0), (2.0, 9.5)], 0.9), None);
        assert_eq!(
            below_from(&[(0.0, 10.0), (1.0, 8.0), (2.0, 9.5), (3.0, 7.0)], 0.9),
            Some(3.0)
        );
    }
}
