//! One HTML page for the results of a run. It opens anywhere: no script, no
//! font and no picture is loaded, every plot is SVG written out here.

mod axis;
mod glossary;
mod line_plot;
mod number;
mod panel;
mod svg;
mod time_panel;

use self::{
    glossary::GLOSSARY,
    svg::{ACCENT, escaped, tone, when},
};
pub use self::{
    line_plot::LinePlot,
    panel::{Panel, Series},
    time_panel::{Course, TimePanel},
};

use crate::sheet::{NONE, Sheet, UNKNOWN, is_label};

/// Everything the page shows.
pub struct Page {
    /// The heading, also the name of the browser tab.
    pub title: String,
    /// One sentence below the heading.
    pub subtitle: String,
    /// The command that gives these results again.
    pub command: String,
    /// The table.
    pub sheet: Sheet,
    /// The phenomena, in the order shown.
    pub panels: Vec<Panel>,
    /// What happened when, where something broke.
    pub times: Vec<TimePanel>,
    /// Plots of how a number grows, one line per strategy.
    pub lines: Vec<LinePlot>,
}

impl Page {
    /// The whole page as HTML.
    pub fn render(&self) -> String {
        let [title, subtitle, command] =
            [&self.title, &self.subtitle, &self.command].map(|text| escaped(text));
        let (mut nav, mut panels) = (String::new(), String::new());
        for (i, panel) in self.panels.iter().enumerate() {
            let (title, note) = (escaped(&panel.title), escaped(&panel.note));
            let plots = panel.render();
            nav += &format!("<a href='#p{i}'>{title}</a>");
            panels +=
                &format!("<section id='p{i}'><h2>{title}</h2><p>{note}</p>{plots}</section>\n");
        }
        for (i, panel) in self.times.iter().enumerate() {
            let (title, note, plots) =
                (escaped(&panel.title), escaped(&panel.note), panel.render());
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
            let first = c.split_whitespace().next().unwrap_or_default();
            let words = ["", NONE, UNKNOWN, "never"];
            words.contains(&first) || first.replace(',', "").parse::<f64>().is_ok()
        };
        let Sheet { heads, rows, common } = &self.sheet;
        let right = |i: usize| rows.iter().all(|row| row.get(i).is_none_or(is_number));
        let (mut head, mut body, mut words) = (String::new(), String::new(), String::new());
        for (i, (name, _)) in heads.iter().enumerate() {
            // The names are long and the columns narrow: let them break where a word ends.
            let class = if is_label(name) { "stays" } else { when(right(i), "right") };
            let broken = escaped(name).replace('_', "_<wbr>");
            head += &format!("<th class='{class}'>{broken}</th>");
        }
        for name in heads.iter().map(|head| head.0).chain(common.iter().map(|column| column.0)) {
            if let Some((_, meaning)) = GLOSSARY.iter().find(|word| word.0 == name) {
                words += &format!("<div><dt>{name}</dt><dd>{meaning}</dd></div>");
            }
        }
        let mut group = None;
        for row in rows {
            let start = when(group.replace(row.first()) != Some(row.first()), "start");
            let accent = when(row.iter().any(|c| c == ACCENT), "accent");
            body += &format!("<tr class='{start} {accent}'>");
            for (i, cell) in row.iter().enumerate() {
                let dot = when(heads.get(i).is_some_and(|head| is_label(head.0)), "dot stays");
                let (right, tone, cell) = (when(right(i), "right"), tone(cell), escaped(cell));
                body += &format!("<td class='{dot} {tone} {right}'>{cell}</td>");
            }
            body += "</tr>\n";
        }
        format!(
            "<section id='numbers'><h2>All numbers</h2><p>{}</p><div class='scroll' tabindex='0'><table>\
             <thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div><dl>{words}</dl></section>",
            escaped(&self.sheet.caption())
        )
    }
}

const STYLE: &str = include_str!("style.css");
