//! The order of the floors: what stands directly in `src` may use its own floor and those below it.

use std::collections::BTreeSet;

use super::{circles::Graph, references::Reference};

/// From the ground up.
const FLOORS: &[&[&str]] = &[
    // Vocabulary: values, no I/O.
    &[
        "backoff", "clock", "codec", "entry", "error", "fault", "fetched", "key", "loaded",
        "loader", "outcome", "policy", "size", "sync", "terms", "token", "version",
    ],
    // Contracts.
    &["far"],
    &["lock"],
    // What several systems share, and the systems.
    &["sql", "subscription"],
    SYSTEMS,
    // The guard, and what stands on it.
    &["flight", "freshness", "near", "observe"],
    &["guard"],
    &["guide", "http", "metrics", "tower"],
];

/// Names everything, and stands nowhere.
const ROOT: &str = "lib";

const SYSTEMS: &[&str] = &["memory", "mysql", "postgres", "redis", "zookeeper"];

/// A system is known to itself only: everything else sees contracts. The exception: a guard without a
/// far tier of its own gets one in memory.
const MAY_KNOW_A_SYSTEM: &[(&str, &str)] = &[("guard", "memory")];

pub fn faults(files: &Graph) -> Vec<String> {
    let rooms: BTreeSet<_> = files
        .references()
        .flat_map(|reference| [room(&reference.from), room(&reference.to)])
        .collect();
    rooms
        .into_iter()
        .filter(|room| *room != ROOT && floor(room).is_none())
        .map(|room| format!("`{room}` has no floor: give it one in tests/house/floors.rs"))
        .chain(files.references().filter_map(breach))
        .collect()
}

fn breach(reference: &Reference) -> Option<String> {
    let Reference { from, to, line, path } = reference;
    let (above, below) = (room(from), room(to));
    let is_upwards = floor(above)? < floor(below)?;
    let is_system = SYSTEMS.contains(&below) && above != below;
    let breach = if is_upwards {
        format!("`{above}` stands below `{below}`")
    } else if is_system && !MAY_KNOW_A_SYSTEM.contains(&(above, below)) {
        format!("`{above}` must not know the system `{below}`")
    } else {
        return None;
    };
    Some(format!("{from}:{line} `{path}` -> {to}: {breach}"))
}

/// The folder, or the file without its ending, that stands in `src`.
fn room(file: &str) -> &str {
    let first = file.split_once('/').map_or(file, |(folder, _)| folder);
    first.trim_end_matches(".rs")
}

fn floor(room: &str) -> Option<usize> {
    FLOORS.iter().position(|floor| floor.contains(&room))
}
