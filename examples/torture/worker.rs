//! One of the processes: a guard, those who ask it, and those who change what it has.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use cattleguard::{Guard, Policy, far::Invalidated};
use serde::{Deserialize, Serialize};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    address::Address,
    caller, child,
    error::Failure,
    message::Message,
    origin::{self, Origin},
    row::Row,
    teller::{Teller, tell},
    writer,
};

/// What a process is told when it starts.
#[derive(Serialize, Deserialize)]
pub struct Setup {
    pub process: u32,
    pub seed: u64,
    pub far: Address,
    pub origin: String,
    pub has_near: bool,
    /// Answers a second.
    pub rate: u32,
}

pub struct Worker {
    pub guard: Guard<str, Row>,
    pub origin: Origin,
    pub teller: Arc<Teller>,
    stopped: AtomicBool,
}

const CALLERS: u32 = 40;
const WRITERS: u32 = 2;
const WRITE_EVERY: Duration = Duration::from_millis(150);
const WARM_WITHIN: Duration = Duration::from_secs(5);
/// A lock of another system on the same two cores. After that each process loads for itself, also where no caller is told.
const LOCK_TIMEOUT: Duration = Duration::from_secs(2);

/// The times of the guard: short, so that each is met many times.
pub fn policy() -> Policy {
    Policy::default()
        .ttl(Duration::from_secs(2))
        .load_timeout(LOAD_TIMEOUT)
        .wait_timeout(LOAD_TIMEOUT)
        .max_concurrent_loads(LOADS_AT_ONCE)
}

pub const LOAD_TIMEOUT: Duration = Duration::from_secs(4);
/// Fewer than those who ask.
pub const LOADS_AT_ONCE: usize = 32;

impl Worker {
    async fn open(setup: &Setup) -> Result<Self, Failure> {
        let far = setup.far.open().await?;
        let capacity = if setup.has_near { 10_000 } else { 0 };
        let builder = Guard::builder().policy(policy()).near_capacity(capacity);
        let guard = match &setup.far.lock {
            None => builder.far(far).build(),
            Some(lock) => {
                let elected = far.elected_by(lock.open().await?).lock_timeout(LOCK_TIMEOUT);
                builder.far(elected).build()
            }
        };
        let origin = Origin::open(&setup.origin).await?;
        let teller = Arc::new(Teller::new(setup.process));
        Ok(Self { guard, origin, teller, stopped: AtomicBool::new(false) })
    }

    /// Until it hears messages: to begin is not to be disturbed. Something may befall Redis meanwhile.
    async fn warm(&self) {
        let limit = Instant::now() + WARM_WITHIN;
        let name = format!("warm-{}", self.teller.number());
        while Instant::now() < limit {
            match self.guard.invalidate(&name).await {
                Ok(Invalidated::Everywhere) => return,
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    pub fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }
}

/// The life of a process. Its input says first what it is, and then when to stop; its end is the end at once.
pub async fn live() -> Result<(), Failure> {
    silence_the_origin();
    let mut inbox = child::orders();
    let Some(setup) = inbox.recv().await else { return Ok(()) };
    let setup: Setup = serde_json::from_str(&setup)?;
    fastrand::seed(setup.seed);
    let worker = Arc::new(Worker::open(&setup).await?);
    worker.warm().await;
    tell(&Message::Ready);
    let mut all = JoinSet::new();
    let pause = Duration::from_secs_f64(f64::from(CALLERS) / f64::from(setup.rate.max(1)));
    for _ in 0..CALLERS {
        all.spawn(caller::live(worker.clone(), pause));
    }
    for _ in 0..WRITERS {
        all.spawn(writer::live(worker.clone(), WRITE_EVERY));
    }
    let teller = worker.teller.clone();
    tokio::spawn(async move { teller.run().await });
    inbox.recv().await;
    worker.stopped.store(true, Ordering::Relaxed);
    while let Some(ended) = all.join_next().await {
        ended?;
    }
    worker.teller.flush();
    Ok(())
}

/// Loaders are meant to panic, nothing else is.
fn silence_the_origin() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload().downcast_ref::<&str>() != Some(&origin::PANIC) {
            usual(panic);
            std::process::exit(101);
        }
    }));
}
