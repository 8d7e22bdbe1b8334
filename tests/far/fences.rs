//! What a record does with the fencing tokens of a lock somewhere else.
//!
//! A load is opened at its record with the token that the lock granted, and stays open until it is
//! committed, released, failed, overtaken by a greater token, or revoked by a put or an invalidation. The
//! processes of these tests hear no messages, and each lock renews all that it granted, so what one of them
//! is refused it is refused by the record.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use cattleguard::{
    Entry, Fault, FaultKind, Version,
    codec::Json,
    far::{Attempt, Commit, Far, Grant, Put, Record, Renewal, Token},
    redis::ElectedFar,
};
use futures::future::join;
use libtest_mimic::Trial;

use crate::{
    contract::{LONG, fresh_name},
    scripted_lock::ScriptedLock,
    setup::{self, Servers, TIMEOUT, Tier, trials},
};

pub fn trials(servers: &Arc<Servers>) -> Vec<Trial> {
    trials!(
        servers, "fences";
        a_stale_fencing_token_is_refused,
        only_the_open_load_writes,
        a_load_that_begins_again_is_the_same,
        an_entry_is_a_hit_only_if_it_stays_fresh_for_long_enough,
        a_failed_load_makes_the_next_back_off_and_is_counted,
        a_back_off_is_nobodys_load,
    )
}

/// A process with a lock of its own, that hears of the others by the records alone.
#[derive(Clone)]
pub struct Process {
    far: ElectedFar<String, Json, ScriptedLock>,
    lock: ScriptedLock,
}

impl Process {
    pub fn on(url: &str) -> Self {
        let lock = ScriptedLock::default();
        let far = Tier::new(setup::without_messages(url), Json).elected_by(lock.clone());
        Self { far: far.lock_timeout(TIMEOUT), lock }
    }

    /// The answer to one question, with this token from the lock.
    async fn ask(
        &self,
        name: &str,
        fence: u64,
        fresh_for: Duration,
    ) -> Result<(Token, Attempt<String>), Fault> {
        self.lock.grant(fence);
        let token = Token::random();
        let attempt = self.far.look_up_or_lease(name, token, LONG, fresh_for).await?;
        Ok((token, attempt))
    }

    /// The same, for a process that looked up before `event` and gets the lock after it.
    async fn ask_around(
        &self,
        name: &str,
        fence: u64,
        fresh_for: Duration,
        event: impl Future<Output = ()>,
    ) -> Attempt<String> {
        self.lock.stall();
        let asking = self.far.look_up_or_lease(name, Token::random(), LONG, fresh_for);
        let event = async {
            self.lock.asked().await;
            event.await;
            self.lock.grant(fence);
        };
        join(asking, event).await.0.expect("an answer")
    }

