//! One HTML page for the results of a run. It opens anywhere: no script, no
//! font and no picture is loaded, every plot is SVG written out here.

mod glossary;
mod times;

use self::glossary::GLOSSARY;
pub use self::times::{Course, TimePanel};

/// Everything the page shows.
pub struct Page {
    /// The heading, also the name of the browser tab.
    pub title: String,
    /// One sentence below the heading.
    pub subtitle: String,
    /// The command that gives these results again.
    pub command: String,
    /// The column names of the table.
    pub columns: Vec<&'static str>,
    /// The cells of the table, row by row.
    pub rows: Vec<Vec<String>>,
    /// The phenomena, in the order shown.
    pub panels: Vec<Panel>,
    /// What happened when, where something broke.
    pub times: Vec<TimePanel>,
    /// Plots of how a number grows, one line per strategy.
    pub lines: Vec<LinePlot>,
}

/// One phenomenon at one size; its series are the strategies, drawn on shared axes.
pub struct Panel {
    /// What happened, in a few words.
    pub title: String,
    /// What to know before looking.
    pub note: String,
    /// The strategies, in the order shown.
    pub series: Vec<Series>,
}

/// What one strategy did in a [`Panel`].
pub struct Series {
    /// The name of the strategy.
    pub strategy: String,
    /// Start and end of every database query of the shown round, ms since the round began.
    pub loads: Vec<(f64, f64)>,
    /// One per answered request, ms, all rounds.
    pub latencies: Vec<f64>,
}

/// Lines on two logarithmic axes.
pub struct LinePlot {
    /// What grows.
    pub title: String,
    /// The name of the axis to the right.
    pub x: String,
    /// The name of the axis upwards.
    pub y: String,
    /// The name of each strategy and its points.
    pub lines: Vec<(String, Vec<(f64, f64)>)>,
}

/// Each strategy has one colour everywhere, by its place here.
const KNOWN: [&str; 6] =
    ["none", "cache-aside", "local", "lock-poll", ACCENT, "cattleguard, no stale"];
/// What the page is about.
const ACCENT: &str = "cattleguard";
/// Bars across a plot of queries, and of latencies. They, not the number of queries or requests,
/// bound the size of the page. Both are multiples of 20, see [`bars`].
const SLOTS: usize = 400;
const BINS: usize = 120;
/// Height of one row of bars, px.
const ROW: f64 = 44.0;
/// Height of a plot of lines, px.
const TALL: f64 = 250.0;

impl Page {
    /// The whole page as HTML.
    pub fn render(&self) -> String {
        let [title, subtitle, command] =
            [&self.title, &self.subtitle, &self.command].map(|text| esc(text));
        let (mut nav, mut panels) = (String::new(), String::new());
        for (i, panel) in self.panels.iter().enumerate() {
            let (title, note) = (esc(&panel.title), esc(&panel.note));
            let plots = panel.queries() + &panel.latency();
            nav += &format!("<a href='#p{i}'>{title}</a>");
            panels +=
                &format!("<section id='p{i}'><h2>{title}</h2><p>{note}</p>{plots}</section>\n");
        }
        for (i, panel) in self.times.iter().enumerate() {
            let (title, note, plots) = (esc(&panel.title), esc(&panel.note), panel.render());
            nav += &format!("<a href='#t{i}'>{title}</a>");
            panels +=
                &format!("<section id='t{i}'><h2>{title}</h2><p>{note}</p>{plots}</section>\n");
        }
        if !self.lines.is_empty() {
            let lines: String = self.lines.iter().map(LinePlot::render).collect();
            nav += "<a href='#scale'>Scale</a>";
            panels += "<section id='scale'><h2>Scale</h2><p>Both axes are logarithmic.</p>";
            panels += &format!("<div class='pair'>{lines}</div></section>");
        }
        let table = self.table();
        format!(
            "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><title>{title}</title>\
             <meta name='viewport' content='width=device-width,initial-scale=1'>\
             <style>{STYLE}</style></head>\n<body><main><h1>{title}</h1><p>{subtitle}</p>\
             <pre>{command}</pre><nav>{nav}<a href='#numbers'>All numbers</a></nav>\n\
             {panels}{table}</main></body></html>\n"
        )
    }

