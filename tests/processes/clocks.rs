//! A process whose clock jumps. The guard reads no wall clock: entries turn stale by the monotonic clock, whose
//! distance to Redis' own is measured anew with every script, and versions come from the origin. So a
//! wall clock that somebody sets changes nothing; a monotonic one does not jump, and were it to (a machine
//! restored from a snapshot), it would cost a look at Redis and timers that end too soon.

use crate::{
    fleet::{Fleet, Worker},
    servers::Clocks,
};

#[derive(Clone, Copy, Debug)]
enum Jump {
    Wall(i64),
    Monotonic(i64),
}

impl Jump {
    fn of(self, clocks: &Clocks) {
        let (wall, monotonic) = match self {
            Self::Wall(seconds) => (seconds, 0),
            Self::Monotonic(seconds) => (0, seconds),
        };
        clocks.set(wall, monotonic).expect("a clock");
    }
}

const TEN_MINUTES: i64 = 600;

pub async fn a_clock_that_jumps_ten_minutes_reverses_nothing() {
    for jump in [Jump::Wall(TEN_MINUTES), Jump::Wall(-TEN_MINUTES), Jump::Monotonic(TEN_MINUTES)] {
        let clocks = Clocks::new().expect("clocks");
        let environment = clocks.environment();
        let environment = environment.each_ref().map(|(name, value)| (*name, value.as_str()));
        let mut fleet = Fleet::start(1).await;
        let far = fleet.redis.url();
        fleet.join_in(&far, &["timeout=2000"], &environment).await;

        // Cached in both; known to be outdated; and being loaded by the one whose clock jumps.
        fleet.update("cached", 3).await;
        fleet.round("cached", 10, 10).await;
        fleet.round("outdated", 10, 10).await;
        let [other, jumped] = &mut fleet.workers[..] else { panic!() };
        let done = other.ask("invalidate outdated 2").await;
        assert_eq!(done, "invalidated Ok(Everywhere)", "{jump:?}");
        assert_eq!(jumped.ask("hold held").await, "loading");
        let before = wall(jumped).await;

        jump.of(&clocks);
        match jump {
            Jump::Wall(seconds) => {
                let ahead = wall(jumped).await - before;
                assert!((seconds..seconds + 30).contains(&ahead), "{ahead}");
            }
            Jump::Monotonic(_) => {
                jumped.order("clock").await;
                let mut answers = [jumped.answer().await, jumped.answer().await];
                // Either may be the first.
                answers.sort();
                let [clock, failed] = answers;
                let now: i64 =
                    clock.split(' ').nth(1).and_then(|now| now.parse().ok()).expect("a clock");
                assert!((0..30).contains(&(now - before)), "{clock}");
                // It seems to have taken ten minutes.
                assert!(failed.contains("load timeout"), "{jump:?}: {failed}");
            }
        }
        // What is cached is so in both: it is no older for Redis.
        for worker in [&mut *other, &mut *jumped] {
            assert_eq!(worker.fetch("cached", 10, 10).await.0, 10, "{jump:?}");
            assert_eq!(worker.version("cached").await, 3, "{jump:?}");
        }
        // Neither may write what is older, nor bring back what is outdated.
        for order in ["put cached 2", "put outdated 1"] {
            for worker in [&mut *jumped, &mut *other] {
                let refused = worker.ask(order).await;
                assert!(refused.starts_with("put Ok(Older"), "{jump:?}: {refused}");
            }
        }
        assert_eq!(fleet.loads("cached").await, 1, "{jump:?}");
        fleet.update("outdated", 2).await;
        fleet.round("outdated", 10, 10).await;

        // The load that began before the jump, and before an invalidation.
        fleet.update("held", 2).await;
        let [other, jumped] = &mut fleet.workers[..] else { panic!() };
        let done = other.ask("invalidate held 2").await;
        assert_eq!(done, "invalidated Ok(Everywhere)", "{jump:?}");
        if let Jump::Wall(_) = jump {
            jumped.order("go").await;
            let landed = jumped.answer().await;
            assert!(landed.starts_with("landed"), "{jump:?}: {landed}");
        }
        // Lease and messages work as before, both ways.
        for (version, writer) in (4..24).zip([0, 1].into_iter().cycle()) {
            for key in ["held", "cached"] {
                fleet.update(key, version).await;
                let done = fleet.workers[writer].ask(&format!("invalidate {key} {version}")).await;
                assert_eq!(done, "invalidated Ok(Everywhere)", "{jump:?}");
                for worker in &mut fleet.workers {
                    assert_eq!(worker.fetch(key, 5, 1).await.1, version, "{jump:?}");
                }
            }
        }
        let took = fleet.shared_again("after").await;
        println!("{jump:?}: one load for all after {took:?}");
    }
}

async fn wall(worker: &mut Worker) -> i64 {
    worker.numbers("clock").await[0]
}
