//! The end of a run, for the reader.

use std::collections::BTreeMap;

use comfy_table::{Cell, CellAlignment, Table, presets::UTF8_FULL_CONDENSED};

use crate::{
    history::{Admitted, Breach, Deed, Promise, Reached, Verdict},
    record::Seen,
};

/// What was done, and how it was answered.
pub fn operations(seen: &Seen) -> String {
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for event in &seen.events {
        let what = match &event.deed {
            Deed::Asked { outcome, .. } => format!("asked: {outcome}"),
            Deed::Loaded { brought: Some(_), .. } => "load".into(),
            Deed::Loaded { brought: None, .. } => "load that brought nothing".into(),
            Deed::Put { is_acknowledged: true, .. } => "put".into(),
            Deed::Put { .. } => "put: not acknowledged".into(),
            Deed::Invalidated { reached, .. } => match reached {
                Reached::Everywhere => "invalidated: everywhere".into(),
                Reached::Unconfirmed => "invalidated: unconfirmed".into(),
                Reached::Unacknowledged => "invalidated: not acknowledged".into(),
            },
            Deed::Read { .. } => "read past the guards".into(),
        };
        *counts.entry(what).or_default() += 1;
    }
    table(["operation", "times"], counts.into_iter())
}

pub fn faults(seen: &Seen) -> String {
    let acts = seen.acts.iter().map(|(act, times)| (act.name().to_owned(), *times));
    table(["fault", "times"], acts)
}

/// Each promise: how often it was put to the test, and what became of it.
pub fn verdict(verdict: &Verdict) -> String {
    let mut table = plain();
    table.set_header(["promise", "asked", "broken", "admitted", "why"].map(Cell::new));
    for (promise, asked) in &verdict.asked {
        let broken = verdict.broken.get(promise).copied().unwrap_or(0);
        let admitted: Vec<_> =
            verdict.admitted.iter().filter(|((of, _), _)| of == promise).collect();
        table.add_row(row(*promise, Some((*asked, broken)), admitted.first().copied()));
        for more in admitted.iter().skip(1) {
            table.add_row(row(*promise, None, Some(*more)));
        }
    }
    table.to_string()
}

type Admissions<'a> = (&'a (Promise, Admitted), &'a usize);

fn row(
    promise: Promise,
    of: Option<(usize, usize)>,
    admitted: Option<Admissions<'_>>,
) -> Vec<Cell> {
    let number = |number: Option<usize>| {
        let text = number.map(|number| number.to_string()).unwrap_or_default();
        Cell::new(text).set_alignment(CellAlignment::Right)
    };
    let name = of.map_or("", |_| promise.as_str());
    vec![
        Cell::new(name),
        number(of.map(|(asked, _)| asked)),
        number(of.map(|(_, broken)| broken)),
        number(admitted.map(|(_, times)| *times)),
        Cell::new(admitted.map_or("", |((_, why), _)| why.as_str())),
    ]
}

/// Every breach, as its shortest history.
pub fn breaches(verdict: &Verdict) -> String {
    let told = |Breach { promise, story }: &Breach| {
        format!("{}\n{}\n\n", promise.as_str(), story.trim_end())
    };
    verdict.breaches.iter().map(told).collect()
}

fn table(header: [&str; 2], rows: impl Iterator<Item = (String, usize)>) -> String {
    let mut table = plain();
    table.set_header(header.map(Cell::new));
    for (name, times) in rows {
        table.add_row([Cell::new(name), Cell::new(times).set_alignment(CellAlignment::Right)]);
    }
    table.to_string()
}

fn plain() -> Table {
    let mut table = Table::new();
    table.load_preset(UTF8_FULL_CONDENSED);
    table
}
