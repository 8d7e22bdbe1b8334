//! Time lines: what each strategy did while something broke.

use super::{
    axis::{Log, grid},
    number::{ms, nice, plain},
    svg::{ROW, escaped, level, row, stretch, when},
};
use crate::{
    count::{Count, commas},
    figures::Figures,
    timeline::{Timeline, WINDOW, Window},
};

/// One fault; its courses are the strategies, drawn on shared axes.
pub struct TimePanel {
    /// What broke, in a few words.
    pub title: String,
    /// What to know before looking.
    pub note: String,
    /// The strategies, in the order shown.
    pub courses: Vec<Course>,
}

/// What one strategy did in a [`TimePanel`].
pub struct Course {
    /// The name of the strategy.
    pub strategy: String,
    /// What happened in the shown round, window by window.
    pub timeline: Timeline,
    /// Beside the plots.
    pub figures: Figures,
}

/// Windows in a second.
const EACH_SECOND: f64 = 1e6 / WINDOW as f64;

impl TimePanel {
    /// All plots of the fault.
    pub fn render(&self) -> String {
        let count = self.courses.iter().map(|course| course.timeline.windows.len()).max();
        let until = count.unwrap_or(1) as f64 / EACH_SECOND;
        let step = nice(until / 8.0);
        let marks = (0..=(until / step + 1e-9) as u32).map(|i| f64::from(i) * step);
        let ticks: Vec<_> = marks.map(|t| (t / until, ms(t * 1000.0))).collect();
        let (back, axis) = grid(&ticks);
        let plots =
            [self.requests(until, &back), self.waits(until, &back), self.loads(until, &back)];
        plots.map(|plot| plot + &axis).concat()
    }

    fn windows(&self) -> impl Iterator<Item = &Window> {
        self.courses.iter().flat_map(|course| &course.timeline.windows)
    }

    fn requests(&self, until: f64, back: &str) -> String {
        let all = |window: &Window| (window.answers + window.errors) as f64 * EACH_SECOND;
        let top = nice(self.windows().map(all).fold(1.0, f64::max));
        let height = |rate: f64| ROW * rate / top;
        let mut rows = String::new();
        for course in &self.courses {
            let answers = |window: &Window| height(window.answers as f64 * EACH_SECOND);
            let windows = || course.timeline.windows.iter();
            let failed: Vec<_> =
                windows().map(|window| (answers(window), height(all(window)))).collect();
            let answers: Vec<_> = windows().map(|window| (0.0, answers(window))).collect();
            let shapes = area("area", &answers) + &area("failed", &failed);
            let Figures { answered, errors, normal_after_s, .. } = course.figures;
            let normal = match normal_after_s {
                Some(seconds) => format!("normal after <b>{seconds:.1} s</b>"),
                None => "<b class='failing'>not normal again</b>".to_owned(),
            };
            let failed = when(errors > Count::default(), "failing");
            let said = format!(
                "<p><b>{answered}</b> answers, <b class='{failed}'>{errors}</b> errors</p><p>{normal}</p>"
            );
            rows += &course.row(until, back, &level(0.0, &plain(top)), &shapes, &said);
        }
        format!(
            "<h3>Answers and errors per second</h3><p class='how'>By the time they ended. Shaded: \
             from the beginning to the end of the fault.<svg><line class='failed' y2='100%'/></svg>\
             errors, on top of the answers</p>{rows}"
        )
    }

    fn waits(&self, until: f64, back: &str) -> String {
        let all: Vec<f64> = self.windows().filter_map(|window| window.p99_ms).collect();
        let log = Log::new(all.iter());
        // Room for the labels of neighbours.
        let height = |ms: f64| 5.0 + (ROW - 10.0) * log.at(ms).clamp(0.0, 1.0);
        let levels = [log.low, log.high].map(|value| level(ROW - height(value), &ms(value)));
        let levels = levels.concat();
        let mut rows = String::new();
        for course in &self.courses {
            let heights: Vec<_> =
                course.timeline.windows.iter().map(|w| w.p99_ms.map(height)).collect();
            let Figures { p99_in_fault_ms, max_in_fault_ms, .. } = course.figures;
            let said = format!(
                "<p>in the fault: p99 <b>{}</b>, max <b>{}</b></p>",
                ms(p99_in_fault_ms),
                ms(max_in_fault_ms)
            );
            rows += &course.row(until, back, &levels, &line(&heights), &said);
        }
        format!(
            "<h3>p99 of each 200 ms</h3><p class='how'>How long the requests had waited that ended in \
             it, on a logarithmic axis; a gap: none ended.</p>{rows}"
        )
    }

