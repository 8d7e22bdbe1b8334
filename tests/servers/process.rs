//! What all servers need: a child process, an account, a port, a log.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::{fs::chown, process::CommandExt};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

pub use rustix::process::Signal;
use rustix::process::{Pid, geteuid, kill_process};
use tempfile::TempDir;

use super::watchdog::Watchdog;

/// Long, as three Java machines may start while a compiler has all the cores.
pub const READY_WITHIN: Duration = Duration::from_secs(30);

/// A port that is free, as is port + 10000 for Redis's cluster bus. Both lie below Linux's range
/// for outgoing connections (from 32768), where a client that keeps dialling a dead server may get
/// connected to itself and hold the port. No port comes twice before all others have come.
pub fn free_port() -> Result<u16, String> {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    // Processes that run side by side begin far apart.
    let first = (std::process::id() as u16).wrapping_mul(7919);
    let is_free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
    (0..10_000)
        .map(|_| 12_000 + first.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % 10_000)
        .find(|&port| is_free(port) && is_free(port + 10_000))
        .ok_or("no port from 12000 to 21999 is free; stop some servers".into())
}

/// Sends a signal to a process; one that is gone already is fine.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(pid).ok().and_then(Pid::from_raw) {
        let _ = kill_process(pid, signal);
    }
}

/// A child that is killed and waited for when dropped. When this process is killed, so is the child, and its folder
/// removed.
pub struct Process {
    child: Child,
    watchdog: Option<Watchdog>, // until the child has been waited for
    pub pid: u32,               // 0 once waited for, as the number may be another process's then
    pub port: u16,              // 0 if it is no server
}

impl Process {
    /// Starts a server and waits until it is ready. One that exits is tried again on another port,
    /// as somebody may have taken the first between its choice and its use.
    pub fn serve(
        command: impl Fn(u16) -> Result<Command, String>,
        fixed_port: Option<u16>,
        log: &Path,
        ready: impl Fn(&Self) -> bool,
    ) -> Result<Self, String> {
        for _ in 0..5 {
            let port = fixed_port.map_or_else(free_port, Ok)?;
            let mut process = Self::spawn(&mut command(port)?, port, log)?;
            let is_up = poll(READY_WITHIN, || match process.exit(Duration::ZERO) {
                None => ready(&process).then_some(true),
                Some(_) => Some(false),
            });
            match is_up {
                Some(true) => return Ok(process),
                Some(false) => {} // exited: try again
                None => {
                    let end = end(log);
                    return Err(format!("no answer on port {port} in {READY_WITHIN:?}; {end}"));
                }
            }
        }
        Err(format!("the server exits again and again; {}", end(log)))
    }

    /// Runs a program to its end, which must be a success.
    pub fn run(mut command: Command, log: &Path) -> Result<(), String> {
        let status = Self::spawn(&mut command, 0, log)?.exit(READY_WITHIN);
        let name = command.get_program();
        let success = status.filter(ExitStatus::success).map(drop);
        success
            .ok_or_else(|| format!("{name:?} failed, or hung for {READY_WITHIN:?}; {}", end(log)))
    }

    fn spawn(command: &mut Command, port: u16, log: &Path) -> Result<Self, String> {
        let out = File::create(log).and_then(|file| Ok((file.try_clone()?, file)));
        let (out, err) = out.map_err(|e| format!("cannot write {log:?}: {e}; set TMPDIR"))?;
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        let child = child.map_err(|e| {
            let name = command.get_program().display().to_string();
            match e.kind() {
                ErrorKind::NotFound => format!("{name} is not on PATH; {}", install(&name)),
                _ => format!("cannot start {name}: {e}; may its user run it, and enter TMPDIR?"),
            }
        })?;
        let pid = child.id();
        let mut process = Self { child, watchdog: None, pid, port };
        let folder = log.parent().unwrap_or(log);
        process.watchdog = Some(Watchdog::over(pid, Some(folder))?);
        Ok(process)
    }

    pub fn exit(&mut self, limit: Duration) -> Option<ExitStatus> {
        let status = poll(limit, || self.child.try_wait().ok().flatten());
        if status.is_some() {
            self.waited_for();
        }
        status
    }

