//! Each check fails on the fault that it is for, and passes a sound tree.

use super::{
    circles::{self, Graph},
    floors, promises, size,
    source::Sources,
};

fn circles(files: &[(&str, &str)]) -> Vec<String> {
    circles::faults(&Graph::of(&Sources::of(files)))
}

fn breaches(files: &[(&str, &str)]) -> Vec<String> {
    floors::faults(&Graph::of(&Sources::of(files)))
}

fn big(function: &str) -> Vec<String> {
    size::faults(&Sources::of(&[("lib.rs", function)]))
}

#[track_caller]
fn has_one(faults: &[String], parts: &[&str]) {
    let [fault] = faults else { panic!("one fault, not {faults:#?}") };
    for part in parts {
        assert!(fault.contains(part), "{part:?} is not in {fault}");
    }
}

#[track_caller]
fn has_none(faults: &[String]) {
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn two_files_form_a_circle() {
    let faults = circles(&[
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "use crate::b::B; pub struct A(B);"),
        ("b.rs", "pub struct B(Option<Box<super::a::A>>);"),
    ]);
    has_one(&faults, &["a.rs:1 `crate::b::B` -> b.rs", "b.rs:1 `super::a::A` -> a.rs"]);
}

#[test]
fn a_circle_may_go_through_reexports() {
    let faults = circles(&[
        ("lib.rs", "mod a; mod b; pub use self::a::A;"),
        ("a/mod.rs", "mod inner; pub(crate) use self::inner::A;"),
        ("a/inner.rs", "use crate::b::B; pub struct A(B);"),
        ("b.rs", "use crate::A; pub struct B;"),
    ]);
    assert!(faults[0].contains("b.rs:1 `crate::A` -> a/inner.rs"), "{faults:#?}");
}

#[test]
fn a_child_reaches_what_its_parent_imports() {
    let faults = circles(&[
        ("lib.rs", "mod a; mod b;"),
        ("a/mod.rs", "mod inner; use crate::b::B;"),
        ("a/inner.rs", "pub struct A(super::B);"),
        ("b.rs", "use crate::a::inner::A; pub struct B;"),
    ]);
    assert!(faults[0].contains("a/inner.rs:1 `super::B` -> b.rs"), "{faults:#?}");
}

#[test]
fn two_folders_form_a_circle_though_their_files_form_none() {
    let faults = circles(&[
        ("lib.rs", "mod a; mod b;"),
        ("a/mod.rs", "pub mod one; pub mod two;"),
        ("a/one.rs", "use crate::b::one::B;"),
        ("a/two.rs", "pub struct A;"),
        ("b/mod.rs", "pub mod one; pub mod two;"),
        ("b/one.rs", "pub struct B;"),
        ("b/two.rs", "use crate::a::two::A;"),
    ]);
    has_one(&faults, &["what stands in `src/`", "a/one.rs:1", "b/two.rs:1"]);
}

#[test]
fn a_folder_depends_on_the_text_that_it_includes() {
    let faults = circles(&[
        ("lib.rs", "mod a; mod b;"),
        ("a/mod.rs", r#"pub const B: &str = include_str!("../b/text.lua");"#),
        ("b/mod.rs", "use crate::a::B;"),
        ("b/text.lua", ""),
    ]);
    has_one(&faults, &["a/mod.rs:1 `../b/text.lua` -> b/text.lua"]);
}

#[test]
fn an_alias_stands_for_its_module() {
    let faults = circles(&[
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "use crate::b as other;\npub fn a() { other::b() }"),
        ("b.rs", "use super::*;\npub fn b() { a::a() }"),
    ]);
    has_one(&faults, &["a.rs:2 `other::b` -> b.rs", "b.rs:2 `a::a` -> a.rs"]);
}

#[test]
fn a_glob_brings_in_names() {
    let faults = circles(&[
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "use crate::b::*;\npub struct A(B);"),
        ("b.rs", "use crate::a::{self, A as Other};\npub struct B;"),
    ]);
    has_one(&faults, &["a.rs:2 `B` -> b.rs", "b.rs:1 `crate::a::A` -> a.rs"]);
}

#[test]
fn paths_in_macros_count() {
    let faults = circles(&[
        ("lib.rs", "mod a; mod b;"),
        ("a.rs", "pub fn a() { select! { _ = f() => { crate::b::b(x.y, ::c::d) } } }"),
        ("b.rs", "use super::a::a; pub fn b() {}"),
    ]);
    has_one(&faults, &["a.rs:1 `crate::b::b` -> b.rs"]);
}

#[test]
fn a_parent_that_works_with_what_it_reexports_depends_on_it() {
    let door = ("a/inner.rs", "use super::A; pub struct Inner(A);");
    let reexport = "mod inner; pub(crate) use self::inner::Inner;";
    let working = format!("{reexport} pub struct A; fn make() -> Inner {{ todo!() }}");
    has_one(
        &circles(&[("lib.rs", "mod a;"), ("a/mod.rs", &working), door]),
        &["a/mod.rs:1 `Inner` -> a/inner.rs"],
    );
    let plain = format!("{reexport} pub struct A;");
    has_none(&circles(&[("lib.rs", "mod a;"), ("a/mod.rs", &plain), door]));
}

