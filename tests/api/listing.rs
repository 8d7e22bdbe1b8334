//! `docs/api.txt`: each public item of the crate with all its features, in a line.
//!
//! `API=write cargo test --all-features --test api` writes it anew.

use std::{collections::HashSet, env, fs, path::Path};

use public_api::{PublicApi, PublicItem};
use serde_json::Value;

use crate::compiler::{cargo, run, target};

/// The version of rustdoc's JSON that is read here: that of Rust 1.95. It is unstable, and others have others.
const FORMAT: u64 = 57;

#[test]
fn every_public_item_is_in_the_listing() {
    let mut rustdoc = cargo("rustdoc");
    rustdoc.args(["--", "-Z", "unstable-options", "--output-format", "json", "--cap-lints=allow"]);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    rustdoc.env("RUSTDOC", folder.join("tests/api/rustdoc"));
    run(rustdoc);
    let json = target().join("doc/cattleguard.json");
    let format = format_of(&json);
    if format != FORMAT {
        println!("not checked: this rustdoc writes JSON of format {format}, and {FORMAT} is read");
        return;
    }
    let api = public_api::Builder::from_rustdoc_json(&json).omit_blanket_impls(true);
    let listing = listing(&api.build().expect("an API"));
    let path = folder.join("docs/api.txt");
    if env::var_os("API").is_some_and(|task| task == "write") {
        fs::write(&path, &listing).expect("written");
    }
    let known = fs::read_to_string(&path).expect("a listing");
    let faults = differences(&known, &listing);
    assert!(
        faults.is_empty(),
        "docs/api.txt and the API differ. If that is meant: API=write cargo test --all-features --test api\n\n{}",
        faults.join("\n")
    );
}

fn format_of(json: &Path) -> u64 {
    let json = fs::read(json).expect("JSON by rustdoc");
    let json: Value = serde_json::from_slice(&json).expect("JSON");
    json["format_version"].as_u64().expect("a version")
}

/// Without what says nothing new: the functions of a trait in its implementations, a line that stands twice, and
/// traits that the compiler implements and nobody counts on.
fn listing(api: &PublicApi) -> String {
    let implementations: HashSet<_> =
        api.items().filter(|item| is_implementation(item)).map(PublicItem::id).collect();
    let mut seen = HashSet::new();
    let lines: Vec<_> = api
        .items()
        .map(|item| {
            let of_a_trait = item.parent_id().is_some_and(|of| implementations.contains(&of));
            (of_a_trait, item.to_string())
        })
        .filter(|(of_a_trait, line)| !(*of_a_trait && line.contains(" fn ")))
        .map(|(_, line)| line)
        .filter(|line| !UNSAID.iter().any(|name| line.contains(name)))
        .filter(|line| seen.insert(line.clone()))
        .collect();
    lines.join("\n") + "\n"
}

const UNSAID: &[&str] = &[
    "marker::Freeze for",
    "marker::StructuralPartialEq for",
    "marker::Unpin for",
    "marker::UnsafeUnpin for",
    "::RefUnwindSafe for",
    "::UnwindSafe for",
];

fn is_implementation(item: &PublicItem) -> bool {
    let line = item.to_string();
    line.starts_with("impl") && line.contains(" for ")
}

fn differences(known: &str, now: &str) -> Vec<String> {
    let [before, after] = [known, now].map(|text| text.lines().collect::<HashSet<_>>());
    let gone = known.lines().filter(|line| !after.contains(line)).map(|line| format!("- {line}"));
    let new = now.lines().filter(|line| !before.contains(line)).map(|line| format!("+ {line}"));
    gone.chain(new).collect()
}

#[test]
fn a_line_that_is_new_or_gone_is_a_difference() {
    assert_eq!(differences("a\nb\n", "b\nc\n"), ["- a", "+ c"]);
    assert!(differences("a\nb\n", "a\nb\n").is_empty());
}
