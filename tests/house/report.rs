//! The figures of a source tree, to compare one with another.

use std::{
    collections::BTreeSet,
    fmt::{self, Write},
    path::Path,
};

use syn::{
    ItemImpl, Visibility,
    visit::{self, Visit},
};

use super::{
    circles::{self, Graph},
    names::{ModuleId, Names, ROOT, Target},
    size,
    source::Sources,
};

pub fn of(src: &Path) -> String {
    let sources = Sources::read(src);
    let mut text = format!("{}\n", src.display());
    write(&mut text, &sources).expect("a string takes everything");
    text
}

fn write(text: &mut String, sources: &Sources) -> fmt::Result {
    write_files(text, sources)?;
    write_public(text, sources)?;
    write_functions(text, sources)?;
    write_comments(text, sources)?;
    let circles = circles::faults(&Graph::of(sources));
    writeln!(text, "circles: {}", circles.len())
}

fn write_files(text: &mut String, sources: &Sources) -> fmt::Result {
    let with =
        |ending: &'static str| sources.texts.iter().filter(move |(path, _)| path.ends_with(ending));
    let mut sizes: Vec<_> = with(".rs").map(|(path, text)| (text.lines().count(), path)).collect();
    sizes.sort();
    let lines: usize = sizes.iter().map(|(lines, _)| lines).sum();
    let lua_lines: usize = with(".lua").map(|(_, text)| text.lines().count()).sum();
    let (longest, path) = sizes[sizes.len() - 1];
    writeln!(text, "Rust files: {}, lines: {lines}", sizes.len())?;
    writeln!(text, "Lua files: {}, lines: {lua_lines}", with(".lua").count())?;
    writeln!(text, "median file: {} lines", sizes[sizes.len() / 2].0)?;
    writeln!(text, "longest file: {longest} lines, {path}")
}

fn write_public(text: &mut String, sources: &Sources) -> fmt::Result {
    let names = Names::of(sources);
    let mut public = Public { names: &names, modules: BTreeSet::new(), items: BTreeSet::new() };
    public.open(ROOT);
    let mut methods = Methods(0);
    sources.parsed.values().for_each(|file| methods.visit_file(file));
    writeln!(text, "public modules: {}", public.modules.len() - 1)?;
    writeln!(text, "public items that a user can name, each once: {}", public.items.len())?;
    writeln!(text, "`pub` functions and constants in inherent impls: {}", methods.0)
}

fn write_functions(text: &mut String, sources: &Sources) -> fmt::Result {
    let functions = size::functions(sources);
    let longest = functions.iter().max_by_key(|one| one.length).expect("a function");
    let deepest = functions.iter().max_by_key(|one| one.depth).expect("a function");
    writeln!(text, "functions: {}", functions.len())?;
    writeln!(
        text,
        "longest function: {} lines, {} {}",
        longest.length, longest.file, longest.name
    )?;
    writeln!(
        text,
        "deepest function: {} levels, {} {}",
        deepest.depth, deepest.file, deepest.name
    )?;
    writeln!(text, "functions too long or too deep: {}", size::faults(sources).len())
}

fn write_comments(text: &mut String, sources: &Sources) -> fmt::Result {
    for (what, folders) in [("all", &[""][..]), ("guard + flight", &["guard/", "flight/"])] {
        let lines: Vec<_> = sources
            .texts
            .iter()
            .filter(|(path, _)| path.ends_with(".rs"))
            .filter(|(path, _)| folders.iter().any(|folder| path.starts_with(folder)))
            .flat_map(|(_, text)| text.lines().map(str::trim))
            .filter(|line| !line.is_empty())
            .collect();
        let comments = lines.iter().filter(|line| line.starts_with("//")).count();
        let docs = lines.iter().filter(|line| is_doc(line)).count();
        let per_100 = |count: usize| 100.0 * count as f64 / (lines.len() - comments) as f64;
        writeln!(
            text,
            "comment lines per 100 of code, {what}: {:.1}, of which `//`: {:.1}",
            per_100(comments),
            per_100(comments - docs)
        )?;
    }
    Ok(())
}

fn is_doc(line: &str) -> bool {
    line.starts_with("///") || line.starts_with("//!")
}

/// What can be named from outside the crate.
struct Public<'a> {
    names: &'a Names,
    modules: BTreeSet<ModuleId>,
    items: BTreeSet<Target>,
}

impl Public<'_> {
    fn open(&mut self, id: ModuleId) {
        if !self.modules.insert(id) {
            return;
        }
        let module = &self.names.modules[id];
        for (name, _) in module.items.iter().filter(|(_, is_public)| **is_public) {
            self.items.insert(Target::Item { file: module.file.clone(), name: name.clone() });
        }
        for child in module.children.values().filter(|child| child.is_public) {
            self.open(child.id);
        }
        for import in module.imports.iter().filter(|import| import.is_public) {
            self.names.resolve(id, &import.path).into_iter().for_each(|target| self.add(target));
        }
    }

    fn add(&mut self, target: Target) {
        match target {
            Target::Module(module) => self.open(module),
            item @ Target::Item { .. } => {
                self.items.insert(item);
            }
        }
    }
}

struct Methods(usize);

impl<'ast> Visit<'ast> for Methods {
    fn visit_item_impl(&mut self, item: &'ast ItemImpl) {
        self.0 += item.items.iter().filter(|item| is_pub(item)).count();
        visit::visit_item_impl(self, item);
    }
}

fn is_pub(item: &syn::ImplItem) -> bool {
    match item {
        syn::ImplItem::Fn(item) => matches!(item.vis, Visibility::Public(_)),
        syn::ImplItem::Const(item) => matches!(item.vis, Visibility::Public(_)),
        _ => false,
    }
}
