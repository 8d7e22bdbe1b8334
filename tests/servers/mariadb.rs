//! MariaDB.

use std::fs;
use std::net::TcpStream;
use std::path::Path;

use tempfile::TempDir;

use super::process::{Account, Process, read};

/// One MariaDB server with an empty database `test`, without fsync.
pub struct MariaDb {
    process: Process,
    account: Account,
    options: Vec<String>,
    dir: TempDir,
}

impl MariaDb {
    pub fn start() -> Result<Self, String> {
        Self::start_with(&[])
    }

    /// `options` (`--name=value`) come after the default ones and override them.
    pub fn start_with(options: &[&str]) -> Result<Self, String> {
        let account = Account::find("mysql", "mariadbd")?;
        let dir = account.folder()?;
        let init = dir.path().join("init.sql");
        fs::write(&init, "CREATE DATABASE IF NOT EXISTS test;\n")
            .map_err(|e| format!("cannot write {init:?}: {e}"))?;
        let mut install = account.command(Path::new("mariadb-install-db"), dir.path());
        install.args(defaults(dir.path()));
        install.args(["--auth-root-authentication-method=normal", "--skip-test-db"]);
        Process::run(install, &dir.path().join("log"))?;
        let options: Vec<_> = options.iter().map(ToString::to_string).collect();
        let process = serve(&account, dir.path(), &options, None)?;
        Ok(Self { process, account, options, dir })
    }

    pub fn url(&self) -> String {
        format!("mysql://root@127.0.0.1:{}/test", self.port())
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

    /// Same port, same data.
    pub fn restart(&mut self) -> Result<(), String> {
        self.kill();
        self.process = serve(&self.account, self.dir.path(), &self.options, Some(self.port()))?;
        Ok(())
    }

    pub fn freeze(&self) {
        self.process.freeze();
    }

    pub fn thaw(&self) {
        self.process.thaw();
    }
}

fn serve(
    account: &Account,
    home: &Path,
    more: &[String],
    port: Option<u16>,
) -> Result<Process, String> {
    let log = home.join("log");
    // Debian keeps it off the PATH of everybody but root.
    let sbin = Path::new("/usr/sbin/mariadbd");
    let program = if sbin.exists() { sbin } else { Path::new("mariadbd") };
    let command = |port| {
        let mut command = account.command(program, home);
        command.args(defaults(home));
        command
            .args([format!("--port={port}"), format!("--init-file={}/init.sql", home.display())]);
        // A commit survives SIGKILL, though not a crash of the machine.
        let usual = "--bind-address=127.0.0.1 --skip-name-resolve --max-connections=200 \
            --innodb-flush-log-at-trx-commit=2";
        command.args(usual.split(' ')).args(more);
        Ok(command)
    };
    // The line in its own log tells this server from a stranger that took the port first.
    let ready = |process: &Process| {
        read(&log).contains("ready for connections")
            && TcpStream::connect(("127.0.0.1", process.port)).is_ok()
    };
    Process::serve(command, port, &log, ready)
}

/// The first must be the first. The log's size holds from the installation on.
fn defaults(home: &Path) -> Vec<String> {
    let mut options = vec!["--no-defaults".into()];
    let paths = [("datadir", "data"), ("tmpdir", ""), ("socket", "socket"), ("pid-file", "pid")];
    options.extend(paths.map(|(key, path)| format!("--{key}={}", home.join(path).display())));
    let small = "--innodb-flush-method=nosync --innodb-log-file-size=16M \
        --innodb-buffer-pool-size=32M";
    options.extend(small.split(' ').map(String::from));
    options
}
