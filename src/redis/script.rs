use ::redis::Script;

/// Reading and writing 64-bit integers, and keys of another type: what all scripts need.
const INTEGERS: &str = include_str!("lua/integers.lua");
const STRANGERS: &str = include_str!("lua/strangers.lua");

/// A script of these parts, one after the other.
pub(super) fn script(parts: &[&str]) -> Script {
    Script::new(&[INTEGERS, STRANGERS, &parts.concat()].concat())
}
