//! Circles among files, and among the files and folders of one level.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use super::{
    references::{self, Reference},
    source::Sources,
};

/// Who depends on whom, and one reference for each pair that says so.
#[derive(Default)]
pub struct Graph {
    edges: BTreeMap<String, BTreeMap<String, Reference>>,
}

impl Graph {
    /// The graph of the files.
    pub fn of(sources: &Sources) -> Self {
        let mut graph = Self::default();
        for reference in references::find(sources) {
            let (from, to) = (reference.from.clone(), reference.to.clone());
            graph.add(from, to, reference);
        }
        graph
    }

    fn add(&mut self, from: String, to: String, reference: Reference) {
        self.edges.entry(from).or_default().entry(to).or_insert(reference);
    }

    pub fn references(&self) -> impl Iterator<Item = &Reference> {
        self.edges.values().flat_map(BTreeMap::values)
    }

    /// The same references between what stands directly in `folder`.
    fn level(&self, folder: &str) -> Self {
        let mut level = Self::default();
        for reference in self.references() {
            let ends = (child_of(folder, &reference.from), child_of(folder, &reference.to));
            if let (Some(from), Some(to)) = ends
                && from != to
            {
                level.add(from.to_owned(), to.to_owned(), reference.clone());
            }
        }
        level
    }

    /// The folders that some file is in; the empty one is the root.
    fn folders(&self) -> BTreeSet<&str> {
        let ends = self.references().flat_map(|reference| [&reference.from, &reference.to]);
        ends.flat_map(|file| file.match_indices('/').map(|(slash, _)| &file[..=slash]).chain([""]))
            .collect()
    }

    /// The groups in which each depends on each.
    fn groups(&self) -> Vec<BTreeSet<&str>> {
        let reach: BTreeMap<_, _> =
            self.edges.keys().map(|from| (from.as_str(), self.reach(from))).collect();
        let groups: BTreeSet<BTreeSet<&str>> = reach
            .iter()
            .map(|(from, there)| {
                let is_mutual = |to: &&str| reach.get(to).is_some_and(|back| back.contains(from));
                there.iter().copied().filter(is_mutual).collect()
            })
            .filter(|group: &BTreeSet<_>| !group.is_empty())
            .collect();
        groups.into_iter().collect()
    }

    fn reach<'a>(&'a self, from: &'a str) -> BTreeSet<&'a str> {
        let mut reached = BTreeSet::new();
        let mut queue = vec![from];
        while let Some(at) = queue.pop() {
            queue.extend(self.next(at).filter(|to| reached.insert(*to)));
        }
        reached
    }

    fn next(&self, from: &str) -> impl Iterator<Item = &str> {
        self.edges.get(from).into_iter().flat_map(BTreeMap::keys).map(String::as_str)
    }

    fn shortest_circle<'a>(&'a self, group: &BTreeSet<&'a str>) -> Vec<&'a Reference> {
        let circles = group.iter().filter_map(|start| self.circle_through(start));
        circles.min_by_key(Vec::len).unwrap_or_default()
    }

    fn circle_through<'a>(&'a self, start: &'a str) -> Option<Vec<&'a Reference>> {
        let mut queue = VecDeque::from([(start, Vec::new())]);
        let mut seen = BTreeSet::new();
        while let Some((at, way)) = queue.pop_front() {
            if at == start && !way.is_empty() {
                return Some(way);
            }
            for (to, reference) in self.edges.get(at).into_iter().flatten() {
                if seen.insert(to) {
                    let mut way = way.clone();
                    way.push(reference);
                    queue.push_back((to, way));
                }
            }
        }
        None
    }
}

/// The file, or the folder with a `/` at its end, that stands in `folder` and that `file` is or is in.
fn child_of<'a>(folder: &str, file: &'a str) -> Option<&'a str> {
    let inside = file.strip_prefix(folder)?;
    let end = inside.find('/').map_or(inside.len(), |slash| slash + 1);
    Some(&inside[..end])
}

/// Each circle of `files`, told by its shortest way round.
pub fn faults(files: &Graph) -> Vec<String> {
    let mut faults: Vec<_> =
        files.groups().iter().map(|group| describe("files", files, group)).collect();
    for folder in files.folders() {
        let level = files.level(folder);
        for group in level.groups() {
            // Without a folder in it, it is one of the circles of files.
            if group.iter().any(|name| name.ends_with('/')) {
                faults.push(describe(&format!("what stands in `src/{folder}`"), &level, &group));
            }
        }
    }
    faults
}

fn describe(what: &str, graph: &Graph, group: &BTreeSet<&str>) -> String {
    let names: Vec<_> = group.iter().copied().collect();
    let mut text = format!("circle of {what}, {} in it: {}\n", names.len(), names.join(" "));
    for Reference { from, to, line, path } in graph.shortest_circle(group) {
        text += &format!("    {from}:{line} `{path}` -> {to}\n");
    }
    text
}