    fn table(&self) -> String {
        let is_number = |c: &String| {
            let words = ["", "n/a", "never"];
            let first = c.split(" of ").next().unwrap_or_default();
            words.contains(&c.as_str()) || first.replace(',', "").parse::<f64>().is_ok()
        };
        let right = |i: usize| self.rows.iter().all(|row| row.get(i).is_none_or(is_number));
        let (mut head, mut body, mut words) = (String::new(), String::new(), String::new());
        for (i, name) in self.columns.iter().enumerate() {
            // The names are long and the columns narrow: let them break where a word ends.
            let (class, broken) = (when(right(i), "right"), esc(name).replace('_', "_<wbr>"));
            head += &format!("<th class='{class}'>{broken}</th>");
            if let Some((_, meaning)) = GLOSSARY.iter().find(|word| word.0 == *name) {
                words += &format!("<div><dt>{name}</dt><dd>{meaning}</dd></div>");
            }
        }
        let mut group = None;
        for row in &self.rows {
            let start = when(group.replace(row.first()) != Some(row.first()), "start");
            let accent = when(row.iter().any(|c| c == ACCENT), "accent");
            body += &format!("<tr class='{start} {accent}'>");
            for (i, cell) in row.iter().enumerate() {
                let dot = when(self.columns.get(i) == Some(&"strategy"), "dot");
                let (right, tone, cell) = (when(right(i), "right"), tone(cell), esc(cell));
                body += &format!("<td class='{dot} {tone} {right}'>{cell}</td>");
            }
            body += "</tr>\n";
        }
        format!(
            "<section id='numbers'><h2>All numbers</h2><div class='scroll' tabindex='0'><table>\
             <thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div><dl>{words}</dl></section>"
        )
    }
}

