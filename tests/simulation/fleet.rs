//! The processes, and what they do: callers that ask, writers that write the origin's row and then invalidate or put.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use cattleguard::{Error, Fetched, Guard, Loaded, far};
use parking_lot::Mutex;
use tokio::{
    task::{AbortHandle, JoinHandle},
    time::Instant,
};

use crate::{
    history::{Answer, Deed, Reached},
    life::{Life, pass},
    link::Link,
    mailbox::Mailbox,
    origin::Origin,
    profile::{Plan, Times, ms},
    store::Value,
    world::World,
};

pub(crate) struct Fleet {
    pub(crate) world: Arc<World>,
    pub(crate) origin: Origin,
    pub(crate) plan: Plan,
    ends_at: Instant,
    slots: Mutex<Vec<Arc<Process>>>,
    next_number: AtomicU32,
    running: Mutex<Vec<JoinHandle<()>>>,
}

pub(crate) struct Process {
    pub(crate) number: u32,
    pub(crate) guard: Guard<u64, Value>,
    pub(crate) life: Arc<Life>,
    pub(crate) mailbox: Arc<Mailbox>,
    pub(crate) link: Link,
    tasks: Mutex<Vec<AbortHandle>>,
}

impl Fleet {
    pub(crate) fn start(world: &Arc<World>, plan: Plan) -> Arc<Self> {
        let fleet = Arc::new(Self {
            world: world.clone(),
            origin: Origin::new(world, plan.keys, plan.mood),
            ends_at: Instant::now() + plan.length,
            plan,
            slots: Mutex::default(),
            next_number: AtomicU32::new(0),
            running: Mutex::default(),
        });
        for slot in 0..fleet.plan.processes {
            let process = fleet.process();
            fleet.slots.lock().push(process);
            fleet.begin_to_ask(slot);
        }
        for _ in 0..fleet.plan.writers {
            let writing = tokio::spawn(fleet.clone().keep_writing());
            fleet.running.lock().push(writing);
        }
        fleet
    }

    fn process(&self) -> Arc<Process> {
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let life = Arc::<Life>::default();
        let mailbox = Mailbox::new(number, life.clone());
        let link = Link::new(&self.world, &life, &mailbox);
        let builder = Guard::builder().policy(self.plan.policy.clone());
        let guard = builder.far(link.clone()).build();
        self.world.join(number, &mailbox);
        let subscribing = mailbox.clone();
        tokio::spawn(async move {
            pass(3).await;
            subscribing.connect().await;
        });
        let tasks = Mutex::default();
        Arc::new(Process { number, guard, life, mailbox, link, tasks })
    }

    pub(crate) fn at(&self, slot: u32) -> Arc<Process> {
        self.slots.lock()[slot as usize].clone()
    }

    pub(crate) fn all(&self) -> Vec<Arc<Process>> {
        self.slots.lock().clone()
    }

    /// Puts another process into the place of one that was killed.
    pub(crate) fn restart(self: &Arc<Self>, slot: u32) {
        let process = self.process();
        self.slots.lock()[slot as usize] = process;
        self.begin_to_ask(slot);
    }

    fn begin_to_ask(self: &Arc<Self>, slot: u32) {
        let process = self.at(slot);
        for _ in 0..self.plan.callers {
            let asking = process.spawn(self.clone().keep_asking(process.clone()));
            self.running.lock().push(asking);
        }
    }

    /// Whether all callers and writers come to their end.
    pub(crate) async fn is_done_within(&self, limit: Duration) -> bool {
        let by = Instant::now() + limit;
        loop {
            let Some(running) = self.running.lock().pop() else { return true };
            if tokio::time::timeout_at(by, running).await.is_err() {
                return false;
            }
        }
    }

    fn is_over(&self) -> bool {
        Instant::now() >= self.ends_at
    }

    fn any_key(&self) -> u32 {
        fastrand::u32(..self.plan.keys)
    }

