//! What happened in a round, one row a strategy.

use super::{
    axis::{Log, grid},
    number::{ms, nice, plain},
    svg::{ROW, level, row, stretch, when},
};
use crate::count::commas;

/// One phenomenon at one size; its series are the strategies, drawn on shared axes.
pub struct Panel {
    /// What happened, in a few words.
    pub title: String,
    /// What to know before looking.
    pub note: String,
    /// Whether answers can be stale.
    pub invalidates: bool,
    /// The strategies, in the order shown.
    pub series: Vec<Series>,
}

/// What one strategy did in a [`Panel`].
pub struct Series {
    /// The name of the strategy.
    pub strategy: String,
    /// Start and end of every database query of the shown round, ms since the round began.
    pub loads: Vec<(f64, f64)>,
    /// When each stale answer of that round was asked for, and how long the invalidation that it ignores
    /// had held then, ms.
    pub stale: Vec<(f64, f64)>,
    /// One per answered request, ms, all rounds.
    pub latencies: Vec<f64>,
}

/// Bars across a plot of queries, of stale answers, and of latencies. They, not the number of queries or requests,
/// bound the size of the page. All are multiples of 20, see [`bars`].
const SLOTS: usize = 400;
const PARTS: usize = 80;
const BINS: usize = 120;

impl Panel {
    /// All plots of the phenomenon.
    pub fn render(&self) -> String {
        let (until, back, axis) = self.time();
        let queries = self.queries(until, &back) + &axis;
        let stale = if self.invalidates { self.stale(until, &back) + &axis } else { String::new() };
        queries + &stale + &self.latency()
    }

    /// Until when the shown round lasted, the grid of its time, and the axis.
    fn time(&self) -> (f64, String, String) {
        let loads = self.series.iter().flat_map(|s| &s.loads);
        let ends = loads.map(|l| l.0.max(l.1)).filter(|t| t.is_finite());
        let last = ends.fold(1.0, f64::max);
        let step = nice(last / 5.0);
        // A quarter of a step at most stays empty at the right.
        let until = (last / step * 4.0 - 1e-9).ceil() * step / 4.0;
        let marks = (0..=(until / step + 1e-9) as u32).map(|i| f64::from(i) * step);
        let ticks: Vec<_> = marks.map(|t| (t / until, ms(t))).collect();
        let (back, axis) = grid(&ticks);
        (until, back, axis)
    }

    fn queries(&self, until: f64, back: &str) -> String {
        let sweeps: Vec<_> = self.series.iter().map(|s| sweep(&s.loads, until)).collect();
        let top = nice(sweeps.iter().map(|s| s.1).fold(1, usize::max) as f64);
        // The square root keeps one query in sight below a peak of a thousand, the 3 px below any.
        let height = |n: usize| (ROW * (n as f64 / top).sqrt()).max(3.0);
        let mut back = back.to_owned() + &level(ROW - height(top as usize), &plain(top));
        if top >= 4.0 {
            let low = 1.0 / nice(4.0 / top);
            back += &level(ROW - height(low as usize), &plain(low));
        }
        let mut rows = String::new();
        for (series, (bins, peak, total)) in self.series.iter().zip(sweeps) {
            let about = |from: f64, to: f64, bins: &[usize]| {
                let most = bins.iter().max().copied().unwrap_or(0);
                let [from, to] = [from, to].map(|f| ms(f * until));
                format!("{from} to {to}: at most {} at once", commas(most))
            };
            let queries = if total == 1 { "query" } else { "queries" };
            let (total, peak) = (commas(total), commas(peak));
            let said = format!("<p><b>{total}</b> {queries}, <b>{peak}</b> at once</p>");
            let plot = back.clone() + &bars(&bins, height, about);
            rows += &row(&series.strategy, &plot, &said);
        }
        format!(
            "<h3>Database queries over time</h3><p class='how'>Queries running at each moment of one \
             round. Heights are square roots, to the same scale in every row.</p>{rows}"
        )
    }

    fn stale(&self, until: f64, back: &str) -> String {
        let part = |at: f64| ((at / until * PARTS as f64) as usize).min(PARTS - 1);
        let count = |series: &Series| {
            let mut bins = vec![0; PARTS];
            series.stale.iter().for_each(|(at, _)| bins[part(*at)] += 1);
            bins
        };
        let counts: Vec<Vec<usize>> = self.series.iter().map(count).collect();
        let top = nice(counts.iter().flatten().copied().fold(1, usize::max) as f64);
        let height = |n: usize| (ROW * (n as f64 / top).sqrt()).max(3.0);
        let back = back.to_owned() + &level(0.0, &plain(top));
        let mut rows = String::new();
        for (series, bins) in self.series.iter().zip(&counts) {
            let about = |from: f64, to: f64, bins: &[usize]| {
                let [from, to] = [from, to].map(|f| ms(f * until));
                format!("{from} to {to}: {} stale", commas(bins.iter().sum()))
            };
            let (all, late) = (series.stale.len(), series.stale.iter().map(|stale| stale.1));
            let late = ms(late.fold(0.0, f64::max));
            let said = match all {
                0 => "<p><b>0</b> stale answers</p>".to_owned(),
                all => format!(
                    "<p><b class='failing'>{}</b> stale, up to <b>{late}</b> late</p>",
                    commas(all)
                ),
            };
            let plot = back.clone() + &bars(bins, height, about);
            rows += &row(&series.strategy, &plot, &said);
        }
        let each = ms(until / PARTS as f64);
        format!(
            "<h3>Stale answers over time</h3><p class='how'>How many were asked for in each {each} of \
             the same round. Late: so long after the acknowledgement of an invalidation that they ignore. \
             Heights are square roots, to the same scale in every row.</p>{rows}"
        )
    }

