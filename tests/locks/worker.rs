//! Another process: this program again, told on its command line what to do.

use std::{
    fs::{self, OpenOptions},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use cattleguard::lock::Lock;

use crate::{
    contract,
    kind::Kind,
    servers::{Signal, Watchdog, signal},
};

/// A worker's own part.
pub async fn run(mut args: impl Iterator<Item = String>) {
    let mut next = || args.next().expect("an argument");
    let (order, kind, name) = (next(), Kind(next()), next());
    let lock = kind.open().await.expect("a lock");
    match order.as_str() {
        "hold" => {
            let ttl = Duration::from_millis(next().parse().expect("milliseconds"));
            let lease = lock.acquire(&name, ttl, contract::soon()).await.expect("the lock");
            lease.keep_alive();
            say(&format!("held {}", lease.fence()));
            lease.lost().await;
            say("lost");
        }
        "contend" => {
            let (rounds, dir) = (next().parse::<u32>().expect("a number"), next());
            let (inside, counter) =
                (Path::new(&dir).join("inside"), Path::new(&dir).join("counter"));
            say("ready");
            for _ in 0..rounds {
                let lease =
                    lock.acquire(&name, contract::TTL, contract::soon() + contract::LONG * 2);
                let lease = lease.await.expect("the lock");
                // Two at once would find the other's mark, or lose a count.
                let mark = OpenOptions::new().write(true).create_new(true).open(&inside);
                drop(mark.expect("no other process is inside"));
                let count: u32 =
                    fs::read_to_string(&counter).expect("a counter").parse().expect("a number");
                tokio::task::yield_now().await;
                fs::write(&counter, (count + 1).to_string()).expect("a counter");
                fs::remove_file(&inside).expect("our mark");
                lease.release().await.expect("a release");
            }
            say("done");
        }
        other => panic!("no such order: {other}"),
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").and_then(|()| out.flush()).expect("a reader");
}

/// A worker as its starter sees it. Killed and waited for when dropped.
pub struct Worker {
    child: Child,
    _watchdog: Watchdog,
    out: BufReader<ChildStdout>,
}

impl Worker {
    pub fn start(order: &str, kind: &Kind, name: &str, rest: &[&str]) -> Self {
        let mut command = Command::new(std::env::current_exe().expect("our own path"));
        command.args(["worker", order, &kind.0, name]).args(rest);
        let mut child = command.stdout(Stdio::piped()).spawn().expect("a process");
        let watchdog = Watchdog::over(child.id(), None).expect("a watchdog");
        let out = BufReader::new(child.stdout.take().expect("piped"));
        Self { child, _watchdog: watchdog, out }
    }

    /// The next line it prints; empty when it has ended.
    pub fn read_line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).expect("a pipe");
        line.trim().to_owned()
    }

    pub fn signal(&self, which: Signal) {
        signal(self.child.id(), which);
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
