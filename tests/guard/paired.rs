//! The promises over a far tier made of a store, a lock and a notifier. A process is a pair of its own on
//! clones of the three.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use cattleguard::{
    Clock, Entry, Version,
    far::{Commit, Error, ErrorKind, Paired, Put, Record, Renewal},
    lock::{self, Lease, Lock},
    notify,
    store::{self, Begin, Look, Store},
};
use tokio::time::Instant;

use crate::{
    TestGuard, answer, answers, answers_by, builder, caller, callers, idle, ms, origin::Origin,
    secs, version_of,
};

/// What the processes share.
#[derive(Clone)]
struct Ground {
    store: Moody,
    lock: Hanging,
    messages: notify::Memory,
}

impl Ground {
    fn new() -> Self {
        let store = store::Memory::with(1_000, Clock::tokio());
        Self {
            store: Moody { store, refuses: Arc::default() },
            lock: Hanging { lock: memory::MemoryLock::new(), hangs: Arc::default() },
            messages: notify::Memory::new(),
        }
    }

    fn process(&self) -> TestGuard {
        let Self { store, lock, messages } = self.clone();
        builder().far(Paired::new(store, lock, messages)).build()
    }

    fn held(&self) -> usize {
        self.lock.lock.names()
    }
}

#[tokio::test(start_paused = true)]
async fn a_herd_in_four_processes_is_one_load() {
    let ground = Ground::new();
    let guards: Vec<_> = (0..4).map(|_| ground.process()).collect();
    let origin = Origin::taking(ms(50));
    let begin = Instant::now();
    let herd: Vec<_> = guards.iter().flat_map(|guard| callers(guard, 250, "k", &origin)).collect();
    let (answers, last) = answers_by(herd).await;
    assert!(answers.iter().all(|answer| version_of(answer) == 1));
    assert_eq!(origin.loads(), 1);
    // Woken, not by the end of a poll or of the lease.
    assert!(last - begin <= ms(55), "{:?}", last - begin);
    idle().await;
    assert_eq!(ground.held(), 0, "nobody keeps the lock");
}

#[tokio::test(start_paused = true)]
async fn without_messages_a_herd_is_one_load_too() {
    let Ground { store, lock, .. } = Ground::new();
    let process = || {
        let far = Paired::new(store.clone(), lock.clone(), notify::Polling::new());
        builder().far(far).build()
    };
    let guards: Vec<TestGuard> = (0..4).map(|_| process()).collect();
    let origin = Origin::taking(ms(50));
    let begin = Instant::now();
    let herd: Vec<_> = guards.iter().flat_map(|guard| callers(guard, 250, "k", &origin)).collect();
    let (answers, last) = answers_by(herd).await;
    assert!(answers.iter().all(|answer| version_of(answer) == 1));
    assert_eq!(origin.loads(), 1);
    // They look again every 10 ms, with jitter.
    assert!(last - begin <= ms(50 + 35), "{:?}", last - begin);
}