#[test]
fn a_sound_tree_passes() {
    let files = [
        (
            "lib.rs",
            "mod key; mod far; mod redis; pub use self::key::Key; use self::far::Far;
            #[cfg(all(any(test, fuzzing), feature = \"redis\"))] pub mod fuzzing;",
        ),
        // For tests and fuzzing alone.
        ("fuzzing.rs", "use crate::redis::Redis; pub struct Fuzzing(Redis);"),
        (
            "key.rs",
            "/// See [`crate::far`].\npub struct Key; #[cfg(test)] mod tests { use crate::Far; }",
        ),
        ("far/mod.rs", "mod erased; pub(crate) use self::erased::Erased; pub use crate::Key;"),
        ("far/erased.rs", "use crate::key::Key; pub(in crate::far) struct Erased(Key);"),
        (
            "redis/mod.rs",
            "use ::redis::far; use crate::far; pub struct Redis(far::Key, redis::Key);",
        ),
    ];
    has_none(&circles(&files));
    has_none(&breaches(&files));
    has_none(&size::faults(&Sources::of(&files)));
}

#[test]
fn a_lower_floor_must_not_know_a_higher_one() {
    let far = ("far/mod.rs", "pub struct Far;");
    let lock = ("lock/mod.rs", "use crate::far::Far; pub struct Lock;");
    has_none(&breaches(&[("lib.rs", "mod far; mod lock;"), far, lock]));
    let key = ("key.rs", "fn key() -> crate::far::Far { todo!() }");
    has_one(
        &breaches(&[("lib.rs", "mod key; mod far;"), key, far]),
        &["key.rs:1 `crate::far::Far` -> far/mod.rs: `key` stands below `far`"],
    );
}

#[test]
fn the_guard_knows_no_system_but_memory() {
    let guard = ("guard.rs", "use crate::{memory::Memory, redis::Redis};");
    let faults = breaches(&[
        ("lib.rs", "mod guard; mod memory; mod redis;"),
        guard,
        ("memory.rs", "pub struct Memory;"),
        ("redis.rs", "pub struct Redis;"),
    ]);
    has_one(&faults, &["`guard` must not know the system `redis`"]);
}

#[test]
fn what_is_new_needs_a_floor() {
    let faults = breaches(&[
        ("lib.rs", "mod attic; mod key;"),
        ("attic.rs", "use crate::key::Key;"),
        ("key.rs", "pub struct Key;"),
    ]);
    has_one(&faults, &["`attic` has no floor"]);
}

#[test]
fn a_function_has_sixty_lines_at_most() {
    let of = |lines: usize| format!("/// Docs.\n#[inline]\nfn f() {{{}}}", "\n".repeat(lines - 1));
    has_none(&big(&of(60)));
    has_one(&big(&of(61)), &["lib.rs:3 fn f: 61 lines, depth 0"]);
}

#[test]
fn a_function_has_four_levels_at_most() {
    let four = "if a { 1 } else if b { for x in y { match x { 1 => { z(|| { 1 }) } _ => 2 } } }";
    has_none(&big(&format!("fn f() {{ {four} }}")));
    has_one(&big(&format!("fn f() {{ while c {{ {four} }} }}")), &["fn f: 1 lines, depth 5"]);
    has_none(&big(&format!("fn f() {{ while c {{ fn g() {{ {four} }} }} }}")));
    has_none(&big(&format!("fn f() {{ let Some(x) = y else {{ return {four} }}; }}")));
}

#[test]
fn an_arm_of_select_with_a_block_is_a_level() {
    let select = |body| {
        format!(
            "fn f() {{ loop {{ async {{ select! {{ biased; x = y, if z => {body}, else => 1 }} }} }} }}"
        )
    };
    has_none(&big(&select("if a { b }")));
    has_none(&big(&select("{ a }")));
    has_one(&big(&select("{ if a { b } c }")), &["depth 5"]);
}

#[test]
fn a_promise_without_a_check_that_exists_is_a_fault() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let of = |checks: &str| {
        let row = format!("| P1 One load | At most one. | {checks} |\n");
        let page =
            format!("{}\n[model]: tests/model/README.md\n[gone]: tests/gone\n", row.repeat(9));
        let mut faults = promises::faults(&page, root);
        faults.dedup();
        faults
    };
    has_none(&of("[model], [`functions_are_short_and_flat`](tests/house/main.rs)"));
    has_one(&of(""), &["P1 One load: nothing checks it"]);
    has_one(&of("[model], [gone]"), &["[gone] is not there"]);
    has_one(&of("[nowhere]"), &["[nowhere] is not there"]);
    has_one(
        &of("[`no_such`](tests/house/main.rs)"),
        &["[`no_such`](tests/house/main.rs) is not there"],
    );
    has_one(&promises::faults("", root), &["0 promises"]);
}
