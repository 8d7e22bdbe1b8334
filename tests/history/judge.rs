//! All rules over one record.

use super::{
    answers,
    event::Event,
    faults::Fault,
    freshness, loads, overtaken,
    record::{Bounds, Record},
    verdict::Verdict,
};

/// What was broken in this run, and what of it the docs admit under its faults.
pub fn judge(events: &[Event], faults: &[Fault], bounds: &Bounds) -> Verdict {
    let record = Record::of(events, faults, bounds);
    let mut verdict = Verdict::default();
    freshness::judge(&record, &mut verdict);
    overtaken::judge(&record, &mut verdict);
    loads::judge(&record, &mut verdict);
    answers::judge(&record, &mut verdict);
    verdict
}
