//! What calls come to when Redis is dead, frozen, full, or not there.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use cattleguard::{
    FaultKind,
    codec::Json,
    far::{Commit, Far, Token},
    redis::Connection,
};
use libtest_mimic::Trial;

use crate::{
    contract, servers,
    setup::{self, Servers, Tier, trials},
};

pub fn trials(servers: &Arc<Servers>) -> Vec<Trial> {
    trials!(
        servers, "redis";
        a_frozen_or_dead_server_ends_every_call_in_time,
        a_full_server_still_invalidates_and_releases,
        a_command_that_the_server_does_not_know_is_told_without_its_key,
        a_missing_server_is_a_typed_error,
        many_reads_of_a_dead_server_all_fail,
    )
}

async fn a_frozen_or_dead_server_ends_every_call_in_time(_: Arc<Servers>) {
    let mut server = servers::Redis::start().expect("a Redis");
    let timeout = Duration::from_millis(50);
    let far = Tier::new(setup::open(&server.url()).await.timeout(timeout), Json);
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

async fn many_reads_of_a_dead_server_all_fail(_: Arc<Servers>) {
    let mut server = servers::Redis::start().expect("a Redis");
    let far = Tier::new(setup::open(&server.url()).await, Json);
    server.kill();
    let names: Vec<String> = (0..600).map(|_| contract::fresh_name()).collect();
    let asked: Vec<&str> = names.iter().map(String::as_str).collect();
    let found = far.read_many(&asked).await;
    assert_eq!(found.len(), asked.len());
    for error in found {
        assert_eq!(error.expect_err("a dead server").kind(), FaultKind::Unreachable);
    }
}

async fn a_full_server_still_invalidates_and_releases(_: Arc<Servers>) {
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
    let far = Tier::new(setup::open(&server.url()).await, Json);
    let [committing, releasing, failing] = [(); 3].map(|()| contract::fresh_name());
    let (token, _) = contract::lease(&far, &committing, contract::LONG).await;
    let (other, _) = contract::lease(&far, &releasing, contract::LONG).await;
    let (third, _) = contract::lease(&far, &failing, contract::LONG).await;
    limit("1").await;

    let record = contract::record(&far, Some("secret-value"), 1);
    let refused = far.commit(&committing, token, record).await.expect_err("no memory");
    assert_eq!(refused.kind(), FaultKind::Refused);
    far.release(&releasing, other).await.expect("a release needs no memory");
    far.fail(&failing, third, contract::LONG).await.expect("a back-off needs no memory");
    far.invalidate(&committing, None, contract::LONG)
        .await
        .expect("an invalidation needs no memory");
    limit("0").await;
    let (token, _) = contract::lease(&far, &committing, contract::LONG).await;
    let record = contract::record(&far, Some("x"), 1);
    assert!(matches!(far.commit(&committing, token, record).await, Ok(Commit::Stored(_))));
}

/// Of an error and its sources.
fn all_texts(error: &cattleguard::Fault) -> String {
    let mut text = format!("{error} {error:?}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text += &format!(" {cause} {cause:?}");
        source = cause.source();
    }
    text
}

/// Redis quotes what it does not understand, up to 128 bytes of it.
async fn a_command_that_the_server_does_not_know_is_told_without_its_key(_: Arc<Servers>) {
    let server =
        servers::Redis::start_with(&["--rename-command", "EVALSHA", "HIDDEN"]).expect("a Redis");
    let far = Tier::new(setup::open(&server.url()).await, Json);
    let refused = far.invalidate("secret-key", None, contract::LONG).await;
    let refused = refused.expect_err("a renamed command");
    assert_eq!(refused.kind(), FaultKind::Refused);
    let text = all_texts(&refused);
    assert!(text.contains("does not know a command"), "{text}");
    assert!(!text.contains("secret"), "{text}");
}

async fn a_missing_server_is_a_typed_error(_: Arc<Servers>) {
    let port = servers::free_port().expect("a port");
    let begin = Instant::now();
    let url = format!("redis://127.0.0.1:{port}/");
    let error = Connection::open(&url).await.expect_err("no server is there");
    assert_eq!(error.kind(), FaultKind::Unreachable, "{error:?}");
    assert!(begin.elapsed() < Duration::from_secs(3));
    let error = Connection::open("http://127.0.0.1/").await.expect_err("not a Redis URL");
    assert_eq!(error.kind(), FaultKind::Config, "{error:?}");
}
