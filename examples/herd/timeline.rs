//! What happened when, in windows, and when it was over.

use crate::{
    report::{Load, Micros, Report},
    statistics::{peak, percentile},
};

/// 200 ms.
pub const WINDOW: Micros = 200_000;
/// Connections are warm and the first loads done.
const WARM: Micros = 1_000_000;

/// A round from its beginning to the end of its last request.
#[derive(Clone, Debug, Default)]
pub struct Timeline {
    /// From when to when something was broken; seconds since the round began, like all here.
    pub fault: (f64, f64),
    pub windows: Vec<Window>,
    /// From the end of the fault until all was as before; not at all within the round: `None`.
    pub normal_after: Option<f64>,
}

/// Requests by the time they ended, loads by the time they began.
#[derive(Clone, Debug, Default)]
pub struct Window {
    pub answers: u64,
    pub errors: u64,
    pub p99_ms: Option<f64>,
    pub loads: u64,
    /// The most loads in progress at one time.
    pub running: u64,
}

impl Timeline {
    /// `until`: when the last request may begin.
    pub fn of(begin: Micros, until: Micros, fault: (Micros, Micros), reports: &[Report]) -> Self {
        let events = Events::of(reports);
        let seconds = |at: Micros| at.saturating_sub(begin) as f64 / 1e6;
        Self {
            fault: (seconds(fault.0), seconds(fault.1)),
            windows: events.windows(begin, until, until),
            normal_after: events.normal_after(begin, until, fault),
        }
    }
}

/// Everything that happened, in all processes.
struct Events {
    /// When, after how long, and whether it was an answer.
    ended: Vec<(Micros, u32, bool)>,
    loads: Vec<Load>,
}

impl Events {
    fn of(reports: &[Report]) -> Self {
        let ended = |begin: Micros, took: u32, answer| (begin + Micros::from(took), took, answer);
        let answers = reports.iter().flat_map(|report| &report.answers);
        let failed = reports.iter().flat_map(|report| &report.failed);
        let answers = answers.map(|answer| ended(answer.begin, answer.took, true));
        let failed = failed.map(|failed| ended(failed.begin, failed.took, false));
        Self {
            ended: answers.chain(failed).collect(),
            loads: reports.iter().flat_map(|report| &report.loads).copied().collect(),
        }
    }

    /// Whole windows; the last one also has what ended until `last`.
    fn windows(&self, from: Micros, until: Micros, last: Micros) -> Vec<Window> {
        let count = usize::try_from(until.saturating_sub(from) / WINDOW).unwrap_or(0);
        let mut windows = vec![Window::default(); count];
        let of = |at: Micros| {
            let window = usize::try_from(at.checked_sub(from)? / WINDOW).ok()?;
            (at < last).then_some(window.min(count.checked_sub(1)?))
        };
        let mut waits = vec![Vec::new(); count];
        for (at, took, answer) in &self.ended {
            let Some(n) = of(*at) else { continue };
            waits[n].push(f64::from(*took) / 1000.0);
            *(if *answer { &mut windows[n].answers } else { &mut windows[n].errors }) += 1;
        }
        for load in &self.loads {
            let Some(n) = of(load.begin) else { continue };
            windows[n].loads += 1;
        }
        for (n, (window, mut waits)) in windows.iter_mut().zip(waits).enumerate() {
            waits.sort_by(f64::total_cmp);
            window.p99_ms = (!waits.is_empty()).then(|| percentile(&waits, 0.99));
            let start = from + WINDOW * n as Micros;
            let end = start + WINDOW;
            let within = self.loads.iter().filter(|load| load.begin < end && load.end > start);
            let spans = within.map(|load| (load.begin.max(start), load.end.min(end)));
            window.running = peak(&spans.collect::<Vec<_>>());
        }
        windows
    }

    /// Normal again: from there on no errors, and p99 and loads per window at most twice those before the
    /// fault. Twice, as one window of a few hundred requests says little. Of p99 the time of a load is
    /// normal, too, or a strategy that served all from memory would have to do so within microseconds.
    fn normal_after(&self, begin: Micros, until: Micros, fault: (Micros, Micros)) -> Option<f64> {
        let before = begin + WARM..fault.0;
        let mut waits: Vec<f64> = self
            .ended
            .iter()
            .filter(|(at, ..)| before.contains(at))
            .map(|(_, took, _)| f64::from(*took) / 1000.0)
            .collect();
        waits.sort_by(f64::total_cmp);
        let mut took: Vec<f64> =
            self.loads.iter().map(|load| (load.end - load.begin) as f64 / 1000.0).collect();
        took.sort_by(f64::total_cmp);
        let p99 = (2.0 * percentile(&waits, 0.99)).max(percentile(&took, 0.5));
        let most = self.windows(before.start, before.end, before.end);
        let loads = 2 * most.iter().map(|window| window.loads).max().unwrap_or(0);
        let is_normal = |window: &Window| {
            let quick = window.p99_ms.is_some_and(|ms| ms <= p99);
            window.errors == 0 && quick && window.loads <= loads
        };
        let after = self.windows(fault.1, until, Micros::MAX);
        let normal = after.iter().rev().take_while(|window| is_normal(window)).count();
        let disturbed = after.len() - normal;
        (normal > 0).then(|| disturbed as f64 * WINDOW as f64 / 1e6)
    }
}