    async fn keep_asking(self: Arc<Self>, process: Arc<Process>) {
        while !self.is_over() {
            tokio::time::sleep(self.plan.asks_within.mul_f64(fastrand::f64())).await;
            match fastrand::u8(..16) {
                0 => self.ask_many(&process).await,
                // A caller that leaves.
                1 => {
                    let asking = self.ask(&process, self.any_key(), None);
                    let _ = tokio::time::timeout(ms(fastrand::u64(..50)), asking).await;
                }
                _ => drop(self.ask(&process, self.any_key(), some_limit()).await),
            }
        }
    }

    /// One caller asks once.
    pub(crate) async fn ask(&self, process: &Process, key: u32, limit: Option<Duration>) -> Answer {
        process.life.awake().await;
        self.world.tick();
        let (origin, life, number) = (self.origin.clone(), process.life.clone(), process.number);
        let load = move || {
            let loading = origin.clone().load(number, life.clone(), vec![u64::from(key)]);
            async move {
                let mut loaded = loading.await?;
                loaded.pop().map(|(_, loaded)| loaded).ok_or(crate::origin::Broken)
            }
        };
        let asked = Instant::now();
        let begun = self.world.record.now();
        let answer = match limit {
            Some(limit) => process.guard.fetch_by(&u64::from(key), asked + limit, load).await,
            None => process.guard.fetch(&u64::from(key), load).await,
        };
        process.life.awake().await;
        let wait = limit.unwrap_or_else(|| self.plan.times.longest_fetch());
        self.answered(process, key, begun, wait, &answer)
    }

    async fn ask_many(&self, process: &Process) {
        process.life.awake().await;
        self.world.tick();
        let keys: Vec<u64> = (0..u64::from(self.plan.keys)).collect();
        let (origin, life, number) = (self.origin.clone(), process.life.clone(), process.number);
        let load = move |keys: Vec<u64>| origin.clone().load(number, life.clone(), keys);
        let begun = self.world.record.now();
        let answers = process.guard.fetch_many(&keys, load).await;
        process.life.awake().await;
        for (key, answer) in keys.into_iter().zip(&answers) {
            let wait = self.plan.times.longest_fetch();
            self.answered(process, key as u32, begun, wait, answer);
        }
    }

    fn answered(
        &self,
        process: &Process,
        key: u32,
        begun: u64,
        wait: Duration,
        answer: &Result<Fetched<Value>, Error>,
    ) -> Answer {
        let outcome = match answer {
            Ok(fetched) => fetched.outcome().as_str(),
            Err(error) => error.as_str(),
        };
        let deadline = begun + wait.as_micros() as u64;
        let is_impatient = wait < ms(1_000) && matches!(answer, Err(Error::DeadlineExceeded));
        let answer = answer_of(answer);
        if is_impatient && self.world.record.now() < deadline + 10_000 {
            // Most loads take longer than that.
            return answer;
        }
        let deed = Deed::Asked { answer, outcome: outcome.to_owned(), deadline };
        self.world.record.ended(begun, process.number, key, deed);
        answer
    }

    async fn keep_writing(self: Arc<Self>) {
        loop {
            tokio::time::sleep(self.plan.writes_within.mul_f64(fastrand::f64())).await;
            if self.is_over() {
                return;
            }
            let process = self.at(fastrand::u32(..self.plan.processes));
            let writing = process.spawn(self.clone().write(process.clone(), self.any_key()));
            // It ends with its process.
            let _ = writing.await;
        }
    }

    /// Writes the row, tells the guard, and asks before and after, there and elsewhere.
    async fn write(self: Arc<Self>, process: Arc<Process>, key: u32) {
        process.life.awake().await;
        let version = self.origin.write(key);
        pass(fastrand::u64(..4)).await;
        for _ in 0..fastrand::u8(1..4) {
            self.ask_soon(&process, key, 25);
        }
        match fastrand::u8(..8) {
            0 | 1 => self.put(&process, key, version).await,
            2 | 3 => drop(self.invalidate(&process, key, None).await),
            _ => drop(self.invalidate(&process, key, Some(version)).await),
        }
        for _ in 0..fastrand::u8(..3) {
            self.ask_soon(&process, key, 20);
        }
        self.ask_soon(&self.at(fastrand::u32(..self.plan.processes)), key, 20);
    }

