//! The processes of one strategy: real ones over a Redis, tasks in this process over the embedded
//! store.

use std::{process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines},
    process::{Child, ChildStdin, ChildStdout, Command},
};

use crate::{
    cache::{Far, Settings},
    error::Failure,
    origin::Address,
    report::{Micros, Report, now},
    work::{Order, Work},
    worker::{Member, Setup, Worker},
};

pub enum Fleet {
    Inside(Vec<Worker>),
    Processes(Vec<Process>),
}

pub struct Process {
    /// Killed when dropped.
    _child: Child,
    orders: ChildStdin,
    reports: Lines<BufReader<ChildStdout>>,
}

impl Fleet {
    /// Starts `members` and waits until all are warm.
    pub async fn start(
        settings: &Settings,
        far: &Far,
        origin: &Address,
        members: Vec<Member>,
    ) -> Result<Self, Failure> {
        match far {
            Far::Memory { .. } => {
                let workers =
                    members.into_iter().map(|member| Worker::open(settings, far, origin, member));
                Ok(Self::Inside(futures::future::try_join_all(workers).await?))
            }
            Far::Redis(shared) => {
                let setups = members.into_iter().map(|member| Setup {
                    settings: settings.clone(),
                    shared: shared.of(member.index),
                    origin: origin.clone(),
                    member,
                });
                let processes = setups.map(|setup| async move { Process::start(&setup).await });
                Ok(Self::Processes(futures::future::try_join_all(processes).await?))
            }
        }
    }

    /// When a round that is ordered now can begin.
    pub fn soon(&self) -> Micros {
        let ahead = match self {
            Self::Inside(_) => Duration::from_millis(50),
            // Time to spawn the callers in every process.
            Self::Processes(_) => Duration::from_millis(200),
        };
        now() + u64::try_from(ahead.as_micros()).unwrap_or(0)
    }

    /// One round of all processes, and what each of them saw.
    pub async fn round(
        &mut self,
        round: u32,
        begin: Micros,
        work: Work,
    ) -> Result<Vec<Report>, Failure> {
        let order = Order { round, begin, work };
        let reports = match self {
            Self::Inside(workers) => {
                futures::future::try_join_all(workers.iter().map(|worker| worker.work(&order)))
                    .await?
            }
            Self::Processes(processes) => {
                let line = serde_json::to_string(&order)?;
                let rounds = processes.iter_mut().map(async |process| {
                    process.order(&line).await?;
                    process.report().await
                });
                futures::future::try_join_all(rounds).await?
            }
        };
        Ok(reports)
    }
}

impl Process {
    async fn start(setup: &Setup) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--worker")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let orders = child.stdin.take().ok_or("no standard input")?;
        let reports = BufReader::new(child.stdout.take().ok_or("no standard output")?).lines();
        let mut process = Self { _child: child, orders, reports };
        process.order(&serde_json::to_string(setup)?).await?;
        process.report().await?;
        Ok(process)
    }

    async fn order(&mut self, line: &str) -> Result<(), Failure> {
        self.orders.write_all(line.as_bytes()).await?;
        self.orders.write_all(b"\n").await?;
        Ok(self.orders.flush().await?)
    }

    async fn report(&mut self) -> Result<Report, Failure> {
        let line = self.reports.next_line().await?;
        Ok(serde_json::from_str(&line.ok_or("a process ended before its report")?)?)
    }
}
