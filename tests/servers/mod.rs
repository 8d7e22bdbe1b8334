//! Real Redis and PostgreSQL servers for tests and examples: child processes on loopback, in
//! temporary folders, stopped on drop. A `static` is never dropped, nor is anything when this
//! process is killed or calls `exit`: the servers then stay. Ctrl-C reaches them too.
#![allow(dead_code, unreachable_pub, reason = "each includer uses a part")]

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::{fs::chown, process::CommandExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

pub use rustix::process::Signal;
use rustix::process::{Pid, geteuid, kill_process};
use tempfile::TempDir;

const READY_WITHIN: Duration = Duration::from_secs(10);

/// One Redis server without persistence.
pub struct Redis {
    process: Process, // dropped before its folder
    args: Vec<String>,
    dir: TempDir,
}

impl Redis {
    pub fn start() -> Result<Self, String> {
        Self::start_with(&[])
    }

    /// `args` come after the default options and override them; `--port` must stay.
    pub fn start_with(args: &[&str]) -> Result<Self, String> {
        Self::launch(args.iter().map(ToString::to_string).collect(), None)
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/", self.process.port)
    }

    pub fn port(&self) -> u16 {
        self.process.port
    }

    /// 0 once killed.
    pub fn pid(&self) -> u32 {
        self.process.pid
    }

    /// SIGKILL, then wait; a second call does nothing.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Same port, new folder: the data is gone, and a cluster node forgets its cluster.
    pub fn restart(&mut self) -> Result<(), String> {
        self.kill();
        *self = Self::launch(self.args.clone(), Some(self.process.port))?;
        Ok(())
    }

    pub fn freeze(&self) {
        signal(self.pid(), Signal::STOP);
    }

    pub fn thaw(&self) {
        signal(self.pid(), Signal::CONT);
    }

    fn launch(args: Vec<String>, port: Option<u16>) -> Result<Self, String> {
        let dir = TempDir::new().map_err(|e| format!("{e}; set TMPDIR to a writable folder"))?;
        let command = |port| {
            let options = format!("--port {port} --bind 127.0.0.1 --appendonly no --daemonize no");
            let mut command = Command::new("redis-server");
            command.args(options.split(' ')).args(["--save", ""]);
            command.arg("--dir").arg(dir.path()).args(&args);
            command
        };
        // The pid tells it from a stranger that took the port first; one with a password is up too.
        let ready = |process: &Process| {
            let reply = ask_redis(process.port, "PING\r\nINFO server").unwrap_or_default();
            let own = reply.contains(&format!("process_id:{}\r", process.pid));
            reply.starts_with("+PONG") && own || reply.starts_with("-NOAUTH")
        };
        let process = Process::serve(command, port, &dir.path().join("log"), ready)?;
        Ok(Self { process, args, dir })
    }
}

/// Three primaries (the first three nodes) with one replica each.
pub struct RedisCluster {
    pub nodes: Vec<Redis>,
}

impl RedisCluster {
    /// Returns once every node sees all slots served and every replica follows its primary.
    pub fn start() -> Result<Self, String> {
        // Without the last option a replica waits 5 s before it copies its primary.
        let options = "--cluster-enabled yes --cluster-config-file nodes.conf \
            --cluster-node-timeout 1000 --repl-diskless-sync-delay 0";
        let options: Vec<&str> = options.split(' ').collect();
        let nodes = (0..6).map(|_| Redis::start_with(&options));
        let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
        let mut create = Command::new("redis-cli");
        create.args(["--cluster", "create", "--cluster-yes"]);
        create.args(["--cluster-replicas", "1"]);
        let address = |node: &Redis| format!("127.0.0.1:{}", node.port());
        create.args(nodes.iter().map(address));
        Process::run(create, &nodes[0].dir.path().join("create.log"))?;

        let joined = |node: &Redis| {
            let asked = ask_redis(node.port(), "CLUSTER INFO\r\nINFO replication");
            let reply = asked.unwrap_or_default();
            let has = |line: &str| reply.contains(&format!("{line}\r"));
            let knows_all = has("cluster_slots_ok:16384") && has("cluster_known_nodes:6");
            let linked = has("connected_slaves:1") || has("master_link_status:up");
            has("cluster_state:ok") && knows_all && linked
        };
        poll(READY_WITHIN, || nodes.iter().all(joined).then_some(()))
            .ok_or("the Redis cluster was not ready in 10 s; retry on a less busy machine")?;
        Ok(Self { nodes })
    }

    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Redis::url).collect()
    }
}

/// One PostgreSQL server with an empty database, without fsync.
pub struct Postgres {
    process: Process,
    dir: TempDir,
}

impl Postgres {
    pub fn start() -> Result<Self, String> {
        let (bin, user) = (postgres_bin(), postgres_user()?);
        let dir = TempDir::new().map_err(|e| format!("{e}; set TMPDIR to a writable folder"))?;
        let (home, log) = (dir.path(), dir.path().join("log"));
        let (uid, gid) = user.unzip();
        chown(home, uid, gid).map_err(|e| format!("cannot give {home:?} to postgres: {e}"))?;
        let program = |name: &str, options: &str| {
            let mut command = Command::new(bin.join(name));
            command.arg("-D").arg(home.join("data"));
            command.args(options.split(' ')).current_dir(home);
            command.env("HOME", home).env("LC_ALL", "C");
            if let Some((uid, gid)) = user {
                command.uid(uid).gid(gid);
            }
            command
        };
        let options = "-A trust -U postgres --no-sync -E UTF8 --locale=C";
        Process::run(program("initdb", options), &log)?;

        let command = |port| {
            let options = "-c listen_addresses=127.0.0.1 -c fsync=off -c max_connections=200";
            let mut postgres = program("postgres", &format!("-p {port} {options} -c"));
            postgres.arg(format!("unix_socket_directories={}", home.display()));
            postgres
        };
        // The line in its own log tells this server from a stranger that took the port first.
        let ready = |process: &Process| {
            read(&log).contains("ready to accept connections")
                && TcpStream::connect(("127.0.0.1", process.port)).is_ok()
        };
        let process = Process::serve(command, None, &log, ready)?;
        Ok(Self { process, dir })
    }

    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.process.port)
    }

    pub fn pid(&self) -> u32 {
        self.process.pid
    }
}

