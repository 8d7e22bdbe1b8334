//! The contract of the far tier, stamped over every implementer, on servers that this program starts
//! and stops.

use std::{
    any::Any,
    process::ExitCode,
    sync::{Arc, LazyLock, Weak},
    time::{Duration, Instant},
};

use cattleguard::{
    Clock, Entry, Guard, Loaded, Outcome, Version,
    codec::{Json, Raw},
    far::{
        Attempt, Commit, ErrorKind, Far, Invalidated, Memory, Paired, Put, Record, Redis, Token,
    },
    lock, notify, postgres,
    redis::Connection,
    store,
};
use futures::{FutureExt, future::LocalBoxFuture};
use libtest_mimic::{Arguments, Trial};
use parking_lot::Mutex;

#[path = "../servers/mod.rs"]
mod servers;

mod contract;
mod notifiers;
mod replicas;
mod stores;

use notifiers::Server;

type Tier = Redis<String, Json>;

/// Servers start with the first test that needs them and stop with this value.
#[derive(Default)]
struct Servers {
    started: Mutex<Vec<Box<dyn Any + Send>>>,
    cluster: Mutex<Option<servers::RedisCluster>>,
}

impl Servers {
    /// The address of the one that all tests share.
    fn one<S: Server>(&self) -> String {
        let mut started = self.started.lock();
        let found = started.iter().find_map(|server| server.downcast_ref::<S>());
        if let Some(server) = found {
            return server.address();
        }
        let server = S::start();
        let address = server.address();
        started.push(Box::new(server));
        address
    }

    fn redis(&self) -> String {
        self.one::<servers::Redis>()
    }

    fn cluster(&self) -> Vec<String> {
        let mut cluster = self.cluster.lock();
        cluster.get_or_insert_with(|| servers::RedisCluster::start().expect("a cluster")).urls()
    }
}

static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Runtime::new().expect("a runtime"));

async fn open(url: &str) -> Connection {
    // Two cores, many servers: the default far timeout is for production machines.
    Connection::open(url).await.expect("a connection").timeout(Duration::from_secs(5))
}

