//! Redis over TLS. The contract is stamped over it in `implementers`.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use cattleguard::{
    Fault, FaultKind,
    codec::Json,
    far::{Far, Invalidated},
    lock::Lock,
    redis::{Connection, RedisLock},
};
use libtest_mimic::Trial;
use redis::{Client, ClientTlsConfig, TlsCertificates};

use crate::{
    contract::{LONG, eventually, fresh_name},
    servers::{Certificates, RedisTls},
    setup::{Servers, TIMEOUT, Tier, trials},
};

pub fn trials(servers: &Arc<Servers>) -> Vec<Trial> {
    trials!(
        servers, "tls";
        messages_and_locks_travel_over_tls,
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
