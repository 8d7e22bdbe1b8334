//! What a process keeps is bounded in bytes, too, and leaves when its time is over.

use std::{
    io,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    time::Duration,
};

use cattleguard::{
    Clock, Guard, GuardBuilder, Loaded, Outcome, Tier, Version,
    codec::Raw,
    far::{Attempt, Far, Record, Token},
    memory::MemoryFar,
    redis::{Connection, RedisFar},
};
use futures::FutureExt;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use crate::{bounded, plain, secs};

#[path = "../servers/mod.rs"]
mod servers;

const MIB: usize = 1 << 20;

/// A value that says how large it is, and is missed when it is gone.
struct Block {
    bytes: usize,
    alive: Alive,
}

#[derive(Clone, Default)]
struct Alive {
    bytes: Arc<AtomicUsize>,
    blocks: Arc<AtomicUsize>,
}

impl Alive {
    fn block(&self, bytes: usize) -> Block {
        self.bytes.fetch_add(bytes, SeqCst);
        self.blocks.fetch_add(1, SeqCst);
        Block { bytes, alive: self.clone() }
    }

    fn bytes(&self) -> usize {
        self.bytes.load(SeqCst)
    }
}

impl Drop for Block {
    fn drop(&mut self) {
        self.alive.bytes.fetch_sub(self.bytes, SeqCst);
        self.alive.blocks.fetch_sub(1, SeqCst);
    }
}

/// What a recorder has heard.
struct Page(PrometheusHandle);

