//! Credentials that change, as tokens of a cloud's identity service do.

use std::{
    pin::Pin,
    sync::{Arc, Weak},
};

use cattleguard::{
    codec::Json,
    far::{Far, Watcher},
    redis::Connection,
};
use futures::{Stream, stream};
use libtest_mimic::Trial;
use redis::{
    RedisResult,
    auth::{BasicAuth, StreamingCredentialsProvider},
};
use tokio::sync::watch;

use crate::{
    contract::{LONG, Recorder, eventually, fresh_name},
    servers::{Redis, RedisCluster, RedisSentinel, ask_redis},
    setup::{Servers, TIMEOUT, Tier, trials},
};

pub fn trials(servers: &Arc<Servers>) -> Vec<Trial> {
    trials!(
        servers, "credentials";
        a_single_server_takes_new_credentials,
        a_cluster_takes_new_credentials,
        a_sentinel_group_takes_new_credentials,
        a_password_is_for_the_primary_and_not_for_the_sentinels,
    )
}

/// The password of the moment, for the user `app`.
struct Tokens(watch::Sender<&'static str>);

impl Tokens {
    fn provider(&self) -> impl StreamingCredentialsProvider + use<> {
        Provider(self.0.subscribe())
    }
}

struct Provider(watch::Receiver<&'static str>);

impl StreamingCredentialsProvider for Provider {
    fn subscribe(&self) -> Pin<Box<dyn Stream<Item = RedisResult<BasicAuth>> + Send>> {
        let mut tokens = self.0.clone();
        tokens.mark_changed();
        Box::pin(stream::unfold(tokens, async |mut tokens| {
            tokens.changed().await.ok()?;
            let token = tokens.borrow_and_update().to_owned();
            Some((Ok(BasicAuth::new("app".into(), token)), tokens))
        }))
    }
}

/// Nobody but the user `app` may touch a key.
fn restrict(servers: &[&Redis]) {
    for server in servers {
        let said = ask_redis(
            server.port(),
            "ACL SETUSER app on >first ~* &* +@all\r\nACL SETUSER default resetkeys resetchannels",
        );
        assert_eq!(said.matches("+OK").count(), 2, "{said}");
    }
}

/// How often somebody has authenticated at any of them.
fn authentications(servers: &[&Redis]) -> u32 {
    let count = |server: &&Redis| {
        let said = ask_redis(server.port(), "INFO commandstats");
        let calls =
            said.split("cmdstat_auth:calls=").nth(1).and_then(|rest| rest.split(',').next());
        calls.map_or(0, |calls| calls.parse().expect("a number"))
    };
    servers.iter().map(count).sum()
}

async fn takes_new_credentials(servers: &[&Redis], tokens: &Tokens, connection: Connection) {
    let far = Tier::new(connection.timeout(TIMEOUT), Json);
    let recorder = Arc::new(Recorder::default());
    let weak: Weak<dyn Watcher> = Arc::downgrade(&recorder) as _;
    far.watch(weak);
    let serves = async || {
        let mut sent = Vec::new();
        eventually(async || {
            let name = fresh_name();
            far.read(&name).await.ok()?;
            far.invalidate(&name, None, LONG).await.ok()?;
            sent.push(name);
            sent.iter().any(|name| !recorder.about(name).is_empty()).then_some(())
        })
        .await;
    };
    serves().await;

    let before = authentications(servers);
    for server in servers {
        let said = ask_redis(server.port(), "ACL SETUSER app resetpass >second");
        assert!(said.starts_with("+OK"), "{said}");
    }
    tokens.0.send_replace("second");
    // The connections that stand.
    eventually(async || (authentications(servers) > before).then_some(())).await;
    assert!(far.read("any").await.is_ok());
    // And those that are made from now on.
    for server in servers {
        ask_redis(server.port(), "CLIENT KILL TYPE normal\r\nCLIENT KILL TYPE pubsub");
    }
    serves().await;
}

async fn a_single_server_takes_new_credentials(_: Arc<Servers>) {
    let server = Redis::start().expect("a Redis");
    restrict(&[&server]);
    let tokens = Tokens(watch::Sender::new("first"));
    let options = Connection::options().credentials(tokens.provider());
    let connection = options.open(&server.url()).await.expect("a connection");
    takes_new_credentials(&[&server], &tokens, connection).await;
}

async fn a_cluster_takes_new_credentials(_: Arc<Servers>) {
    let cluster = RedisCluster::start().expect("a cluster");
    let nodes: Vec<&Redis> = cluster.nodes.iter().collect();
    restrict(&nodes);
    let tokens = Tokens(watch::Sender::new("first"));
    let options = Connection::options().credentials(tokens.provider());
    let connection = options.open_cluster(cluster.urls()).await.expect("a connection");
    takes_new_credentials(&nodes, &tokens, connection).await;
}

async fn a_sentinel_group_takes_new_credentials(_: Arc<Servers>) {
    let group = RedisSentinel::start().expect("a group");
    restrict(&[&group.primary]);
    let tokens = Tokens(watch::Sender::new("first"));
    let options = Connection::options().credentials(tokens.provider());
    let connection = options.open_sentinel(group.sentinel_urls(), group.master_name());
    let connection = connection.await.expect("a connection");
    takes_new_credentials(&[&group.primary], &tokens, connection).await;
}

async fn a_password_is_for_the_primary_and_not_for_the_sentinels(_: Arc<Servers>) {
    let group = RedisSentinel::start().expect("a group");
    restrict(&[&group.primary]);
    let open = async |password: &str| {
        let options = Connection::options().password("app", password);
        options.open_sentinel(group.sentinel_urls(), group.master_name()).await
    };
    let far = Tier::new(open("first").await.expect("a connection").timeout(TIMEOUT), Json);
    far.read("any").await.expect("a read");
    assert!(open("wrong").await.is_err());
}
