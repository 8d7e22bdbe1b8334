//! The contract of the far tier, stamped over every implementer.

use std::sync::Arc;

use cattleguard::{
    Clock,
    codec::Json,
    memory::MemoryFar,
    postgres::{self, PostgresSessionLock},
    redis::{Connection, ElectedFar, RedisLock},
    zookeeper::{Session, ZookeeperLock},
};
use libtest_mimic::Trial;

use crate::{
    contract, servers,
    setup::{self, Servers, TIMEOUT, Tier},
};

type Elected<L> = ElectedFar<String, Json, L>;

async fn memory(_: Arc<Servers>) -> MemoryFar<String> {
    MemoryFar::with(1000, Clock::system())
}

async fn redis(on: Arc<Servers>) -> Tier {
    Tier::new(setup::open(&on.redis()).await, Json)
}

async fn tls(on: Arc<Servers>) -> Tier {
    Tier::new(on.tls(), Json)
}

async fn pool(on: Arc<Servers>) -> Tier {
    Tier::new(setup::pooled(&on.redis()), Json)
}

async fn cluster(on: Arc<Servers>) -> Tier {
    let cluster = Connection::open_cluster(on.cluster()).await.expect("a connection");
    Tier::new(cluster.timeout(TIMEOUT), Json)
}

pub async fn elected_by_redis(on: Arc<Servers>) -> Elected<RedisLock> {
    let redis = setup::open(&on.redis()).await;
    let far = Tier::new(redis.clone(), Json).elected_by(RedisLock::new(redis));
    far.lock_timeout(TIMEOUT)
}

async fn elected_by_postgres(on: Arc<Servers>) -> Elected<PostgresSessionLock> {
    let pool = postgres::Pool::open(&on.one::<servers::Postgres>()).expect("a URL");
    let lock = PostgresSessionLock::new(pool.timeout(TIMEOUT));
    redis(on).await.elected_by(lock).lock_timeout(TIMEOUT)
}

async fn elected_by_zookeeper(on: Arc<Servers>) -> Elected<ZookeeperLock> {
    let session = Session::open(&on.one::<servers::Zookeeper>()).await.expect("a session");
    redis(on).await.elected_by(ZookeeperLock::new(session)).lock_timeout(TIMEOUT)
}

macro_rules! stamp {
    ($servers:expr, $implementer:ident; $($clause:ident),* $(,)?) => {
        vec![$(setup::trial(
            concat!(stringify!($implementer), "::", stringify!($clause)),
            $servers,
            async |servers: Arc<Servers>| contract::$clause($implementer(servers).await).await,
        )),*]
    };
}

/// Every clause over one of them.
macro_rules! contract {
    ($servers:expr, $implementer:ident) => {
        stamp!(
            $servers, $implementer;
            one_holder_and_fences_grow,
            only_the_current_token_commits,
            a_commit_without_any_lease_is_refused,
            older_versions_are_refused_and_equal_ones_accepted,
            versions_are_integers,
            invalidations_and_puts_revoke_the_lease,
            two_loads_of_one_process_are_told_apart,
            a_tombstone_keeps_its_version,
            an_entry_at_or_above_the_invalidation_stays,
            an_invalidation_is_kept_for_its_retention_whatever_is_on_record,
            an_absence_without_version_takes_over_the_one_on_record,
            every_call_may_be_repeated,
            leases_expire_unless_renewed,
            every_watcher_hears_what_could_make_a_near_entry_old,
            who_waits_hears_of_the_end_of_the_lease,
            a_dropped_call_leaves_a_consistent_store,
            an_entry_is_a_hit_only_if_it_stays_fresh_for_long_enough,
            a_failed_load_makes_everyone_back_off_until_a_put_or_an_invalidation,
            failures_in_a_row_are_counted_until_a_load_succeeds,
            only_the_holder_can_fail,
            a_load_time_is_kept,
            an_entry_keeps_its_terms,
            many_names_are_read_in_their_order,
        )
    };
}

pub fn trials(servers: &Arc<Servers>) -> Vec<Trial> {
    let each: [Vec<Trial>; 8] = [
        contract!(servers, memory),
        contract!(servers, redis),
        contract!(servers, tls),
        contract!(servers, pool),
        contract!(servers, cluster),
        contract!(servers, elected_by_redis),
        contract!(servers, elected_by_postgres),
        contract!(servers, elected_by_zookeeper),
    ];
    macro_rules! quiet {
        ($implementer:ident) => {
            stamp!(servers, $implementer; what_nobody_waits_for_is_told_to_nobody)
        };
    }
    // A lock of another system does not tell who waits for it: there all are told.
    let quiet = [quiet!(memory), quiet!(redis), quiet!(tls), quiet!(pool), quiet!(cluster)];
    each.into_iter().chain(quiet).flatten().collect()
}