impl Page {
    /// The guard, and what a recorder hears of it.
    fn of<V: Send + Sync + 'static>(builder: GuardBuilder<str, V>) -> (Guard<str, V>, Self) {
        let recorder = PrometheusBuilder::new().build_recorder();
        let guard = metrics::with_local_recorder(&recorder, || builder.name("blocks").build());
        (guard, Self(recorder.handle()))
    }

    fn number(&self, series: &str) -> usize {
        let page = self.0.render();
        let line = page.lines().find_map(|line| line.strip_prefix(series));
        line.expect("the series").trim().parse::<f64>().expect("a number") as usize
    }

    fn entries(&self) -> usize {
        self.number(r#"cattleguard_near_entries{guard="blocks"}"#)
    }

    fn bytes(&self) -> usize {
        self.number(r#"cattleguard_near_bytes{guard="blocks"}"#)
    }

    fn evicted(&self, why: &str) -> usize {
        self.number(&format!(r#"cattleguard_near_evictions_total{{guard="blocks",why="{why}"}}"#))
    }
}

/// On a store that forgets at once: what is alive is near.
fn near_only() -> GuardBuilder<str, Block> {
    builder().far(MemoryFar::with(0, Clock::tokio()))
}

fn builder() -> GuardBuilder<str, Block> {
    Guard::builder().policy(plain()).size_of(|block: &Block| block.bytes)
}

async fn fetch(guard: &Guard<str, Block>, key: &str, alive: &Alive, bytes: usize) -> Outcome {
    let alive = alive.clone();
    let load = move || {
        let block = alive.block(bytes);
        async { Ok::<_, io::Error>(Loaded::found(block, 1)) }
    };
    bounded(guard.fetch(key, load)).await.expect("a value").outcome()
}

/// Three thousand of a mebibyte; the most that were alive at one time.
async fn three_thousand(guard: &Guard<str, Block>, alive: &Alive) -> usize {
    let mut most = 0;
    for n in 0..3_000 {
        fetch(guard, &format!("block {n}"), alive, MIB).await;
        most = most.max(alive.bytes());
    }
    most
}

#[tokio::test(start_paused = true)]
async fn large_values_stay_within_the_bound_of_the_near_tier() {
    let (guard, page) = Page::of(near_only().near_bytes(64 * MIB));
    let alive = Alive::default();
    let most = three_thousand(&guard, &alive).await;
    assert!(most <= 64 * MIB * 12 / 10, "{} MiB were alive", most / MIB);
    assert!((48 * MIB..=64 * MIB).contains(&page.bytes()), "{} bytes are near", page.bytes());
    let blocks = alive.blocks.load(SeqCst);
    assert_eq!((page.entries(), page.evicted("capacity")), (blocks, 3_000 - blocks));
    println!("{} MiB at most, {} near in the end", most / MIB, page.bytes() / MIB);

    drop(guard);
    assert_eq!((alive.bytes(), page.entries(), page.bytes()), (0, 0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_bound_is_for_near_and_embedded_far_tier_together() {
    let alive = Alive::default();
    let guard = builder().clock(Clock::tokio()).near_bytes(64 * MIB).build();
    let most = three_thousand(&guard, &alive).await;
    assert!(most <= 64 * MIB * 12 / 10, "{} MiB were alive", most / MIB);
    assert!(alive.bytes() >= 32 * MIB, "{} MiB are alive", alive.bytes() / MIB);
    println!("{} MiB at most, {} in the end", most / MIB, alive.bytes() / MIB);
}

#[tokio::test(start_paused = true)]
async fn a_store_in_memory_stays_within_its_bound() {
    let far =
        MemoryFar::bounded(100_000, 64 * MIB as u64, Clock::tokio(), |block: &Block| block.bytes);
    let alive = Alive::default();
    let guard = builder().near_capacity(0).far(far.clone()).build();
    let most = three_thousand(&guard, &alive).await;
    assert!(most <= 64 * MIB * 12 / 10, "{} MiB were alive", most / MIB);
    assert!(alive.bytes() >= 48 * MIB, "{} MiB are alive", alive.bytes() / MIB);
    let usage = far.usage();
    let blocks = alive.blocks.load(SeqCst) as u64;
    assert_eq!((usage.records, usage.evictions), (blocks, 3_000 - blocks));
    let bytes = usage.bytes.expect("a bound") as usize;
    assert!((alive.bytes()..=64 * MIB).contains(&bytes), "{bytes}");

    // What alone is more than an eighth leaves its version behind, and nothing else.
    let entry = cattleguard::Entry::new(
        Some(alive.block(9 * MIB)),
        Version::new(7),
        far.clock().now().after(secs(60)),
    );
    let record = Record::new(Arc::new(entry), secs(60), secs(60));
    let _ = far.put("large", record).await.expect("an answer");
    assert!(far.read("large").await.expect("an answer").is_none());
    let lease = far.look_up_or_lease("large", Token::random(), secs(1), Duration::ZERO);
    let Attempt::Granted(grant) = lease.await.expect("an answer") else { panic!("no lease") };
    assert_eq!(grant.minimum, Version::new(7));
}

#[tokio::test(start_paused = true)]
async fn an_entry_above_its_part_of_the_bound_is_served_from_far() {
    let far = MemoryFar::with(1_000, Clock::tokio());
    let (guard, page) = Page::of(builder().far(far).near_bytes(64 * MIB));
    let alive = Alive::default();
    for _ in 0..2 {
        fetch(&guard, "small", &alive, 3 * MIB).await;
        fetch(&guard, "large", &alive, 5 * MIB).await;
    }
    assert_eq!(fetch(&guard, "small", &alive, 0).await, Outcome::Hit(Tier::Near));
    assert_eq!(fetch(&guard, "large", &alive, 0).await, Outcome::Hit(Tier::Far));
    assert!(guard.peek("large").is_none());
    assert_eq!((page.entries(), alive.bytes()), (1, 8 * MIB));
    assert_eq!((page.evicted("too_large"), page.evicted("capacity")), (3, 0));
}

#[tokio::test(start_paused = true)]
async fn a_value_that_has_become_too_large_takes_its_smaller_one_along() {
    let far = MemoryFar::with(1_000, Clock::tokio());
    let (guard, page) = Page::of(builder().far(far).near_bytes(64 * MIB));
    let alive = Alive::default();
    fetch(&guard, "k", &alive, MIB).await;
    assert!(guard.peek("k").is_some());
    let _ = guard.put("k", Loaded::found(alive.block(5 * MIB), 2)).await.expect("written");
    assert_eq!(fetch(&guard, "k", &alive, 0).await, Outcome::Hit(Tier::Far));
    assert!(guard.peek("k").is_none());
    assert_eq!((page.entries(), page.bytes()), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn entries_past_their_time_leave_as_others_come() {
    let policy = plain().near_ttl(secs(5));
    let (guard, page) = Page::of(near_only().policy(policy));
    let alive = Alive::default();
    for n in 0..100 {
        fetch(&guard, &format!("old {n}"), &alive, MIB).await;
    }
    tokio::time::advance(secs(5)).await;
    assert_eq!(page.entries(), 100);
    for n in 0..20 {
        fetch(&guard, &format!("new {n}"), &alive, MIB).await;
    }
    assert_eq!((page.entries(), alive.blocks.load(SeqCst)), (20, 20));
    assert_eq!((page.evicted("expired"), page.evicted("capacity")), (100, 0));
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_was_renewed_outlives_its_first_time() {
    let (guard, page) = Page::of(near_only().policy(plain().near_ttl(secs(5))));
    let alive = Alive::default();
    fetch(&guard, "k", &alive, MIB).await;
    tokio::time::advance(secs(3)).await;
    guard.invalidate("k").await.expect("invalidated");
    fetch(&guard, "k", &alive, MIB).await;
    tokio::time::advance(secs(3)).await;
    fetch(&guard, "other", &alive, MIB).await;
    assert!(guard.peek("k").is_some());
    assert_eq!((page.entries(), page.evicted("expired")), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn a_size_function_that_panics_costs_its_value_the_place_near() {
    let size_of = |block: &Block| match block.bytes {
        13 => panic!("thirteen"),
        bytes => bytes,
    };
    let alive = Alive::default();
    let far = MemoryFar::with(1_000, Clock::tokio());
    for far in [Some(far), None] {
        let is_kept_far = far.is_some();
        let builder = builder().near_bytes(MIB).size_of(size_of);
        let builder = match far {
            Some(far) => builder.far(far),
            None => builder.clock(Clock::tokio()),
        };
        let guard = builder.build();
        assert_eq!(fetch(&guard, "bad", &alive, 13).await, Outcome::Loaded);
        let again = if is_kept_far { Outcome::Hit(Tier::Far) } else { Outcome::Loaded };
        assert_eq!(fetch(&guard, "bad", &alive, 13).await, again);
        assert_eq!(fetch(&guard, "good", &alive, 1).await, Outcome::Loaded);
        assert_eq!(fetch(&guard, "good", &alive, 1).await, Outcome::Hit(Tier::Near));
    }
}

#[tokio::test]
async fn without_a_size_function_a_value_counts_with_the_length_of_its_encoding() {
    let server = servers::Redis::start().expect("a server");
    // A busy machine is no outage.
    let redis = Connection::open(&server.url()).await.expect("a connection").timeout(secs(10));
    let watched = || {
        let far = RedisFar::new(redis.clone(), Raw);
        Page::of(Guard::<str, Vec<u8>>::builder().far(far).near_bytes(MIB))
    };
    let load =
        |length| move || async move { Ok::<_, io::Error>(Loaded::found(vec![0; length], 1)) };
    // The one that writes them, and the one that reads them.
    let guards = [watched(), watched()];
    for (guard, page) in &guards {
        // The near tier is cleared when the messages begin.
        bounded(async {
            while !(40_000..41_000).contains(&page.bytes()) {
                guard.fetch("small", load(40_000)).await.expect("a value");
                tokio::task::yield_now().await;
            }
        })
        .await;
        bounded(guard.fetch("large", load(70_000))).await.expect("a value");
        assert!(guard.peek("large").is_none());
        let large = bounded(guard.fetch("large", load(70_000))).await.expect("a value");
        assert_eq!(large.outcome(), Outcome::Hit(Tier::Far));
    }
    // A function knows better: it takes the large one for small.
    let guard = Guard::<str, Vec<u8>>::builder().far(RedisFar::new(redis.clone(), Raw));
    let guard = guard.near_bytes(MIB).size_of(|_| 10).build();
    bounded(async {
        while guard.peek("large").is_none() {
            guard.fetch("large", load(70_000)).await.expect("a value");
            tokio::task::yield_now().await;
        }
    })
    .await;
}

/// A value that asks the guard for its own key when it is dropped.
struct Curious {
    key: String,
    guard: Arc<OnceLock<Guard<str, Curious>>>,
    asked: Arc<AtomicUsize>,
}

impl Drop for Curious {
    fn drop(&mut self) {
        let Some(guard) = self.guard.get() else { return };
        // Boards the name, and takes every other lock.
        let load = || async { Err::<Loaded<Curious>, _>(io::Error::other("out of use")) };
        let _ = guard.fetch(&self.key, load).now_or_never();
        guard.flights();
        self.asked.fetch_add(1, SeqCst);
    }
}

async fn drop_curious_values(far: MemoryFar<Curious>) -> usize {
    // Large ones take the place of many small ones.
    let size_of = |value: &Curious| if value.key.ends_with('0') { 50_000 } else { 1_000 };
    let guard = Guard::builder().policy(plain()).far(far).near_bytes(MIB).size_of(size_of).build();
    let (shared, asked) = (Arc::new(OnceLock::new()), Arc::new(AtomicUsize::new(0)));
    let _ = shared.set(guard.clone());
    for n in 0..3_000 {
        let key = format!("k{}", n % 2_000);
        let (own, shared, asked) = (key.clone(), shared.clone(), asked.clone());
        let load = move || {
            let curious = Curious { key: own.clone(), guard: shared.clone(), asked: asked.clone() };
            async move { Ok::<_, io::Error>(Loaded::found(curious, n)) }
        };
        // It may have come along with the failed load of a dropped value.
        let _ = bounded(guard.fetch(&key, load)).await;
        if n % 7 == 0 {
            guard.invalidate(&key).await.expect("invalidated");
        }
        if n % 500 == 499 {
            tokio::time::advance(secs(6)).await;
        }
    }
    asked.load(SeqCst)
}

#[test]
fn a_value_may_fetch_its_own_key_when_it_is_dropped() {
    let size_of = |_: &Curious| 10_000;
    let stores = move || {
        [
            MemoryFar::with(0, Clock::tokio()),
            MemoryFar::with(100, Clock::tokio()),
            MemoryFar::bounded(100, MIB as u64, Clock::tokio(), size_of),
        ]
    };
    for which in 0..stores().len() {
        let (done, ended) = mpsc::channel();
        // A deadlock blocks its thread: another one tells.
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .start_paused(true)
                .build()
                .expect("a runtime");
            let far = stores().into_iter().nth(which).expect("a store");
            let _ = done.send(runtime.block_on(drop_curious_values(far)));
        });
        let asked = ended.recv_timeout(Duration::from_secs(60)).expect("nothing is locked");
        assert!(asked > 500, "{asked} were dropped");
    }
}
