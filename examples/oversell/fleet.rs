//! The processes: this program again, with orders on their standard input.

use std::{process::Stdio, time::Instant};

use futures::future::try_join_all;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::{
    Failure,
    buyer::{Answer, Order, Setup},
    servers::{Signal, Watchdog, signal},
    shop::Method,
};

pub struct Fleet {
    processes: Vec<Process>,
}

impl Fleet {
    /// Starts the processes and waits until all have their connections.
    pub async fn start(setup: &Setup, processes: u32) -> Result<Self, Failure> {
        let line = serde_json::to_string(setup)?;
        let processes = try_join_all((0..processes).map(|_| Process::start(&line))).await?;
        Ok(Self { processes })
    }

    /// The seconds until the last buyer was done, and the answers.
    pub async fn buy(
        &mut self,
        method: Method,
        wants: u32,
        decide_ms: u64,
    ) -> Result<(f64, Vec<Answer>), Failure> {
        let begin = Instant::now();
        let answers = self.all(Order::Buy { method, wants, decide_ms }).await?;
        Ok((begin.elapsed().as_secs_f64(), answers))
    }

    /// The same order for all, at one time.
    pub async fn all(&mut self, order: Order) -> Result<Vec<Answer>, Failure> {
        try_join_all(self.processes.iter_mut().map(|process| process.ask(order))).await
    }

    pub fn first(&mut self) -> &mut Process {
        &mut self.processes[0]
    }

    /// The first again if it is the only one.
    pub fn last(&mut self) -> &mut Process {
        let last = self.processes.len() - 1;
        &mut self.processes[last]
    }

    pub fn len(&self) -> usize {
        self.processes.len()
    }
}

pub struct Process {
    /// Killed when dropped, also while it is stopped.
    child: Child,
    /// Ends it with this process, also while it is stopped.
    _watchdog: Watchdog,
    orders: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Process {
    async fn start(setup: &str) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--worker")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let watchdog = Watchdog::over(child.id().ok_or("ended at once")?, None)?;
        let orders = child.stdin.take().ok_or("no standard input")?;
        let answers = BufReader::new(child.stdout.take().ok_or("no standard output")?).lines();
        let mut process = Self { child, _watchdog: watchdog, orders, answers };
        process.say(setup).await?;
        process.answer().await?;
        Ok(process)
    }

    pub async fn ask(&mut self, order: Order) -> Result<Answer, Failure> {
        self.say(&serde_json::to_string(&order)?).await?;
        self.answer().await
    }

    /// As an operating system, a debugger or a garbage collector would: it does not notice.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, which: Signal) {
        if let Some(pid) = self.child.id() {
            signal(pid, which);
        }
    }

    async fn say(&mut self, line: &str) -> Result<(), Failure> {
        self.orders.write_all(line.as_bytes()).await?;
        self.orders.write_all(b"\n").await?;
        Ok(self.orders.flush().await?)
    }

    async fn answer(&mut self) -> Result<Answer, Failure> {
        let line = self.answers.next_line().await?;
        let line = line.ok_or("a process ended before its answer")?;
        Ok(serde_json::from_str::<Result<Answer, String>>(&line)??)
    }
}
