//! One run: a fleet works, is harmed, heals, and is quiet.

use std::{sync::Arc, time::Duration};

use cattleguard::far::Far;

use crate::{
    fleet::Fleet,
    history::{
        Admitted, Answer, Bounds, Breach, Deed, Event, Fault, Micros, Reached, Verdict, judge,
    },
    nemesis,
    profile::{Plan, Profile, Times, ms},
    store::at_once,
    world::World,
};

/// What a run came to.
pub(crate) struct Ran {
    pub(crate) events: Vec<Event>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) times: Times,
    /// What was wrong at its end.
    pub(crate) wrong: Vec<String>,
}

impl Ran {
    pub(crate) fn verdict(&self) -> Verdict {
        let micros = |duration: Duration| duration.as_micros() as Micros;
        let bounds = Bounds {
            lease_ttl: micros(self.times.lease_ttl),
            near_ttl: micros(self.times.near_ttl),
            near_outage_ttl: micros(self.times.near_outage_ttl),
            longest_load: micros(self.times.load_timeout),
            loads_at_once: 64,
            settling: 0,
            slack: 100_000,
        };
        judge(&self.events, &self.faults, &bounds)
    }

    /// What is to be told of this run; nothing, if all is well.
    pub(crate) fn complaints(&self, verdict: &Verdict) -> Vec<String> {
        let mut complaints = self.wrong.clone();
        let told = |Breach { promise, story }: &Breach| format!("{}\n{story}", promise.as_str());
        complaints.extend(verdict.breaches.iter().map(told));
        // What is admitted under a fault is a breach without one.
        if self.faults.is_empty() {
            for ((promise, admitted), count) in &verdict.admitted {
                if *admitted != Admitted::WrittenWhileLoading {
                    let (promise, why) = (promise.as_str(), admitted.as_str());
                    complaints.push(format!("{promise}: {count} times without a fault: {why}"));
                }
            }
        }
        complaints
    }
}

/// The same events for the same seed.
pub(crate) fn run(profile: Profile, seed: u64) -> Ran {
    // The library draws from the same generator.
    fastrand::seed(seed.wrapping_mul(64).wrapping_add(profile as u64));
    run_plan(Plan::draw(profile), profile == Profile::Clock)
}

fn run_plan(plan: Plan, has_set_clock: bool) -> Ran {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        let times = plan.times;
        let world = World::new(plan.keys, plan.latency, has_set_clock);
        let fleet = Fleet::start(&world, plan);
        let observing = tokio::spawn(observe(fleet.clone()));
        nemesis::harm(&fleet).await;
        let mut wrong = Vec::new();
        if !fleet.is_done_within(ms(60_000)).await {
            wrong.push("a caller hangs".to_owned());
        }
        observing.abort();
        be_quiet(&fleet, &mut wrong).await;
        let (events, faults) = world.record.take();
        world.end();
        Ran { events, faults, times, wrong }
    })
}

/// Reads the store past all guards, now and then.
async fn observe(fleet: Arc<Fleet>) {
    loop {
        tokio::time::sleep(ms(fastrand::u64(100..1_000))).await;
        for key in 0..fleet.plan.keys {
            let begun = fleet.world.record.now();
            let entry = at_once(fleet.world.store.memory().read(&key.to_string())).ok().flatten();
            let value = entry.as_ref().and_then(|entry| entry.value());
            let found = value.map(|value| (value.source, value.version));
            fleet.world.record.ended(begun, u32::MAX, key, Deed::Read { found });
        }
    }
}

/// Nothing is left of the faults: no flight, and every process answers with what is written last.
async fn be_quiet(fleet: &Arc<Fleet>, wrong: &mut Vec<String>) {
    tokio::time::sleep(ms(12_000)).await;
    for process in fleet.all() {
        let flights = process.guard.flights();
        if flights > 0 {
            wrong.push(format!("process {} has {flights} flights when idle", process.number));
        }
    }
    for key in 0..fleet.plan.keys {
        let writer = fleet.at(0);
        let version = fleet.origin.write(key);
        let reached = fleet.invalidate(&writer, key, Some(version)).await;
        if reached == Reached::Unacknowledged {
            wrong.push(format!("the last invalidation of key {key} is {reached:?}"));
        }
        tokio::time::sleep(ms(100)).await;
        for process in fleet.all() {
            let answer = fleet.ask(&process, key, None).await;
            if !matches!(answer, Answer::Value { version: found, .. } if found == version) {
                let number = process.number;
                wrong.push(format!("process {number} has {answer:?} for version {version}"));
            }
        }
    }
}