    fn ask_soon(self: &Arc<Self>, process: &Arc<Process>, key: u32, within_ms: u64) {
        let (this, asking) = (self.clone(), process.clone());
        let soon = ms(fastrand::u64(..within_ms));
        let asking = process.spawn(async move {
            if soon > ms(1) {
                tokio::time::sleep(soon).await;
            }
            this.ask(&asking, key, some_limit()).await;
        });
        self.running.lock().push(asking);
    }

    async fn put(&self, process: &Process, key: u32, version: u64) {
        let source = self.world.record.source();
        let deed = Deed::Put { source, version, is_acknowledged: false };
        let begun = self.world.record.begin(process.number, key, deed);
        let value = Loaded::found(Value { source, version }, version);
        let put = process.guard.put(&u64::from(key), value).await;
        process.life.awake().await;
        self.world.record.end(begun, |deed| {
            if let Deed::Put { is_acknowledged, .. } = deed {
                *is_acknowledged = put.is_ok();
            }
        });
    }

    pub(crate) async fn invalidate(
        &self,
        process: &Process,
        key: u32,
        version: Option<u64>,
    ) -> Reached {
        let deed = Deed::Invalidated { version, reached: Reached::Unacknowledged };
        let begun = self.world.record.begin(process.number, key, deed);
        let key = u64::from(key);
        let invalidating = match version {
            Some(version) => process.guard.invalidate_at(&key, version),
            None => process.guard.invalidate(&key),
        };
        let invalidated = match fastrand::u8(..8) {
            0 => invalidating.unconfirmed().await,
            _ => invalidating.await,
        };
        process.life.awake().await;
        let reached = match invalidated {
            Ok(far::Invalidated::Everywhere) => Reached::Everywhere,
            Ok(_) => Reached::Unconfirmed,
            Err(_) => Reached::Unacknowledged,
        };
        self.world.record.end(begun, |deed| {
            if let Deed::Invalidated { reached: recorded, .. } = deed {
                *recorded = reached;
            }
        });
        reached
    }
}

impl Process {
    /// Runs a task until the process is killed.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
        let running = tokio::spawn(task);
        if self.life.has_ended() {
            running.abort();
        }
        let mut tasks = self.tasks.lock();
        tasks.retain(|task| !task.is_finished());
        tasks.push(running.abort_handle());
        running
    }

    pub(crate) fn kill(&self) {
        self.life.end();
        self.mailbox.end();
        self.tasks.lock().drain(..).for_each(|task| task.abort());
    }
}

impl Times {
    /// How long a caller without a deadline waits, about: for a flight that was closed, and for another one.
    fn longest_fetch(&self) -> Duration {
        2 * (self.wait_timeout + 2 * self.load_timeout)
    }
}

/// A deadline, now and then.
fn some_limit() -> Option<Duration> {
    (fastrand::u8(..4) == 0).then(|| ms(fastrand::u64(5..500)))
}

fn answer_of(answer: &Result<Fetched<Value>, Error>) -> Answer {
    match answer {
        Ok(fetched) => match fetched.value() {
            Some(&Value { source, version }) => Answer::Value { source, version },
            None => Answer::Failed,
        },
        Err(
            Error::Origin(_)
            | Error::FailedElsewhere { .. }
            | Error::LoadPanicked
            | Error::Outdated { .. },
        ) => Answer::OriginFailed,
        Err(Error::LoadTimeout { .. } | Error::WaitTimeout { .. } | Error::DeadlineExceeded) => {
            Answer::TimedOut
        }
        Err(Error::Overloaded { .. }) => Answer::Overloaded,
        Err(_) => Answer::Failed,
    }
}