    /// The load that this token opens, or none: a greater one was seen.
    async fn open(&self, name: &str, fence: u64) -> Option<(Token, Grant)> {
        // What was written stale is stale a moment later, and some back-offs are short.
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(10) {
            match self.ask(name, fence, Duration::ZERO).await {
                Ok((token, Attempt::Granted(grant))) => return Some((token, grant)),
                Ok((_, Attempt::Hit(_) | Attempt::BackOff { .. })) => {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                Ok((_, other)) => panic!("{other:?}"),
                Err(fault) => {
                    assert_eq!(fault.kind(), FaultKind::Refused, "{fault:?}");
                    assert!(fault.to_string().contains("fencing token"), "{fault}");
                    return None;
                }
            }
        }
        panic!("the entry stays fresh, or the back-off lasts");
    }

    pub async fn opened(&self, name: &str, fence: u64) -> Token {
        self.open(name, fence).await.expect("an open load").0
    }

    pub async fn is_fenced(&self, name: &str, fence: u64) -> bool {
        self.open(name, fence).await.is_none()
    }

    fn record(&self, value: &str, version: u64, ttl: Duration) -> Record<String> {
        let until = Far::<String>::clock(&self.far).now().after(ttl);
        let entry = Arc::new(Entry::new(Some(value.to_owned()), Version::new(version), until));
        Record::new(entry, ttl, LONG)
    }

    fn stale(&self, value: &str, version: u64) -> Record<String> {
        self.record(value, version, Duration::from_millis(1))
    }

    async fn put_stale(&self, name: &str, version: u64) {
        let put = self.far.put(name, self.stale("put", version)).await;
        assert!(matches!(put, Ok(Put::Stored(_))), "{put:?}");
    }

    pub async fn invalidate(&self, name: &str, version: Option<u64>) {
        let version = version.map(Version::new);
        let done = Far::<String>::invalidate(&self.far, name, version, LONG).await;
        done.expect("an invalidation");
    }

    async fn renew(&self, name: &str, load: Token) -> Renewal {
        Far::<String>::renew(&self.far, name, load, LONG).await.expect("an answer")
    }

    async fn release(&self, name: &str, load: Token) {
        Far::<String>::release(&self.far, name, load).await.expect("an answer");
    }

    async fn fail(&self, name: &str, load: Token, back_off: Duration) {
        Far::<String>::fail(&self.far, name, load, back_off).await.expect("an answer");
    }

    /// A commit of a load that is not the open one.
    async fn cannot_commit(&self, name: &str, load: Token, why: &str) {
        let refused = self.far.commit(name, load, self.record("late", 9, LONG)).await;
        assert!(matches!(refused, Ok(Commit::Lost)), "{why}: {refused:?}");
    }
}

/// A name that is spelt in Redis as it is here.
fn plain_name() -> String {
    format!("evicted{}", fastrand::u64(..))
}

/// As an eviction does.
async fn evict(url: &str, name: &str) {
    let client = redis::Client::open(url).expect("a URL");
    let mut link = client.get_multiplexed_async_connection().await.expect("a connection");
    let mut delete = redis::cmd("DEL");
    // The entry is `cgs:{:name}`, and its open load beside it.
    delete.arg(format!("cgs:{{:{name}}}")).arg(format!("cgs:{{:{name}}}:l"));
    let deleted: u32 = delete.query_async(&mut link).await.expect("an answer");
    assert!(deleted > 0, "nothing was there");
}

async fn a_stale_fencing_token_is_refused(on: Arc<Servers>) {
    let url = on.redis();
    let (one, other) = (Process::on(&url), Process::on(&url));
    for fence in [2, 1 << 32, (1 << 53) + 1, 1 << 63, u64::MAX - 1] {
        let name = fresh_name();
        let early = one.opened(&name, fence - 1).await;
        let again = one.opened(&name, fence - 1).await;
        // While another load is open.
        let current = other.opened(&name, fence).await;
        assert!(one.is_fenced(&name, fence - 1).await, "{fence}");
        one.cannot_commit(&name, early, "overtaken").await;
        // When it has written.
        let stored = other.far.commit(&name, current, other.stale("current", 5)).await;
        assert!(matches!(stored, Ok(Commit::Stored(_))), "{stored:?}");
        assert!(one.is_fenced(&name, fence - 1).await, "{fence}");
        one.cannot_commit(&name, again, "written").await;
        // When it was revoked, by an invalidation or by a put.
        other.opened(&name, fence).await;
        one.invalidate(&name, None).await;
        assert!(one.is_fenced(&name, fence - 1).await, "{fence}");
        assert!(one.is_fenced(&name, fence).await, "the load that was revoked: {fence}");
        other.opened(&name, fence + 1).await;
        one.put_stale(&name, 6).await;
        assert!(one.is_fenced(&name, fence).await, "{fence}");
    }
}

async fn only_the_open_load_writes(on: Arc<Servers>) {
    let url = on.redis();
    let (one, other) = (Process::on(&url), Process::on(&url));
    let name = plain_name();
    one.cannot_commit(&name, Token::random(), "never begun").await;
    let load = one.opened(&name, 1).await;
    evict(&url, &name).await;
    one.cannot_commit(&name, load, "unknown to the record").await;
    for revoke in ["invalidate", "put", "overtake", "release"] {
        let name = fresh_name();
        // The same load, four times.
        let load = one.opened(&name, 7).await;
        let late = one.opened(&name, 7).await;
        let released = one.opened(&name, 7).await;
        let released_late = one.opened(&name, 7).await;
        assert_eq!(one.renew(&name, load).await, Renewal::Renewed);
        let mut next = None;
        match revoke {
            "invalidate" => other.invalidate(&name, None).await,
            "put" => other.put_stale(&name, 1).await,
            "overtake" => next = Some(other.opened(&name, 8).await),
            _ => one.release(&name, released).await,
        }
        assert_eq!(one.renew(&name, load).await, Renewal::Lost, "{revoke}");
        one.cannot_commit(&name, late, revoke).await;
        one.release(&name, released_late).await;
        if let Some(next) = next {
            let stored = other.far.commit(&name, next, other.record("next", 1, LONG)).await;
            assert!(matches!(stored, Ok(Commit::Stored(_))), "{stored:?}");
        }
    }
}

async fn a_load_that_begins_again_is_the_same(on: Arc<Servers>) {
    let one = Process::on(&on.redis());
    let name = fresh_name();
    one.invalidate(&name, Some(4)).await;
    let mut loads = Vec::new();
    for _ in 0..2 {
        let (load, grant) = one.open(&name, 3).await.expect("an open load");
        assert_eq!((grant.fence, grant.minimum), (3, Version::new(4)));
        loads.push(load);
    }
    let older = one.far.commit(&name, loads[0], one.record("older", 3, LONG)).await;
    assert!(matches!(older, Ok(Commit::Older { minimum }) if minimum == Version::new(4)));
    one.cannot_commit(&name, loads[1], "closed with the one that it is").await;
    let load = one.opened(&name, 3).await;
    let stored = one.far.commit(&name, load, one.record("fresh", 4, LONG)).await;
    assert!(matches!(stored, Ok(Commit::Stored(_))), "{stored:?}");
    let (_, hit) = one.ask(&name, 4, Duration::ZERO).await.expect("an answer");
    let is_it = |entry: &Entry<String>| entry.value().is_some_and(|value| value == "fresh");
    assert!(matches!(&hit, Attempt::Hit(entry) if is_it(entry)), "{hit:?}");
}

async fn an_entry_is_a_hit_only_if_it_stays_fresh_for_long_enough(on: Arc<Servers>) {
    let one = Process::on(&on.redis());
    for (fresh_for, enough) in [(Duration::ZERO, true), (LONG / 2, true), (LONG * 2, false)] {
        let name = fresh_name();
        // Once written before the lock is granted, and once before it is asked.
        let put = async {
            let _ = one.far.put(&name, one.record("a", 1, LONG)).await.expect("an answer");
        };
        let at_record = one.ask_around(&name, 1, fresh_for, put).await;
        let (_, before_lock) = one.ask(&name, 2, fresh_for).await.expect("an answer");
        for answer in [at_record, before_lock] {
            let hit = matches!(answer, Attempt::Hit(_));
            let granted = matches!(answer, Attempt::Granted(_));
            assert_eq!((hit, granted), (enough, !enough), "{fresh_for:?}: {answer:?}");
        }
    }
}

async fn a_failed_load_makes_the_next_back_off_and_is_counted(on: Arc<Servers>) {
    let url = on.redis();
    for (ended_by, fence) in [("invalidate", 1), ("put", 1 << 63), ("time", 7)] {
        let (one, other) = (Process::on(&url), Process::on(&url));
        let name = plain_name();
        let is_long = ended_by != "time";
        let back_off = if is_long { LONG } else { Duration::from_millis(50) };
        let stranger = other.opened(&name, fence + 1).await;
        evict(&url, &name).await;
        // The same load, several times.
        let mut loads = Vec::new();
        for _ in 0..6 {
            loads.push(one.opened(&name, fence).await);
        }
        let [open, first, second, renewed, released, late] = loads[..] else { panic!() };
        other.fail(&name, stranger, back_off).await;
        assert_eq!(one.renew(&name, open).await, Renewal::Renewed);
        let fail = async {
            one.fail(&name, first, back_off).await;
            one.fail(&name, second, back_off).await;
        };
        if is_long {
            // Closed, and what is said in its name ends no back-off.
            let at_record = other.ask_around(&name, fence + 1, Duration::ZERO, fail).await;
            assert_eq!(one.renew(&name, renewed).await, Renewal::Lost);
            one.release(&name, released).await;
            one.cannot_commit(&name, late, "failed").await;
            let before_lock = other.ask(&name, fence + 1, Duration::ZERO).await;
            for answer in [at_record, before_lock.expect("an answer").1] {
                let Attempt::BackOff { remaining } = answer else { panic!("{answer:?}") };
                assert!(remaining < LONG * 2 && remaining > LONG / 2, "{remaining:?}");
            }
        } else {
            fail.await;
        }
        match ended_by {
            "invalidate" => other.invalidate(&name, None).await,
            "put" => other.put_stale(&name, 1).await,
            _ => {}
        }
        // Nor does a back-off, or its end, forget the fencing token.
        assert!(other.is_fenced(&name, fence - 1).await, "{ended_by}");
        if is_long {
            assert!(other.is_fenced(&name, fence).await, "{ended_by}");
        }
        let (_, grant) = other.open(&name, fence + 1).await.expect("an open load");
        assert_eq!(grant.failures, u32::from(!is_long), "{ended_by}");
    }
}

/// Also for the least of all fencing tokens.
async fn a_back_off_is_nobodys_load(on: Arc<Servers>) {
    let one = Process::on(&on.redis());
    let name = fresh_name();
    let load = one.opened(&name, 0).await;
    let [renewed, released] = [one.opened(&name, 0).await, one.opened(&name, 0).await];
    one.fail(&name, load, LONG).await;
    assert_eq!(one.renew(&name, renewed).await, Renewal::Lost);
    one.release(&name, released).await;
    let (_, answer) = one.ask(&name, 0, Duration::ZERO).await.expect("an answer");
    assert!(matches!(answer, Attempt::BackOff { .. }), "{answer:?}");
}
