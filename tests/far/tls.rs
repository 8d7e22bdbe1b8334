//! Redis over TLS. The contract is stamped over it in `implementers`.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use cattleguard::{
    Fault, FaultKind,
    codec::Json,
    far::{Far, Invalidated, Put, Watcher},
    lock::Lock,
    redis::{Connection, Options, RedisLock},
};
use libtest_mimic::Trial;
use redis::{Client, ClientTlsConfig, TlsCertificates};

use crate::{
    contract::{LONG, Recorder, eventually, fresh_name, record},
    servers::{Certificates, RedisClusterTls, RedisSentinelTls, RedisTls},
    setup::{Servers, TIMEOUT, Tier, trials},
};

pub fn trials(servers: &Arc<Servers>) -> Vec<Trial> {
    trials!(
        servers, "tls";
        messages_and_locks_travel_over_tls,
        a_cluster_takes_an_authority_of_our_own,
        a_sentinel_group_takes_an_authority_of_our_own,
        a_server_of_another_authority_is_not_trusted,
        a_client_without_a_certificate_is_refused_by_a_server_that_asks_for_one,
    )
}

/// With the authority and the certificate of this server.
pub fn connect(server: &RedisTls) -> Connection {
    let (client_cert, client_key) = server.client.clone();
    let client_tls = Some(ClientTlsConfig { client_cert, client_key });
    over(server, client_tls, server.ca.clone())
}

fn over(server: &RedisTls, client_tls: Option<ClientTlsConfig>, ca: Vec<u8>) -> Connection {
    let tls = TlsCertificates { client_tls, root_cert: Some(ca) };
    let client = Client::build_with_tls(server.url(), tls).expect("certificates");
    Connection::from_client(client).expect("a client").timeout(TIMEOUT)
}

async fn read(connection: Connection) -> Result<(), Fault> {
    let far = Tier::new(connection, Json);
    far.read("any").await.map(drop)
}

async fn messages_and_locks_travel_over_tls(on: Arc<Servers>) {
    let connection = on.tls();
    let far = Tier::new(connection.clone(), Json).namespace(&fresh_name());
    eventually(async || {
        let done = far.invalidate("name", None, LONG).await.expect("an invalidation");
        (done == Invalidated::Everywhere).then_some(())
    })
    .await;
    let lock = RedisLock::new(connection);
    let deadline = tokio::time::Instant::now() + TIMEOUT;
    let lease = lock.acquire(&fresh_name(), LONG, deadline).await.expect("a lease");
    lease.release().await.expect("a release");
}

/// The options that a server with these files needs.
fn options(ca: &[u8], client: &(Vec<u8>, Vec<u8>)) -> Options {
    let (client_cert, client_key) = client.clone();
    let client_tls = Some(ClientTlsConfig { client_cert, client_key });
    Connection::options().certificates(TlsCertificates { client_tls, root_cert: Some(ca.to_vec()) })
}

async fn a_cluster_takes_an_authority_of_our_own(_: Arc<Servers>) {
    let cluster = RedisClusterTls::start().expect("a cluster");
    let options = options(&cluster.ca, &cluster.client);
    let connection = options.clone().open_cluster(cluster.urls()).await.expect("a connection");
    serves(connection).await;
    let other = Certificates::make().expect("an authority");
    let stranger = self::options(other.ca.as_bytes(), &cluster.client);
    assert!(stranger.open_cluster(cluster.urls()).await.is_err(), "trusted");
}

async fn a_sentinel_group_takes_an_authority_of_our_own(_: Arc<Servers>) {
    let group = RedisSentinelTls::start().expect("a group");
    let (urls, master) = ([group.sentinel_url()], RedisSentinelTls::MASTER);
    let options = options(&group.ca, &group.client);
    let connection = options.open_sentinel(&urls, master).await.expect("a connection");
    serves(connection).await;
    let other = Certificates::make().expect("an authority");
    let stranger = self::options(other.ca.as_bytes(), &group.client);
    assert!(stranger.open_sentinel(&urls, master).await.is_err(), "trusted");
}

/// Commands about keys of many slots, and messages.
async fn serves(connection: Connection) {
    let far = Tier::new(connection.timeout(TIMEOUT), Json);
    let recorder = Arc::new(Recorder::default());
    let weak: Weak<dyn Watcher> = Arc::downgrade(&recorder) as _;
    far.watch(weak);
    for _ in 0..20 {
        let name = fresh_name();
        let put = far.put(&name, record(&far, Some("a"), 1)).await;
        assert!(matches!(put, Ok(Put::Stored(_))), "{put:?}");
        assert!(far.read(&name).await.expect("a read").is_some());
    }
    let mut sent = Vec::new();
    eventually(async || {
        let name = fresh_name();
        far.invalidate(&name, None, LONG).await.ok()?;
        sent.push(name);
        sent.iter().any(|name| !recorder.about(name).is_empty()).then_some(())
    })
    .await;
}

async fn a_server_of_another_authority_is_not_trusted(_: Arc<Servers>) {
    let server = RedisTls::start().expect("a Redis");
    let other = Certificates::make().expect("an authority");
    let (client_cert, client_key) = server.client.clone();
    let client_tls = Some(ClientTlsConfig { client_cert, client_key });
    let begin = Instant::now();
    let refused = read(over(&server, client_tls, other.ca.into_bytes())).await;
    assert!(refused.is_err(), "trusted");
    // Nor with the authorities of everybody.
    let refused = Connection::open(&server.url()).await;
    assert_eq!(refused.expect_err("trusted").kind(), FaultKind::Unreachable);
    assert!(begin.elapsed() < TIMEOUT + Duration::from_secs(3), "{:?}", begin.elapsed());
    read(connect(&server)).await.expect("the right one is");
}

async fn a_client_without_a_certificate_is_refused_by_a_server_that_asks_for_one(_: Arc<Servers>) {
    let server = RedisTls::start().expect("a Redis");
    assert!(read(over(&server, None, server.ca.clone())).await.is_err(), "let in");
    read(connect(&server)).await.expect("one with a certificate is let in");
}
