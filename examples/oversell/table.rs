//! What is printed, and what is wrong with it.

use comfy_table::{CellAlignment, Table, presets::UTF8_FULL_CONDENSED};

use crate::{
    DECIDE_MS,
    args::Args,
    buyer::Answer,
    lock::Kind,
    shop::{Books, Method},
    stories::{LateWrite, NEW_PRICE, OLD_PRICE, TTL_MS},
};

/// One method, and what the shop's books say afterwards.
pub struct Row {
    method: Method,
    /// Processes, and buyers in each.
    size: (u32, u32),
    pub books: Books,
    seconds: f64,
    errors: u64,
    error: Option<String>,
}

impl Row {
    pub fn new(
        method: Method,
        size: (u32, u32),
        books: Books,
        seconds: f64,
        answers: Vec<Answer>,
    ) -> Self {
        let errors = answers.iter().map(|answer| answer.errors).sum();
        let error = answers.into_iter().find_map(|answer| answer.error);
        Self { method, size, books, seconds, errors, error }
    }

    /// What must not be so.
    pub fn problem(&self, stock: u32) -> Option<String> {
        let (name, oversold) = (self.method.name(), self.books.oversold());
        let error = match &self.error {
            Some(error) => format!("; {} purchases failed, the first: {error}", self.errors),
            None => String::new(),
        };
        let unsold = i64::from(stock) - self.books.sold;
        match self.method {
            Method::Unlocked if oversold == 0 => Some(format!(
                "{name}: the buyers did not meet, so nothing was oversold; give more --buyers{error}"
            )),
            Method::Unlocked => None,
            _ if oversold > 0 => Some(format!("{name}: oversold by {oversold}{error}")),
            // Safe, but only as a shop that is closed.
            _ if unsold > 0 => Some(format!("{name}: {unsold} pieces were not sold{error}")),
            _ if self.errors > 0 => Some(format!("{name}: all sold{error}")),
            _ => None,
        }
    }

    fn cells(&self) -> [String; 7] {
        let (processes, buyers) = self.size;
        [
            self.method.name(),
            format!("{processes} × {buyers}"),
            self.books.sold.to_string(),
            self.books.left.to_string(),
            self.books.oversold().to_string(),
            format!("{:.2}", self.seconds),
            format!("{:.0}", self.books.sold as f64 / self.seconds),
        ]
    }
}

const HEADINGS: [&str; 7] = [
    "method",
    "processes\n× buyers",
    "sold",
    "stock left\nby its count",
    "oversold",
    "seconds",
    "purchases\na second",
];

pub fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED).set_header(HEADINGS);
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table.add_rows(rows.iter().map(Row::cells));
    let memory = rows.iter().any(|row| row.method.kind() == Some(Kind::Memory));
    let note = "\nThe memory lock knows only its own process: all buyers are in one.";
    format!("{table}{}", if memory { note } else { "" })
}

pub fn opening(args: &Args) -> String {
    let buyers = args.processes * args.buyers;
    format!(
        "Stock: {}. {buyers} buyers in {} processes want {} each. \
         A buyer reads the stock, decides for {DECIDE_MS} ms, and writes it back.",
        args.stock,
        args.processes,
        args.wants()
    )
}

/// How a story ended.
pub enum Told {
    Mail { lock: Option<Kind>, sent: i64 },
    Late { lock: Kind, write: LateWrite },
}

impl Told {
    pub fn mail(lock: Option<Kind>, sent: i64) -> Self {
        Self::Mail { lock, sent }
    }

    pub fn late(lock: Kind, write: LateWrite) -> Self {
        Self::Late { lock, write }
    }

    /// What must not be so.
    pub fn problem(&self) -> Option<String> {
        match self {
            Self::Mail { lock: None, sent: 2 } | Self::Mail { lock: Some(_), sent: 1 } => None,
            Self::Mail { lock, sent } => Some(format!("{}: {sent} e-mails were sent", name(*lock))),
            Self::Late { lock, write } => {
                let (unfenced, fenced) = (write.unfenced.price, write.fenced.price);
                let right = unfenced == OLD_PRICE && fenced == NEW_PRICE;
                let problem = format!(
                    "{} lock: after a late write the price is {unfenced}, and {fenced} with the fence",
                    lock.name()
                );
                (!right).then_some(problem)
            }
        }
    }
}

pub fn stories(told: &[Told]) -> String {
    let mails = told.iter().filter_map(|told| match told {
        Told::Mail { lock, sent } => Some(format!("  {:<18} {sent} sent\n", name(*lock))),
        Told::Late { .. } => None,
    });
    let late = told.iter().filter_map(|told| match told {
        Told::Late { lock, write } => Some(late(*lock, write)),
        Told::Mail { .. } => None,
    });
    let (mails, late): (String, String) = (mails.collect(), late.collect());
    let mut text = format!("\nEfficiency: two workers have the same e-mail to send.\n{mails}");
    if !late.is_empty() {
        text += &format!(
            "\nCorrectness: a holder pauses for longer than its lease of {TTL_MS} ms; another takes the \
             lock and writes\nthe price {NEW_PRICE}; the first continues and writes {OLD_PRICE}.\n{late}"
        );
    }
    text
}

fn late(lock: Kind, LateWrite { unfenced, fenced }: &LateWrite) -> String {
    let unfenced = match unfenced.price {
        OLD_PRICE => "the newer price is lost".to_owned(),
        price => format!("the price is {price}"),
    };
    let (old, new) = (fenced.old_fence, fenced.new_fence);
    let fenced = match fenced.price {
        NEW_PRICE => format!("refused, as {old} < {new}"),
        price => format!("the price is {price}, tokens {old} and {new}"),
    };
    let name = name(Some(lock));
    format!("  {name:<18} late write: {unfenced}; with the fencing token: {fenced}\n")
}

fn name(lock: Option<Kind>) -> String {
    lock.map_or("no lock".to_owned(), |kind| format!("{} lock", kind.name()))
}
