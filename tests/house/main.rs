//! The structure of the source, kept sound by a test: a reader who opens a folder must be able to
//! understand it from what stands below, and a function must fit on a screen.
//!
//! - **No circle.** Files depend on each other in one direction only, and so do the folders of each
//!   level. A circle means that none of its files can be read, tested or replaced without all the
//!   others. [`references`] says what counts as a dependency, [`circles`] finds the circles.
//! - **Floors.** The vocabulary knows no contract, a contract knows no system, and what stands on them
//!   knows only contracts. The table is in [`floors`].
//! - **Size.** No function above 60 lines, none deeper than four levels: [`size`] says what a level is.
//! - **Promises.** Each promise in README names what checks it, and that exists: [`promises`].
//!
//! Each check works on a map from path to text, so [`faults`] shows with a few lines of source that it
//! can fail. Read from syntax alone, the checks do not see through method calls: a call to a method
//! that another file defines on a shared type is no dependency here.
//!
//! `HOUSE_SRC=/some/src cargo test --test house` checks another tree; with
//! `-- report --ignored --nocapture` it prints the tree's figures.

use std::{
    env,
    path::{Path, PathBuf},
};

mod circles;
mod faults;
mod floors;
mod names;
mod promises;
mod references;
mod report;
mod size;
mod source;

use self::{circles::Graph, source::Sources};

fn src() -> PathBuf {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    env::var_os("HOUSE_SRC").map_or(ours, PathBuf::from)
}

#[test]
fn files_and_folders_form_no_circle() {
    let faults = circles::faults(&Graph::of(&Sources::read(&src())));
    assert!(faults.is_empty(), "{} circles\n\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn no_floor_knows_a_higher_one() {
    let faults = floors::faults(&Graph::of(&Sources::read(&src())));
    assert!(faults.is_empty(), "{} breaches\n\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn functions_are_short_and_flat() {
    let src = src();
    let beside = ["examples", "benches"].map(|folder| src.with_file_name(folder));
    let faults: Vec<_> = [src]
        .iter()
        .chain(beside.iter().filter(|folder| folder.is_dir()))
        .flat_map(|folder| {
            let prefix = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let faults = size::faults(&Sources::read(folder));
            faults.into_iter().map(move |fault| format!("{prefix}/{fault}"))
        })
        .collect();
    assert!(faults.is_empty(), "{} functions\n\n{}", faults.len(), faults.join("\n"));
}

#[test]
fn each_promise_names_a_check_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let readme = std::fs::read_to_string(root.join("README.md")).expect("README.md");
    let faults = promises::faults(&readme, root);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[test]
#[ignore = "prints figures, checks nothing"]
fn report() {
    println!("{}", report::of(&src()));
}
