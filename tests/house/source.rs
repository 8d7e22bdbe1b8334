//! A source tree, in memory.

use std::{collections::BTreeMap, fs, path::Path};

use syn::{Attribute, Ident, Item};

/// The files of a tree by their path from its root, with `/` between the parts.
#[derive(Default)]
pub struct Sources {
    pub texts: BTreeMap<String, String>,
    /// The Rust files among them.
    pub parsed: BTreeMap<String, syn::File>,
}

impl Sources {
    pub fn read(root: &Path) -> Self {
        let mut sources = Self::default();
        sources.read_folder(root, "");
        sources
    }

    pub fn of(files: &[(&str, &str)]) -> Self {
        let mut sources = Self::default();
        for (path, text) in files {
            sources.add((*path).to_owned(), (*text).to_owned());
        }
        sources
    }

    fn read_folder(&mut self, folder: &Path, prefix: &str) {
        let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        for entry in entries {
            let path = entry.expect("a readable folder").path();
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            if path.is_dir() {
                self.read_folder(&path, &format!("{prefix}{name}/"));
            } else if let Ok(text) = fs::read_to_string(&path) {
                self.add(format!("{prefix}{name}"), text);
            }
        }
    }

    fn add(&mut self, path: String, text: String) {
        if path.ends_with(".rs") {
            let parsed = syn::parse_file(&text).unwrap_or_else(|e| panic!("{path}: {e}"));
            self.parsed.insert(path.clone(), parsed);
        }
        self.texts.insert(path, text);
    }
}

/// The name that `item` has in its module, if it has one.
pub fn name(item: &Item) -> Option<&Ident> {
    match item {
        Item::Const(item) => Some(&item.ident),
        Item::Enum(item) => Some(&item.ident),
        Item::Fn(item) => Some(&item.sig.ident),
        Item::Macro(item) => item.ident.as_ref(),
        Item::Static(item) => Some(&item.ident),
        Item::Struct(item) => Some(&item.ident),
        Item::Trait(item) => Some(&item.ident),
        Item::TraitAlias(item) => Some(&item.ident),
        Item::Type(item) => Some(&item.ident),
        Item::Union(item) => Some(&item.ident),
        _ => None,
    }
}

/// Whether `item` is compiled for tests only. Tests may know everything.
pub fn is_test(item: &Item) -> bool {
    let attributes: &[Attribute] = match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    };
    attributes.iter().any(is_cfg_test)
}

/// `#[cfg(test)]`, or `#[cfg(all(test, …))]`; the same for what fuzzing is given as well.
pub fn is_cfg_test(attribute: &Attribute) -> bool {
    let Ok(condition) = attribute.meta.require_list() else { return false };
    let text = condition.tokens.to_string().replace(' ', "").replace("any(test,fuzzing)", "test");
    condition.path.is_ident("cfg") && (text == "test" || text.starts_with("all(test,"))
}