fn connections(url: &str) -> postgres::Pool {
    postgres::Pool::open(url).expect("a URL").timeout(Duration::from_secs(5))
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let servers = Arc::new(Servers::default());
    let mut trials = Vec::new();

    macro_rules! stamp {
        ($($test:ident),* $(,)?) => {$(
            trials.push(trial(concat!("memory::", stringify!($test)), || {
                contract::$test(Memory::<String>::with(1000, Clock::system())).boxed_local()
            }));
            trials.push(trial(concat!("paired::", stringify!($test)), || {
                let store = store::Memory::with(1000, Clock::system());
                let far = Paired::new(store, memory::MemoryLock::new(), notify::Memory::new());
                contract::$test(far).boxed_local()
            }));
            let on = servers.clone();
            trials.push(trial(concat!("redis_paired::", stringify!($test)), move || {
                let url = on.redis();
                async move {
                    let redis = open(&url).await;
                    let store = store::Redis::<String, Json>::new(redis.clone(), Json);
                    let notifier = notify::Redis::new(redis.clone());
                    let far = Paired::new(store, redis::RedisLock::new(redis), notifier);
                    let far = far.lock_timeout(Duration::from_secs(5));
                    contract::$test(far).await
                }
                .boxed_local()
            }));
            let on = servers.clone();
            trials.push(trial(concat!("postgres_paired::", stringify!($test)), move || {
                let (redis, postgres) = (on.redis(), on.one::<servers::Postgres>());
                async move {
                    let store = store::Redis::<String, Json>::new(open(&redis).await, Json);
                    let lock = postgres::PostgresSessionLock::new(connections(&postgres));
                    let notifier = notify::Postgres::new(connections(&postgres));
                    let far = Paired::new(store, lock, notifier);
                    contract::$test(far.lock_timeout(Duration::from_secs(5))).await
                }
                .boxed_local()
            }));
            let on = servers.clone();
            trials.push(trial(concat!("zookeeper_paired::", stringify!($test)), move || {
                let (redis, zookeeper) = (on.redis(), on.one::<servers::Zookeeper>());
                async move {
                    let store = store::Redis::<String, Json>::new(open(&redis).await, Json);
                    let session = cattleguard::zookeeper::Session::open(&zookeeper).await.expect("a session");
                    let notifier = notify::Zookeeper::new(session.clone());
                    let far = Paired::new(store, zookeeper::ZookeeperLock::new(session), notifier);
                    contract::$test(far.lock_timeout(Duration::from_secs(5))).await
                }
                .boxed_local()
            }));
            let on = servers.clone();
            trials.push(trial(concat!("redis::", stringify!($test)), move || {
                let url = on.redis();
                async move { contract::$test(Tier::new(open(&url).await, Json)).await }.boxed_local()
            }));
            let on = servers.clone();
            trials.push(trial(concat!("pool::", stringify!($test)), move || {
                let url = on.redis();
                async move { contract::$test(Tier::new(pooled(&url), Json)).await }.boxed_local()
            }));
            let on = servers.clone();
            trials.push(trial(concat!("cluster::", stringify!($test)), move || {
                let urls = on.cluster();
                async move {
                    let cluster = Connection::open_cluster(urls).await.expect("a connection");
                    let cluster = cluster.timeout(Duration::from_secs(5));
                    contract::$test(Tier::new(cluster, Json)).await
                }
                .boxed_local()
            }));
        )*};
    }
    stamp!(
        one_holder_and_fences_grow,
        only_the_current_token_commits,
        a_commit_without_any_lease_is_refused,
        older_versions_are_refused_and_equal_ones_accepted,
        versions_are_integers,
        invalidations_and_puts_revoke_the_lease,
        two_loads_of_one_process_are_told_apart,
        a_tombstone_keeps_its_version,
        an_entry_at_or_above_the_invalidation_stays,
        an_absence_without_version_takes_over_the_one_on_record,
        every_call_may_be_repeated,
        leases_expire_unless_renewed,
        every_watcher_hears_what_happened,
        a_dropped_call_leaves_a_consistent_store,
        an_entry_is_a_hit_only_if_it_stays_fresh_for_long_enough,
        a_failed_load_pauses_everyone_until_a_put_or_an_invalidation,
        failures_in_a_row_are_counted_until_a_load_succeeds,
        only_the_holder_can_fail,
        a_load_time_is_kept,
        many_names_are_read_in_their_order,
    );
    macro_rules! stamp_stores {
        ($($test:ident),* $(,)?) => {$(
            trials.push(trial(concat!("memory_store::", stringify!($test)), || {
                let store = store::Memory::with(1000, Clock::system());
                stores::$test(store).boxed_local()
            }));
            let on = servers.clone();
            trials.push(trial(concat!("redis_store::", stringify!($test)), move || {
                let url = on.redis();
                async move {
                    stores::$test(store::Redis::<String, Json>::new(open(&url).await, Json)).await
                }
                .boxed_local()
            }));
        )*};
    }
    stamp_stores!(
        a_stale_fencing_token_is_refused,
        only_the_open_load_writes,
        a_load_that_begins_again_is_the_same,
        an_entry_is_a_hit_only_if_it_stays_fresh_for_long_enough,
        a_failed_load_pauses_the_next_and_is_counted,
        a_pause_is_nobodys_load,
    );
    macro_rules! stamp_notifiers {
        // One in this process: nothing can fail.
        ($kind:literal, $open:expr) => {
            stamp_notifiers!(with $kind, |_: &Servers| $open();
                all_hear_in_the_order_of_publishing,
                a_later_watcher_hears_what_comes_later,
                no_message_is_too_long,
            );
        };
        ($kind:literal, $server:ty, $open:expr) => {
            stamp_notifiers!(with $kind, |servers: &Servers| $open(servers.one::<$server>());
                all_hear_in_the_order_of_publishing,
                a_later_watcher_hears_what_comes_later,
                no_message_is_too_long,
                namespaces_are_apart,
            );
            trials.push(trial(concat!($kind, "_notifier::a_server_that_is_gone_is_told"), || {
                async {
                    let server = <$server as Server>::start();
                    let open = $open(server.address());
                    notifiers::a_server_that_is_gone_is_told(server, open).await;
                }
                .boxed_local()
            }));
        };
        (with $kind:literal, $open:expr; $($test:ident),* $(,)?) => {$(
            let on = servers.clone();
            trials.push(trial(concat!($kind, "_notifier::", stringify!($test)), move || {
                let open = $open(&on);
                notifiers::$test(open).boxed_local()
            }));
        )*};
    }
    stamp_notifiers!("memory", notifiers::memory);
    stamp_notifiers!("redis", servers::Redis, notifiers::redis);
    stamp_notifiers!("postgres", servers::Postgres, notifiers::postgres);
    stamp_notifiers!("zookeeper", servers::Zookeeper, notifiers::zookeeper);
    let on = servers.clone();
    trials.push(trial(
        "redis_notifier::for_a_while_after_an_outage_nobody_claims_to_have_reached_everybody",
        || {
            notifiers::for_a_while_after_an_outage_nobody_claims_to_have_reached_everybody()
                .boxed_local()
        },
    ));
    trials.push(trial("postgres_notifier::listening_ends_with_the_last_clone", move || {
        notifiers::listening_ends_with_the_last_clone(on.one::<servers::Postgres>()).boxed_local()
    }));

    trials.extend([
        trial("redis::a_frozen_or_dead_server_ends_every_call_in_time", || {
            frozen_or_dead().boxed_local()
        }),
        trial("redis::a_full_server_still_invalidates_and_releases", || full().boxed_local()),
        trial("redis::errors_show_neither_key_nor_value", || quiet().boxed_local()),
        trial("redis::a_missing_server_is_a_typed_error", || missing().boxed_local()),
        trial("redis::many_reads_of_a_dead_server_all_fail", || many_of_dead().boxed_local()),
        trial("replicas::an_acknowledged_write_is_on_the_replicas", || {
            replicas::an_acknowledged_write_is_on_the_replicas().boxed_local()
        }),
        trial("replicas::a_replica_that_lags_is_not_counted", || {
            replicas::a_replica_that_lags_is_not_counted().boxed_local()
        }),
        trial("replicas::a_full_server_confirms", || {
            replicas::a_full_server_confirms().boxed_local()
        }),
        trial("replicas::sentinels_are_asked_for_the_server_that_took_the_write", || {
            replicas::sentinels_are_asked_for_the_server_that_took_the_write().boxed_local()
        }),
        trial("replicas::a_server_that_has_become_a_replica_is_unreachable", || {
            replicas::a_server_that_has_become_a_replica_is_unreachable().boxed_local()
        }),
    ]);
    let on = servers.clone();
    trials.push(trial("replicas::a_cluster_cannot_confirm", move || {
        replicas::a_cluster_cannot_confirm(on.cluster()).boxed_local()
    }));

    let on = servers.clone();
    trials.push(trial("redis::a_failure_wakes_the_waiters_of_other_processes", move || {
        let url = on.redis();
        async move {
            let tier = async || Tier::new(open(&url).await, Json);
            failure_wakes(tier().await, tier().await).await;
        }
        .boxed_local()
    }));
    let on = servers.clone();
    trials.push(trial(
        "redis::fences_grow_over_a_pause_also_when_the_clock_steps_back",
        move || {
            let url = on.redis();
            clock_steps_back(url).boxed_local()
        },
    ));
    let on = servers.clone();
    trials.push(trial("redis_paired::a_failure_wakes_the_waiters_of_other_processes", move || {
        let url = on.redis();
        async move {
            let pair = async || {
                let redis = open(&url).await;
                let store = store::Redis::<String, Json>::new(redis.clone(), Json);
                let notifier = notify::Redis::new(redis.clone());
                Paired::new(store, redis::RedisLock::new(redis), notifier)
                    .lock_timeout(Duration::from_secs(5))
            };
            failure_wakes(pair().await, pair().await).await;
        }
        .boxed_local()
    }));

    let on = servers.clone();
    trials.push(trial("pool::without_messages_waiters_look_again_soon", move || {
        let url = on.redis();
        without_messages(url).boxed_local()
    }));

    let on = servers.clone();
    trials.push(trial(
        "redis::a_value_that_does_not_decode_is_replaced_under_a_lease",
        move || {
            let url = on.redis();
            undecodable(url).boxed_local()
        },
    ));
    let on = servers.clone();
    trials.push(trial("redis::a_value_that_does_not_encode_ends_its_lease", move || {
        let url = on.redis();
        unencodable(url).boxed_local()
    }));

    let conclusion = libtest_mimic::run(&arguments, trials);
    // `exit` would skip destructors and leave the servers running.
    drop(servers);
    conclusion.exit_code()
}

