//! The clauses of `cattleguard::store` that the contract of the far tier cannot see through a lock.

use std::{sync::Arc, time::Duration};

use cattleguard::{
    Entry, Version,
    far::{Commit, Put, Record, Renewal},
    store::{Begin, Look, Store},
};

use crate::contract::{LONG, eventually, fresh_name};

fn record(store: &impl Store<String>, value: &str, version: u64, ttl: Duration) -> Record<String> {
    let until = store.clock().now().after(ttl);
    let entry = Arc::new(Entry::new(Some(value.to_owned()), Version::new(version), until));
    Record { entry, version: Some(Version::new(version)), ttl, retention: LONG }
}

fn stale(store: &impl Store<String>, value: &str, version: u64) -> Record<String> {
    record(store, value, version, Duration::from_millis(1))
}

async fn begun(store: &impl Store<String>, name: &str, fence: u64) -> bool {
    // What was written stale is stale a moment later.
    loop {
        match store.begin(name, fence, Duration::ZERO).await.expect("an answer") {
            Begin::Begun { .. } => return true,
            Begin::Fenced => return false,
            Begin::Hit(_) => tokio::time::sleep(Duration::from_millis(1)).await,
            Begin::Paused { .. } => panic!("nothing failed"),
        }
    }
}

/// Clauses 1 and 4.
pub async fn a_stale_fencing_token_is_refused(store: impl Store<String>) {
    for fence in [2, 1 << 32, (1 << 53) + 1, 1 << 63, u64::MAX - 1] {
        // While another load is open.
        let name = fresh_name();
        assert!(begun(&store, &name, fence).await);
        assert!(!begun(&store, &name, fence - 1).await, "{fence}");
        let late = store.commit(&name, fence - 1, stale(&store, "late", 9)).await;
        assert!(matches!(late, Ok(Commit::Lost)), "{late:?}");
        // When it has written.
        let stored = store.commit(&name, fence, stale(&store, "current", 5)).await;
        assert!(matches!(stored, Ok(Commit::Stored(_))), "{stored:?}");
        assert!(!begun(&store, &name, fence - 1).await, "{fence}");
        let late = store.commit(&name, fence - 1, stale(&store, "late", 9)).await;
        assert!(matches!(late, Ok(Commit::Lost)), "{late:?}");
        // When it was revoked, by an invalidation or by a put.
        assert!(begun(&store, &name, fence).await);
        store.invalidate(&name, None, LONG).await.expect("an invalidation");
        assert!(!begun(&store, &name, fence - 1).await, "{fence}");
        assert!(!begun(&store, &name, fence).await, "the load that was revoked: {fence}");
        assert!(begun(&store, &name, fence + 1).await, "the next one: {fence}");
        let put = store.put(&name, stale(&store, "put", 6)).await;
        assert!(matches!(put, Ok(Put::Stored(_))), "{put:?}");
        assert!(!begun(&store, &name, fence).await, "{fence}");
    }
}

/// Clauses 2 and 5.
pub async fn only_the_open_load_writes(store: impl Store<String>) {
    let name = fresh_name();
    let refused = store.commit(&name, 1, record(&store, "never begun", 1, LONG)).await;
    assert!(matches!(refused, Ok(Commit::Lost)), "{refused:?}");
    for revoke in ["invalidate", "put", "overtake", "end"] {
        let name = fresh_name();
        assert!(begun(&store, &name, 7).await);
        assert_eq!(store.check(&name, 7).await.expect("an answer"), Renewal::Renewed);
        match revoke {
            "invalidate" => store.invalidate(&name, None, LONG).await.expect("an answer"),
            "put" => drop(store.put(&name, stale(&store, "put", 1)).await.expect("an answer")),
            "overtake" => assert!(begun(&store, &name, 8).await),
            _ => store.end(&name, 7).await.expect("an answer"),
        }
        assert_eq!(store.check(&name, 7).await.expect("an answer"), Renewal::Lost, "{revoke}");
        let refused = store.commit(&name, 7, record(&store, "late", 9, LONG)).await;
        assert!(matches!(refused, Ok(Commit::Lost)), "{revoke}: {refused:?}");
        store.end(&name, 7).await.expect("an answer");
        if revoke == "overtake" {
            let stored = store.commit(&name, 8, record(&store, "next", 1, LONG)).await;
            assert!(matches!(stored, Ok(Commit::Stored(_))), "{stored:?}");
        }
    }
}

