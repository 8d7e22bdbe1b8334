//! 1, 100 and 10,000 tasks ask for one cold key whose load takes 10 ms: the time until all have their
//! answer, and what it cost in CPU time over all threads.

use std::{sync::Arc, time::Duration};

use cattleguard::{Guard, Loaded};
use criterion::{
    BatchSize, BenchmarkId, Criterion, criterion_group, criterion_main,
    measurement::{Measurement, ValueFormatter, WallTime},
};
use rustix::time::{ClockId, clock_gettime};
use tokio::{runtime::Runtime, task::JoinSet};

const LOAD: Duration = Duration::from_millis(10);

async fn load() -> u64 {
    tokio::time::sleep(LOAD).await;
    7
}

/// Answers all of `tasks` callers, each a task that `caller` makes.
async fn all<F>(tasks: usize, caller: impl Fn() -> F)
where
    F: Future<Output = u64> + Send + 'static,
{
    let mut callers = JoinSet::new();
    for _ in 0..tasks {
        callers.spawn(caller());
    }
    let mut answered = 0;
    while let Some(answer) = callers.join_next().await {
        assert_eq!(answer.expect("a task"), 7);
        answered += 1;
    }
    assert_eq!(answered, tasks);
}

async fn through_cattleguard(guard: Guard<u64, u64>) -> u64 {
    let load = || async { Ok::<_, std::io::Error>(Loaded::found(load().await, 1)) };
    let fetched = guard.fetch(&1, load).await;
    *fetched.expect("an answer").value().expect("a value")
}

async fn through_quick_cache(cache: Arc<quick_cache::sync::Cache<u64, u64>>) -> u64 {
    let load = async { Ok::<_, std::io::Error>(load().await) };
    cache.get_or_insert_async(&1, load).await.expect("an answer")
}

async fn through_moka(cache: moka::future::Cache<u64, u64>) -> u64 {
    cache.get_with(1, load()).await
}

/// The CPU time of the whole process.
struct CpuTime;

impl Measurement for CpuTime {
    type Intermediate = Duration;
    type Value = Duration;

    fn start(&self) -> Duration {
        clock_gettime(ClockId::ProcessCPUTime).try_into().expect("a time since the start")
    }

    fn end(&self, begun: Duration) -> Duration {
        self.start().saturating_sub(begun)
    }

    fn add(&self, one: &Duration, other: &Duration) -> Duration {
        *one + *other
    }

    fn zero(&self) -> Duration {
        Duration::ZERO
    }

    fn to_f64(&self, value: &Duration) -> f64 {
        WallTime.to_f64(value)
    }

    fn formatter(&self) -> &dyn ValueFormatter {
        WallTime.formatter()
    }
}

fn wall_time(c: &mut Criterion) {
    herd(c, "herd", &[1, 100, 10_000]);
}

fn cpu_time(c: &mut Criterion<CpuTime>) {
    herd(c, "herd, CPU time", &[10_000]);
}

fn herd<M: Measurement + 'static>(c: &mut Criterion<M>, name: &str, sizes: &[usize]) {
    let runtime = Runtime::new().expect("a runtime");
    let mut group = c.benchmark_group(name);
    group.sample_size(20).measurement_time(Duration::from_secs(4));
    for &tasks in sizes {
        group.bench_function(BenchmarkId::new("cattleguard", tasks), |b| {
            b.to_async(&runtime).iter_batched(
                || Guard::<u64, u64>::builder().build(),
                |guard| all(tasks, move || through_cattleguard(guard.clone())),
                BatchSize::PerIteration,
            );
        });
        group.bench_function(BenchmarkId::new("quick_cache", tasks), |b| {
            b.to_async(&runtime).iter_batched(
                || Arc::new(quick_cache::sync::Cache::<u64, u64>::new(1000)),
                |cache| all(tasks, move || through_quick_cache(cache.clone())),
                BatchSize::PerIteration,
            );
        });
        group.bench_function(BenchmarkId::new("moka", tasks), |b| {
            b.to_async(&runtime).iter_batched(
                || moka::future::Cache::<u64, u64>::new(1000),
                |cache| all(tasks, move || through_moka(cache.clone())),
                BatchSize::PerIteration,
            );
        });
    }
    group.finish();
}

criterion_group!(wall, wall_time);
criterion_group!(
    name = cpu;
    config = Criterion::default().with_measurement(CpuTime);
    targets = cpu_time
);
criterion_main!(wall, cpu);