fn trial(name: &str, test: impl FnOnce() -> LocalBoxFuture<'static, ()> + Send + 'static) -> Trial {
    Trial::test(name, move || {
        RUNTIME.block_on(test());
        Ok(())
    })
}

fn pool(url: &str) -> deadpool_redis::Pool {
    let config = deadpool_redis::Config::from_url(url);
    config.create_pool(Some(deadpool_redis::Runtime::Tokio1)).expect("a pool")
}

fn pooled(url: &str) -> Connection {
    let connection = Connection::from_pool(pool(url)).subscribe_at(url).expect("a URL");
    connection.timeout(Duration::from_secs(5))
}

async fn without_messages(url: String) {
    let far = Tier::new(Connection::from_pool(pool(&url)).timeout(Duration::from_secs(5)), Json);
    let guard: Guard<str, String> = Guard::builder().far(far.clone()).build();
    let name = contract::fresh_name();
    let (token, _) = contract::lease(&far, &name, contract::LONG).await;
    let waiting = tokio::spawn({
        let (guard, name) = (guard.clone(), name.clone());
        async move {
            guard
                .fetch(&name, || async {
                    Err::<Loaded<String>, _>(std::io::Error::other("loaded"))
                })
                .await
        }
    });
    // The waiter has no messages to wait for, and must not wait for the end of a long lease.
    contract::eventually(async || (guard.flights() == 1).then_some(())).await;
    let record = contract::record(&far, Some("a"), 1);
    assert!(matches!(far.commit(&name, token, record).await, Ok(Commit::Stored(_))));
    let begin = Instant::now();
    let fetched = waiting.await.expect("a task").expect("the value of the other");
    assert_eq!(fetched.value().map(String::as_str), Some("a"));
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    // Nobody was asked, so nobody has confirmed.
    let invalidated = guard.invalidate(&name).await.expect("an invalidation");
    assert_eq!(invalidated, Invalidated::Unconfirmed);
}