impl Drop for Postgres {
    /// Asks first, as a postmaster that is killed outright leaves its own children behind; 5 s
    /// after SIGQUIT it kills those that are stuck.
    fn drop(&mut self) {
        for (request, seconds) in [(Signal::INT, 5), (Signal::QUIT, 7)] {
            signal(self.pid(), request);
            signal(self.pid(), Signal::CONT); // a frozen one could not obey
            self.process.exit(Duration::from_secs(seconds));
        }
    }
}

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

/// A child that is killed and waited for when dropped.
struct Process {
    child: Child,
    pid: u32,  // 0 once waited for, as the number may be another process's then
    port: u16, // 0 if it is no server
}

impl Process {
    /// Starts a server and waits until it is ready. One that exits is tried again on another port,
    /// as somebody may have taken the first between its choice and its use.
    fn serve(
        command: impl Fn(u16) -> Command,
        fixed_port: Option<u16>,
        log: &Path,
        ready: impl Fn(&Self) -> bool,
    ) -> Result<Self, String> {
        for _ in 0..5 {
            let port = fixed_port.map_or_else(free_port, Ok)?;
            let mut process = Self::spawn(&mut command(port), port, log)?;
            let is_up = poll(READY_WITHIN, || match process.exit(Duration::ZERO) {
                None => ready(&process).then_some(true),
                Some(_) => Some(false),
            });
            match is_up {
                Some(true) => return Ok(process),
                Some(false) => {} // exited: try again
                None => return Err(format!("no answer on port {port} in 10 s; {}", end(log))),
            }
        }
        Err(format!("the server exits again and again; {}", end(log)))
    }

    /// Runs a program to its end, which must be a success.
    fn run(mut command: Command, log: &Path) -> Result<(), String> {
        let status = Self::spawn(&mut command, 0, log)?.exit(Duration::from_secs(30));
        let name = command.get_program();
        let success = status.filter(ExitStatus::success).map(drop);
        success.ok_or_else(|| format!("{name:?} failed, or hung for 30 s; {}", end(log)))
    }

    fn spawn(command: &mut Command, port: u16, log: &Path) -> Result<Self, String> {
        let out = File::create(log).and_then(|file| Ok((file.try_clone()?, file)));
        let (out, err) = out.map_err(|e| format!("cannot write {log:?}: {e}; set TMPDIR"))?;
        let child = command.stdin(Stdio::null()).stdout(out).stderr(err).spawn();
        let child = child.map_err(|e| {
            let name = command.get_program().display().to_string();
            let redis = name.starts_with("redis");
            let package = if redis { "redis-server" } else { "postgresql" };
            let advice = format!("install it with: apt-get install {package}");
            match e.kind() {
                ErrorKind::NotFound => format!("{name} is not on PATH; {advice}"),
                _ => format!("cannot start {name}: {e}; may its user run it, and enter TMPDIR?"),
            }
        })?;
        let pid = child.id();
        Ok(Self { child, pid, port })
    }

    fn exit(&mut self, limit: Duration) -> Option<ExitStatus> {
        let status = poll(limit, || self.child.try_wait().ok().flatten());
        self.pid = status.map_or(self.pid, |_| 0);
        status
    }

    fn kill(&mut self) {
        // Neither does anything to a child that has been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
        self.pid = 0;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

fn poll<T>(limit: Duration, mut check: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        let answer = check();
        if answer.is_some() || start.elapsed() >= limit {
            return answer;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// The replies to inline commands; QUIT makes the server close, so the end needs no parsing.
fn ask_redis(port: u16, commands: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(1)))?;
    stream.write_all(format!("{commands}\r\nQUIT\r\n").as_bytes())?;
    std::io::read_to_string(stream)
}

/// Debian keeps the servers off PATH; the newest wins. An empty path means: look on PATH.
fn postgres_bin() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let bins = versions.flatten().map(|version| version.path().join("bin"));
    let usable = bins.filter(|bin| bin.join("postgres").exists());
    usable.max().unwrap_or_default()
}

/// Uid and gid for PostgreSQL, which refuses root; None keeps our own.
fn postgres_user() -> Result<Option<(u32, u32)>, String> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    for line in read(Path::new("/etc/passwd")).lines() {
        let mut ids = line.split(':').skip(2).map_while(|id| id.parse().ok());
        if line.starts_with("postgres:") {
            return Ok(ids.next().zip(ids.next()));
        }
    }
    Err("PostgreSQL refuses root and has no user; run: useradd -r postgres".into())
}

/// The last line of a log, to end an error with.
fn end(log: &Path) -> String {
    let log = read(log);
    let line = log.lines().rfind(|line| !line.trim().is_empty());
    format!("its last line: {}", line.unwrap_or("(none)").trim())
}

fn read(path: &Path) -> String {
    String::from_utf8_lossy(&fs::read(path).unwrap_or_default()).into_owned()
}
