//! What a file depends on: each file that defines something that it names.
//!
//! - Counted are private `use`s and every path in code, followed through re-exports to the file that
//!   defines the item. `syn` does not parse the inside of a macro call: there the tokens are searched
//!   for paths.
//! - `mod x;` and a re-export with any `pub` are the door of a folder, and no dependency: a folder's
//!   `mod.rs` may offer what its files know each other by. A `mod.rs` that works with what it
//!   re-exports does depend on it.
//! - A file named in a macro call (`include_str!`, or a macro around it) is a dependency.
//! - Attributes, documentation and `#[cfg(test)]` do not count.

use proc_macro2::{Spacing, TokenStream, TokenTree};
use syn::{
    Attribute, ImplItemFn, Item, ItemMod, ItemUse, LitStr, Macro, Path, Visibility,
    visit::{self, Visit},
};

use super::{
    names::{self, ModuleId, Names, Target},
    source::{self, Sources},
};

/// One place in `from` that names something defined in `to`.
#[derive(Clone, Debug)]
pub struct Reference {
    pub from: String,
    pub to: String,
    pub line: usize,
    pub path: String,
}

pub fn find(sources: &Sources) -> Vec<Reference> {
    let names = Names::of(sources);
    let mut finder = Finder { sources, names: &names, at: names::ROOT, found: Vec::new() };
    finder.search(names::ROOT);
    finder.found
}

struct Finder<'a> {
    sources: &'a Sources,
    names: &'a Names,
    at: ModuleId,
    found: Vec<Reference>,
}

impl Finder<'_> {
    fn search(&mut self, module: ModuleId) {
        let names = self.names;
        self.at = module;
        self.visit_file(&self.sources.parsed[&names.modules[module].file]);
        self.search_children(module);
    }

    fn search_children(&mut self, module: ModuleId) {
        let names = self.names;
        for child in names.modules[module].children.values() {
            if child.is_inline {
                self.search_children(child.id);
            } else {
                self.search(child.id);
            }
        }
    }

    fn file(&self) -> &str {
        &self.names.modules[self.at].file
    }

    fn note(&mut self, path: &[String], line: usize) {
        for target in self.names.resolve(self.at, path) {
            // A path that ends at a module brings in a name; what is used through it is found there.
            if let Target::Item { file, .. } = target {
                self.push(file, line, path.join("::"));
            }
        }
    }

    fn push(&mut self, to: String, line: usize, path: String) {
        let from = self.file().to_owned();
        if from != to {
            self.found.push(Reference { from, to, line, path });
        }
    }

    fn search_tokens(&mut self, tokens: TokenStream) {
        let trees: Vec<_> = tokens.into_iter().collect();
        let mut at = 0;
        while let Some(tree) = trees.get(at) {
            let path = path_at(&trees[at..]);
            match tree {
                TokenTree::Group(group) => self.search_tokens(group.stream()),
                TokenTree::Literal(literal) => self.note_file(literal),
                TokenTree::Ident(ident) if may_name_item(&path) && !is_part(&trees[..at]) => {
                    self.note(&path, ident.span().start().line);
                }
                _ => {}
            }
            at += (3 * path.len()).saturating_sub(2).max(1);
        }
    }

    fn note_file(&mut self, literal: &proc_macro2::Literal) {
        let tokens = TokenTree::from(literal.clone()).into();
        let Ok(text) = syn::parse2::<LitStr>(tokens) else { return };
        let file = beside(self.file(), &text.value());
        if self.sources.texts.contains_key(&file) {
            self.push(file, literal.span().start().line, text.value());
        }
    }
}

/// A single small letter's word among tokens may be anything: a field, a variable.
fn may_name_item(path: &[String]) -> bool {
    path.len() > 1 || path.iter().any(|name| name.starts_with(char::is_uppercase))
}

/// The path that `trees` begin with: names with `::` between them.
fn path_at(trees: &[TokenTree]) -> Vec<String> {
    let mut path = Vec::new();
    let mut rest = trees;
    while let [TokenTree::Ident(ident), after @ ..] = rest {
        path.push(ident.to_string());
        rest = match after {
            [first, second, after @ ..] if is_colons(first, second) => after,
            _ => &[],
        };
    }
    path
}

/// Whether what stands before a name makes it a field, a method or a name of another crate.
fn is_part(before: &[TokenTree]) -> bool {
    match before {
        [.., TokenTree::Punct(dot)] if dot.as_char() == '.' => true,
        [.., first, second] => is_colons(first, second),
        _ => false,
    }
}

fn is_colons(first: &TokenTree, second: &TokenTree) -> bool {
    let (TokenTree::Punct(first), TokenTree::Punct(second)) = (first, second) else { return false };
    first.as_char() == ':' && first.spacing() == Spacing::Joint && second.as_char() == ':'
}

/// The path of `relative`, as written in `file`.
fn beside(file: &str, relative: &str) -> String {
    let mut parts: Vec<_> = file.split('/').collect();
    parts.pop();
    for part in relative.split('/') {
        if part == ".." {
            parts.pop();
        } else {
            parts.push(part);
        }
    }
    parts.join("/")
}

impl<'ast> Visit<'ast> for Finder<'_> {
    fn visit_item(&mut self, item: &'ast Item) {
        if !source::is_test(item) {
            visit::visit_item(self, item);
        }
    }

    fn visit_impl_item_fn(&mut self, function: &'ast ImplItemFn) {
        if !function.attrs.iter().any(source::is_cfg_test) {
            visit::visit_impl_item_fn(self, function);
        }
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        let Some((_, items)) = &item.content else { return };
        let outside = self.at;
        self.at = self.names.modules[outside].children[&item.ident.to_string()].id;
        items.iter().for_each(|item| self.visit_item(item));
        self.at = outside;
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        if matches!(item.vis, Visibility::Inherited) {
            names::imports(item).iter().for_each(|import| self.note(&import.path, import.line));
        }
    }

    fn visit_path(&mut self, path: &'ast Path) {
        if path.leading_colon.is_none() {
            let names: Vec<_> = path.segments.iter().map(|part| part.ident.to_string()).collect();
            self.note(&names, path.segments[0].ident.span().start().line);
        }
        visit::visit_path(self, path);
    }

    fn visit_macro(&mut self, call: &'ast Macro) {
        self.visit_path(&call.path);
        self.search_tokens(call.tokens.clone());
    }

    fn visit_attribute(&mut self, _: &'ast Attribute) {}

    fn visit_visibility(&mut self, _: &'ast Visibility) {}
}