/// Two processes: what one fails, the other hears of, and then sees the pause.
async fn failure_wakes(one: impl Far<String>, other: impl Far<String>) {
    let name = contract::fresh_name();
    let recorder = Arc::new(contract::Recorder::default());
    let weak: Weak<contract::Recorder> = Arc::downgrade(&recorder);
    other.watch(weak);
    other.read(&name).await.expect("a read");
    let (token, _) = contract::lease(&one, &name, contract::LONG).await;
    let ask = async || {
        let token = Token::random();
        other.look_up_or_lease(&name, token, contract::LONG, Duration::ZERO).await
    };
    contract::eventually(async || {
        recorder.heard.lock().iter().any(|event| event == "connected").then_some(())
    })
    .await;
    let held = ask().await;
    assert!(matches!(held, Ok(Attempt::Held { .. })), "{held:?}");
    one.fail(&name, token, contract::LONG).await.expect("an answer");
    contract::eventually(async || (!recorder.about(&name).is_empty()).then_some(())).await;
    for _ in 0..3 {
        let paused = ask().await;
        assert!(matches!(paused, Ok(Attempt::Paused { .. })), "{paused:?}");
    }
    // Those who look during the pause do not wake each other.
    one.invalidate(&name, None, contract::LONG).await.expect("an invalidation");
    contract::eventually(async || (recorder.about(&name).len() > 1).then_some(())).await;
    assert_eq!(
        recorder.about(&name),
        [format!("released {name}"), format!("invalidated {name} None")]
    );
}

async fn clock_steps_back(url: String) {
    let far = Tier::new(open(&url).await, Json);
    let client = redis::Client::open(url).expect("a URL");
    let mut link = client.get_multiplexed_async_connection().await.expect("a connection");
    let name = format!("stepped{}", fastrand::u64(..));
    let lease_key = format!("cg:{{:{name}}}:l");
    let (token, grant) = contract::lease(&far, &name, contract::LONG).await;
    // As if the server's clock had been an hour ahead when it was granted.
    let ahead = grant.fence + 3_600_000_000;
    let mut set = redis::cmd("SETRANGE");
    set.arg(&lease_key).arg(16).arg(&ahead.to_be_bytes());
    set.query_async::<()>(&mut link).await.expect("an answer");
    far.fail(&name, token, Duration::from_millis(1)).await.expect("an answer");
    let token = Token::random();
    let grant = contract::eventually(async || {
        match far.look_up_or_lease(&name, token, contract::LONG, Duration::ZERO).await {
            Ok(Attempt::Granted(grant)) => Some(grant),
            _ => None,
        }
    })
    .await;
    assert_eq!((grant.fence, grant.failures), (ahead + 1, 1));
}

