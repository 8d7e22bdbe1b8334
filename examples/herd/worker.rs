//! One process of the fleet: does the work of a round and reports.

use std::{
    io::Write,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    args::Args,
    cache::{Cache, Far, Invalidation, Served, Settings},
    child, console,
    error::Failure,
    origin::{Address, Origin},
    plan::TAGGED_KEYS,
    redis_address::SharedRedis,
    refused,
    report::{Acknowledged, Answer, Delivery, Failed, Report, now},
    trace,
    work::{Order, Steady, Work},
};

/// What a process is told when it starts.
#[derive(Clone, Serialize, Deserialize)]
pub struct Setup {
    pub settings: Settings,
    pub shared: SharedRedis,
    pub origin: Address,
    pub member: Member,
}

/// A process's place in the fleet.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Member {
    pub index: u32,
    pub processes: u32,
    pub callers: u32,
    pub pool: u32,
    pub load_ms: u64,
}

impl Member {
    /// All of a fleet.
    pub fn all(args: &Args, processes: u32, callers: u32) -> Vec<Self> {
        let pool = (args.pool / processes).max(1);
        let member = |index| Self { index, processes, callers, pool, load_ms: args.load_ms };
        (0..processes).map(member).collect()
    }
}

/// A member at work.
#[derive(Clone)]
pub struct Worker {
    cache: Cache,
    member: Member,
}

impl Worker {
    pub async fn open(
        settings: &Settings,
        far: &Far,
        origin: &Address,
        member: Member,
    ) -> Result<Self, Failure> {
        let load = Duration::from_millis(member.load_ms);
        let origin = Origin::open(origin, member.pool, load).await?;
        let cache = Cache::open(settings, far, origin).await?;
        let worker = Self { cache, member };
        // Connections, subscriptions and scripts are there before the first round.
        worker.cache.get(u32::MAX, worker.member.index).await?;
        if let (0, Some(entries)) = (worker.member.index, settings.tagged) {
            for id in 0..TAGGED_KEYS {
                worker.cache.tag_more(id, entries).await?;
            }
        }
        worker.cache.origin().take_loads();
        Ok(worker)
    }

    pub async fn work(&self, order: &Order) -> Result<Report, Failure> {
        let refused = refused::counted();
        let wait = Duration::from_micros(order.begin.saturating_sub(now()));
        let begin = Instant::now() + wait;
        let shift = Shift {
            worker: self.clone(),
            log: Arc::new(Log::until(order.work.end(begin))),
            round: order.round,
            begin,
        };
        let mut callers = JoinSet::new();
        match &order.work {
            Work::Once { key } => shift.ask_once(&mut callers, *key),
            Work::Steady(work) => {
                if let Some((from, to)) = work.refused_ms {
                    let at = |ms: u64| order.begin + ms * 1000;
                    self.cache.origin().refuse(at(from)..at(to));
                }
                shift.ask_steadily(&mut callers, work);
                if let Some(update_ms) = work.update_ms {
                    shift.update_steadily(&mut callers, work, Duration::from_millis(update_ms));
                }
            }
            Work::Replay { trace } => shift.replay(&mut callers, trace)?,
        }
        while let Some(ended) = callers.join_next().await {
            ended?;
        }
        let mut report = std::mem::take(&mut *shift.log.report.lock());
        report.loads = self.cache.origin().take_loads();
        report.older_writes_refused = refused::counted() - refused;
        Ok(report)
    }
}

/// A worker's part of one round.
#[derive(Clone)]
struct Shift {
    worker: Worker,
    log: Arc<Log>,
    round: u32,
    begin: Instant,
}

impl Shift {
    fn callers(&self) -> impl Iterator<Item = Self> {
        std::iter::repeat_n(self.clone(), self.worker.member.callers as usize)
    }

    fn ask_once(&self, callers: &mut JoinSet<()>, key: u32) {
        for caller in self.callers() {
            callers.spawn(async move {
                tokio::time::sleep_until(caller.begin).await;
                caller.ask(key).await;
            });
        }
    }

    fn ask_steadily(&self, callers: &mut JoinSet<()>, work: &Steady) {
        let (keys, end) = (work.keys, self.begin + Duration::from_millis(work.for_ms));
        let pause = Duration::from_millis(work.pause_ms);
        for caller in self.callers() {
            callers.spawn(async move {
                // Spread over the first pause: arrivals, not waves.
                tokio::time::sleep_until(caller.begin + pause.mul_f64(fastrand::f64())).await;
                while Instant::now() < end {
                    caller.ask(fastrand::u32(..keys)).await;
                    tokio::time::sleep(pause).await;
                }
            });
        }
    }

