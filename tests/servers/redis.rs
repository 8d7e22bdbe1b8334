//! Redis, alone and as a cluster.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::process::{Process, READY_WITHIN, ask, folder, poll};

/// One Redis server without persistence.
pub struct Redis {
    process: Process, // dropped before its folder
    config: Option<String>,
    args: Vec<String>,
    dir: TempDir,
}

impl Redis {
    pub fn start() -> Result<Self, String> {
        Self::start_with(&[])
    }

    /// `args` come after the default options and override them; `--port` must stay.
    pub fn start_with(args: &[&str]) -> Result<Self, String> {
        Self::launch(None, args.iter().map(ToString::to_string).collect(), None)
    }

    /// For what has no option: the server reads `config` from a file, and may rewrite that.
    pub(super) fn start_from(config: String, args: &[&str]) -> Result<Self, String> {
        Self::launch(Some(config), args.iter().map(ToString::to_string).collect(), None)
    }

    /// A server whose clock [`set_clock`](Self::set_clock) moves. Needs a C compiler.
    pub fn start_with_clock() -> Result<Self, String> {
        let dir = folder()?;
        let source = dir.path().join("clock.c");
        fs::write(&source, include_str!("clock.c"))
            .map_err(|e| format!("cannot write {source:?}: {e}; set TMPDIR"))?;
        let mut compile = Command::new("cc");
        compile.args(["-shared", "-fPIC", "-o"]).arg(dir.path().join(CLOCK)).arg(source);
        Process::run(compile, &dir.path().join("compile.log"))?;
        let process = serve(dir.path(), false, &[], None)?;
        Ok(Self { process, config: None, args: Vec::new(), dir })
    }

    /// The clock shows this many seconds more, or less, than this machine's.
    pub fn set_clock(&self, seconds: i64) -> Result<(), String> {
        let (new, used) = (self.dir.path().join("new offset"), self.dir.path().join(OFFSET));
        let set = fs::write(&new, seconds.to_string()).and_then(|()| fs::rename(&new, &used));
        set.map_err(|e| format!("cannot write {used:?}: {e}"))
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
        *self = Self::launch(self.config.clone(), self.args.clone(), Some(self.process.port))?;
        Ok(())
    }

    /// Same port, same folder: what it has saved is there again, with `--appendonly yes` among the
    /// options all that it has acknowledged.
    pub fn restart_with_data(&mut self) -> Result<(), String> {
        self.kill();
        let (dir, port) = (self.dir.path(), Some(self.process.port));
        self.process = serve(dir, self.config.is_some(), &self.args, port)?;
        Ok(())
    }

    pub fn freeze(&self) {
        self.process.freeze();
    }

    pub fn thaw(&self) {
        self.process.thaw();
    }

    fn launch(
        config: Option<String>,
        args: Vec<String>,
        port: Option<u16>,
    ) -> Result<Self, String> {
        let dir = folder()?;
        if let Some(config) = &config {
            let file = dir.path().join(CONFIG);
            fs::write(&file, config).map_err(|e| format!("cannot write {file:?}: {e}"))?;
        }
        let process = serve(dir.path(), config.is_some(), &args, port)?;
        Ok(Self { process, config, args, dir })
    }
}

const CONFIG: &str = "redis.conf";
/// Loaded first if it is there.
const CLOCK: &str = "clock.so";
const OFFSET: &str = "offset";

fn serve(
    dir: &Path,
    configured: bool,
    args: &[String],
    port: Option<u16>,
) -> Result<Process, String> {
    let command = |port| {
        let options = format!("--port {port} --bind 127.0.0.1 --appendonly no --daemonize no");
        let mut command = Command::new("redis-server");
        command.args(configured.then(|| dir.join(CONFIG)));
        command.args(options.split(' ')).args(["--save", ""]);
        command.arg("--dir").arg(dir).args(args);
        let clock = dir.join(CLOCK);
        if clock.exists() {
            command.env("LD_PRELOAD", clock).env("CLOCK_OFFSET", dir.join(OFFSET));
        }
        Ok(command)
    };
    // The pid tells it from a stranger that took the port first; one with a password is up too.
    let ready = |process: &Process| {
        let reply = ask_redis(process.port, "PING\r\nINFO server");
        let own = reply.contains(&format!("process_id:{}\r", process.pid));
        reply.starts_with("+PONG") && own || reply.starts_with("-NOAUTH")
    };
    Process::serve(command, port, &dir.join("log"), ready)
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
            let reply = ask_redis(node.port(), "CLUSTER INFO\r\nINFO replication");
            let has = |line: &str| reply.contains(&format!("{line}\r"));
            let knows_all = has("cluster_slots_ok:16384") && has("cluster_known_nodes:6");
            let linked = has("connected_slaves:1") || has("master_link_status:up");
            has("cluster_state:ok") && knows_all && linked
        };
        poll(READY_WITHIN, || nodes.iter().all(joined).then_some(()))
            .ok_or("the Redis cluster was not ready in time; retry on a less busy machine")?;
        Ok(Self { nodes })
    }

    pub fn urls(&self) -> Vec<String> {
        self.nodes.iter().map(Redis::url).collect()
    }
}

/// The replies to inline commands, none from a server that is down. The last line is a protocol
/// error, so the server closes and the end needs no parsing; a sentinel does not know QUIT.
pub fn ask_redis(port: u16, commands: &str) -> String {
    ask(port, &format!("{commands}\r\n*QUIT\r\n")).unwrap_or_default()
}
