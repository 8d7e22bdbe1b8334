//! Which promise holds under which fault, in both directions.

use std::fmt::Write;

use cattleguard_model::{
    explore::explore,
    rules::Promise,
    tables::{covered, explored, mutations, rows, table_in_words, variants, variants_in_words},
};

const README: &str = include_str!("../README.md");

/// What a run breaks is what its row says, no more and no less; the README shows the table.
#[test]
fn promises_hold_and_break_as_the_table_says() {
    let runs: Vec<_> = rows().into_iter().map(|row| (explored(&row.config), row)).collect();
    let mut wrong = String::new();
    for (found, row) in &runs {
        for promise in Promise::ALL {
            let (says, is) = (row.breaks.contains(&promise), found.breaks(promise));
            if says != is {
                let _ = writeln!(wrong, "{}: {}: breaks: {is}", row.name, promise.name());
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    let runs: Vec<_> = runs.into_iter().map(|(found, row)| (row, found)).collect();
    assert!(
        README.contains(&table_in_words(&runs)),
        "README.md is to show what `cargo run` prints"
    );
}

#[test]
fn what_others_ship_has_the_counterexamples_of_the_readme() {
    for variant in variants() {
        for &promise in variant.breaks {
            assert!(explore(&variant.config, Some(promise)).breaks(promise), "{}", variant.name);
        }
    }
    let printed = variants_in_words();
    assert!(README.contains(printed.trim_end()), "README.md is to show what `cargo run` prints");
}

macro_rules! left_out {
    ($($test:ident: $name:literal;)*) => {
        $(#[test] fn $test() { breaks_without($name); })*

        #[test]
        fn every_mutation_has_a_test() {
            let tested = [$($name),*];
            assert!(mutations().iter().all(|mutation| tested.contains(&mutation.name)));
        }
    };
}

left_out! {
    token: "the token is not checked";
    version: "the version is not compared";
    grant: "the lease is granted twice";
    revoke: "an invalidation does not revoke the lease";
    tombstone: "no tombstone is left";
    note: "a waiter is not noted";
    registration: "a waiter registers after its look-up";
    near: "a message does not drop the near entry";
    confirmation: "a process confirms before it drops";
    second_drop: "nothing is dropped again before an invalidation returns";
    closed: "a closed flight fills the near tier";
    floor: "a flight fills below the version that it has heard of";
    fence: "the fence does not pass the floor";
}

/// One rule covers another: this one is not seen from the promises.
#[test]
fn a_refused_value_for_late_callers_is_kept_from_harm_by_the_closed_flight() {
    let found = explored(&covered());
    let broken: Vec<_> = found.traces.iter().map(|(promise, _)| *promise).collect();
    assert_eq!(broken, [Promise::OneLoad]);
}

fn breaks_without(name: &str) {
    let mutation = mutations().into_iter().find(|mutation| mutation.name == name);
    let mutation = mutation.expect("a mutation of this name");
    let found = explore(&mutation.config, Some(mutation.breaks));
    assert!(found.breaks(mutation.breaks), "{name}: {} states", found.states);
}
