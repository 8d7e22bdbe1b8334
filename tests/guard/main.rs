//! The guard's promises, one test each. Time is paused and moves only when everything waits, so a
//! test that measures time measures the guard and not the machine; "several processes" are several
//! guards on clones of one `MemoryFar`.

use std::{future::Future, time::Duration};

use cattleguard::{Clock, Error, Fetched, Guard, GuardBuilder, Policy, far, memory::MemoryFar};
use tokio::{task::JoinHandle, time::Instant};

mod batch;
mod bounds;
mod coherence;
mod deadlines;
mod early;
mod ending;
mod events;
mod failing;
mod faults;
mod flights;
mod gate;
mod invalidation;
mod loader;
mod metrics;
mod origin;
mod outage;
mod quiet;
mod race;
mod room;
mod stale;
mod storms;
mod tags;
mod tiers;
mod tower;
#[expect(dead_code, reason = "the tests of the HTTP cache use the rest")]
mod wire;

use self::{origin::Origin, wire::Wire};

type Answer = Result<Fetched<String>, Error>;
type TestGuard = Guard<str, String>;

/// A store that processes share, on tokio's clock.
fn memory() -> MemoryFar<String> {
    MemoryFar::with(1_000, Clock::tokio())
}

/// Entries live exactly as long as the test says, stale ones are not served, and a failed load is
/// forgotten.
fn plain() -> Policy {
    Policy::default()
        .jitter(0.0)
        .early_refresh(0.0)
        .grace(Duration::ZERO)
        .stale_if_error(Duration::ZERO)
        .failure_backoff(Duration::ZERO)
}

fn builder() -> GuardBuilder<str, String> {
    Guard::builder().policy(plain())
}

fn guard_on(far: impl far::Far<String>) -> TestGuard {
    builder().far(far).build()
}

/// A guard that reaches the store over a wire of its own.
fn wired(far: &MemoryFar<String>) -> (TestGuard, Wire) {
    wired_with(far, plain())
}

fn wired_with(far: &MemoryFar<String>, policy: Policy) -> (TestGuard, Wire) {
    let wire = Wire::to(far);
    (builder().policy(policy).far(wire.clone()).build(), wire)
}

/// Callers on tasks of their own.
fn callers(guard: &TestGuard, count: usize, key: &'static str, origin: &Origin) -> Vec<Caller> {
    (0..count).map(|_| caller(guard, key, origin)).collect()
}

type Caller = JoinHandle<(Answer, Instant)>;

fn caller(guard: &TestGuard, key: &'static str, origin: &Origin) -> Caller {
    let (guard, load) = (guard.clone(), origin.load());
    tokio::spawn(async move { (guard.fetch(key, load).await, Instant::now()) })
}

/// What a caller was answered; fails if it is left hanging.
async fn answer(caller: Caller) -> Answer {
    bounded(caller).await.expect("the caller lives").0
}

/// What all were answered.
async fn answers(callers: Vec<Caller>) -> Vec<Answer> {
    let mut answers = Vec::new();
    for caller in callers {
        answers.push(answer(caller).await);
    }
    answers
}

/// What all were answered, and when the last one was.
async fn answers_by(callers: Vec<Caller>) -> (Vec<Answer>, Instant) {
    let (mut answers, mut last) = (Vec::new(), Instant::now());
    for caller in callers {
        let (answer, at) = bounded(caller).await.expect("the caller lives");
        answers.push(answer);
        last = last.max(at);
    }
    (answers, last)
}

/// No promise is longer than this.
async fn bounded<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(300), future).await.expect("somebody hangs")
}

/// Goes on when every task waits: paused time moves only then.
async fn idle() {
    tokio::time::sleep(ms(1)).await;
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn version_of(answer: &Answer) -> u64 {
    answer.as_ref().expect("an answer").version().high()
}
