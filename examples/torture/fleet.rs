//! The processes, and what befalls one of them.

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use tokio::time::sleep;

use crate::{
    act::Act,
    address::{self, Address},
    error::Failure,
    history::Micros,
    moment::now,
    process::Process,
    record::Record,
    servers::Proxy,
    worker::Setup,
};

pub struct Fleet {
    places: Vec<Place>,
    /// The number of the process that is started next.
    next: u32,
    common: Common,
    record: Arc<Record>,
}

/// What all processes are told.
pub struct Common {
    pub far: Address,
    pub origin: String,
    pub seed: u64,
    pub rate: u32,
}

/// Where a process runs, and after its end the next one.
struct Place {
    process: Process,
    /// On its way to a single Redis.
    proxy: Option<Proxy>,
}

/// Longer than the lease ttl.
const FROZEN_MS: std::ops::Range<u64> = 2_200..4_500;
const DISTURBED_MS: std::ops::Range<u64> = 300..4_000;

impl Fleet {
    pub async fn start(count: u32, common: Common, record: Arc<Record>) -> Result<Self, Failure> {
        let mut fleet = Self { places: Vec::new(), next: 1, common, record };
        for _ in 0..count {
            let proxy = match &fleet.common.far.redis {
                address::Redis::Single(port) => Some(Proxy::start(port_of(port)?)?),
                _ => None,
            };
            let process = fleet.start_process(proxy.as_ref(), fleet.places.len()).await?;
            fleet.places.push(Place { process, proxy });
        }
        Ok(fleet)
    }

    async fn start_process(
        &mut self,
        proxy: Option<&Proxy>,
        place: usize,
    ) -> Result<Process, Failure> {
        let process = self.next;
        self.next += 1;
        let mut far = self.common.far.clone();
        if let Some(proxy) = proxy {
            far.redis = address::Redis::Single(format!("redis://127.0.0.1:{}/", proxy.port()));
        }
        let setup = Setup {
            process,
            seed: self.common.seed ^ u64::from(process),
            far,
            origin: self.common.origin.clone(),
            has_near: place > 0,
            rate: self.common.rate,
        };
        Process::start(&setup, &self.record).await
    }

    /// Lets this befall one of them, and pass. Returns when it began.
    pub async fn befall(&mut self, act: Act, rng: &mut Rng) -> Result<(u32, Micros), Failure> {
        let at = rng.usize(..self.places.len());
        let disturbed = Duration::from_millis(rng.u64(DISTURBED_MS));
        let begun = now();
        let number = self.places[at].process.number;
        match act {
            Act::Killed => self.replace(at).await?,
            Act::Frozen => {
                self.places[at].process.freeze();
                sleep(Duration::from_millis(rng.u64(FROZEN_MS))).await;
                self.places[at].process.thaw();
            }
            _ => {
                let proxy = self.places[at].proxy.as_ref().ok_or("there is no proxy")?;
                disturb(proxy, act, rng);
                sleep(disturbed).await;
                proxy.resume();
            }
        }
        Ok((number, begun))
    }

    async fn replace(&mut self, at: usize) -> Result<(), Failure> {
        let Place { process, proxy } = self.places.swap_remove(at);
        process.kill().await?;
        let process = self.start_process(proxy.as_ref(), at).await?;
        self.places.push(Place { process, proxy });
        // Back to where it was.
        let last = self.places.len() - 1;
        self.places.swap(at, last);
        Ok(())
    }

    pub async fn stop(self) -> Result<(), Failure> {
        let stopping = self.places.into_iter().map(|Place { process, proxy }| async move {
            let stopped = process.stop().await;
            drop(proxy);
            stopped
        });
        futures::future::try_join_all(stopping).await.map(drop)
    }
}

fn disturb(proxy: &Proxy, act: Act, rng: &mut Rng) {
    match act {
        Act::Cut => proxy.cut(),
        Act::Stalled => proxy.stall(),
        Act::Muted => proxy.mute(),
        Act::Gagged => proxy.gag(),
        // Late, its commands take long enough for something to come between.
        Act::Deaf => proxy.deafen(Duration::from_millis([0, rng.u64(5..60)][rng.usize(..2)])),
        Act::HalfOpen => proxy.strand(),
        _ => proxy.delay(Duration::from_millis(rng.u64(5..400))),
    }
}

fn port_of(url: &str) -> Result<u16, Failure> {
    let port = url.trim_end_matches('/').rsplit(':').next();
    Ok(port.ok_or("a URL without a port")?.parse()?)
}