impl Panel {
    fn queries(&self) -> String {
        let loads = || self.series.iter().flat_map(|s| &s.loads);
        let ends = loads().map(|l| l.0.max(l.1)).filter(|t| t.is_finite());
        let last = ends.fold(1.0, f64::max);
        let step = nice(last / 5.0);
        // A quarter of a step at most stays empty at the right.
        let until = (last / step * 4.0 - 1e-9).ceil() * step / 4.0;
        let marks = (0..=(until / step + 1e-9) as u32).map(|i| f64::from(i) * step);
        let ticks: Vec<_> = marks.map(|t| (t / until, ms(t))).collect();
        let (mut back, axis) = draw(&ticks);
        let sweeps: Vec<_> = self.series.iter().map(|s| sweep(&s.loads, until)).collect();
        let top = nice(sweeps.iter().map(|s| s.1).fold(1, usize::max) as f64);
        // The square root keeps one query in sight below a peak of a thousand, the 3 px below any.
        let height = |n: usize| (ROW * (n as f64 / top).sqrt()).max(3.0);
        back += &level(ROW - height(top as usize), &plain(top));
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
             round. Heights are square roots, to the same scale in every row.</p>{rows}{axis}"
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
        let (back, axis) = draw(&log.ticks(ms));
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

impl LinePlot {
    fn render(&self) -> String {
        let known = |p: &&(f64, f64)| p.0.is_finite() && p.1.is_finite();
        let all = || self.lines.iter().flat_map(|l| &l.1).filter(known);
        let (right, up) = (Log::new(all().map(|p| &p.0)), Log::new(all().map(|p| &p.1)));
        let y = |f: f64| 10.0 + (1.0 - f) * (TALL - 20.0);
        let (mut plot, axis) = draw(&right.ticks(plain));
        for (f, label) in up.ticks(plain) {
            plot += &level(y(f), &label);
        }
        let (mut paths, mut dots, mut ends) = (String::new(), String::new(), Vec::new());
        // Lines often lie on each other: the accent is wide and goes first, every other is dashed.
        let mut order: Vec<_> = self.lines.iter().enumerate().collect();
        order.sort_by_key(|(i, line)| (line.0 != ACCENT, i % 2));
        for (i, (name, points)) in order {
            let dash = when(name != ACCENT && i % 2 == 1, "dash");
            let (tone, name, mut path) = (tone(name), esc(name), String::new());
            for p in points.iter().filter(known) {
                let (x, y) = (right.at(p.0) * 100.0, y(up.at(p.1)));
                let about = format!("{name}: {} at {}", plain(p.1), plain(p.0));
                path += &format!("{x:.2} {y:.1}L");
                dots += &format!("<circle class='{tone}' cx='{x:.2}%' cy='{y:.1}'>");
                dots += &format!("<title>{about}</title></circle>");
            }
            let path = path.trim_end_matches('L');
            paths += &format!("<path class='{tone} {dash}' d='M{path}'/>");
            let last = points.iter().rfind(known);
            ends.extend(last.map(|p| (y(up.at(p.1)), right.at(p.0) * 100.0, tone, name)));
        }
        plot += &stretch(100, TALL, &paths);

        // Names of lines that end together are pushed apart, upwards from the lowest.
        ends.sort_by(|a, b| b.0.total_cmp(&a.0));
        let mut at = TALL + 10.0;
        for (y, x, tone, name) in ends {
            at = y.min(at - 15.0);
            plot += &format!(
                "<line x1='{x:.2}%' x2='100%' y1='{y:.1}' y2='{y:.1}'/><svg x='100%' \
                 class='{tone}'><path class='lead' d='M7 {y:.1}L15 {at:.1}h3'/>\
                 <text class='name' x='22' y='{at:.1}'>{name}</text></svg>"
            );
        }
        let [title, x, y] = [&self.title, &self.x, &self.y].map(|text| esc(text));
        format!(
            "<figure><h3>{title}</h3><p class='how'>{y}</p><svg height='{TALL}'>{plot}{dots}</svg>\
             {axis}<figcaption>{x}</figcaption></figure>"
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

/// A logarithmic axis. With `zero`, its lower end stands for zero, which has no logarithm.
struct Log {
    low: f64,
    high: f64,
    zero: bool,
}

impl Log {
    fn new<'a>(values: impl Iterator<Item = &'a f64>) -> Log {
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
    fn at(&self, v: f64) -> f64 {
        (v.max(self.low) / self.low).ln() / (self.high / self.low).ln()
    }

    /// The value at a place, the other way round.
    fn value(&self, f: f64) -> f64 {
        let value = self.low * (self.high / self.low).powf(f);
        if self.zero && f == 0.0 { 0.0 } else { value }
    }

    fn ticks(&self, label: fn(f64) -> String) -> Vec<(f64, String)> {
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
fn draw(ticks: &[(f64, String)]) -> (String, String) {
    let (mut grid, mut labels) = (String::new(), String::new());
    for (f, label) in ticks {
        let (x, class) = (f * 100.0, when(*f > 0.96, "last"));
        grid += &format!("<line x1='{x:.2}%' x2='{x:.2}%' y2='100%'/>");
        labels += &format!("<text class='{class}' x='{x:.2}%' y='9'>{label}</text>");
    }
    let axis = format!("<div class='row foot'><svg height='18'>{labels}</svg></div>");
    (grid, axis)
}

/// A line across the plot and its label.
fn level(y: f64, label: &str) -> String {
    let text = format!("<text class='end' x='-7' y='{y:.1}'>{label}</text>");
    format!("<line x2='100%' y1='{y:.1}' y2='{y:.1}'/>{text}")
}

/// Shapes that stretch with the screen, which text must not.
fn stretch(width: usize, height: f64, shapes: &str) -> String {
    let view = format!("viewBox='0 0 {width} {height}' preserveAspectRatio='none'");
    format!("<svg height='{height}' {view}>{shapes}</svg>")
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

/// A strategy, its plot and what is said beside it.
fn row(strategy: &str, plot: &str, said: &str) -> String {
    let (tone, name) = (tone(strategy), esc(strategy));
    format!(
        "<div class='row {tone}'><div class='who dot'>{name}</div><svg height='{ROW}'>{plot}\
         <line class='base' x2='100%' y1='100%' y2='100%'/></svg><div class='said'>{said}</div></div>\n"
    )
}

fn tone(strategy: &str) -> String {
    let place = KNOWN.iter().position(|name| *name == strategy);
    format!("c{}", place.unwrap_or(KNOWN.len()))
}

fn when(yes: bool, text: &str) -> &str {
    if yes { text } else { "" }
}

fn esc(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let text = text.replace('>', "&gt;").replace('"', "&quot;");
    text.replace('\'', "&#39;")
}

/// The smallest of 1, 2, 5, 10, 20, ... and 0.5, 0.2, ... that is not below a positive number.
fn nice(v: f64) -> f64 {
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

fn ms(v: f64) -> String {
    match v {
        ..=0.0 => "0".to_string(),
        ..0.000_999_5 => sig(v * 1e6) + " ns",
        ..0.999_5 => sig(v * 1e3) + " µs",
        ..999.5 => sig(v) + " ms",
        _ => sig(v / 1e3) + " s",
    }
}

fn plain(v: f64) -> String {
    match v {
        1e6.. => sig(v / 1e6) + "M",
        1e4.. => sig(v / 1e3) + "k",
        1e3.. => commas(v as usize),
        _ => sig(v),
    }
}

fn commas(n: usize) -> String {
    let mut text = n.to_string();
    let mut at = text.len();
    while at > 3 {
        at -= 3;
        text.insert(at, ',');
    }
    text
}

const STYLE: &str = include_str!("report/style.css");
