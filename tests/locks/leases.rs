//! When a lease ends, over a system that answers when the test lets it. Paused time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use cattleguard::{
    Fault, FaultKind,
    lock::{Lease, LeaseBackend, Renewal, Validity},
};
use tokio::{
    sync::Semaphore,
    time::{Instant, sleep, timeout},
};

const TTL: Duration = Duration::from_secs(9);

/// A system that carries out each renewal and answers it when it is let.
#[derive(Clone)]
struct System {
    answers: Arc<Semaphore>,
    asked: Arc<AtomicU32>,
    answered: Arc<AtomicU32>,
    released: Arc<AtomicU32>,
    says: fn() -> Result<Renewal, Fault>,
}

impl System {
    fn lease(says: fn() -> Result<Renewal, Fault>) -> (Self, Lease) {
        let count = Arc::<AtomicU32>::default;
        let answers = Arc::new(Semaphore::new(0));
        let system = Self { answers, asked: count(), answered: count(), released: count(), says };
        let validity = Validity::since(Instant::now(), TTL);
        (system.clone(), Lease::new("name", 1, TTL, validity, system))
    }

    fn lets(&self, answers: usize) {
        self.answers.add_permits(answers);
    }
}

impl LeaseBackend for System {
    async fn renew(&mut self, _: Duration) -> Result<Renewal, Fault> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        self.answers.acquire().await.expect("never closed").forget();
        self.answered.fetch_add(1, Ordering::SeqCst);
        (self.says)()
    }

    async fn release(self) -> Result<(), Fault> {
        self.released.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }
}

fn renewed() -> Result<Renewal, Fault> {
    Ok(Renewal::Renewed)
}

pub async fn work_ends_with_its_lease_while_a_renewal_hangs() {
    let (system, lease) = System::lease(renewed);
    let begin = Instant::now();
    let ended = lease.run(sleep(TTL * 10)).await.expect_err("it was not renewed");
    assert_eq!(ended.kind(), FaultKind::Lost);
    assert_eq!(begin.elapsed().as_secs(), TTL.as_secs());
    assert_eq!(system.asked.load(Ordering::SeqCst), 1, "it hangs");
}

pub async fn a_renewal_is_whole_when_the_work_ends() {
    let (system, lease) = System::lease(renewed);
    lease.run(sleep(TTL / 2)).await.expect("done in time");
    assert_eq!(system.asked.load(Ordering::SeqCst), 1);
    system.lets(1);
    while system.answered.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    assert!(!lease.is_lost());
}

pub async fn a_lease_kept_alive_is_renewed_at_a_third_of_its_ttl() {
    let (system, lease) = System::lease(renewed);
    system.lets(100);
    lease.keep_alive();
    lease.keep_alive();
    assert!(timeout(TTL * 2 + TTL / 6, lease.lost()).await.is_err());
    assert_eq!(system.asked.load(Ordering::SeqCst), 6);
    drop(lease);
    sleep(TTL).await;
    assert_eq!(system.asked.load(Ordering::SeqCst), 6, "a dropped lease is renewed no more");
    assert_eq!(system.released.load(Ordering::SeqCst), 1);
}

pub async fn a_failed_renewal_is_repeated_until_the_end() {
    let (system, lease) = System::lease(|| Err(FaultKind::Unreachable.into()));
    system.lets(100);
    let begin = Instant::now();
    lease.keep_alive();
    lease.lost().await;
    assert_eq!(begin.elapsed().as_secs(), TTL.as_secs());
    assert!(system.asked.load(Ordering::SeqCst) > 3);
    assert_eq!(lease.renew().await.expect_err("too late").kind(), FaultKind::Lost);
}

pub async fn the_servers_no_ends_the_lease_at_once() {
    let (system, lease) = System::lease(|| Ok(Renewal::Lost));
    system.lets(1);
    let lost = lease.lost();
    assert_eq!(lease.renew().await.expect_err("refused").kind(), FaultKind::Lost);
    lost.await;
    assert!(lease.is_lost());
}

pub async fn an_answer_after_the_end_does_not_revive_the_lease() {
    let (system, lease) = System::lease(renewed);
    let asking = tokio::spawn(async move { (lease.renew().await, lease) });
    sleep(TTL + Duration::from_secs(1)).await;
    system.lets(1);
    let (late, lease) = asking.await.expect("a task");
    assert_eq!(late.expect_err("its end has passed").kind(), FaultKind::Lost);
    assert!(lease.is_lost());
}

pub async fn a_shorter_end_counts_from_the_call_on() {
    let (system, lease) = System::lease(|| Err(FaultKind::Timeout.into()));
    system.lets(1);
    let begin = Instant::now();
    lease.renew_for(TTL / 3).await.expect_err("its answer was lost");
    lease.lost().await;
    assert_eq!(begin.elapsed().as_secs(), TTL.as_secs() / 3);
}

pub async fn a_bound_holds_whatever_the_ttl() {
    let begin = Instant::now();
    let validity = Validity::since(begin, TTL);
    validity.bound(begin + TTL / 3);
    sleep(TTL / 6).await;
    validity.bound(Instant::now() + TTL / 3);
    validity.ended().await;
    assert_eq!(begin.elapsed(), TTL / 6 + TTL / 3);
    // What has ended stays so.
    validity.bound(Instant::now() + TTL);
    assert!(validity.has_ended());
}

pub async fn the_longest_ttl_is_no_panic() {
    let validity = Validity::since(Instant::now(), Duration::MAX);
    let (system, _) = System::lease(renewed);
    system.lets(1);
    let lease = Lease::new("name", 1, Duration::MAX, validity, system);
    lease.renew().await.expect("renewed");
    lease.release().await.expect("a release");
}