async fn many_of_dead() {
    let mut server = servers::Redis::start().expect("a Redis");
    let far = Tier::new(open(&server.url()).await, Json);
    server.kill();
    let names: Vec<String> = (0..600).map(|_| contract::fresh_name()).collect();
    let asked: Vec<&str> = names.iter().map(String::as_str).collect();
    let found = far.read_many(&asked).await;
    assert_eq!(found.len(), asked.len());
    for error in found {
        assert_eq!(error.expect_err("a dead server").kind(), ErrorKind::Unreachable);
    }
}

async fn undecodable(url: String) {
    let name = contract::fresh_name();
    let other_release: Redis<Vec<u8>, Raw> = Redis::new(open(&url).await, Raw);
    let until = Far::clock(&other_release).now().after(contract::LONG);
    let entry = Arc::new(Entry::new(Some(vec![0xff]), Version::new(1), until));
    let (ttl, retention) = (contract::LONG, contract::LONG);
    let record = Record { entry, version: Some(Version::new(1)), ttl, retention };
    let put = other_release.put(&name, record).await;
    assert!(matches!(put, Ok(Put::Stored(_))), "{put:?}");

    let far = Tier::new(open(&url).await, Json);
    let fetch = async |load: &'static str| {
        let guard: Guard<str, String> = Guard::builder().far(far.clone()).build();
        let load =
            move || async move { Ok::<_, std::io::Error>(Loaded::found(load.to_owned(), 1)) };
        guard.fetch(&name, load).await.expect("a value")
    };
    let first = fetch("mine").await;
    assert_eq!(
        (first.value().map(String::as_str), first.outcome()),
        (Some("mine"), Outcome::Loaded)
    );
    let second = fetch("never loaded").await;
    assert_eq!(second.value().map(String::as_str), Some("mine"));
    assert_eq!(second.outcome(), Outcome::Hit(cattleguard::Tier::Far));
}

async fn unencodable(url: String) {
    /// JSON has no maps with such keys.
    type Map = std::collections::BTreeMap<Vec<u8>, u8>;
    let far: Redis<Map, Json> = Redis::new(open(&url).await, Json);
    let name = contract::fresh_name();
    let token = Token::random();
    let granted = far.look_up_or_lease(&name, token, contract::LONG, Duration::ZERO).await;
    assert!(matches!(granted, Ok(Attempt::Granted(_))), "{granted:?}");
    let until = Far::clock(&far).now().after(contract::LONG);
    let map = Map::from([(vec![1], 1)]);
    let entry = Arc::new(Entry::new(Some(map), Version::new(1), until));
    let (ttl, retention) = (contract::LONG, contract::LONG);
    let record = Record { entry, version: Some(Version::new(1)), ttl, retention };
    let refused = far.commit(&name, token, record).await.expect_err("not JSON");
    assert_eq!(refused.kind(), ErrorKind::Codec);
    let granted =
        far.look_up_or_lease(&name, Token::random(), contract::LONG, Duration::ZERO).await;
    assert!(matches!(granted, Ok(Attempt::Granted(_))), "{granted:?}");
}

