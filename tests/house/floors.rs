//! The order of the floors. What stands above `src` in this table may use what stands below it.

use super::references::Reference;

/// From the ground up. What stands on one floor may use each other, as long as it makes no circle.
const FLOORS: &[&[&str]] = &[
    // Vocabulary: values, no I/O.
    &["clock", "codec", "entry", "error", "fault", "key", "outcome", "policy", "token", "version"],
    // Contracts.
    &["far"],
    &["lock"],
    // Systems.
    &["sql"],
    SYSTEMS,
    // The guard, and what stands on it.
    &["flight", "near", "observe"],
    &["guard"],
    &["http", "metrics", "tower"],
];

const SYSTEMS: &[&str] = &["memory", "mysql", "postgres", "redis", "zookeeper"];

/// A system is known to itself only: everything else sees contracts. The exception: a guard without a
/// far tier of its own gets one in memory.
const MAY_KNOW_A_SYSTEM: &[(&str, &str)] = &[("guard", "memory")];

pub fn faults(references: &[Reference]) -> Vec<String> {
    let mut faults: Vec<_> = references.iter().filter_map(fault).collect();
    faults.sort();
    faults.dedup();
    faults
}

fn fault(reference: &Reference) -> Option<String> {
    let Reference { from, to, line, path } = reference;
    let (above, below) = (room(from), room(to));
    // The root names them all.
    if above == "lib" || above == below {
        return None;
    }
    let breach = match (floor(above), floor(below)) {
        (None, _) => format!("`{above}` has no floor: give it one in tests/house/floors.rs"),
        (_, None) => format!("`{below}` has no floor: give it one in tests/house/floors.rs"),
        (Some(from), Some(to)) if from < to => format!("`{above}` stands below `{below}`"),
        _ if SYSTEMS.contains(&below) && !MAY_KNOW_A_SYSTEM.contains(&(above, below)) => {
            format!("`{above}` must not know the system `{below}`")
        }
        _ => return None,
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
