use ::redis::Script;

/// Reading and writing 64-bit integers, which all scripts need.
const INTEGERS: &str = include_str!("lua/integers.lua");

/// A script of these parts, one after the other.
pub(super) fn script(parts: &[&str]) -> Script {
    Script::new(&[INTEGERS, &parts.concat()].concat())
}
