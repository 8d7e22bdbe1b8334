//! Near fills, under the name's lock as a guard does them: none outlives what made it outdated, and none leaves
//! anything behind.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::SeqCst},
};

use crate::{
    Clock, Entry, Moment, Policy, Version,
    flight::{Boarded, Boarding, Completion, Flights},
    freshness::Freshness,
    near::{Bounds, Evicted, Near},
    observe::{EventHook, Observer},
    run::{NEVER, caller, choose, pause, scenarios},
    size::SizeOf,
};

scenarios![
    of_two_fills_the_newer_stays,
    no_fill_outlives_what_made_it_outdated,
    what_was_removed_before_it_was_measured_does_not_come_back,
];

struct Tier {
    flights: Arc<Flights<u64>>,
    row: AtomicU64,
    near: Near<u64>,
    freshness: Freshness,
}

/// A value takes as many bytes as its number.
fn tier(bytes: Option<usize>) -> Arc<Tier> {
    let usage = Observer::new("", Clock::manual(), EventHook::default()).near_usage;
    let size_of = bytes.map_or_else(SizeOf::default, |_| SizeOf::by(|value: &u64| *value as usize));
    let near = Near::new(Bounds { entries: 100, bytes }, size_of, Clock::manual(), usage);
    let freshness = Freshness::new(Policy::default());
    Arc::new(Tier { flights: Flights::new(), row: AtomicU64::new(1), near, freshness })
}

impl Tier {
    fn put(&self, version: u64, bytes: u64) -> Evicted<u64> {
        let entry = Entry::new(Some(bytes), Version::new(version), Moment::FAR_FUTURE);
        self.near.insert(&"k".into(), &Arc::new(entry), NEVER, &self.freshness)
    }

    fn version(&self) -> Option<Version> {
        Some(self.near.look("k", &self.freshness).fresh()?.version())
    }

    /// Reads, and fills if it is open still and heard of nothing newer.
    async fn fill(self: Arc<Self>) {
        let boarding = self.flights.board(&"k".into(), None, || 0);
        pause().await;
        let version = self.row.load(SeqCst);
        pause().await;
        let fill = |floor| (Version::new(version) >= floor).then(|| self.put(version, 10));
        match boarding {
            Boarding::Solo(solo) => solo.complete(fill),
            Boarding::Aboard(Boarded::Leader(completer, _)) => {
                completer.complete(Completion::for_all(version), fill);
            }
            Boarding::Aboard(Boarded::Follower(_)) => {}
        }
    }

    /// Of a write in this process, or in another one.
    fn hear_of(&self, version: u64) {
        let version = Version::new(version);
        let forget = || self.near.remove_if("k", |near| near < version);
        match choose(2) {
            0 => self.flights.close("k", Some(version), forget),
            _ => self.flights.raise("k", version, forget),
        }
        assert!(self.version().is_none_or(|near| near >= version), "it was not dropped");
    }
}

async fn no_fill_outlives_what_made_it_outdated() {
    let tier = tier(Some(10_000));
    let fills = [0; 4].map(|_| caller(tier.clone().fill()));
    let writer = {
        let tier = tier.clone();
        caller(async move {
            for _ in 0..2 {
                let version = tier.row.fetch_add(1, SeqCst) + 1;
                pause().await;
                tier.hear_of(version);
            }
        })
    };
    writer.answer().await;
    assert!(tier.version().is_none_or(|near| near == Version::new(3)));
    for fill in fills {
        fill.answer().await;
    }
    assert!(tier.version().is_none_or(|near| near == Version::new(3)));
    assert_eq!(tier.flights.open_count(), 0);
}

async fn of_two_fills_the_newer_stays() {
    let tier = tier(None);
    let fills = [2, 3, 1].map(|version| {
        let tier = tier.clone();
        // What is run under the name's lock.
        caller(async move { tier.flights.raise("k", Version::ZERO, || tier.put(version, 10)) })
    });
    for fill in fills {
        fill.answer().await;
    }
    assert_eq!(tier.version(), Some(Version::new(3)));
}

async fn what_was_removed_before_it_was_measured_does_not_come_back() {
    let tier = tier(Some(10_000));
    let sizes = [100, 600, 9_000];
    let fill = {
        let tier = tier.clone();
        caller(async move {
            // Too large, at times: it leaves when it is measured.
            drop(tier.put(1, sizes[choose(3) as usize]));
            pause().await;
            let evicted = tier.put(2, sizes[choose(3) as usize]);
            pause().await;
            drop(evicted);
        })
    };
    let invalidation = {
        let tier = tier.clone();
        caller(async move {
            pause().await;
            drop(tier.near.remove_if("k", |near| near < Version::new(3)));
            tier.version()
        })
    };
    let after = invalidation.answer().await;
    fill.answer().await;
    // What there was none of after the invalidation is a later fill's.
    assert!(after.is_some() || tier.version().is_none_or(|version| version <= Version::new(2)));
    drop(tier.put(3, 100));
    assert_eq!(
        tier.version(),
        Some(Version::new(3)),
        "an older fill took the place of a later one"
    );
}