    fn loads(&self, until: f64, back: &str) -> String {
        let top = nice(self.windows().map(|window| window.running).fold(1, u64::max) as f64);
        // As for queries over time: one must be seen below a peak of many.
        let height = |n: u64| if n == 0 { 0.0 } else { (ROW * (n as f64 / top).sqrt()).max(3.0) };
        let mut rows = String::new();
        for course in &self.courses {
            let heights: Vec<_> =
                course.timeline.windows.iter().map(|w| (0.0, height(w.running))).collect();
            let Figures { loads, loads_peak, .. } = course.figures;
            let said = format!("<p><b>{loads}</b> queries, <b>{loads_peak}</b> at once</p>");
            let shapes = area("area", &heights);
            rows += &course.row(until, back, &level(0.0, &plain(top)), &shapes, &said);
        }
        format!(
            "<h3>Database queries in progress</h3><p class='how'>The most at one time in each 200 ms. \
             Heights are square roots.</p>{rows}"
        )
    }
}

impl Course {
    fn row(&self, until: f64, back: &str, levels: &str, shapes: &str, said: &str) -> String {
        let count = self.timeline.windows.len();
        let share = |seconds: f64| seconds / until * 100.0;
        let (from, to) = self.timeline.fault;
        let mut plot = format!(
            "<rect class='fault' x='{:.2}%' width='{:.2}%' height='100%'/>{back}{levels}",
            share(from),
            share(to - from)
        );
        plot += &stretch(count.max(1), ROW, shapes);
        for (i, window) in self.timeline.windows.iter().enumerate() {
            let (at, width) = (i as f64 / EACH_SECOND, share(1.0 / EACH_SECOND));
            let rate = |n: u64| commas((n as f64 * EACH_SECOND) as usize);
            let about = format!(
                "{}: {} answers/s, {} errors/s, p99 {}, {} queries",
                ms(at * 1000.0),
                rate(window.answers),
                rate(window.errors),
                window.p99_ms.map_or("–".to_owned(), ms),
                window.running
            );
            let (x, about) = (share(at), escaped(&about));
            plot += &format!("<rect x='{x:.2}%' width='{width:.2}%' height='100%'>");
            plot += &format!("<title>{about}</title></rect>");
        }
        row(&self.strategy, &plot, said)
    }
}

/// Steps, filled from one height to another, without lines between neighbours.
fn area(class: &str, heights: &[(f64, f64)]) -> String {
    let (mut path, mut at) = (String::new(), 0);
    for run in heights.chunk_by(|a, b| (a.0 < a.1) == (b.0 < b.1)) {
        if run.iter().any(|(low, high)| low < high) {
            path += &format!("M{at} {:.1}", ROW - run[0].0);
            for (i, (_, high)) in run.iter().enumerate() {
                path += &format!("V{:.1}H{}", ROW - high, at + i + 1);
            }
            for (i, (low, _)) in run.iter().enumerate().rev() {
                path += &format!("V{:.1}H{}", ROW - low, at + i);
            }
            path += "Z";
        }
        at += run.len();
    }
    format!("<path class='{class}' d='{path}'/>")
}

/// Steps with gaps where nothing is known.
fn line(heights: &[Option<f64>]) -> String {
    let (mut path, mut drawn) = (String::new(), false);
    for (i, height) in heights.iter().enumerate() {
        if let Some(height) = height {
            let y = ROW - height;
            let to = if drawn { format!("V{y:.1}") } else { format!("M{i} {y:.1}") };
            path += &format!("{to}H{}", i + 1);
        }
        drawn = height.is_some();
    }
    format!("<path class='course' d='{path}'/>")
}
