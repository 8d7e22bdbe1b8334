//! The README's promises: each names what checks it, and that exists.

use std::{fs, path::Path};

/// What is wrong with the table in `readme`, whose links lead from `root`.
pub fn faults(readme: &str, root: &Path) -> Vec<String> {
    let rows: Vec<_> = readme.lines().filter(|line| line.starts_with("| P")).collect();
    let mut faults: Vec<_> = rows.iter().flat_map(|row| of_row(row, readme, root)).collect();
    if rows.len() != 9 {
        faults.push(format!("{} promises, and not nine", rows.len()));
    }
    faults
}

fn of_row(row: &str, readme: &str, root: &Path) -> Vec<String> {
    let cells: Vec<_> = row.trim_matches('|').split('|').map(str::trim).collect();
    let &[promise, _, checks] = &cells[..] else {
        return vec![format!("{row}: not a promise, its words and its checks")];
    };
    let checks: Vec<_> = checks.split(", ").filter(|check| !check.is_empty()).collect();
    let mut faults: Vec<_> =
        checks.iter().filter_map(|check| of_check(check, readme, root)).collect();
    if checks.is_empty() {
        faults.push("nothing checks it".to_owned());
    }
    faults.into_iter().map(|fault| format!("{promise}: {fault}")).collect()
}

/// `[what]`, whose path is at the end of the page, or ``[`test`](path)``.
fn of_check(check: &str, readme: &str, root: &Path) -> Option<String> {
    let is_not_there = || format!("{check} is not there");
    let Some((name, path)) = check.strip_suffix(')').and_then(|link| link.split_once("](")) else {
        let path = readme.lines().find_map(|line| line.strip_prefix(&format!("{check}: ")));
        return path.is_none_or(|path| !root.join(path).exists()).then(is_not_there);
    };
    let test = name.trim_start_matches('[').trim_matches('`');
    let source = fs::read_to_string(root.join(path)).unwrap_or_default();
    (!source.contains(&format!("fn {test}()"))).then(is_not_there)
}
