//! How old stale and outdated answers are.

use cattleguard::Loaded;

use super::{Recorder, watched};
use crate::{
    Origin, answer, answers, callers, guard_on, idle, memory, ms, origin::Reply, plain, secs,
};

const STALE: &str = "cattleguard_served_stale_seconds";
const OUTDATED: &str = "cattleguard_served_outdated_seconds";

#[tokio::test(start_paused = true)]
async fn the_age_of_each_stale_answer_counts_from_the_end_of_its_ttl() {
    let recorder = Recorder::default();
    let policy = plain().ttl(secs(2)).near_ttl(secs(60)).grace(secs(5)).stale_if_error(secs(60));
    let guard = watched(&recorder, memory(), policy);
    let origin = Origin::new();
    guard.fetch("a", origin.load()).await.expect("a value");
    guard.fetch("a", origin.load()).await.expect("a hit");
    tokio::time::sleep(secs(5)).await;
    answers(callers(&guard, 3, "a", &origin)).await;
    assert_eq!(recorder.samples(STALE), [3.0; 3]);
    idle().await;
    tokio::time::sleep(secs(12)).await;
    origin.next(Reply::Fail);
    answers(callers(&guard, 2, "a", &origin)).await;
    let samples = recorder.samples(STALE);
    assert_eq!(samples.len(), 5);
    // The refresh took no time, and was made as the first of the stale ones was served.
    assert!(samples[3..].iter().all(|age| (10.0..10.1).contains(age)), "{samples:?}");
    assert_eq!(recorder.samples(OUTDATED), [0.0; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_is_loaded_before_an_invalidation_and_given_after_it_counts_from_the_message() {
    let recorder = Recorder::default();
    let far = memory();
    let guard = watched(&recorder, far.clone(), plain());
    let other = guard_on(far);
    for (key, with_version) in [("a", false), ("b", true)] {
        let (origin, gate) = Origin::gated();
        let before = callers(&guard, 3, key, &origin);
        idle().await;
        match with_version {
            true => other.invalidate_at(key, 2).await,
            false => other.invalidate(key).await,
        }
        .map(drop)
        .expect("the far tier");
        origin.write(2);
        tokio::time::sleep(secs(4)).await;
        let after = callers(&guard, 2, key, &origin);
        idle().await;
        gate.open();
        answers(before).await;
        answers(after).await;
        let samples = recorder.samples(OUTDATED);
        assert_eq!(samples.len(), if with_version { 6 } else { 3 }, "{samples:?}");
        assert!(samples.iter().all(|age| (4.0..4.1).contains(age)), "{samples:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_answer_that_is_as_new_as_the_message_is_not_outdated() {
    let recorder = Recorder::default();
    let far = memory();
    let guard = watched(&recorder, far.clone(), plain());
    let other = guard_on(far.clone());
    // The load reads what the message is about.
    let (origin, gate) = Origin::gated();
    origin.write(2);
    let herd = callers(&guard, 3, "a", &origin);
    idle().await;
    other.invalidate_at("a", 2).await.map(drop).expect("the far tier");
    tokio::time::sleep(secs(4)).await;
    gate.open();
    answers(herd).await;
    assert_eq!(recorder.samples(OUTDATED), [0.0; 0]);

    // The flight waits for another process, and looks after the message.
    let (origin, gate) = Origin::gated();
    let holder = callers(&other, 1, "b", &origin);
    idle().await;
    let waiters = callers(&guard, 3, "b", &Origin::new());
    idle().await;
    let written = Loaded::found("written".to_owned(), 5);
    other.put("b", written).await.map(drop).expect("the far tier");
    for answer in answers(waiters).await {
        assert_eq!(answer.expect("a value").version().high(), 5);
    }
    gate.open();
    answers(holder).await;
    assert_eq!(recorder.samples(OUTDATED), [0.0; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_the_far_tier_has_taken_is_not_outdated_by_a_message_that_comes_late() {
    let recorder = Recorder::default();
    let far = memory();
    let wire = crate::wire::Wire::to(&far);
    let guard = watched(&recorder, wire.clone(), plain());
    let (origin, gate) = Origin::gated();
    let mut herd = callers(&guard, 2, "a", &origin);
    idle().await;
    // Of an invalidation before the load.
    wire.tell(cattleguard::far::Event::Invalidated { name: "a", version: None });
    tokio::time::sleep(ms(100)).await;
    gate.open();
    answer(herd.remove(0)).await.expect("a value");
    answers(herd).await;
    assert_eq!(recorder.samples(OUTDATED), [0.0; 0]);
}
