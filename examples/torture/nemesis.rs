//! What befalls the run, and when: one thing at a time, sometimes two.

use std::{sync::Arc, time::Duration};

use fastrand::Rng;
use parking_lot::Mutex;
use tokio::{
    task::spawn_blocking,
    time::{Instant, sleep},
};

use crate::{
    act::{Act, Victim},
    args::FarKind,
    error::Failure,
    fleet::Fleet,
    moment::{micros, now},
    origin::{Mood, Origin},
    progress::Progress,
    record::Record,
    store::{CLOCK_JUMPS, Store},
    worker::LOAD_TIMEOUT,
};

pub struct Nemesis {
    pub far: FarKind,
    pub acts: Vec<Act>,
    pub rng: Rng,
    pub record: Arc<Record>,
    pub fleet: Fleet,
    pub store: Arc<Mutex<Store>>,
    pub origin: Origin,
}

/// What has passed is noticed by all.
pub const SETTLED: Duration = Duration::from_secs(2);
const QUIET_MS: std::ops::Range<u64> = 500..2_000;

impl Nemesis {
    /// Each in turn, in an order of chance, until then.
    pub async fn run(&mut self, until: Instant, progress: &Progress) -> Result<(), Failure> {
        let mut turn: Vec<Act> = Vec::new();
        loop {
            let quiet = Duration::from_millis(self.rng.u64(QUIET_MS));
            if Instant::now() + quiet + SETTLED > until || self.acts.is_empty() {
                tokio::time::sleep_until(until).await;
                return Ok(());
            }
            sleep(quiet).await;
            let first = self.next(&mut turn, None);
            let second = match self.rng.u8(..10) {
                ..3 => self.next(&mut turn, first.map(Act::victim)),
                _ => None,
            };
            let both: Vec<Act> = first.into_iter().chain(second).collect();
            let names: Vec<_> = both.iter().map(|act| act.name()).collect();
            progress.befalls(&names.join(" and "));
            self.befall(&both).await?;
            progress.befalls("");
        }
    }

    /// The next that does not befall the same.
    fn next(&mut self, turn: &mut Vec<Act>, taken: Option<Victim>) -> Option<Act> {
        if turn.is_empty() {
            turn.clone_from(&self.acts);
            self.rng.shuffle(turn);
        }
        let at = turn.iter().rposition(|act| Some(act.victim()) != taken)?;
        Some(turn.remove(at))
    }

    async fn befall(&mut self, acts: &[Act]) -> Result<(), Failure> {
        let of = |victim| acts.iter().copied().find(|act| act.victim() == victim);
        let (far, record) = (self.far, &*self.record);
        let mut rngs = [self.rng.fork(), self.rng.fork(), self.rng.fork()];
        let [of_process, of_redis, of_origin] = &mut rngs;
        let process = befall_process(far, record, &mut self.fleet, of(Victim::Process), of_process);
        let redis = befall_redis(far, record, &self.store, of(Victim::Redis), of_redis);
        let origin = befall_origin(far, record, &self.origin, of(Victim::Origin), of_origin);
        tokio::try_join!(process, redis, origin).map(drop)
    }
}

async fn befall_process(
    far: FarKind,
    record: &Record,
    fleet: &mut Fleet,
    act: Option<Act>,
    rng: &mut Rng,
) -> Result<(), Failure> {
    let Some(act) = act else { return Ok(()) };
    let (process, begun) = fleet.befall(act, rng).await?;
    sleep(SETTLED).await;
    record.befell(act, act.kinds(far), Some(process), (begun, now()));
    Ok(())
}

async fn befall_redis(
    far: FarKind,
    record: &Record,
    store: &Arc<Mutex<Store>>,
    act: Option<Act>,
    rng: &mut Rng,
) -> Result<(), Failure> {
    let Some(act) = act else { return Ok(()) };
    let begun = now();
    let (store, mut rng) = (store.clone(), rng.clone());
    spawn_blocking(move || store.lock().befall(act, &mut rng)).await??;
    sleep(if act == Act::Clock { SETTLED + CLOCK_JUMPS } else { SETTLED }).await;
    record.befell(act, act.kinds(far), None, (begun, now()));
    Ok(())
}

async fn befall_origin(
    far: FarKind,
    record: &Record,
    origin: &Origin,
    act: Option<Act>,
    rng: &mut Rng,
) -> Result<(), Failure> {
    let Some(act) = act else { return Ok(()) };
    let begun = now();
    let mood = match act {
        Act::OriginFails => Mood::Fails,
        Act::OriginPanics => Mood::Panics,
        Act::OriginHangs => Mood::Hangs,
        Act::OriginSlow => Mood::Slow,
        _ => Mood::Lags,
    };
    // A replica that lags still moves on.
    for _ in 0..rng.u32(1..4) {
        origin.turn(mood).await?;
        sleep(Duration::from_millis(rng.u64(300..1_500))).await;
    }
    origin.turn(Mood::Well).await?;
    sleep(if mood == Mood::Hangs { LOAD_TIMEOUT } else { SETTLED }).await;
    record.befell(act, act.kinds(far), None, (begun, now() + micros(SETTLED)));
    Ok(())
}
