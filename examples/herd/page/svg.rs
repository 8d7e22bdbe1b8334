//! Pieces of SVG that all plots are made of.

/// Each strategy has one colour everywhere, by its place here.
const KNOWN: [&str; 6] =
    ["none", "cache-aside", "local", "lock-poll", ACCENT, "cattleguard, no stale"];
/// So has each operation, by how its name begins.
const OPERATIONS: [(&str, &str); 6] = [
    ("fill", "c5"),
    ("refresh", "c1"),
    ("change", "c3"),
    ("invalidation", "c0"),
    ("waiting", "c2"),
    ("idle", "c6"),
];
/// What the page is about.
pub const ACCENT: &str = "cattleguard";
/// Height of one row of bars, px.
pub const ROW: f64 = 44.0;

/// A line across the plot and its label.
pub fn level(y: f64, label: &str) -> String {
    let text = format!("<text class='end' x='-7' y='{y:.1}'>{label}</text>");
    format!("<line x2='100%' y1='{y:.1}' y2='{y:.1}'/>{text}")
}

/// Shapes that stretch with the screen, which text must not.
pub fn stretch(width: usize, height: f64, shapes: &str) -> String {
    let view = format!("viewBox='0 0 {width} {height}' preserveAspectRatio='none'");
    format!("<svg height='{height}' {view}>{shapes}</svg>")
}

/// A strategy, its plot and what is said beside it.
pub fn row(strategy: &str, plot: &str, said: &str) -> String {
    let (tone, name) = (tone(strategy), escaped(strategy));
    format!(
        "<div class='row {tone}'><div class='who dot'>{name}</div><svg height='{ROW}'>{plot}\
         <line class='base' x2='100%' y1='100%' y2='100%'/></svg><div class='said'>{said}</div></div>\n"
    )
}

pub fn tone(strategy: &str) -> String {
    if let Some((_, tone)) = OPERATIONS.iter().find(|(begin, _)| strategy.starts_with(begin)) {
        return (*tone).to_owned();
    }
    let place = KNOWN.iter().position(|name| *name == strategy);
    format!("c{}", place.unwrap_or(KNOWN.len()))
}

pub fn when(yes: bool, text: &str) -> &str {
    if yes { text } else { "" }
}

pub fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    let text = text.replace('>', "&gt;").replace('"', "&quot;");
    text.replace('\'', "&#39;")
}
