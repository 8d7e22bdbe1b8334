//! Numbers and entries of any kind, as the scripts compare and write them.

use std::{fmt::Debug, sync::Arc, time::Duration};

use cattleguard::{
    Entry, Version,
    codec::{Json, Raw},
    far::{Commit, Far, Put, Record},
    redis::RedisFar,
};
use libtest_mimic::Trial;
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, TestRunner},
};
use tokio::{runtime::Handle, task::spawn_blocking};

use crate::{
    bounded,
    contract::{self, LONG, fresh_name},
    fences::Process,
    setup::{self, Servers, TIMEOUT, Tier, trials},
};

pub fn trials(servers: &Arc<Servers>) -> Vec<Trial> {
    trials!(
        servers, "bytes";
        any_two_versions_are_compared_as_integers,
        any_two_fencing_tokens_are_compared_as_integers,
        any_entry_is_read_as_it_was_written,
    )
}

/// Runs a property whose cases ask a server.
async fn holds<S>(cases: u32, strategy: S, property: impl AsyncFn(S::Value) + Send + 'static)
where
    S: Strategy<Value: Debug + Send> + Send + 'static,
{
    let runtime = Handle::current();
    let property = move || {
        // Regressions are kept as tests.
        let config = Config { cases, failure_persistence: None, ..Config::default() };
        TestRunner::new(config).run(&strategy, |case| {
            runtime.block_on(property(case));
            Ok(())
        })
    };
    spawn_blocking(property).await.expect("a thread").expect("the property")
}

/// What lies around the ends of 32 bits, of exact floats, of `i64` and of `u64`, and any other.
fn number() -> impl Strategy<Value = u64> {
    let ends = prop::sample::select(vec![0, 1 << 32, 1 << 53, 1 << 63]);
    let around = (ends, -2_i64..3).prop_map(|(end, by): (u64, _)| end.wrapping_add_signed(by));
    prop_oneof![any::<u64>(), around]
}

/// Two that are near each other, or not.
fn two_numbers() -> impl Strategy<Value = [u64; 2]> {
    let near = (number(), -2_i64..3);
    let near = near.prop_map(|(one, by)| [one, one.saturating_add_signed(by)]);
    prop_oneof![near, [number(), number()]]
}

fn two_versions() -> impl Strategy<Value = [Version; 2]> {
    (two_numbers(), two_numbers()).prop_map(|([one, other], [one_low, other_low])| {
        [Version::with_tie(one, one_low), Version::with_tie(other, other_low)]
    })
}

async fn any_two_versions_are_compared_as_integers(on: Arc<Servers>) {
    let far = Tier::new(setup::open(&on.redis()).await, Json);
    let property = async move |[one, other]: [Version; 2]| {
        let (record, least) = (contract::record, |put| match put {
            Put::Stored(_) => None,
            Put::Older { minimum } => Some(minimum),
            other => panic!("{other:?}"),
        });
        let least_of = async |name: &str, version| {
            least(far.put(name, record(&far, Some("x"), version)).await.expect("an answer"))
        };
        let refused = (other < one).then_some(one);
        let newest = one.max(other);
        // A put after a put.
        let name = fresh_name();
        assert_eq!(least_of(&name, one).await, None);
        assert_eq!(least_of(&name, other).await, refused);
        // An invalidation after a put, and before one.
        let name = fresh_name();
        assert_eq!(least_of(&name, one).await, None);
        far.invalidate_unconfirmed(&name, Some(other), LONG).await.expect("an answer");
        let stays = far.read(&name).await.expect("an answer").is_some();
        assert_eq!(stays, other <= one);
        let oldest = least_of(&name, Version::ZERO).await;
        assert_eq!(oldest, (newest > Version::ZERO).then_some(newest));
        // A commit after an invalidation.
        let name = fresh_name();
        far.invalidate_unconfirmed(&name, Some(one), LONG).await.expect("an answer");
        let (token, grant) = contract::lease(&far, &name, LONG).await;
        assert_eq!(grant.minimum, one);
        match far.commit(&name, token, record(&far, Some("x"), other)).await.expect("an answer") {
            Commit::Stored(entry) => assert_eq!((entry.version(), refused), (other, None)),
            Commit::Older { minimum } => assert_eq!(Some(minimum), refused),
            other => panic!("{other:?}"),
        }
    };
    bounded(holds(256, two_versions(), property)).await;
}

async fn any_two_fencing_tokens_are_compared_as_integers(on: Arc<Servers>) {
    let url = on.redis();
    let (one, other) = (Process::on(&url), Process::on(&url));
    let property = async move |[first, second]: [u64; 2]| {
        let name = fresh_name();
        one.opened(&name, first).await;
        assert_eq!(other.is_fenced(&name, second).await, second < first);
        // What the greater has opened is revoked, and what is below it stays out.
        let greater = first.max(second);
        one.invalidate(&name, None).await;
        assert!(greater == 0 || other.is_fenced(&name, greater - 1).await);
        assert_eq!(other.is_fenced(&name, greater).await, greater < u64::MAX);
    };
    bounded(holds(128, two_numbers(), property)).await;
}

/// An entry of bytes, with its ttl, its load time and how long it may be served stale.
type Written = (Option<Vec<u8>>, Version, u16, u32, Option<u32>);

async fn any_entry_is_read_as_it_was_written(on: Arc<Servers>) {
    let redis = setup::open(&on.redis()).await;
    let far: RedisFar<Vec<u8>, Raw> = RedisFar::new(redis, Raw);
    let strategy = (
        proptest::option::of(vec(any::<u8>(), 0..300)),
        (number(), number()).prop_map(|(high, low)| Version::with_tie(high, low)),
        1..u16::MAX,
        any::<u32>(),
        proptest::option::of(any::<u32>()),
    );
    let property = async move |(value, version, ttl, load_time, grace): Written| {
        let (name, ttl) = (fresh_name(), Duration::from_secs(ttl.into()));
        let fresh_until = Far::clock(&far).now().after(ttl);
        let load_time = Duration::from_micros(load_time.into());
        let mut entry = Entry::new(value, version, fresh_until).loaded_in(load_time);
        if let Some(grace) = grace {
            // As `Entry::terms` writes them: grace, stale-if-error, no tags.
            let terms = [&u64::from(grace).to_be_bytes()[..], &[0xff; 8], &[0, 0]].concat();
            entry = entry.with_terms(&terms).expect("terms");
        }
        let entry = Arc::new(entry);
        let record = Record::new(entry.clone(), ttl, ttl + LONG);
        let put = far.put(&name, record).await;
        assert!(matches!(put, Ok(Put::Stored(_))), "{put:?}");
        let read = far.read(&name).await.expect("an answer").expect("an entry");
        assert_eq!(read.value(), entry.value());
        assert_eq!((read.version(), read.load_time()), (version, load_time));
        assert_eq!(read.terms(), entry.terms());
        assert!(read.fresh_until() > fresh_until.before(TIMEOUT));
        assert!(read.fresh_until() < fresh_until.after(TIMEOUT));
    };
    bounded(holds(256, strategy, property)).await;
}
