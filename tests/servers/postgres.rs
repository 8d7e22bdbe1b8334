//! PostgreSQL.

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::process::{Account, Process, Signal, children, is_dead, is_stopped, poll, read, signal};

/// One PostgreSQL server with an empty database, without fsync.
pub struct Postgres {
    process: Process,
    account: Account,
    options: Vec<String>,
    dir: TempDir,
}

impl Postgres {
    pub fn start() -> Result<Self, String> {
        Self::start_with(&[])
    }

    /// `options` (`name=value`) come after the default ones and override them.
    pub fn start_with(options: &[&str]) -> Result<Self, String> {
        let account = Account::find("postgres", "postgres")?;
        let dir = account.folder()?;
        let mut initdb = program(&account, dir.path(), "initdb");
        initdb.args("-A trust -U postgres --no-sync -E UTF8 --locale=C".split(' '));
        Process::run(initdb, &dir.path().join("log"))?;
        let options: Vec<_> = options.iter().map(ToString::to_string).collect();
        let process = serve(&account, dir.path(), &options, None)?;
        Ok(Self { process, account, options, dir })
    }

    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/postgres", self.port())
    }

    pub fn port(&self) -> u16 {
        self.process.port
    }

    /// The postmaster's; 0 once killed.
    pub fn pid(&self) -> u32 {
        self.process.pid
    }

    /// A crash: clients lose their connections without a word, and nothing is tidied in the data.
    /// A second call does nothing.
    pub fn kill(&mut self) {
        for backend in self.stop() {
            signal(backend, Signal::KILL);
        }
        // It would leave a piece of shared memory behind for good if it was killed as well.
        signal(self.pid(), Signal::QUIT);
        self.process.thaw();
        self.process.exit(Duration::from_secs(7)); // at 5 s it kills what is stuck
        self.process.kill();
    }

    /// Same port, same data.
    pub fn restart(&mut self) -> Result<(), String> {
        self.kill();
        self.process = serve(&self.account, self.dir.path(), &self.options, Some(self.port()))?;
        Ok(())
    }

    /// Stops the backends too, which would serve on without the server that started them.
    pub fn freeze(&self) {
        for backend in self.stop() {
            signal(backend, Signal::STOP);
        }
    }

    pub fn thaw(&self) {
        for backend in children(self.pid()) {
            signal(backend, Signal::CONT);
        }
        self.process.thaw();
    }

    /// Stops the server, so that it starts no more backends, and tells those that it has.
    fn stop(&self) -> Vec<u32> {
        self.process.freeze();
        let pid = self.pid();
        poll(Duration::from_secs(1), || (is_stopped(pid) || is_dead(pid)).then_some(()));
        children(pid)
    }
}

impl Drop for Postgres {
    /// A server that is killed outright leaves its backends behind.
    fn drop(&mut self) {
        self.kill();
    }
}

fn serve(
    account: &Account,
    home: &Path,
    more: &[String],
    port: Option<u16>,
) -> Result<Process, String> {
    let log = home.join("log");
    let command = |port| {
        let mut postgres = program(account, home, "postgres");
        postgres.args(["-p", &format!("{port}")]);
        let options = "listen_addresses=127.0.0.1 fsync=off max_connections=200";
        let socket = format!("unix_socket_directories={}", home.display());
        let more = more.iter().map(String::as_str);
        for option in options.split(' ').chain([&*socket]).chain(more) {
            postgres.args(["-c", option]);
        }
        Ok(postgres)
    };
    // The line in its own log tells this server from a stranger that took the port first.
    let ready = |process: &Process| {
        read(&log).contains("ready to accept connections")
            && TcpStream::connect(("127.0.0.1", process.port)).is_ok()
    };
    Process::serve(command, port, &log, ready)
}

fn program(account: &Account, home: &Path, name: &str) -> Command {
    let mut command = account.command(&bin().join(name), home);
    command.arg("-D").arg(home.join("data"));
    command
}

/// Debian keeps the servers off PATH; the newest wins. An empty path means: look on PATH.
fn bin() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let bins = versions.flatten().map(|version| version.path().join("bin"));
    let usable = bins.filter(|bin| bin.join("postgres").exists());
    usable.max().unwrap_or_default()
}
