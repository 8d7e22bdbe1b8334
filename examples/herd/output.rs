//! Standard output.

use std::io::{self, Write};

/// A line for the reader, who may have left: `println!` would panic.
pub fn say(line: &str) -> io::Result<()> {
    writeln!(io::stdout().lock(), "{line}")
}