    fn latency(&self) -> String {
        let sort = |series: &Series| {
            let mut all = series.latencies.clone();
            all.retain(|v| v.is_finite());
            all.sort_by(f64::total_cmp);
            all
        };
        let sorted: Vec<Vec<f64>> = self.series.iter().map(sort).collect();
        let log = Log::new(sorted.iter().flat_map(|s| [s.first(), s.last()]).flatten());
        let (back, axis) = grid(&log.ticks(ms));
        let mut rows = String::new();
        for (series, all) in self.series.iter().zip(&sorted) {
            let mut bins = vec![0; BINS];
            for v in all {
                let bin = ((log.at(*v) * BINS as f64) as usize).min(BINS - 1);
                bins.get_mut(bin).into_iter().for_each(|n| *n += 1);
            }
            let most = bins.iter().max().copied().unwrap_or(0) as f64;
            let height = |n: usize| ((ROW - 6.0) * (n as f64 / most).sqrt()).max(2.0);
            let about = |from: f64, to: f64, bins: &[usize]| {
                let (some, all) = (commas(bins.iter().sum()), commas(all.len()));
                let [from, to] = [from, to].map(|f| ms(log.value(f)));
                format!("{from} to {to}: {some} of {all} answers")
            };
            let mut plot = back.clone() + &bars(&bins, height, about);
            // The nearest rank: always a latency that some request really had.
            let rank = |p: f64| all.get(((all.len() as f64 * p).ceil() as usize).saturating_sub(1));
            let mut said = when(all.is_empty(), "<p>no answers</p>").to_string();
            for (class, p) in [("min", 0.0), ("p50", 0.5), ("p99", 0.99), ("max", 1.0)] {
                let Some(v) = rank(p) else { break };
                let x = log.at(*v) * 100.0;
                plot += &format!("<line class='{class}' x1='{x:.2}%' x2='{x:.2}%' y1='100%'/>");
                said += &format!("<b>{}</b>", ms(*v));
            }
            rows += &row(&series.strategy, &plot, &said);
        }
        format!(
            "<h3>Latency per strategy</h3><p class='how'>How long requests waited, all rounds, on a \
             logarithmic axis. Heights are square roots, each row to its own scale.\
             <svg><line class='p50' y2='100%'/></svg>p50\
             <svg><line class='p99' y2='100%'/></svg>p99</p>\
             <div class='row head'><div class='said'><span>min</span><span>p50</span>\
             <span>p99</span><span>max</span></div></div>{rows}{axis}"
        )
    }
}

/// How many queries ran in each of [`SLOTS`] equal parts of the time, at once, and in total.
fn sweep(loads: &[(f64, f64)], until: f64) -> (Vec<usize>, usize, usize) {
    let mut events = Vec::new();
    for (from, to) in loads.iter().filter(|l| l.0.is_finite() && l.1.is_finite()) {
        // A query that took no measurable time still ran.
        events.extend([(*from, 1), (to.max(from + 1e-6), -1)]);
    }
    // One that ends the moment another begins does not run beside it: ends go first.
    events.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let bin = |t: f64| (t / until).clamp(0.0, 1.0) * SLOTS as f64;
    let (mut bins, mut running, mut peak) = (vec![0; SLOTS], 0isize, 0);
    for (i, (from, change)) in events.iter().enumerate() {
        running += change;
        let to = events.get(i + 1).map_or(0.0, |next| bin(next.0).ceil());
        let first = (bin(*from) as usize).min(SLOTS - 1);
        peak = peak.max(running.unsigned_abs());
        for n in bins.iter_mut().take(to as usize).skip(first) {
            *n = running.unsigned_abs().max(*n);
        }
    }
    (bins, peak, events.len() / 2)
}

/// Bars, and over every twentieth of them what they say when pointed at.
fn bars(
    bins: &[usize],
    height: impl Fn(usize) -> f64,
    about: impl Fn(f64, f64, &[usize]) -> String,
) -> String {
    let (width, mut before) = (bins.len(), 0);
    let (mut path, mut hits) = (String::new(), String::new());
    for (i, n) in bins.iter().enumerate() {
        let y = ROW - if *n == 0 { 0.0 } else { height(*n) };
        match before {
            _ if before == *n => {}
            0 => path += &format!("M{i} {ROW}V{y:.1}"),
            _ => path += &format!("H{i}V{y:.1}"),
        }
        before = *n;
    }
    for (i, part) in bins.chunks(width / 20).enumerate() {
        if part.iter().any(|n| *n > 0) {
            let (x, about) = (i * 5, about(i as f64 / 20.0, (i + 1) as f64 / 20.0, part));
            let place = format!("x='{x}%' width='5%' height='100%'");
            hits += &format!("<rect {place}><title>{about}</title></rect>");
        }
    }
    path += when(before > 0, &format!("H{width}V{ROW}"));
    let area = format!("<path class='area' d='{path}'/>");
    stretch(width, ROW, &area) + &hits
}
