//! A near hit: through the guard and through the tower service, beside the map it is built on; and with a
//! recorder that counts it. Allocations are counted, and any is a failure.

use std::{
    alloc::System,
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use cattleguard::{Guard, GuardLayer, Key, Loaded, LoadingGuard, Policy};
use criterion::{
    BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime,
};
use futures::FutureExt;
use metrics_exporter_prometheus::PrometheusBuilder;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use tower::{Layer, Service, service_fn};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

static LOADS: AtomicUsize = AtomicUsize::new(0);

async fn load() -> Result<Loaded<[u8; 200]>, std::io::Error> {
    LOADS.fetch_add(1, Ordering::Relaxed);
    Ok(Loaded::found([7; 200], 1))
}

fn hit(c: &mut Criterion) {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().build().expect("a runtime");
    let _inside = runtime.enter();
    let mut group = c.benchmark_group("hit");

    maps(&mut group);
    // Long enough for every hit of a measurement to be a near hit.
    let hour = std::time::Duration::from_secs(3600);
    let policy = Policy::default().ttl(hour).near_ttl(hour);
    let guard: Guard<str, [u8; 200]> = Guard::builder().policy(policy.clone()).build();
    runtime.block_on(guard.fetch("product:42", load)).expect("a load");
    let fetch = || guard.fetch(black_box("product:42"), load).now_or_never();
    no_allocations("Guard::fetch", || drop(fetch()));
    group.bench_function("Guard::fetch", |b| b.iter(fetch));

    let recorder = PrometheusBuilder::new().build_recorder();
    let build = || Guard::builder().name("bench").policy(policy.clone()).build();
    let counted: Guard<str, [u8; 200]> = metrics::with_local_recorder(&recorder, build);
    runtime.block_on(counted.fetch("product:42", load)).expect("a load");
    let fetch = || counted.fetch(black_box("product:42"), load).now_or_never();
    no_allocations("Guard::fetch, with a recorder", || drop(fetch()));
    let page = recorder.handle().render();
    let hits = r#"cattleguard_fetches_total{guard="bench",outcome="hit_near"} 1001"#;
    assert!(page.contains(hits), "{page}");
    group.bench_function("Guard::fetch, with a recorder", |b| b.iter(fetch));

    let numbers: Guard<u64, [u8; 200]> = Guard::builder().policy(policy.clone()).build();
    runtime.block_on(numbers.fetch(&42, load)).expect("a load");
    let fetch = || numbers.fetch(black_box(&42), load).now_or_never();
    no_allocations("Guard::fetch, integer key", || drop(fetch()));
    group.bench_function("Guard::fetch, integer key", |b| b.iter(fetch));

    let products: LoadingGuard<str, [u8; 200]> =
        Guard::builder().policy(policy).loader(|_: String| load()).build();
    runtime.block_on(products.get("product:42")).expect("a load");
    let get = || products.get(black_box("product:42")).now_or_never();
    no_allocations("LoadingGuard::get", || drop(get()));
    group.bench_function("LoadingGuard::get", |b| b.iter(get));

    let layer = GuardLayer::by_name(Guard::clone(&products), |request: &&str| Some(request.name()));
    let mut service = layer.layer(service_fn(|_: &str| load()));
    let mut call = || service.call(black_box("product:42")).now_or_never();
    no_allocations("tower service, string key", || drop(call()));
    group.bench_function("tower service, string key", |b| b.iter(&mut call));

    let layer = GuardLayer::new(numbers, |request: &u64| Some(*request));
    let mut service = layer.layer(service_fn(|_: u64| load()));
    let mut call = || service.call(black_box(42)).now_or_never();
    no_allocations("tower service", || drop(call()));
    group.bench_function("tower service", |b| b.iter(&mut call));

    assert_eq!(LOADS.load(Ordering::Relaxed), 4, "a hit is not a load");
    group.finish();
}

/// What others are.
fn maps(group: &mut BenchmarkGroup<'_, WallTime>) {
    let map = quick_cache::sync::Cache::<Arc<str>, Arc<[u8; 200]>>::new(10_000);
    map.insert("product:42".into(), Arc::new([7; 200]));
    group.bench_function("quick_cache", |b| b.iter(|| map.get(black_box("product:42"))));
    let map = moka::sync::Cache::<String, Arc<[u8; 200]>>::new(10_000);
    map.insert("product:42".into(), Arc::new([7; 200]));
    group.bench_function("moka", |b| b.iter(|| map.get(black_box("product:42"))));
}

fn no_allocations(what: &str, mut hit: impl FnMut()) {
    hit();
    let region = Region::new(ALLOCATOR);
    for _ in 0..1000 {
        hit();
    }
    let change = region.change();
    assert_eq!((change.allocations, change.reallocations), (0, 0), "{what} allocates");
    println!("{what}: 0 allocations in 1000 hits");
}

criterion_group! {
    name = benches;
    config = Criterion::default();
    targets = hit
}
criterion_main!(benches);