    pub fn kill(&mut self) {
        // Neither does anything to a child that has been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.waited_for();
    }

    fn waited_for(&mut self) {
        self.pid = 0;
        self.watchdog = None;
    }

    pub fn freeze(&self) {
        signal(self.pid, Signal::STOP);
    }

    pub fn thaw(&self) {
        signal(self.pid, Signal::CONT);
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whom a server runs as that refuses root.
pub struct Account {
    ids: Option<(u32, u32)>, // None: as ourselves
}

impl Account {
    /// `program` is one that its package brings along with the user.
    pub fn find(user: &str, program: &str) -> Result<Self, String> {
        if !geteuid().is_root() {
            return Ok(Self { ids: None });
        }
        let users = read(Path::new("/etc/passwd"));
        let line = users.lines().find_map(|line| line.strip_prefix(user)?.strip_prefix(':'));
        let mut ids = line.into_iter().flat_map(|line| line.split(':').skip(1));
        let mut id = || ids.next()?.parse().ok();
        match id().zip(id()) {
            Some(ids) => Ok(Self { ids: Some(ids) }),
            None => {
                let advice = format!("{}, or run: useradd -r {user}", install(program));
                Err(format!("{program} refuses root and has no user {user}; {advice}"))
            }
        }
    }

    pub fn folder(&self) -> Result<TempDir, String> {
        let dir = folder()?;
        let (uid, gid) = self.ids.unzip();
        let given = chown(dir.path(), uid, gid);
        given.map_err(|e| format!("cannot give {:?} to another user: {e}", dir.path()))?;
        Ok(dir)
    }

    pub fn command(&self, program: &Path, home: &Path) -> Command {
        let mut command = Command::new(program);
        command.current_dir(home).env("HOME", home).env("LC_ALL", "C");
        if let Some((uid, gid)) = self.ids {
            command.uid(uid).gid(gid);
        }
        command
    }
}

pub fn folder() -> Result<TempDir, String> {
    TempDir::new().map_err(|e| format!("{e}; set TMPDIR to a writable folder"))
}

/// The advice to install what a program belongs to.
pub fn install(program: &str) -> String {
    let package = match program {
        name if name.contains("redis") => "redis-server",
        name if name.contains("mariadb") => "mariadb-server",
        name if name.contains("java") => "zookeeper",
        "cc" => "gcc libc6-dev",
        _ => "postgresql",
    };
    format!("install it with: apt-get install {package}")
}

pub fn poll<T>(limit: Duration, mut check: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        let answer = check();
        if answer.is_some() || start.elapsed() >= limit {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// What a server says to a text before it closes the connection.
pub fn ask(port: u16, text: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(text.as_bytes())?;
    std::io::read_to_string(stream)
}

/// The direct children of a process, as Linux tells them.
pub fn children(pid: u32) -> Vec<u32> {
    if pid == 0 {
        return Vec::new(); // it stands for the kernel, whose children are not ours to touch
    }
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    let all = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    all.filter(|&child| stat(child).is_some_and(|(_, parent)| parent == pid)).collect()
}

/// Whether a process is stopped by a signal.
pub fn is_stopped(pid: u32) -> bool {
    stat(pid).is_some_and(|(state, _)| state == "T")
}

/// Whether a process holds nothing any more: gone, or waiting for its parent to take note.
pub fn is_dead(pid: u32) -> bool {
    stat(pid).is_none_or(|(state, _)| state == "Z" || state == "X")
}

/// State and parent.
fn stat(pid: u32) -> Option<(String, u32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name before may hold anything, also spaces and parentheses.
    let mut fields = stat.rsplit(')').next()?.split_whitespace();
    Some((fields.next()?.into(), fields.next()?.parse().ok()?))
}

/// The last line of a log, to end an error with.
fn end(log: &Path) -> String {
    let log = read(log);
    let line = log.lines().rfind(|line| !line.trim().is_empty());
    format!("its last line: {}", line.unwrap_or("(none)").trim())
}

pub fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}
