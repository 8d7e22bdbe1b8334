//! Does the faults that are planned, and records each while it lasts.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::{
    fleet::{Fleet, Process},
    history::Kind,
    life::pass,
    link::Trouble,
    mailbox::Delays,
    profile::{Planned, ms},
    world::Away,
};

/// Returns when all is healed.
pub(crate) async fn harm(fleet: &Arc<Fleet>) {
    let harming: Vec<_> =
        fleet.plan.faults.iter().map(|&planned| one(fleet.clone(), planned)).collect();
    futures::future::join_all(harming).await;
}

async fn one(fleet: Arc<Fleet>, planned: Planned) {
    tokio::time::sleep(planned.at).await;
    let Planned { kind, lasts, slot, .. } = planned;
    let begun = fleet.world.record.now();
    let process = fleet.at(slot);
    let about = match kind {
        Kind::Killed => killed(&fleet, slot, &process, lasts).await,
        Kind::Frozen => frozen(&process, lasts).await,
        Kind::Cut => cut(&process, lasts).await,
        Kind::Deaf => deaf(&process, lasts).await,
        Kind::Slow => slow(&process, lasts).await,
        kind => {
            everywhere(&fleet, kind, lasts).await;
            None
        }
    };
    fleet.world.record.fault(begun, kind, about);
}

async fn killed(fleet: &Arc<Fleet>, slot: u32, process: &Process, lasts: Duration) -> Option<u32> {
    process.kill();
    fleet.world.leave(process.number);
    tokio::time::sleep(lasts).await;
    fleet.restart(slot);
    Some(process.number)
}

async fn frozen(process: &Process, lasts: Duration) -> Option<u32> {
    // Most often beyond a lease.
    let until = Instant::now() + lasts * 2;
    process.life.freeze(until);
    tokio::time::sleep_until(until).await;
    Some(process.number)
}

async fn cut(process: &Process, lasts: Duration) -> Option<u32> {
    let some = |chance: f64| if fastrand::bool() { chance } else { 0.0 };
    let whole = Trouble { refused: 1.0, ..Trouble::default() };
    let silent = Trouble { lost: 1.0, ..Trouble::default() };
    let partly = Trouble {
        refused: some(0.2),
        lost: some(0.2),
        unanswered: some(0.3),
        late: some(0.3),
        ..Trouble::default()
    };
    let cut = [whole, silent, partly, partly][fastrand::usize(..4)];
    process.link.trouble(|trouble| *trouble = Trouble { slow: trouble.slow, ..cut });
    process.mailbox.set_mute(true);
    tokio::time::sleep(lasts).await;
    process.link.trouble(|trouble| *trouble = Trouble { slow: trouble.slow, ..Trouble::default() });
    process.mailbox.set_mute(false);
    // Until what was sent is carried out, or given up.
    tokio::time::sleep(ms(500)).await;
    Some(process.number)
}

/// A subscription that breaks: noticed within a second, whatever became of it, and made again.
async fn deaf(process: &Process, lasts: Duration) -> Option<u32> {
    process.mailbox.deafen(fastrand::bool());
    let unnoticed = ms(fastrand::u64(..1_000));
    tokio::time::sleep(unnoticed).await;
    process.mailbox.disconnect();
    tokio::time::sleep(lasts.saturating_sub(unnoticed)).await;
    pass(500).await;
    process.mailbox.connect().await;
    Some(process.number)
}

async fn slow(process: &Process, lasts: Duration) -> Option<u32> {
    let some = |chance: f64| if fastrand::bool() { chance } else { 0.0 };
    let delays = Delays {
        late: some(0.5),
        twice: some(0.3),
        overtaken: some(0.3),
        longest: [5, 45, 300][fastrand::usize(..3)],
    };
    process.mailbox.set_delays(delays);
    process.link.trouble(|trouble| trouble.slow = some(0.5));
    tokio::time::sleep(lasts).await;
    process.mailbox.set_delays(Delays::default());
    process.link.trouble(|trouble| trouble.slow = 0.0);
    tokio::time::sleep(ms(delays.longest)).await;
    Some(process.number)
}

/// What happens to the store or the origin.
async fn everywhere(fleet: &Arc<Fleet>, kind: Kind, lasts: Duration) {
    let (world, origin) = (&fleet.world, &fleet.origin);
    match kind {
        Kind::Away => {
            world.go_away(Away { until: Instant::now() + lasts, refuses: fastrand::bool() });
            tokio::time::sleep(lasts).await;
            // The recovery looks four times a second.
            tokio::time::sleep(ms(500)).await;
        }
        Kind::Forgot => match fastrand::u8(..3) {
            0 => world.store.lose(|_| true),
            _ => world.store.lose(|_| fastrand::bool()),
        },
        Kind::Rewound => rewound(fleet, lasts).await,
        Kind::Full => {
            world.set_full(true);
            tokio::time::sleep(lasts).await;
            world.set_full(false);
        }
        Kind::Clock => match fastrand::bool() {
            true => world.advance_clock(lasts * 10),
            false => world.set_back_clock(lasts * 10),
        },
        Kind::OriginFails => {
            let some = |chance: f64| if fastrand::bool() { chance } else { 0.0 };
            let (fails, panics, hangs, slow) = (some(0.5), some(0.2), some(0.2), some(0.3));
            origin.change_mood(|mood| {
                (mood.fails, mood.panics, mood.hangs, mood.slow) = (fails, panics, hangs, slow);
            });
            tokio::time::sleep(lasts).await;
            origin.change_mood(|mood| {
                (mood.fails, mood.panics, mood.hangs, mood.slow) = (0.0, 0.0, 0.0, 0.0);
            });
        }
        _ => {
            let lag = ms(fastrand::u64(10..2_000));
            origin.change_mood(|mood| mood.lag = lag);
            tokio::time::sleep(lasts).await;
            origin.change_mood(|mood| mood.lag = Duration::ZERO);
        }
    }
}

/// A restart from an older snapshot: the connections of all processes end.
async fn rewound(fleet: &Arc<Fleet>, lasts: Duration) {
    let snapshot = fleet.world.store.snapshot();
    tokio::time::sleep(lasts).await;
    let begun = fleet.world.record.now();
    fleet.world.go_away(Away { until: Instant::now() + ms(100), refuses: true });
    fleet.world.store.restore(&snapshot);
    let again = fleet.all().into_iter().map(|process| async move {
        process.mailbox.deafen(false);
        pass(20).await;
        process.mailbox.disconnect();
        tokio::time::sleep(ms(100)).await;
        pass(500).await;
        process.mailbox.connect().await;
    });
    futures::future::join_all(again).await;
    for kind in [Kind::Away, Kind::Deaf] {
        fleet.world.record.fault(begun, kind, None);
    }
}
