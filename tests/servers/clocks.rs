//! The clocks of another process.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::process::Command;

use tempfile::TempDir;

use super::process::{Process, folder};

/// What the processes that have its environment take for the time. Needs a C compiler.
pub struct Clocks {
    dir: TempDir,
}

impl Clocks {
    pub fn new() -> Result<Self, String> {
        let clocks = Self { dir: folder()? };
        let source = clocks.path("clock.c");
        let written = fs::write(&source, include_str!("clock.c"));
        written.map_err(|e| format!("cannot write {source}: {e}"))?;
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-O1", "-o", &clocks.path("clock.so"), &source]);
        Process::run(compile, clocks.dir.path().join("log").as_path())?;
        clocks.set(0, 0)?;
        Ok(clocks)
    }

    /// By how many seconds the wall clock and the monotonic one are ahead of this machine's.
    pub fn set(&self, wall: i64, monotonic: i64) -> Result<(), String> {
        let bytes = [wall.to_ne_bytes(), monotonic.to_ne_bytes()].concat();
        // Over the old ones: the process has this very file open.
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).open(self.path("ahead"));
        let written = file.and_then(|mut file| file.write_all(&bytes));
        written.map_err(|e| format!("cannot set a clock: {e}"))
    }

    pub fn environment(&self) -> [(&'static str, String); 2] {
        [("LD_PRELOAD", self.path("clock.so")), ("CLOCKS_AHEAD", self.path("ahead"))]
    }

    fn path(&self, file: &str) -> String {
        self.dir.path().join(file).to_string_lossy().into_owned()
    }
}
