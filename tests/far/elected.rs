//! The guard's promises over Redis when another lock elects who loads. A process is a guard on a connection
//! of its own; what the processes share is the Redis and the lock.
//!
//! Time is real here, on a machine that may be busy: a lease lasts for ten seconds where a test says nothing
//! else, so that whoever waited for its end is told from whoever was notified within two.

use std::{
    future::pending,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use cattleguard::{
    Error, Fault, FaultKind, Fetched, Guard, Policy,
    codec::Json,
    far::Renewal,
    lock::{self, Lease, LeaseBackend, Lock, Validity},
    memory::MemoryLock,
    redis::Connection,
};
use libtest_mimic::Trial;
use tokio::{task::JoinHandle, time::Instant};

use crate::{
    bounded,
    contract::{eventually, fresh_name},
    origin::Origin,
    servers,
    setup::{self, Servers, Tier, trials},
};

pub fn trials(servers: &Arc<Servers>) -> Vec<Trial> {
    trials!(
        servers, "elected";
        a_herd_in_four_processes_is_one_load,
        without_messages_a_herd_is_one_load_too,
        a_load_longer_than_its_lease_keeps_it,
        after_an_invalidation_by_another_process_nobody_waits_for_the_load_in_progress,
        a_record_that_opens_no_load_costs_nobody_a_lease,
        a_lock_that_hangs_holds_nobody_up,
        a_holder_that_lost_its_lock_writes_nothing,
    )
}

type Process = Guard<str, String>;
type Answer = Result<Fetched<String>, Error>;

const LEASE_TTL: Duration = Duration::from_secs(10);
/// What a wait may take beyond the load that it is for. Far below a lease.
const SLACK: Duration = Duration::from_secs(2);

/// What the processes share.
struct Fleet {
    url: String,
    namespace: String,
    lock: HangingLock,
    lease_ttl: Duration,
}

impl Fleet {
    fn on(url: String) -> Self {
        let lock = HangingLock { lock: MemoryLock::new(), hangs: Arc::default() };
        Self { url, namespace: fresh_name(), lock, lease_ttl: LEASE_TTL }
    }

    /// One that hears messages already: when they begin to flow, a flight in progress is closed.
    async fn process(&self) -> Process {
        let process = self.process_over(setup::open(&self.url).await);
        process.fetch("warm", Origin::new().load()).await.expect("a value");
        process
    }

    async fn processes(&self, count: usize) -> Vec<Process> {
        let mut processes = Vec::new();
        for _ in 0..count {
            processes.push(self.process().await);
        }
        processes
    }

    fn process_over(&self, connection: Connection) -> Process {
        let redis = Tier::new(connection, Json).namespace(&self.namespace);
        // Entries live exactly as long as the test says, and stale ones are not served. What Redis did not take is
        // shared for as long as a busy machine needs.
        let policy = Policy::default()
            .jitter(0.0)
            .early_refresh(0.0)
            .grace(Duration::ZERO)
            .stale_if_error(Duration::ZERO)
            .failure_backoff(Duration::ZERO)
            .near_outage_ttl(SLACK)
            .lease_ttl(self.lease_ttl);
        Guard::builder().policy(policy).far(redis.elected_by(self.lock.clone())).build()
    }

    async fn lock_becomes_free(&self) {
        eventually(async || (self.lock.lock.names() == 0).then_some(())).await;
    }
}

type Caller = JoinHandle<(Answer, Instant)>;

fn caller(process: &Process, origin: &Origin) -> Caller {
    let (process, load) = (process.clone(), origin.load());
    tokio::spawn(async move { (process.fetch("k", load).await, Instant::now()) })
}

fn callers(processes: &[Process], each: usize, origin: &Origin) -> Vec<Caller> {
    let all = processes.iter().flat_map(|process| std::iter::repeat_n(process, each));
    all.map(|process| caller(process, origin)).collect()
}

async fn answer(caller: Caller) -> Answer {
    bounded(caller).await.expect("the caller lives").0
}

async fn version(caller: Caller) -> u64 {
    answer(caller).await.expect("an answer").version().high()
}

/// Checks that all are answered with version 1; how long after `begin` the last one was.
async fn all_answered(callers: Vec<Caller>, begin: Instant) -> Duration {
    let mut last = begin;
    for caller in callers {
        let (answer, at) = bounded(caller).await.expect("the caller lives");
        assert_eq!(answer.expect("an answer").version().high(), 1);
        last = last.max(at);
    }
    last - begin
}

async fn a_herd_in_four_processes_is_one_load(on: Arc<Servers>) {
    let fleet = Fleet::on(on.redis());
    let processes = fleet.processes(4).await;
    let origin = Origin::taking(Duration::from_millis(50));
    let begin = Instant::now();
    let took = all_answered(callers(&processes, 250, &origin), begin).await;
    assert_eq!(origin.loads(), 1);
    // Notified, not by the end of the lease.
    assert!(took < SLACK, "{took:?}");
    // Nobody keeps the lock.
    fleet.lock_becomes_free().await;
}

async fn without_messages_a_herd_is_one_load_too(on: Arc<Servers>) {
    let fleet = Fleet::on(on.redis());
    let process = || fleet.process_over(setup::without_messages(&fleet.url));
    let processes: Vec<Process> = (0..4).map(|_| process()).collect();
    let origin = Origin::taking(Duration::from_millis(50));
    let begin = Instant::now();
    let took = all_answered(callers(&processes, 250, &origin), begin).await;
    assert_eq!(origin.loads(), 1);
    // They look again every 10 ms, with jitter.
    assert!(took < SLACK, "{took:?}");
}

async fn a_load_longer_than_its_lease_keeps_it(on: Arc<Servers>) {
    let fleet = Fleet { lease_ttl: Duration::from_secs(1), ..Fleet::on(on.redis()) };
    let processes = fleet.processes(2).await;
    let origin = Origin::taking(Duration::from_secs(4));
    all_answered(callers(&processes, 1, &origin), Instant::now()).await;
    assert_eq!(origin.loads(), 1);
}

async fn after_an_invalidation_by_another_process_nobody_waits_for_the_load_in_progress(
    on: Arc<Servers>,
) {
    let fleet = Fleet::on(on.redis());
    let processes = fleet.processes(2).await;
    let (origin, gate) = Origin::gated();
    let before = callers(&processes[..1], 10, &origin);
    origin.begun(1).await;
    origin.write(2);
    processes[1].invalidate_at("k", 2).await.expect("an invalidation");
    let fresh = Origin::new();
    fresh.write(2);
    let begin = Instant::now();
    assert_eq!(version(caller(&processes[1], &fresh)).await, 2);
    assert!(begin.elapsed() < SLACK, "{:?}", begin.elapsed());
    gate.open();
    // Those who asked before may have what was read then; it fills nothing.
    for caller in before {
        answer(caller).await.expect("an answer");
    }
    for process in &processes {
        assert_eq!(version(caller(process, &fresh)).await, 2);
    }
    assert_eq!(fresh.loads(), 1);
}

async fn a_record_that_opens_no_load_costs_nobody_a_lease(_: Arc<Servers>) {
    let server = servers::Redis::start().expect("a Redis");
    let fleet = Fleet::on(server.url());
    let processes = fleet.processes(4).await;
    // It refuses every script that writes from now on, but not reads.
    let full = "CONFIG SET maxmemory 1";
    assert!(servers::ask_redis(server.port(), full).contains("+OK"));
    let origin = Origin::taking(Duration::from_millis(200));
    let begin = Instant::now();
    let took = all_answered(callers(&processes, 50, &origin), begin).await;
    assert!(origin.loads() <= 4, "one a process: {}", origin.loads());
    // In turn, as each was told when the lock before was freed: never the rest of a lease.
    assert!(took < SLACK, "{took:?}");
    fleet.lock_becomes_free().await;
}

async fn a_lock_that_hangs_holds_nobody_up(on: Arc<Servers>) {
    let fleet = Fleet::on(on.redis());
    let process = [fleet.process().await];
    fleet.lock.hang(true);
    let origin = Origin::taking(Duration::from_millis(200));
    let begin = Instant::now();
    let took = all_answered(callers(&process, 50, &origin), begin).await;
    assert_eq!(origin.loads(), 1);
    assert!(took < SLACK, "{took:?}");
}

async fn a_holder_that_lost_its_lock_writes_nothing(on: Arc<Servers>) {
    let fleet = Fleet { lease_ttl: Duration::from_secs(1), ..Fleet::on(on.redis()) };
    let processes = fleet.processes(2).await;
    let (origin, gate) = Origin::gated();
    // By its version it would be the newest.
    origin.write(3);
    let late = caller(&processes[0], &origin);
    origin.begun(1).await;
    // Its renewals do not get through, and its lease ends.
    fleet.lock.hang(true);
    fleet.lock_becomes_free().await;
    fleet.lock.hang(false);
    let newer = Origin::new();
    newer.write(2);
    assert_eq!(version(caller(&processes[1], &newer)).await, 2);
    gate.open();
    drop(answer(late).await);
    let other = fleet.process().await;
    assert_eq!(version(caller(&other, &Origin::new())).await, 2);
    assert_eq!(newer.loads(), 1);
}

/// A lock that can stop answering.
#[derive(Clone)]
struct HangingLock {
    lock: MemoryLock,
    hangs: Arc<AtomicBool>,
}

impl HangingLock {
    fn hang(&self, hangs: bool) {
        self.hangs.store(hangs, Ordering::SeqCst);
    }
}

impl Lock for HangingLock {
    async fn try_acquire(&self, name: &str, ttl: Duration) -> Result<lock::Attempt, Fault> {
        if self.hangs.load(Ordering::SeqCst) {
            pending::<()>().await;
        }
        Ok(match self.lock.try_acquire(name, ttl).await? {
            lock::Attempt::Granted(lease) => {
                let (fence, validity) = (lease.fence(), Validity::since(Instant::now(), ttl));
                let backend = HangingLease { lease, hangs: self.hangs.clone() };
                lock::Attempt::Granted(Lease::new(name, fence, ttl, validity, backend))
            }
            held => held,
        })
    }

    async fn acquire(&self, name: &str, ttl: Duration, deadline: Instant) -> Result<Lease, Fault> {
        self.lock.acquire(name, ttl, deadline).await
    }
}

struct HangingLease {
    lease: Lease,
    hangs: Arc<AtomicBool>,
}

impl LeaseBackend for HangingLease {
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