#[tokio::test(start_paused = true)]
async fn a_load_longer_than_its_lease_keeps_it() {
    let ground = Ground::new();
    let (one, two) = (ground.process(), ground.process());
    let origin = Origin::taking(secs(8));
    let (first, second) = (caller(&one, "k", &origin), caller(&two, "k", &origin));
    assert_eq!((version_of(&answer(first).await), version_of(&answer(second).await)), (1, 1));
    assert_eq!(origin.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn after_an_invalidation_by_another_process_nobody_waits_for_the_load_in_the_air() {
    let ground = Ground::new();
    let (one, two) = (ground.process(), ground.process());
    let (origin, gate) = Origin::gated();
    let before = callers(&one, 10, "k", &origin);
    origin.begun(1).await;
    origin.write(2);
    two.invalidate_at("k", 2).await.expect("an invalidation");
    let fresh = Origin::new();
    fresh.write(2);
    let begin = Instant::now();
    assert_eq!(version_of(&answer(caller(&two, "k", &fresh)).await), 2);
    assert!(begin.elapsed() < ms(100), "{:?}", begin.elapsed());
    gate.open();
    // Those who boarded before may have what was read then; it fills nothing.
    answers(before).await.into_iter().for_each(|answer| drop(answer.expect("an answer")));
    for guard in [&one, &two] {
        assert_eq!(version_of(&answer(caller(guard, "k", &fresh)).await), 2);
    }
    assert_eq!(fresh.loads(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_opens_no_load_costs_nobody_a_lease() {
    let ground = Ground::new();
    let guards: Vec<_> = (0..4).map(|_| ground.process()).collect();
    ground.store.refuses.store(true, Ordering::SeqCst);
    let origin = Origin::taking(ms(200));
    let begin = Instant::now();
    let herd: Vec<_> = guards.iter().flat_map(|guard| callers(guard, 50, "k", &origin)).collect();
    let (answers, last) = answers_by(herd).await;
    assert!(answers.iter().all(|answer| version_of(answer) == 1));
    assert!(origin.loads() <= 4, "one a process: {}", origin.loads());
    // In turn, as each was told when the lock before was freed: never the rest of a lease.
    assert!(last - begin <= ms(200 + 100), "{:?}", last - begin);
    idle().await;
    assert_eq!(ground.held(), 0, "nobody keeps the lock");
}

#[tokio::test(start_paused = true)]
async fn a_lock_that_hangs_holds_nobody_up() {
    let ground = Ground::new();
    let guard = ground.process();
    ground.lock.hangs.store(true, Ordering::SeqCst);
    let origin = Origin::taking(ms(200));
    let begin = Instant::now();
    let (answers, last) = answers_by(callers(&guard, 50, "k", &origin)).await;
    assert!(answers.iter().all(|answer| version_of(answer) == 1));
    assert_eq!(origin.loads(), 1);
    assert!(last - begin <= ms(200 + 100), "{:?}", last - begin);
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_lost_its_lock_writes_nothing() {
    let ground = Ground::new();
    let (one, two) = (ground.process(), ground.process());
    let (origin, gate) = Origin::gated();
    let late = caller(&one, "k", &origin);
    origin.begun(1).await;
    // Its renewals do not get through, and its lease ends.
    ground.lock.hangs.store(true, Ordering::SeqCst);
    tokio::time::sleep(secs(3)).await;
    ground.lock.hangs.store(false, Ordering::SeqCst);
    let newer = Origin::new();
    newer.write(2);
    assert_eq!(version_of(&answer(caller(&two, "k", &newer)).await), 2);
    gate.open();
    drop(answer(late).await);
    let fresh = ground.process();
    assert_eq!(version_of(&answer(caller(&fresh, "k", &Origin::new())).await), 2);
    assert_eq!(newer.loads(), 1);
}

/// A store that can refuse to open loads, as one without memory does.
#[derive(Clone)]
struct Moody {
    store: store::Memory<String>,
    refuses: Arc<AtomicBool>,
}

impl Store<String> for Moody {
    fn clock(&self) -> &Clock {
        self.store.clock()
    }

    async fn get(&self, name: &str) -> Result<Option<Arc<Entry<String>>>, Error> {
        self.store.get(name).await
    }

    async fn look_up(&self, name: &str, fresh_for: Duration) -> Result<Look<String>, Error> {
        self.store.look_up(name, fresh_for).await
    }

    async fn begin(
        &self,
        name: &str,
        fence: u64,
        fresh_for: Duration,
    ) -> Result<Begin<String>, Error> {
        tokio::time::sleep(ms(1)).await;
        if self.refuses.load(Ordering::SeqCst) {
            return Err(ErrorKind::Refused.into());
        }
        self.store.begin(name, fence, fresh_for).await
    }

    async fn check(&self, name: &str, fence: u64) -> Result<Renewal, Error> {
        self.store.check(name, fence).await
    }

    async fn commit(
        &self,
        name: &str,
        fence: u64,
        record: Record<String>,
    ) -> Result<Commit<String>, Error> {
        self.store.commit(name, fence, record).await
    }

    async fn end(&self, name: &str, fence: u64) -> Result<(), Error> {
        self.store.end(name, fence).await
    }

    async fn fail(&self, name: &str, fence: u64, pause: Duration) -> Result<(), Error> {
        self.store.fail(name, fence, pause).await
    }

    async fn put(&self, name: &str, record: Record<String>) -> Result<Put<String>, Error> {
        self.store.put(name, record).await
    }

    async fn invalidate(
        &self,
        name: &str,
        version: Option<Version>,
        retention: Duration,
    ) -> Result<(), Error> {
        self.store.invalidate(name, version, retention).await
    }
}

/// A lock that can stop answering.
#[derive(Clone)]
struct Hanging {
    lock: memory::MemoryLock,
    hangs: Arc<AtomicBool>,
}

impl Lock for Hanging {
    async fn try_acquire(&self, name: &str, ttl: Duration) -> Result<lock::Attempt, Fault> {
        if self.hangs.load(Ordering::SeqCst) {
            pending::<()>().await;
        }
        Ok(match self.lock.try_acquire(name, ttl).await? {
            lock::Attempt::Granted(lease) => {
                let (fence, belief) = (lease.fence(), lock::Validity::since(Instant::now(), ttl));
                let hold = Held { lease, hangs: self.hangs.clone() };
                lock::Attempt::Granted(Lease::new(name, fence, ttl, belief, hold))
            }
            held => held,
        })
    }

    async fn acquire(&self, name: &str, ttl: Duration, deadline: Instant) -> Result<Lease, Fault> {
        self.lock.acquire(name, ttl, deadline).await
    }
}

struct Held {
    lease: Lease,
    hangs: Arc<AtomicBool>,
}

impl lock::LeaseBackend for Held {
    async fn renew(&mut self, ttl: Duration) -> Result<Renewal, Fault> {
        if self.hangs.load(Ordering::SeqCst) {
            return Err(FaultKind::Timeout.into());
        }
        self.lease.renew_for(ttl).await.map(|()| Renewal::Renewed)
    }

    async fn release(self) -> Result<(), Fault> {
        self.lease.release().await
    }
}
