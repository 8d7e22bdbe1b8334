//! Which file defines what a path names: the modules of a crate, what each brings in by `use`, and the
//! way from a path through all of them.

use std::collections::{BTreeMap, BTreeSet};

use syn::{
    ItemMod, ItemUse, UseTree, Visibility,
    visit::{self, Visit},
};

use super::source::{self, Sources};

/// An index into [`Names::modules`].
pub type ModuleId = usize;

pub const ROOT: ModuleId = 0;

/// What a path can end at.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    Module(ModuleId),
    Item { file: String, name: String },
}

#[derive(Default)]
pub struct Module {
    pub file: String,
    /// Where the files of its child modules are: empty, or with a `/` at its end.
    folder: String,
    parent: Option<ModuleId>,
    pub children: BTreeMap<String, Child>,
    /// What it defines, and whether as `pub`.
    pub items: BTreeMap<String, bool>,
    pub imports: Vec<Import>,
}

pub struct Child {
    pub id: ModuleId,
    pub is_public: bool,
    pub is_inline: bool,
}

/// One leaf of a `use`.
pub struct Import {
    pub path: Vec<String>,
    pub line: usize,
    /// `None` for a glob.
    pub name: Option<String>,
    pub is_public: bool,
}

pub struct Names {
    pub modules: Vec<Module>,
}

impl Names {
    /// Follows the `mod` declarations from `lib.rs`.
    pub fn of(sources: &Sources) -> Self {
        let mut names = Self { modules: Vec::new() };
        names.add_file(sources, Module { file: "lib.rs".to_owned(), ..Module::default() });
        names
    }

    fn add_file(&mut self, sources: &Sources, module: Module) -> ModuleId {
        let id = self.modules.len();
        let parsed = sources.parsed.get(&module.file);
        let parsed = parsed.unwrap_or_else(|| panic!("{} is missing", module.file));
        self.modules.push(module);
        Gather { sources, names: self, at: id }.visit_file(parsed);
        id
    }

    /// What `path`, written in the module `at`, names in this crate. Several targets when `#[cfg]`
    /// chooses among them; none for what other crates define.
    pub fn resolve(&self, at: ModuleId, path: &[String]) -> BTreeSet<Target> {
        Resolve { names: self, under_way: Vec::new() }.path(at, path)
    }
}

struct Gather<'a> {
    sources: &'a Sources,
    names: &'a mut Names,
    at: ModuleId,
}

impl Gather<'_> {
    fn module(&mut self) -> &mut Module {
        &mut self.names.modules[self.at]
    }

    fn child(&mut self, name: &str) -> Module {
        let parent = self.at;
        let Module { file, folder, .. } = self.module();
        let folder = format!("{folder}{name}/");
        Module { file: file.clone(), folder, parent: Some(parent), ..Module::default() }
    }

    fn add_declared(&mut self, name: &str) -> ModuleId {
        let mut child = self.child(name);
        let folder_file = format!("{}mod.rs", child.folder);
        let has_folder_file = self.sources.parsed.contains_key(&folder_file);
        let plain_file = format!("{}.rs", child.folder.trim_end_matches('/'));
        child.file = if has_folder_file { folder_file } else { plain_file };
        self.names.add_file(self.sources, child)
    }

    fn add_inline(&mut self, name: &str, items: &[syn::Item]) -> ModuleId {
        let child = self.child(name);
        let id = self.names.modules.len();
        self.names.modules.push(child);
        let mut inside = Gather { sources: self.sources, names: self.names, at: id };
        items.iter().for_each(|item| inside.visit_item(item));
        id
    }
}

impl<'ast> Visit<'ast> for Gather<'_> {
    fn visit_item(&mut self, item: &'ast syn::Item) {
        if source::is_test(item) {
            return;
        }
        if let Some(name) = source::name(item) {
            let is_public = is_pub(item);
            self.module().items.insert(name.to_string(), is_public);
        }
        visit::visit_item(self, item);
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        let name = item.ident.to_string();
        let id = match &item.content {
            Some((_, items)) => self.add_inline(&name, items),
            None => self.add_declared(&name),
        };
        let is_public = matches!(item.vis, Visibility::Public(_));
        let child = Child { id, is_public, is_inline: item.content.is_some() };
        self.module().children.insert(name, child);
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        self.module().imports.extend(imports(item));
    }
}

fn is_pub(item: &syn::Item) -> bool {
    let visibility = match item {
        syn::Item::Const(item) => &item.vis,
        syn::Item::Enum(item) => &item.vis,
        syn::Item::Fn(item) => &item.vis,
        syn::Item::Static(item) => &item.vis,
        syn::Item::Struct(item) => &item.vis,
        syn::Item::Trait(item) => &item.vis,
        syn::Item::Type(item) => &item.vis,
        syn::Item::Union(item) => &item.vis,
        _ => return false,
    };
    matches!(visibility, Visibility::Public(_))
}

