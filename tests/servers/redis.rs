//! Redis, alone and as a cluster.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::clocks::Clocks;
use super::process::{Process, READY_WITHIN, ask, folder, poll};

/// One Redis server without persistence.
pub struct Redis {
    process: Process, // dropped before its folder
    options: Options,
    dir: TempDir,
}

/// What a server is started with, each time.
#[derive(Clone, Default)]
struct Options {
    /// For what is no argument: the server reads this from a file, and may rewrite that.
    config: Option<String>,
    /// They come after the default ones and override them; `--port` must stay.
    args: Vec<String>,
    environment: Vec<(&'static str, String)>,
}

impl Redis {
    pub fn start() -> Result<Self, String> {
        Self::start_with(&[])
    }

    pub fn start_with(args: &[&str]) -> Result<Self, String> {
        Self::launch(Options { args: owned(args), ..Options::default() }, None)
    }

    pub(super) fn start_from(config: String, args: &[&str]) -> Result<Self, String> {
        let (config, args) = (Some(config), owned(args));
        Self::launch(Options { config, args, ..Options::default() }, None)
    }

    pub fn start_with_clocks(clocks: &Clocks, args: &[&str]) -> Result<Self, String> {
        let environment = clocks.environment().to_vec();
        Self::launch(Options { environment, args: owned(args), ..Options::default() }, None)
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

    pub fn folder(&self) -> &Path {
        self.dir.path()
    }

    /// SIGKILL, then wait; a second call does nothing.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Same port, new folder: the data is gone, and a cluster node forgets its cluster.
    pub fn restart(&mut self) -> Result<(), String> {
        self.kill();
        *self = Self::launch(self.options.clone(), Some(self.process.port))?;
        Ok(())
    }

    /// Same port, same folder: what it has saved is there again, with `--appendonly yes` among the
    /// options all that it has acknowledged.
    pub fn restart_with_data(&mut self) -> Result<(), String> {
        self.kill();
        self.process = self.options.serve(self.dir.path(), Some(self.process.port))?;
        Ok(())
    }

    pub fn freeze(&self) {
        self.process.freeze();
    }

    pub fn thaw(&self) {
        self.process.thaw();
    }

    fn launch(options: Options, port: Option<u16>) -> Result<Self, String> {
        let dir = folder()?;
        if let Some(config) = &options.config {
            let file = dir.path().join(CONFIG);
            fs::write(&file, config).map_err(|e| format!("cannot write {file:?}: {e}"))?;
        }
        let process = options.serve(dir.path(), port)?;
        Ok(Self { process, options, dir })
    }
}

const CONFIG: &str = "redis.conf";

impl Options {
    fn serve(&self, dir: &Path, port: Option<u16>) -> Result<Process, String> {
        let command = |port| {
            let options = format!("--port {port} --bind 127.0.0.1 --appendonly no --daemonize no");
            let mut command = Command::new("redis-server");
            command.args(self.config.is_some().then(|| dir.join(CONFIG)));
            command.args(options.split(' ')).args(["--save", ""]);
            command.arg("--dir").arg(dir).args(&self.args);
            command.envs(self.environment.iter().cloned());
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
}

fn owned(args: &[&str]) -> Vec<String> {
    args.iter().map(ToString::to_string).collect()
}

/// Primaries (the first nodes), perhaps with replicas.
pub struct RedisCluster {
    pub nodes: Vec<Redis>,
}

impl RedisCluster {
    /// Three primaries with one replica each.
    pub fn start() -> Result<Self, String> {
        Self::start_with(3, 1, &[])
    }

    /// Returns once every node sees all slots served and every replica follows its primary.
    pub fn start_with(primaries: usize, replicas: usize, args: &[&str]) -> Result<Self, String> {
        // Without the last option a replica waits 5 s before it copies its primary.
        let options = "--cluster-enabled yes --cluster-config-file nodes.conf \
            --cluster-node-timeout 1000 --repl-diskless-sync-delay 0";
        let options: Vec<&str> = options.split(' ').chain(args.iter().copied()).collect();
        let count = primaries * (1 + replicas);
        let nodes = (0..count).map(|_| Redis::start_with(&options));
        let nodes = nodes.collect::<Result<Vec<_>, _>>()?;
        let mut create = Command::new("redis-cli");
        create.args(["--cluster", "create", "--cluster-yes"]);
        create.args(["--cluster-replicas", &replicas.to_string()]);
        let address = |node: &Redis| format!("127.0.0.1:{}", node.port());
        create.args(nodes.iter().map(address));
        Process::run(create, &nodes[0].dir.path().join("create.log"))?;

        let joined = |node: &Redis| {
            let reply = ask_redis(node.port(), "CLUSTER INFO\r\nINFO replication");
            let has = |line: &str| reply.contains(&format!("{line}\r"));
            let knows_all =
                has("cluster_slots_ok:16384") && has(&format!("cluster_known_nodes:{count}"));
            let linked =
                has(&format!("connected_slaves:{replicas}")) || has("master_link_status:up");
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
