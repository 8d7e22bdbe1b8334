//! How a number grows.

use super::{
    axis::{Log, grid},
    number::plain,
    svg::{ACCENT, escaped, level, stretch, tone, when},
};

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

/// Height of a plot of lines, px.
const TALL: f64 = 250.0;

impl LinePlot {
    pub fn render(&self) -> String {
        let known = |p: &&(f64, f64)| p.0.is_finite() && p.1.is_finite();
        let all = || self.lines.iter().flat_map(|l| &l.1).filter(known);
        let (right, up) = (Log::new(all().map(|p| &p.0)), Log::new(all().map(|p| &p.1)));
        let y = |f: f64| 10.0 + (1.0 - f) * (TALL - 20.0);
        let (mut plot, axis) = grid(&right.ticks(plain));
        for (f, label) in up.ticks(plain) {
            plot += &level(y(f), &label);
        }
        let (mut paths, mut dots, mut ends) = (String::new(), String::new(), Vec::new());
        // Lines often lie on each other: the accent is wide and goes first, every other is dashed.
        let mut order: Vec<_> = self.lines.iter().enumerate().collect();
        order.sort_by_key(|(i, line)| (line.0 != ACCENT, i % 2));
        for (i, (name, points)) in order {
            let dash = when(name != ACCENT && i % 2 == 1, "dash");
            let (tone, name, mut path) = (tone(name), escaped(name), String::new());
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
        let [title, x, y] = [&self.title, &self.x, &self.y].map(|text| escaped(text));
        format!(
            "<figure><h3>{title}</h3><p class='how'>{y}</p><svg height='{TALL}'>{plot}{dots}</svg>\
             {axis}<figcaption>{x}</figcaption></figure>"
        )
    }
}