/// Clauses 6 and 7.
pub async fn a_load_that_begins_again_is_the_same(store: impl Store<String>) {
    let name = fresh_name();
    store.invalidate(&name, Some(Version::new(4)), LONG).await.expect("an invalidation");
    for _ in 0..2 {
        let begin = store.begin(&name, 3, Duration::ZERO).await.expect("an answer");
        assert!(matches!(begin, Begin::Begun { minimum, .. } if minimum == Version::new(4)));
    }
    let older = store.commit(&name, 3, record(&store, "older", 3, LONG)).await;
    assert!(matches!(older, Ok(Commit::Older { minimum }) if minimum == Version::new(4)));
    assert!(begun(&store, &name, 3).await);
    let stored = store.commit(&name, 3, record(&store, "fresh", 4, LONG)).await;
    assert!(matches!(stored, Ok(Commit::Stored(_))), "{stored:?}");
    let hit = store.begin(&name, 4, Duration::ZERO).await.expect("an answer");
    assert!(
        matches!(hit, Begin::Hit(entry) if entry.value().is_some_and(|value| value == "fresh"))
    );
}

/// Clause 11.
pub async fn an_entry_is_a_hit_only_if_it_stays_fresh_for_long_enough(store: impl Store<String>) {
    let name = fresh_name();
    let _ = store.put(&name, record(&store, "a", 1, LONG)).await.expect("an answer");
    for fresh_for in [Duration::ZERO, LONG / 2] {
        let look = store.look_up(&name, fresh_for).await.expect("an answer");
        assert!(matches!(look, Look::Hit(_)), "{look:?}");
        let begin = store.begin(&name, 1, fresh_for).await.expect("an answer");
        assert!(matches!(begin, Begin::Hit(_)), "{begin:?}");
    }
    let look = store.look_up(&name, LONG * 2).await.expect("an answer");
    assert!(matches!(look, Look::Miss), "{look:?}");
    let begin = store.begin(&name, 1, LONG * 2).await.expect("an answer");
    assert!(matches!(begin, Begin::Begun { .. }), "{begin:?}");
}

/// Clause 12.
pub async fn a_failed_load_pauses_the_next_and_is_counted(store: impl Store<String>) {
    for (ended_by, fence) in [("invalidate", 1), ("put", 1 << 63), ("time", 7)] {
        let name = fresh_name();
        let pause = if ended_by == "time" { Duration::from_millis(50) } else { LONG };
        assert!(begun(&store, &name, fence).await);
        store.fail(&name, fence + 1, pause).await.expect("an answer");
        assert_eq!(store.check(&name, fence).await.expect("an answer"), Renewal::Renewed);
        for _ in 0..2 {
            store.fail(&name, fence, pause).await.expect("an answer");
        }
        // It is closed, and what is said in its name ends no pause.
        if ended_by != "time" {
            assert_eq!(store.check(&name, fence).await.expect("an answer"), Renewal::Lost);
            store.end(&name, fence).await.expect("an answer");
            let late = store.commit(&name, fence, record(&store, "late", 9, LONG)).await;
            assert!(matches!(late, Ok(Commit::Lost)), "{late:?}");
            let look = store.look_up(&name, Duration::ZERO).await.expect("an answer");
            let Look::Paused { remaining } = look else { panic!("{look:?}") };
            assert!(remaining < LONG * 2 && remaining > LONG / 2, "{remaining:?}");
            let begin = store.begin(&name, fence + 1, Duration::ZERO).await.expect("an answer");
            let Begin::Paused { remaining } = begin else { panic!("{begin:?}") };
            assert!(remaining < LONG * 2 && remaining > LONG / 2, "{remaining:?}");
        }
        let expected = match ended_by {
            "invalidate" => {
                store.invalidate(&name, None, LONG).await.expect("an answer");
                0
            }
            "put" => {
                let _ = store.put(&name, stale(&store, "put", 1)).await.expect("an answer");
                0
            }
            _ => 1,
        };
        // Nor does a pause, or its end, forget the fencing token.
        let begin = async |fence| {
            eventually(async || {
                match store.begin(&name, fence, Duration::ZERO).await.expect("an answer") {
                    Begin::Hit(_) | Begin::Paused { .. } => None,
                    begin => Some(begin),
                }
            })
            .await
        };
        let late = begin(fence - 1).await;
        assert!(matches!(late, Begin::Fenced), "{ended_by}: {late:?}");
        if ended_by != "time" {
            let revoked = begin(fence).await;
            assert!(matches!(revoked, Begin::Fenced), "{ended_by}: {revoked:?}");
        }
        let next = begin(fence + 1).await;
        let Begin::Begun { failures, .. } = next else { panic!("{ended_by}: {next:?}") };
        assert_eq!(failures, expected, "{ended_by}");
    }
}

/// Clause 12, for the least of all fencing tokens: a pause is not its load.
pub async fn a_pause_is_nobodys_load(store: impl Store<String>) {
    let name = fresh_name();
    assert!(begun(&store, &name, 0).await);
    store.fail(&name, 0, LONG).await.expect("an answer");
    assert_eq!(store.check(&name, 0).await.expect("an answer"), Renewal::Lost);
    store.end(&name, 0).await.expect("an answer");
    let look = store.look_up(&name, Duration::ZERO).await.expect("an answer");
    assert!(matches!(look, Look::Paused { .. }), "{look:?}");
}
