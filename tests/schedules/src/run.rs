//! How a scenario is run: in many schedules, each of which can be replayed.

use std::{
    cell::Cell,
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};
use shuttle::{
    Config, FailurePersistence, MaxSteps, Runner,
    rand::RngCore,
    scheduler::{
        PctScheduler, RandomScheduler, ReplayScheduler, Schedule, Scheduler, Task, TaskId,
        UncontrolledNondeterminismCheckScheduler,
    },
};
use tokio::{task::Alive, time::Instant};

/// What runs in each schedule: an async function that panics if something is not as promised.
pub struct Scenario {
    pub name: &'static str,
    pub body: fn() -> BoxFuture<'static, ()>,
}

/// Who decides which task runs next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Schedules {
    /// Any that can, at each step.
    Random,
    /// Probabilistic concurrency testing: the one of the highest priority, with changes of priority at `DEPTH - 1`
    /// steps. It finds in few schedules what needs one task to stand still for long.
    Pct,
    /// Random ones, each a second time: a scenario whose steps do not repeat could not be replayed.
    Twice,
}

/// How many orderings of steps a fault may need to be found by PCT for certain, in the long run.
const DEPTH: usize = 3;
/// How long a time may pass at any moment: others would end before what is short has begun.
const AT_ANY_MOMENT: Duration = Duration::from_secs(60);
/// Beyond, a scenario is said to run in a circle.
const STEPS: usize = 100_000;

impl Schedules {
    pub const ALL: [Self; 3] = [Self::Random, Self::Pct, Self::Twice];

    pub fn name(self) -> &'static str {
        match self {
            Self::Random => "random",
            Self::Pct => "pct",
            Self::Twice => "twice",
        }
    }
}

impl Scenario {
    /// Runs it `times` times, or once as `REPLAY` has it: a file with a schedule. A schedule that fails becomes such
    /// a file in the folder `failing`.
    pub fn run(&self, schedules: Schedules, times: usize, failing: &Path) {
        let run = |scheduler| run(scheduler, self.body, failing);
        let random = |times| TimeLast(RandomScheduler::new(times));
        if let Some(file) = env::var_os("REPLAY") {
            let replay = ReplayScheduler::new_from_file(PathBuf::from(file));
            return run(Box::new(replay.expect("REPLAY names a file with a schedule")));
        }
        match schedules {
            Schedules::Random => run(Box::new(random(times))),
            Schedules::Pct => run(Box::new(TimeLast(PctScheduler::new(DEPTH, times)))),
            Schedules::Twice => {
                let random = random(times.div_ceil(20));
                run(Box::new(UncontrolledNondeterminismCheckScheduler::new(random)));
            }
        }
    }
}

fn run(scheduler: Box<dyn Scheduler + Send>, body: fn() -> BoxFuture<'static, ()>, failing: &Path) {
    let mut config = Config::new();
    config.stack_size = 1 << 20;
    config.max_steps = MaxSteps::FailAfter(STEPS);
    config.silence_warnings = true;
    config.failure_persistence = FailurePersistence::File(Some(failing.to_owned()));
    Runner::new(scheduler, config).run(move || {
        tokio::time::keep();
        PASSES_AT_ANY_MOMENT.set(false);
        // The library's jitters, as the schedule has them.
        fastrand::seed(shuttle::rand::thread_rng().next_u64());
        shuttle::future::block_on(async move {
            body().await;
            // Guards are gone by now: so are their tasks, or will be.
            tokio::task::none_left().await;
        });
    });
}

thread_local! {
    static PASSES_AT_ANY_MOMENT: Cell<bool> = const { Cell::new(false) };
}

/// From now on sleeps and timeouts of up to a minute may end while others could run: as in a process that stands
/// still for a while. Otherwise time passes only when nothing else can run.
pub fn time_passes_at_any_moment() {
    PASSES_AT_ANY_MOMENT.set(true);
}

pub fn does_time_pass_at_any_moment() -> bool {
    PASSES_AT_ANY_MOMENT.get()
}

/// As it was at the beginning.
pub fn time_passes_when_idle() {
    PASSES_AT_ANY_MOMENT.set(false);
}

/// Lets the keeper of time run last.
struct TimeLast<S>(S);

impl<S: Scheduler> Scheduler for TimeLast<S> {
    fn new_execution(&mut self) -> Option<Schedule> {
        self.0.new_execution()
    }

    fn next_task(
        &mut self,
        runnable: &[&Task],
        current: Option<TaskId>,
        is_yielding: bool,
    ) -> Option<TaskId> {
        let may_pass = PASSES_AT_ANY_MOMENT.get()
            && tokio::time::next_end().is_some_and(|end| end <= Instant::now() + AT_ANY_MOMENT);
        if may_pass || runnable.len() == 1 {
            return self.0.next_task(runnable, current, is_yielding);
        }
        // The second task of each execution: see `tokio::time::keep`.
        let keeper = TaskId::from(1);
        let others: Vec<_> = runnable.iter().copied().filter(|task| task.id() != keeper).collect();
        self.0.next_task(&others, current, is_yielding)
    }

    fn next_u64(&mut self) -> u64 {
        self.0.next_u64()
    }
}

/// A caller of its own. A panic in it fails the scenario.
pub struct Caller<T>(shuttle::future::JoinHandle<T>);

pub fn caller<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Caller<T> {
    let alive = Alive::new();
    Caller(shuttle::future::spawn(work.inspect(move |_| drop(alive))))
}

impl<T> Caller<T> {
    pub async fn answer(self) -> T {
        self.0.await.expect("it was not dropped")
    }

    /// Drops it, wherever it is.
    pub fn drop_it(&self) {
        self.0.abort();
    }

    pub fn is_over(&self) -> bool {
        self.0.is_finished()
    }

    /// What it had to say, if it was not dropped before.
    pub async fn answer_if_there(self) -> Option<T> {
        self.0.await.ok()
    }
}

/// Lets others run.
pub async fn pause() {
    tokio::task::yield_now().await;
}

/// A number below `below`, as the schedule has it.
pub fn choose(below: u64) -> u64 {
    shuttle::rand::thread_rng().next_u64() % below
}

/// Longer than anything takes.
pub const NEVER: Duration = Duration::from_secs(3_600);

macro_rules! scenarios {
    ($($name:ident),+ $(,)?) => {
        pub(crate) const SCENARIOS: &[$crate::run::Scenario] = &[$($crate::run::Scenario {
            name: stringify!($name),
            body: || Box::pin($name()),
        }),+];
    };
}
pub(crate) use scenarios;
