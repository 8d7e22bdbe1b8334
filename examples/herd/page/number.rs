//! Numbers as a reader wants them.

use crate::count::commas;

/// The smallest of 1, 2, 5, 10, 20, ... and 0.5, 0.2, ... that is not below a positive number.
pub fn nice(v: f64) -> f64 {
    let ten = 10f64.powf(v.log10().floor());
    let fits = |m: &f64| m * ten >= v * 0.999_999;
    ten * [1.0, 2.0, 5.0].into_iter().find(fits).unwrap_or(10.0)
}

/// Three digits that matter, no zeros that do not.
fn sig(v: f64) -> String {
    let places = (2.0 - v.abs().max(1e-6).log10().floor()).max(0.0) as usize;
    let text = format!("{v:.places$}");
    let short = text.trim_end_matches('0').trim_end_matches('.');
    if places == 0 { text } else { short.to_string() }
}

pub fn ms(v: f64) -> String {
    match v {
        ..=0.0 => "0".to_string(),
        ..0.000_999_5 => sig(v * 1e6) + " ns",
        ..0.999_5 => sig(v * 1e3) + " µs",
        ..999.5 => sig(v) + " ms",
        _ => sig(v / 1e3) + " s",
    }
}

pub fn plain(v: f64) -> String {
    match v {
        1e6.. => sig(v / 1e6) + "M",
        1e4.. => sig(v / 1e3) + "k",
        1e3.. => commas(v as usize),
        _ => sig(v),
    }
}
