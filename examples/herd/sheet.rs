//! Results in rows and columns, for the terminal and the page.

use comfy_table::{CellAlignment, ColumnConstraint, ContentArrangement, Table};

/// What every line on the terminal fits in.
pub const WIDTH: u16 = 100;
/// Lines above, below and under the headings, none between the columns.
const LINES: &str = "  ── ──      ──    ";

/// The name in the page, the heading in the terminal, and the cell.
pub type Column<T> = (&'static str, &'static str, fn(&T) -> String);

/// A name and a heading.
pub type Head = (&'static str, &'static str);

#[derive(Default)]
pub struct Sheet {
    pub heads: Vec<Head>,
    pub rows: Vec<Vec<String>>,
    /// The columns with one value in all rows: their names, and the value.
    pub common: Vec<(&'static str, String)>,
}

impl Sheet {
    /// Takes the columns out that have one value in all rows. Of a single row, only what is zero.
    pub fn new(mut heads: Vec<Head>, mut rows: Vec<Vec<String>>) -> Self {
        let mut common = Vec::new();
        for column in (0..heads.len()).rev() {
            let mut values = rows.iter().map(|row| row[column].as_str()).filter(|v| *v != NONE);
            let Some(first) = values.next() else { continue };
            let is_said_once = rows.len() > 1 || first == "0" || first == UNKNOWN;
            if is_said_once && values.all(|value| value == first) {
                let name = heads.remove(column).0;
                common.extend((first != UNKNOWN).then(|| (name, first.to_owned())));
                rows.iter_mut().for_each(|row| drop(row.remove(column)));
            }
        }
        common.reverse();
        Self { heads, rows, common }
    }

    /// What all rows have in common, in one sentence.
    pub fn caption(&self) -> String {
        let common = self.common.iter().map(|(name, value)| {
            let name = name.replace('_', " ");
            format!("{name} {value}")
        });
        match common.collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => none,
            common => format!(" The same in every row: {common}."),
        }
    }

    /// The table for the terminal.
    pub fn terminal(&self) -> String {
        let mut table = Table::new();
        table.load_preset(LINES).set_content_arrangement(ContentArrangement::Dynamic);
        table.set_width(WIDTH);
        // The rows of a fault stand together, under its name.
        let grouped = usize::from(self.heads.first().is_some_and(|head| head.0 == FAULT));
        table.set_header(self.heads.iter().skip(grouped).map(|head| head.1));
        let mut last = None;
        for row in &self.rows {
            let (group, cells) = row.split_at(grouped);
            if last.replace(group) != Some(group) && grouped > 0 {
                table.add_row(group);
            }
            table.add_row(cells);
        }
        for (number, column) in table.column_iter_mut().enumerate() {
            column.set_padding((0, 1));
            if self.heads.get(number + grouped).is_some_and(|head| is_label(head.0)) {
                column.set_constraint(ColumnConstraint::ContentWidth);
            } else {
                column.set_cell_alignment(CellAlignment::Right);
            }
        }
        table.trim_fmt()
    }
}

/// The names of the columns that say what a row is about.
pub const FAULT: &str = "fault";
pub const STRATEGY: &str = "strategy";
pub const OPERATION: &str = "operation";
/// What did not take place.
pub const NONE: &str = "n/a";
/// What was not measured.
pub const UNKNOWN: &str = "–";

/// Whether a column names its row.
pub fn is_label(column: &str) -> bool {
    [STRATEGY, OPERATION].contains(&column)
}

/// Words in lines that fit the terminal.
pub fn wrapped(text: &str) -> String {
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let Some(line) = lines.last_mut() else { continue };
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= WIDTH.into() {
            *line += &format!(" {word}");
        } else {
            lines.push(word.to_owned());
        }
    }
    lines.join("\n")
}
