//! One process of the fleet: does the work of a round and reports.

use std::{
    io::{BufRead, Write},
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use tracing_subscriber::{Layer, filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{
    measure::{Acknowledged, Answer, Failed, Micros, Reach, Report, now},
    origin::{Address, Origin},
    strategy::{Cache, Failure, Far, Got, Settings, Told},
    trace,
    way::Shared,
};

/// What a process is told when it starts.
#[derive(Clone, Serialize, Deserialize)]
pub struct Setup {
    pub settings: Settings,
    pub shared: Shared,
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

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Order {
    pub round: u32,
    /// When all processes begin.
    pub begin: Micros,
    pub work: Work,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub enum Work {
    /// Every caller asks for this key once.
    Once { key: u32 },
    /// Every caller asks for one of `keys` again and again.
    Steady(Steady),
    /// The requests of a trace: this process takes its share, in order.
    Replay { trace: PathBuf },
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Steady {
    pub keys: u32,
    pub for_ms: u64,
    /// Between an answer and a caller's next request.
    pub pause_ms: u64,
    /// How often each process updates and invalidates one of the keys.
    pub update_ms: Option<u64>,
    /// How long after the last request may begin the round ends: who has no answer then gets none.
    pub patience_ms: u64,
    /// From when to when the database refuses.
    pub refused_ms: Option<(u64, u64)>,
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
        worker.cache.origin().take_loads();
        Ok(worker)
    }

    pub async fn work(&self, order: &Order) -> Result<Report, Failure> {
        let refused = REFUSED.load(Ordering::Relaxed);
        let wait = Duration::from_micros(order.begin.saturating_sub(now()));
        let begin = Instant::now() + wait;
        let log = Arc::new(Log::until(order.work.end(begin)));
        let mut callers = tokio::task::JoinSet::new();
        match &order.work {
            Work::Once { key } => {
                for _ in 0..self.member.callers {
                    let (this, log, round, key) = (self.clone(), log.clone(), order.round, *key);
                    callers.spawn(async move {
                        tokio::time::sleep_until(begin).await;
                        this.ask(&log, round, key).await;
                    });
                }
            }
            Work::Steady(work) => {
                if let Some((from, to)) = work.refused_ms {
                    let at = |ms: u64| order.begin + ms * 1000;
                    self.cache.origin().refuse(at(from)..at(to));
                }
                let end = begin + Duration::from_millis(work.for_ms);
                let pause = Duration::from_millis(work.pause_ms);
                for _ in 0..self.member.callers {
                    let (this, log, round, keys) =
                        (self.clone(), log.clone(), order.round, work.keys);
                    callers.spawn(async move {
                        // Spread over the first pause: arrivals, not waves.
                        tokio::time::sleep_until(begin + pause.mul_f64(fastrand::f64())).await;
                        while Instant::now() < end {
                            this.ask(&log, round, fastrand::u32(..keys)).await;
                            tokio::time::sleep(pause).await;
                        }
                    });
                }
                if let Some(update_ms) = work.update_ms {
                    let every = Duration::from_millis(update_ms);
                    let (this, log, round, keys) =
                        (self.clone(), log.clone(), order.round, work.keys);
                    callers.spawn(async move {
                        tokio::time::sleep_until(begin + every.mul_f64(fastrand::f64())).await;
                        while Instant::now() < end {
                            this.update(&log, round, fastrand::u32(..keys)).await;
                            tokio::time::sleep(every).await;
                        }
                    });
                }
            }
            Work::Replay { trace } => {
                let (all, _) = trace::read(trace)?;
                let step = self.member.processes as usize;
                let own: Arc<[u32]> =
                    all.into_iter().skip(self.member.index as usize).step_by(step).collect();
                let next = Arc::new(AtomicUsize::new(0));
                for _ in 0..self.member.callers {
                    let (this, log, round) = (self.clone(), log.clone(), order.round);
                    let (own, next) = (own.clone(), next.clone());
                    callers.spawn(async move {
                        tokio::time::sleep_until(begin).await;
                        while let Some(key) = own.get(next.fetch_add(1, Ordering::Relaxed)) {
                            this.ask(&log, round, *key).await;
                        }
                    });
                }
            }
        }
        while let Some(ended) = callers.join_next().await {
            ended?;
        }
        let mut report = std::mem::take(&mut *log.report.lock());
        report.loads = self.cache.origin().take_loads();
        report.older_writes_refused = REFUSED.load(Ordering::Relaxed) - refused;
        Ok(report)
    }

    async fn ask(&self, log: &Log, round: u32, key: u32) {
        let begin = now();
        let answer = log.within(self.cache.get(round, key)).await;
        let took = u32::try_from(now() - begin).unwrap_or(u32::MAX);
        match answer {
            Ok(Got { version, expired }) => {
                log.report.lock().answers.push(Answer { key, version, expired, begin, took });
            }
            Err(error) => {
                log.report.lock().failed.push(Failed { begin, took });
                log.failed(&error);
            }
        }
    }

    async fn update(&self, log: &Log, round: u32, key: u32) {
        let update = async {
            let version = self.cache.origin().update(key).await?;
            Ok((version, self.cache.invalidate(round, key, version).await))
        };
        log.report.lock().updates += 1;
        let (told, failure) = match log.within(update).await {
            Ok((version, Told::All)) => (Some((version, Reach::All)), None),
            Ok((version, Told::Own(failure))) => (Some((version, Reach::Own)), failure),
            Ok((_, Told::Nobody(failure))) | Err(failure) => (None, Some(failure)),
        };
        if let Some((version, reach)) = told {
            log.report.lock().acknowledged.push(Acknowledged { key, version, at: now(), reach });
        }
        if let Some(failure) = failure {
            log.report.lock().unacknowledged += 1;
            log.failed(&failure);
        }
    }
}

impl Work {
    /// Until the last request may begin, if that has an end.
    pub fn lasts_ms(&self) -> u64 {
        match self {
            Self::Steady(work) => work.for_ms,
            Self::Once { .. } | Self::Replay { .. } => 0,
        }
    }

    /// Nobody waits for longer than this.
    fn end(&self, begin: Instant) -> Instant {
        begin
            + match self {
                Self::Steady(work) => Duration::from_millis(work.for_ms + work.patience_ms),
                Self::Once { .. } | Self::Replay { .. } => Duration::from_secs(24 * 3600),
            }
    }
}

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
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(inner) = cause {
            text += &format!(": {inner}");
            cause = inner.source();
        }
        self.report.lock().error.get_or_insert(text);
    }
}

/// How many commits were refused in this process, as the library's events tell.
static REFUSED: AtomicU64 = AtomicU64::new(0);

struct CountRefused;

impl<S: tracing::Subscriber> Layer<S> for CountRefused {
    fn on_event(&self, _: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        REFUSED.fetch_add(1, Ordering::Relaxed);
    }
}

/// Counts refused commits from now on.
pub fn count_refused() {
    let refused = Targets::new().with_target("cattleguard::refused", tracing::Level::DEBUG);
    tracing_subscriber::registry().with(CountRefused.with_filter(refused)).init();
}

/// The life of a process: setup and orders come as lines on standard input, reports go to standard
/// output; the end of the input is the end of the work, so no worker outlives the fleet.
pub async fn live() -> Result<(), Failure> {
    let (orders, mut inbox) = tokio::sync::mpsc::unbounded_channel::<String>();
    // A thread, because a blocking read must not hold up the runtime's end.
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if orders.send(line).is_err() {
                return;
            }
        }
        std::process::exit(0);
    });
    let Some(setup) = inbox.recv().await else { return Ok(()) };
    let setup: Setup = serde_json::from_str(&setup)?;
    let far = Far::Redis(setup.shared);
    let worker = Worker::open(&setup.settings, &far, &setup.origin, setup.member).await?;
    say(&Report::default())?;
    while let Some(order) = inbox.recv().await {
        say(&worker.work(&serde_json::from_str(&order)?).await?)?;
    }
    Ok(())
}

fn say(report: &Report) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, report)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}
