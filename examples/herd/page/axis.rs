//! Axes and their grids.

use super::{number::nice, svg::when};

/// A logarithmic axis. With `zero`, its lower end stands for zero, which has no logarithm.
pub struct Log {
    pub low: f64,
    pub high: f64,
    zero: bool,
}

impl Log {
    pub fn new<'a>(values: impl Iterator<Item = &'a f64>) -> Log {
        let (above, rest): (Vec<f64>, Vec<f64>) = values.partition(|v| **v > 0.0);
        let zero = !rest.is_empty();
        let min = above.iter().copied().reduce(f64::min).unwrap_or(1.0);
        let max = above.iter().copied().reduce(f64::max).unwrap_or(1.0);
        let below = 10f64.powf(min.log10().floor() - 1.0);
        let low = if zero { below } else { 1.0 / nice(1.0 / min) };
        // Some width, also for a single value.
        let high = nice(max).max(low * 2.0);
        Log { low, high, zero }
    }

    /// Where a value lies, from 0 to 1.
    pub fn at(&self, v: f64) -> f64 {
        (v.max(self.low) / self.low).ln() / (self.high / self.low).ln()
    }

    /// The value at a place, the other way round.
    pub fn value(&self, f: f64) -> f64 {
        let value = self.low * (self.high / self.low).powf(f);
        if self.zero && f == 0.0 { 0.0 } else { value }
    }

    pub fn ticks(&self, label: fn(f64) -> String) -> Vec<(f64, String)> {
        let tens = (self.high / self.low).log10();
        let parts: &[f64] = if tens < 2.1 { &[1.0, 2.0, 5.0] } else { &[1.0] };
        let first = self.low.log10().floor() as i32;
        let mut ticks = Vec::new();
        for ten in (first..=first + 1 + tens as i32).step_by(1 + tens as usize / 8) {
            let all = parts.iter().map(|part| part * 10f64.powi(ten));
            let seen = all.filter(|v| (self.low * 0.99..=self.high * 1.01).contains(v));
            ticks.extend(seen.map(|v| (self.at(v), label(v))));
        }
        let first = ticks.first_mut().filter(|_| self.zero);
        first.into_iter().for_each(|tick| tick.1 = label(0.0));
        ticks
    }
}

/// The grid of an axis from left to right, and its labels.
pub fn grid(ticks: &[(f64, String)]) -> (String, String) {
    let (mut grid, mut labels) = (String::new(), String::new());
    for (f, label) in ticks {
        let (x, class) = (f * 100.0, when(*f > 0.96, "last"));
        grid += &format!("<line x1='{x:.2}%' x2='{x:.2}%' y2='100%'/>");
        labels += &format!("<text class='{class}' x='{x:.2}%' y='9'>{label}</text>");
    }
    let axis = format!("<div class='row foot'><svg height='18'>{labels}</svg></div>");
    (grid, axis)
}
