//! ZooKeeper, alone and as an ensemble.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::process::{Process, READY_WITHIN, ask, folder, free_port, install, poll};

const JARS: &str = "/usr/share/java";

/// One ZooKeeper server, without fsync.
pub struct Zookeeper {
    process: Process,
    peers: String, // none if it stands alone
    args: Vec<String>,
    dir: TempDir,
}

impl Zookeeper {
    pub fn start() -> Result<Self, String> {
        Self::start_with(&[])
    }

    /// `args` are Java's; they come after the default ones and override them.
    pub fn start_with(args: &[&str]) -> Result<Self, String> {
        Self::launch(args, 1, String::new())
    }

    pub fn start_ensemble() -> Result<ZookeeperEnsemble, String> {
        ZookeeperEnsemble::start_with(&[])
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port())
    }

    pub fn port(&self) -> u16 {
        self.process.port
    }

    /// 0 once killed.
    pub fn pid(&self) -> u32 {
        self.process.pid
    }

    /// `standalone`, `leader` or `follower`; None while it serves nobody.
    pub fn mode(&self) -> Option<String> {
        mode(self.port())
    }

    /// SIGKILL, then wait; a second call does nothing.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Same port, same data. A member of an ensemble may still have to find the others, see
    /// [`ZookeeperEnsemble::ready`].
    pub fn restart(&mut self) -> Result<(), String> {
        self.kill();
        self.process = serve(self.dir.path(), &self.peers, &self.args, Some(self.port()))?;
        Ok(())
    }

    pub fn freeze(&self) {
        self.process.freeze();
    }

    pub fn thaw(&self) {
        self.process.thaw();
    }

    fn launch(args: &[&str], id: usize, peers: String) -> Result<Self, String> {
        let dir = folder()?;
        let (data, id) = (dir.path().join("data"), format!("{id}\n"));
        fs::create_dir(&data)
            .and_then(|()| fs::write(data.join("myid"), id))
            .map_err(|e| format!("cannot write to {data:?}: {e}"))?;
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        let process = serve(dir.path(), &peers, &args, None)?;
        Ok(Self { process, peers, args, dir })
    }
}

/// Three servers, of which any two can do without the third.
pub struct ZookeeperEnsemble {
    pub nodes: Vec<Zookeeper>,
}

impl ZookeeperEnsemble {
    /// As [`Zookeeper::start_with`]; returns once one node leads and the others follow.
    pub fn start_with(args: &[&str]) -> Result<Self, String> {
        let mut peers = String::new();
        for id in 1..=3 {
            let port = free_port()?; // with the one 10000 above
            peers += &format!("server.{id}=127.0.0.1:{port}:{}\n", port + 10_000);
        }
        let nodes = (1..=3).map(|id| Zookeeper::launch(args, id, peers.clone()));
        let ensemble = Self { nodes: nodes.collect::<Result<_, _>>()? };
        ensemble.ready()?;
        Ok(ensemble)
    }

    pub fn addresses(&self) -> String {
        let addresses: Vec<_> = self.nodes.iter().map(Zookeeper::address).collect();
        addresses.join(",")
    }

    /// The index of the node that leads.
    pub fn leader(&self) -> Option<usize> {
        self.nodes.iter().position(|node| node.mode().as_deref() == Some("leader"))
    }

    /// Waits until one node leads and all others that were not killed follow.
    pub fn ready(&self) -> Result<(), String> {
        let running = self.nodes.iter().filter(|node| node.pid() != 0);
        let ready = || {
            // One that was frozen goes on as leader for a while, beside its successor.
            let modes: Option<Vec<_>> = running.clone().map(Zookeeper::mode).collect();
            let leaders = modes?.into_iter().filter(|mode| mode == "leader").count();
            (leaders == 1).then_some(())
        };
        let ready = poll(READY_WITHIN, ready);
        ready.ok_or("the ZooKeeper ensemble was not ready in time; do two nodes run?".into())
    }
}

fn serve(home: &Path, peers: &str, args: &[String], port: Option<u16>) -> Result<Process, String> {
    let jar = format!("{JARS}/zookeeper.jar");
    if !Path::new(&jar).exists() {
        return Err(format!("{jar} is missing; {}", install(&jar)));
    }
    let command = |port| {
        let config = format!(
            "clientPort={port}\nclientPortAddress=127.0.0.1\ndataDir={}/data\n\
             tickTime=250\nminSessionTimeout=500\nmaxSessionTimeout=60000\n\
             initLimit=40\nsyncLimit=8\nmaxClientCnxns=0\nadmin.enableServer=false\n\
             4lw.commands.whitelist=srvr,envi,mntr,ruok\n{peers}",
            home.display()
        );
        let file = home.join("zoo.cfg");
        fs::write(&file, config).map_err(|e| format!("cannot write {file:?}: {e}"))?;
        let mut java = Command::new("java");
        // The jar names the others that it needs, but none that logs.
        java.arg("-cp").arg(format!("{jar}:{JARS}/slf4j-simple.jar")).current_dir(home);
        let options = "-Xmx128m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData \
            -Dzookeeper.forceSync=no -Dorg.slf4j.simpleLogger.defaultLogLevel=warn";
        java.args(options.split(' '));
        // Without a majority its own limit grows to a minute, in which it calls for no vote.
        java.arg("-Dzookeeper.fastleader.maxNotificationInterval=500").args(args);
        java.arg("org.apache.zookeeper.server.quorum.QuorumPeerMain").arg(file);
        Ok(java)
    };
    // The folder tells it from a stranger that took the port first. A member of an ensemble cannot
    // serve before the others run.
    let folder = format!("user.dir={}\n", home.display());
    let ready = |process: &Process| {
        ask(process.port, "envi").is_ok_and(|reply| reply.contains(&folder))
            && (!peers.is_empty() || mode(process.port).is_some())
    };
    Process::serve(command, port, &home.join("log"), ready)
}

fn mode(port: u16) -> Option<String> {
    let reply = ask(port, "srvr").ok()?;
    reply.lines().find_map(|line| line.strip_prefix("Mode: ")).map(String::from)
}
