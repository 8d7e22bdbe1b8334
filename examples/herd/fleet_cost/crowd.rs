//! Processes of which one works.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use cattleguard::{
    Error, Guard, LoadingGuard, Policy, codec::Raw, far::Invalidated, memory::MemoryFar,
    redis::RedisFar,
};
use futures::{StreamExt, TryStreamExt, future, stream};

use super::{gate::Gate, operation::AT_ONCE};
use crate::{error::Failure, redis_address::RedisAddress};

pub type Process = LoadingGuard<u64, Bytes>;

pub struct Crowd {
    pub processes: Vec<Process>,
    pub gate: Arc<Gate>,
}

/// How long each operation took, and how many were not confirmed by all processes.
pub struct Timed {
    pub took: Duration,
    pub latencies: Vec<Duration>,
    pub unconfirmed: usize,
}

/// Of each operation, unless it takes too long.
pub const OPERATIONS: u64 = 2_000;
pub const LONGEST: Duration = Duration::from_secs(10);

/// Beyond the keys of the operations.
const SETTLING: u64 = OPERATIONS;
const OPENED_AT_ONCE: usize = 16;
/// A busy machine is not what is measured.
const FAR_TIMEOUT: Duration = Duration::from_secs(5);

impl Crowd {
    /// Without a Redis over one embedded store. Each process hears all messages when this returns.
    pub async fn open(redis: Option<&RedisAddress>, processes: usize) -> Result<Self, Failure> {
        let gate = Arc::new(Gate::open());
        let embedded = MemoryFar::new();
        let namespace = format!("fleet-{:016x}", fastrand::u64(..));
        let opening = (0..processes).map(|_| process(redis, &namespace, &embedded, &gate));
        let opening = stream::iter(opening).buffered(OPENED_AT_ONCE);
        let this = Self { processes: opening.try_collect().await?, gate };
        this.settle().await?;
        Ok(this)
    }

    /// The one that works.
    pub fn worker(&self) -> &Process {
        &self.processes[0]
    }

    /// A process subscribes when it is first asked, and one that is still about to confirms nothing.
    async fn settle(&self) -> Result<(), Failure> {
        for process in &self.processes {
            process.get(&SETTLING).await?;
        }
        let (begun, mut confirmed) = (Instant::now(), 0);
        while confirmed < 20 && begun.elapsed() < FAR_TIMEOUT {
            self.worker().get(&SETTLING).await?;
            let everywhere = is_everywhere(self.worker().invalidate(&SETTLING).await?);
            confirmed = if everywhere { confirmed + 1 } else { 0 };
        }
        Ok(())
    }

    pub async fn fill(&self) -> Result<Timed, Failure> {
        run(AT_ONCE, async |key| self.worker().get(&key).await.map(|_| true)).await
    }

    pub async fn refresh(&self) -> Result<Timed, Failure> {
        run(AT_ONCE, async |key| self.worker().refresh(&key).await.map(|_| true)).await
    }

    pub async fn invalidate(&self, at_once: usize) -> Result<Timed, Failure> {
        run(at_once, async |key| self.worker().invalidate(&key).await.map(is_everywhere)).await
    }
}

async fn process(
    redis: Option<&RedisAddress>,
    namespace: &str,
    embedded: &MemoryFar<Bytes>,
    gate: &Arc<Gate>,
) -> Result<Process, Failure> {
    let gate = gate.clone();
    let builder = Guard::builder().policy(Policy::default().ttl(Duration::from_secs(3600))).loader(
        move |_: u64| {
            let gate = gate.clone();
            async move { gate.load().await }
        },
    );
    Ok(match redis {
        None => builder.far(embedded.clone()).build(),
        Some(address) => {
            let connection = address.connect().await?.timeout(FAR_TIMEOUT);
            builder.far(RedisFar::new(connection, Raw).namespace(namespace)).build()
        }
    })
}

fn is_everywhere(invalidated: Invalidated) -> bool {
    invalidated == Invalidated::Everywhere
}

/// The operation says whether it was confirmed.
async fn run(
    at_once: usize,
    operation: impl AsyncFn(u64) -> Result<bool, Error>,
) -> Result<Timed, Failure> {
    let begun = Instant::now();
    let keys = stream::iter(0..OPERATIONS).take_while(|_| future::ready(begun.elapsed() < LONGEST));
    let operation = &operation;
    let timed = keys.map(|key| async move {
        let begun = Instant::now();
        let confirmed = operation(key).await?;
        Ok::<_, Failure>((begun.elapsed(), confirmed))
    });
    let all: Vec<_> = timed.buffer_unordered(at_once).try_collect().await?;
    Ok(Timed {
        took: begun.elapsed(),
        unconfirmed: all.iter().filter(|(_, confirmed)| !confirmed).count(),
        latencies: all.into_iter().map(|(took, _)| took).collect(),
    })
}
