//! Prints what the README shows; with the argument `counterexamples` only those, which takes seconds.

use std::time::Instant;

use cattleguard_model::tables::{Row, explored, rows, table_in_words, variants_in_words};

fn main() {
    if std::env::args().nth(1).as_deref() != Some("counterexamples") {
        let runs: Vec<_> = rows().into_iter().map(run).collect();
        println!("{}", table_in_words(&runs));
    }
    println!("{}", variants_in_words().trim_end());
}

fn run(row: Row) -> (Row, cattleguard_model::explore::Explored) {
    let begun = Instant::now();
    let found = explored(&row.config);
    let (states, cut) = (found.states, found.cut);
    eprintln!("{}: {states} states, {cut} steps cut, {:.1?}", row.name, begun.elapsed());
    (row, found)
}