/// The leaves of `item`. None for `use ::…`, which names another crate.
pub fn imports(item: &ItemUse) -> Vec<Import> {
    let mut found = Vec::new();
    if item.leading_colon.is_none() {
        flatten(&item.tree, &mut Vec::new(), &mut found);
    }
    for import in &mut found {
        import.is_public = matches!(item.vis, Visibility::Public(_));
    }
    found
}

fn flatten(tree: &UseTree, prefix: &mut Vec<String>, found: &mut Vec<Import>) {
    let mut leaf = |ident: Option<&syn::Ident>, rename: Option<&syn::Ident>, line| {
        let mut path = prefix.clone();
        path.extend(ident.filter(|ident| *ident != "self").map(ToString::to_string));
        let glob = ident.is_none();
        let name = rename.map(ToString::to_string).or_else(|| path.last().cloned());
        found.push(Import { path, line, name: name.filter(|_| !glob), is_public: false });
    };
    match tree {
        UseTree::Path(path) => {
            prefix.push(path.ident.to_string());
            flatten(&path.tree, prefix, found);
            prefix.pop();
        }
        UseTree::Name(name) => leaf(Some(&name.ident), None, line(&name.ident)),
        UseTree::Rename(name) => leaf(Some(&name.ident), Some(&name.rename), line(&name.ident)),
        UseTree::Glob(glob) => leaf(None, None, glob.star_token.spans[0].start().line),
        UseTree::Group(group) => group.items.iter().for_each(|tree| flatten(tree, prefix, found)),
    }
}

fn line(ident: &syn::Ident) -> usize {
    ident.span().start().line
}

struct Resolve<'a> {
    names: &'a Names,
    /// Looked for already: re-exports can go round, `use a::{self}` of a crate `a` does.
    under_way: Vec<(ModuleId, String)>,
}

impl Resolve<'_> {
    fn path(&mut self, at: ModuleId, path: &[String]) -> BTreeSet<Target> {
        let Some((first, rest)) = path.split_first() else { return BTreeSet::new() };
        match first.as_str() {
            "crate" => self.descend(Target::Module(ROOT), rest),
            "self" | "super" => self.descend(Target::Module(at), path),
            _ => self.step(at, first, rest),
        }
    }

    fn descend(&mut self, from: Target, rest: &[String]) -> BTreeSet<Target> {
        // What follows an item is associated with it, and stands or falls with it.
        let (Target::Module(module), Some((first, rest))) = (&from, rest.split_first()) else {
            return BTreeSet::from([from]);
        };
        match first.as_str() {
            "self" => self.descend(from, rest),
            "super" => {
                let parent = self.names.modules[*module].parent.unwrap_or(ROOT);
                self.descend(Target::Module(parent), rest)
            }
            _ => self.step(*module, first, rest),
        }
    }

    fn step(&mut self, module: ModuleId, name: &str, rest: &[String]) -> BTreeSet<Target> {
        let found = self.look_up(module, name, rest.is_empty());
        found.into_iter().flat_map(|target| self.descend(target, rest)).collect()
    }

    /// An item and a module of one name live side by side: the last part of a path names the item.
    fn look_up(&mut self, at: ModuleId, name: &str, is_last: bool) -> BTreeSet<Target> {
        let module = &self.names.modules[at];
        let child = module.children.get(name).map(|child| Target::Module(child.id));
        let item = module
            .items
            .contains_key(name)
            .then(|| Target::Item { file: module.file.clone(), name: name.to_owned() });
        let (first, second) = if is_last { (item, child) } else { (child, item) };
        if let Some(first) = first {
            return BTreeSet::from([first]);
        }
        let key = (at, name.to_owned());
        if self.under_way.contains(&key) {
            return second.into_iter().collect();
        }
        self.under_way.push(key);
        let imported = self.imported(at, name);
        self.under_way.pop();
        if imported.is_empty() { second.into_iter().collect() } else { imported }
    }

    fn imported(&mut self, at: ModuleId, name: &str) -> BTreeSet<Target> {
        let imports = &self.names.modules[at].imports;
        let named: BTreeSet<_> = imports
            .iter()
            .filter(|import| import.name.as_deref() == Some(name))
            .flat_map(|import| self.path(at, &import.path))
            .collect();
        if !named.is_empty() {
            return named;
        }
        let globs = imports.iter().filter(|import| import.name.is_none());
        globs.flat_map(|glob| self.through_glob(at, &glob.path, name)).collect()
    }

    fn through_glob(&mut self, at: ModuleId, path: &[String], name: &str) -> BTreeSet<Target> {
        let mut found = BTreeSet::new();
        for target in self.path(at, path) {
            if let Target::Module(module) = target {
                found.extend(self.look_up(module, name, true));
            }
        }
        found
    }
}
