//! One of the processes, from outside: this program again.

use std::{
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, ChildStdin, ChildStdout, Command},
    sync::oneshot,
    task::JoinHandle,
    time::timeout,
};

use crate::{
    error::Failure,
    message::Message,
    record::Record,
    servers::{Signal, Watchdog, signal},
    worker::Setup,
};

pub struct Process {
    pub number: u32,
    /// Killed when dropped, also while it is stopped.
    child: Child,
    /// Ends it with this program, also while it is stopped.
    _watchdog: Watchdog,
    orders: ChildStdin,
    /// Ends with its output.
    reader: JoinHandle<()>,
    may_end: Arc<AtomicBool>,
}

const READY_WITHIN: Duration = Duration::from_secs(70);
const STOPS_WITHIN: Duration = Duration::from_secs(30);

impl Process {
    /// Waits until it has its connections.
    pub async fn start(setup: &Setup, record: &Arc<Record>) -> Result<Self, Failure> {
        let mut child = Command::new(std::env::current_exe()?)
            .arg("--worker")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()?;
        let watchdog = Watchdog::over(child.id().ok_or("ended at once")?, None)?;
        let mut orders = child.stdin.take().ok_or("no standard input")?;
        let output = child.stdout.take().ok_or("no standard output")?;
        orders.write_all(format!("{}\n", serde_json::to_string(setup)?).as_bytes()).await?;
        let (number, may_end) = (setup.process, Arc::new(AtomicBool::new(false)));
        let (ready, is_ready) = oneshot::channel();
        let reader = tokio::spawn({
            let (record, may_end) = (record.clone(), may_end.clone());
            async move {
                read(output, ready, &record).await;
                if !may_end.load(Ordering::Relaxed) {
                    record.fatal(format!("process {number} ended by itself"));
                }
            }
        });
        timeout(READY_WITHIN, is_ready).await.map_err(|_| "a process is not ready in time")??;
        Ok(Self { number, child, _watchdog: watchdog, orders, reader, may_end })
    }

    /// SIGKILL, and all that it had told by then.
    pub async fn kill(mut self) -> Result<(), Failure> {
        self.may_end.store(true, Ordering::Relaxed);
        self.child.kill().await?;
        Ok(self.reader.await?)
    }

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

    /// Lets every caller have its answer.
    pub async fn stop(mut self) -> Result<(), Failure> {
        self.may_end.store(true, Ordering::Relaxed);
        self.orders.write_all(b"stop\n").await?;
        self.orders.flush().await?;
        let stopped = timeout(STOPS_WITHIN, self.reader).await;
        Ok(stopped.map_err(|_| "a process does not stop: a caller was not answered")??)
    }
}

async fn read(output: ChildStdout, ready: oneshot::Sender<()>, record: &Record) {
    let mut ready = Some(ready);
    let mut lines = BufReader::with_capacity(1 << 16, output).lines();
    while let Ok(Some(line)) = lines.next_line().await {
        match serde_json::from_str(&line) {
            Ok(Message::Ready) => {
                let _ = ready.take().map(|ready| ready.send(()));
            }
            Ok(message) => record.take(message),
            // The last line of one that was killed may be cut off.
            Err(_) => return,
        }
    }
}
