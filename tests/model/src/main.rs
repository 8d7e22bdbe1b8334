//! Prints what the README shows.

use cattleguard_model::tables::{explored, rows, table_in_words, variants_in_words};

fn main() {
    let run = |row: cattleguard_model::tables::Row| {
        let begun = std::time::Instant::now();
        let found = explored(&row.config);
        eprintln!(
            "{}: {} states, {} steps cut, {:.1?}",
            row.name,
            found.states,
            found.cut,
            begun.elapsed()
        );
        (row, found)
    };
    let runs: Vec<_> = rows().into_iter().map(run).collect();
    println!("{}\n{}", table_in_words(&runs), variants_in_words().trim_end());
}