    fn update_steadily(&self, callers: &mut JoinSet<()>, work: &Steady, every: Duration) {
        let (keys, end) = (work.keys, self.begin + Duration::from_millis(work.for_ms));
        let writer = self.clone();
        callers.spawn(async move {
            tokio::time::sleep_until(writer.begin + every.mul_f64(fastrand::f64())).await;
            while Instant::now() < end {
                writer.update(fastrand::u32(..keys)).await;
                tokio::time::sleep(every).await;
            }
        });
    }

    fn replay(&self, callers: &mut JoinSet<()>, trace: &Path) -> Result<(), Failure> {
        let (all, _) = trace::read(trace)?;
        let Member { index, processes, .. } = self.worker.member;
        let own: Arc<[u32]> =
            all.into_iter().skip(index as usize).step_by(processes as usize).collect();
        let next = Arc::new(AtomicUsize::new(0));
        for caller in self.callers() {
            let (own, next) = (own.clone(), next.clone());
            callers.spawn(async move {
                tokio::time::sleep_until(caller.begin).await;
                while let Some(key) = own.get(next.fetch_add(1, Ordering::Relaxed)) {
                    caller.ask(*key).await;
                }
            });
        }
        Ok(())
    }

    async fn ask(&self, key: u32) {
        let begin = now();
        let answer = self.log.within(self.worker.cache.get(self.round, key)).await;
        let took = u32::try_from(now() - begin).unwrap_or(u32::MAX);
        match answer {
            Ok(Served { version, expired }) => {
                let answer = Answer { key, version, expired, begin, took };
                self.log.report.lock().answers.push(answer);
            }
            Err(error) => {
                self.log.report.lock().failed.push(Failed { begin, took });
                self.log.failed(&error);
            }
        }
    }

    async fn update(&self, key: u32) {
        let (cache, log) = (&self.worker.cache, &self.log);
        let update = async {
            let version = cache.origin().update(key).await?;
            Ok((version, cache.invalidate(self.round, key, version).await))
        };
        log.report.lock().updates += 1;
        let (reached, failure) = match log.within(update).await {
            Ok((version, Invalidation::Everywhere)) => {
                (Some((version, Delivery::Everywhere)), None)
            }
            Ok((version, Invalidation::ThisProcess(failure))) => {
                (Some((version, Delivery::ThisProcess)), failure)
            }
            Ok((_, Invalidation::Failed(failure))) | Err(failure) => (None, Some(failure)),
        };
        if let Some((version, delivery)) = reached {
            let acknowledged = Acknowledged { key, version, at: now(), delivery };
            log.report.lock().acknowledged.push(acknowledged);
        }
        if let Some(failure) = failure {
            log.report.lock().unacknowledged += 1;
            log.failed(&failure);
        }
    }
}

/// What a round's callers saw so far.
struct Log {
    report: Mutex<Report>,
    end: Instant,
}

impl Log {
    fn until(end: Instant) -> Self {
        Self { report: Mutex::default(), end }
    }

    async fn within<T>(
        &self,
        work: impl Future<Output = Result<T, Failure>>,
    ) -> Result<T, Failure> {
        let late = |_| Err("no answer".into());
        tokio::time::timeout_at(self.end, work).await.unwrap_or_else(late)
    }

    fn failed(&self, error: &Failure) {
        self.report.lock().error.get_or_insert_with(|| console::chain(&**error));
    }
}

/// The life of a process: setup and orders come as lines on standard input, reports go to standard
/// output; the end of the input is the end of the work, so no worker outlives the fleet.
pub async fn live() -> Result<(), Failure> {
    let mut inbox = child::orders();
    let Some(setup) = inbox.recv().await else { return Ok(()) };
    let setup: Setup = serde_json::from_str(&setup)?;
    let far = Far::Redis(setup.shared);
    let worker = Worker::open(&setup.settings, &far, &setup.origin, setup.member).await?;
    print(&Report::default())?;
    while let Some(order) = inbox.recv().await {
        print(&worker.work(&serde_json::from_str(&order)?).await?)?;
    }
    Ok(())
}

fn print(report: &Report) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, report)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}
