use std::{fmt::Write, sync::Arc};

use crate::{Fault, FaultKind};

/// The node of a name, below which its holder and waiters have theirs.
#[derive(Clone)]
pub(super) struct Dir {
    path: Arc<str>,
}

/// A server closes the connection at a request of 1 MiB, and every call under way over it fails.
const LONGEST: usize = 64 * 1024;

impl Dir {
    pub(super) fn of(base: &str, name: &str) -> Result<Self, Fault> {
        let mut path = String::with_capacity(base.len() + 1 + name.len());
        path.push_str(base);
        path.push('/');
        match name {
            // No other name has this path.
            "" => path.push('%'),
            "." => path.push_str("%2E"),
            ".." => path.push_str("%2E%2E"),
            _ => name.chars().for_each(|char| escape(char, &mut path)),
        }
        if path.len() > LONGEST {
            return Err(FaultKind::Config.into());
        }
        Ok(Self { path: path.into() })
    }

    pub(super) fn path(&self) -> &str {
        &self.path
    }

    pub(super) fn child(&self, child: &str) -> String {
        format!("{}/{child}", self.path)
    }
}

fn escape(char: char, path: &mut String) {
    if char != '/' && char != '%' && is_allowed(char) {
        return path.push(char);
    }
    for byte in char.encode_utf8(&mut [0; 4]).bytes() {
        // Writing to a string never fails.
        let _ = write!(path, "%{byte:02X}");
    }
}

/// Whether the server accepts this character in a path. It sees UTF-16: what is above `U+FFFF` is two
/// surrogates to it, which it refuses.
fn is_allowed(char: char) -> bool {
    !matches!(char, '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..)
}

/// Whether this is an absolute path that the server accepts. `/` at the end is fine.
pub(super) fn is_path(path: &str) -> bool {
    let Some(below) = path.strip_prefix('/') else { return false };
    let nodes = below.strip_suffix('/').unwrap_or(below);
    path.len() <= LONGEST / 2
        && path.chars().all(is_allowed)
        && (below.is_empty() || nodes.split('/').all(|node| !matches!(node, "" | "." | "..")))
}

/// The order of children, which is Curator's: by what follows the last `lock-`.
pub(super) fn sequence(child: &str) -> &str {
    child.rsplit_once("lock-").map_or(child, |(_, sequence)| sequence)
}

#[cfg(test)]
mod tests {
    use super::{Dir, is_path, sequence};

    #[test]
    fn plain_names_stay_as_they_are() {
        for name in ["report", "user:17 {a}", "bücher", "路径", "Ａ１", ".hidden", "..."] {
            let dir = Dir::of("/locks", name).expect("short enough");
            assert_eq!(dir.path(), format!("/locks/{name}"));
        }
    }

    #[test]
    fn characters_that_a_path_must_not_have_are_escaped_and_no_two_names_share_a_path() {
        let names =
            ["", "%", "%25", ".", "%2E", "..", "a/b", "a%2Fb", "\0", "\u{7f}", "\u{e000}", "🐄"];
        let mut paths =
            names.map(|name| Dir::of("", name).expect("short enough").path().to_owned());
        assert_eq!(paths[6], "/a%2Fb");
        assert_eq!(paths[11], "/%F0%9F%90%84");
        assert!(paths.iter().all(|path| is_path(path) && path.matches('/').count() == 1));
        paths.sort();
        assert!(paths.windows(2).all(|two| two[0] != two[1]));
    }

    #[test]
    fn a_name_that_would_break_the_connection_is_refused() {
        assert!(Dir::of("/locks", &"/".repeat(64 * 1024)).is_err());
    }

    #[test]
    fn a_base_is_an_absolute_path() {
        assert!(["/", "/a", "/a/b", "/a/"].iter().all(|path| is_path(path)));
        assert!(["", "a", "/a//b", "//", "/.", "/a/..", "/a\0"].iter().all(|path| !is_path(path)));
    }

    #[test]
    fn children_stand_by_their_number() {
        let [first, second] = ["_c_ff-lock-0000000009", "_c_00-lock-0000000010"].map(sequence);
        assert!(first < second);
        assert_eq!(sequence("lock-block-1"), "1");
        assert_eq!(sequence("other"), "other");
    }
}