async fn frozen_or_dead() {
    let mut server = servers::Redis::start().expect("a Redis");
    let timeout = Duration::from_millis(50);
    let far = Tier::new(open(&server.url()).await.timeout(timeout), Json);
    let name = contract::fresh_name();
    let (token, _) = contract::lease(&far, &name, contract::LONG).await;
    for fault in ["frozen", "dead"] {
        match fault {
            "frozen" => server.freeze(),
            _ => server.kill(),
        }
        let begin = Instant::now();
        let record = contract::record(&far, Some("x"), 1);
        assert!(far.read(&name).await.is_err(), "{fault}");
        assert!(
            far.look_up_or_lease(&name, Token::random(), contract::LONG, Duration::ZERO)
                .await
                .is_err()
        );
        assert!(far.renew(&name, token, contract::LONG).await.is_err());
        assert!(far.release(&name, token).await.is_err());
        assert!(far.fail(&name, token, contract::LONG).await.is_err());
        assert!(far.read_many(&[&name]).await[0].is_err());
        assert!(far.commit(&name, token, record).await.is_err());
        assert!(far.invalidate(&name, None, contract::LONG).await.is_err());
        // Ten times at most: two of the calls may also wait for the subscription.
        assert!(
            begin.elapsed() < timeout * 10 + Duration::from_secs(1),
            "{fault}: {:?}",
            begin.elapsed()
        );
    }
    server.restart().expect("a Redis");
    contract::eventually(async || far.read(&name).await.ok()).await;
}

async fn full() {
    let server =
        servers::Redis::start_with(&["--maxmemory", "1", "--maxmemory-policy", "noeviction"])
            .expect("a Redis");
    let limit = async |bytes: &str| {
        let client = redis::Client::open(server.url()).expect("a URL");
        let mut link = client.get_multiplexed_async_connection().await.expect("a connection");
        let mut set = redis::cmd("CONFIG");
        set.arg("SET").arg("maxmemory").arg(bytes);
        set.query_async::<()>(&mut link).await.expect("an answer");
    };
    limit("0").await;
    let far = Tier::new(open(&server.url()).await, Json);
    let [committing, releasing, failing] = [(); 3].map(|()| contract::fresh_name());
    let (token, _) = contract::lease(&far, &committing, contract::LONG).await;
    let (other, _) = contract::lease(&far, &releasing, contract::LONG).await;
    let (third, _) = contract::lease(&far, &failing, contract::LONG).await;
    limit("1").await;

    let record = contract::record(&far, Some("secret-value"), 1);
    let refused = far.commit(&committing, token, record).await.expect_err("no memory");
    assert_eq!(refused.kind(), ErrorKind::Refused);
    far.release(&releasing, other).await.expect("a release needs no memory");
    far.fail(&failing, third, contract::LONG).await.expect("a pause needs no memory");
    far.invalidate(&committing, None, contract::LONG)
        .await
        .expect("an invalidation needs no memory");
    limit("0").await;
    let (token, _) = contract::lease(&far, &committing, contract::LONG).await;
    let record = contract::record(&far, Some("x"), 1);
    assert!(matches!(far.commit(&committing, token, record).await, Ok(Commit::Stored(_))));
}

async fn quiet() {
    let server = servers::Redis::start().expect("a Redis");
    let far = Tier::new(open(&server.url()).await, Json);
    let name = "secret-key";
    let client = redis::Client::open(server.url()).expect("a URL");
    let mut link = client.get_multiplexed_async_connection().await.expect("a connection");
    let mut hash = redis::cmd("HSET");
    hash.arg("cg:{:secret-key}").arg("secret-field").arg("secret-value");
    hash.query_async::<()>(&mut link).await.expect("an answer");
    let mut errors = vec![far.read(name).await.expect_err("a key of another type")];
    assert_eq!(errors[0].kind(), ErrorKind::Refused, "{:?}", errors[0]);
    let record = contract::record(&far, Some("secret-value"), 1);
    errors.push(far.put(name, record).await.expect_err("a key of another type"));
    drop(server);
    errors.push(far.read(name).await.expect_err("a dead server"));
    for error in errors {
        let mut text = format!("{error} {error:?}");
        let mut source = std::error::Error::source(&error);
        while let Some(cause) = source {
            text += &format!(" {cause} {cause:?}");
            source = cause.source();
        }
        assert!(!text.contains("secret"), "{text}");
    }
}

async fn missing() {
    let port = servers::free_port().expect("a port");
    let begin = Instant::now();
    let url = format!("redis://127.0.0.1:{port}/");
    let error = Connection::open(&url).await.expect_err("no server is there");
    assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
    assert!(begin.elapsed() < Duration::from_secs(3));
    let error = Connection::open("http://127.0.0.1/").await.expect_err("not a Redis URL");
    assert_eq!(error.kind(), ErrorKind::Config, "{error:?}");
}
