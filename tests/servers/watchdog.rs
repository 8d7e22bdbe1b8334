//! Ends what this process started when it ends, however that is.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Waits for a line. The pipe's end without one says that the process that holds it is gone: killed, or closed with
/// its terminal. The signals that ended it must not end this too.
const SCRIPT: &str = "trap '' HUP INT TERM; read -r line || { kill -9 $1; rm -rf \"$2\"; }";

pub struct Watchdog(Child);

impl Watchdog {
    /// For a child of ours, and the folder that it alone uses.
    pub fn over(pid: u32, folder: Option<&Path>) -> Result<Self, String> {
        let mut shell = Command::new("sh");
        shell.args(["-c", SCRIPT, "watchdog", &pid.to_string()]);
        shell.arg(folder.unwrap_or(Path::new("")));
        // A group of its own, which the terminal's signals do not reach.
        shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
        shell.spawn().map(Self).map_err(|e| format!("cannot start sh: {e}"))
    }
}

/// The child has been waited for: its number may be another's now.
impl Drop for Watchdog {
    fn drop(&mut self) {
        if let Some(mut line) = self.0.stdin.take() {
            let _ = line.write_all(b"\n");
        }
        let _ = self.0.wait();
    }
}
