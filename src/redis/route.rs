//! The way to the servers: what is sent there, and where messages come from.

use std::{sync::Arc, time::Duration};

use ::redis::{
    AsyncConnectionConfig, Client, FromRedisValue, RedisError, RedisResult,
    aio::{MultiplexedConnection, PubSub},
};
use tokio::sync::watch;

#[cfg(feature = "deadpool")]
use super::pool::Pooled;
use super::{
    cluster::{self, Cluster, Primary},
    command::Command,
    fault::{is_demotion, to_fault, within},
    link::{Link, typed},
    options::{CONNECT_TIMEOUT, Options},
    sentinel::Sentinels,
    server::Server,
};
use crate::{Fault, FaultKind};

#[derive(Clone)]
pub(super) struct Route {
    pub(super) topology: Topology,
    /// Where to subscribe. Empty for a Cluster and a Sentinel group, which know, and for a pool, which does not.
    pub(super) subscribe_at: Vec<Client>,
    pub(super) options: Options,
    /// How often a command found its server to be a replica.
    demotions: Arc<watch::Sender<u64>>,
}

#[derive(Clone)]
pub(super) enum Topology {
    Single(Arc<Link<Server>>),
    Cluster(Arc<Link<Cluster>>),
    Sentinel(Arc<Link<Sentinels>>),
    #[cfg(feature = "deadpool")]
    Pool(Arc<Pooled>),
}

impl Route {
    pub(super) fn new(topology: Topology, subscribe_at: Vec<Client>, options: Options) -> Self {
        Self { topology, subscribe_at, options, demotions: Arc::default() }
    }

    /// Whether this is a Cluster whose nodes are asked for messages, and not a server that was named.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.topology, Topology::Cluster(_))
    }

    pub(super) fn can_subscribe(&self) -> bool {
        let finds_servers = matches!(self.topology, Topology::Sentinel(_) | Topology::Cluster(_));
        !self.subscribe_at.is_empty() || finds_servers
    }

    /// A connection for a subscription. Every node of a Cluster delivers every message of the plain kind; each
    /// attempt tries another one.
    pub(super) async fn subscription(&self, attempt: usize) -> Result<PubSub, Fault> {
        let client = match (&self.topology, &self.subscribe_at[..]) {
            (Topology::Sentinel(link), []) => link.dialer().client().await.map_err(to_fault)?,
            (Topology::Cluster(link), []) => {
                // The nodes of the moment; without an answer those that are known.
                let _ = link.dialer().learn().await;
                let clients = link.dialer().clients();
                clients[attempt % clients.len()].clone()
            }
            (_, []) => return Err(FaultKind::Config.into()),
            (_, clients) => clients[attempt % clients.len()].clone(),
        };
        within(CONNECT_TIMEOUT, self.options.subscribe(&client)).await
    }

    /// The primaries of a Cluster now, each with its slots; none elsewhere, and where a server to subscribe at was named.
    pub(super) async fn primaries(&self) -> Result<Vec<Primary>, Fault> {
        match (&self.topology, &self.subscribe_at[..]) {
            (Topology::Cluster(link), []) => {
                link.dialer().learn().await.map_err(to_fault)?;
                Ok(link.dialer().primaries())
            }
            _ => Ok(Vec::new()),
        }
    }

    /// A connection to a node of a Cluster, for its messages.
    pub(super) async fn subscription_at(
        &self,
        client: &Client,
        config: AsyncConnectionConfig,
    ) -> RedisResult<MultiplexedConnection> {
        self.options.dial_for_pushes(client, config).await
    }

    /// Resolves when a command finds that its server has become a replica: who subscribes there is not among the
    /// receivers that the new primary counts.
    pub(super) fn demoted(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut demotions = self.demotions.subscribe();
        async move {
            let _ = demotions.changed().await;
        }
    }

    /// A connection of its own to the server that takes the commands.
    pub(super) async fn own(&self) -> RedisResult<MultiplexedConnection> {
        match &self.topology {
            Topology::Single(link) => self.options.dial(&link.dialer().client).await,
            Topology::Sentinel(link) => {
                self.options.dial(&link.get().await?.connection.client).await
            }
            // Many servers, and none of them is the one.
            Topology::Cluster(_) => {
                Err((::redis::ErrorKind::InvalidClientConfig, "a cluster").into())
            }
            #[cfg(feature = "deadpool")]
            Topology::Pool(pool) => pool.own().await,
        }
    }

    pub(super) async fn send<T: FromRedisValue + Send>(
        &self,
        command: &impl Command,
        timeout: Duration,
    ) -> Result<T, Fault> {
        let answer = match &self.topology {
            Topology::Single(link) => link.send(&link.dialer().gate, command, timeout).await,
            // Boxed, so that the future of the most frequent kind stays small.
            Topology::Sentinel(link) => {
                Box::pin(link.send(&link.dialer().gate, command, timeout)).await
            }
            Topology::Cluster(link) => Box::pin(cluster::send(link, command, timeout)).await,
            #[cfg(feature = "deadpool")]
            Topology::Pool(pool) => Box::pin(pool.send(command, timeout)).await,
        };
        if let Ok(Err(error)) = &answer {
            self.note(error);
        }
        typed(answer)
    }

    fn note(&self, error: &RedisError) {
        if is_demotion(error) {
            self.demotions.send_modify(|count| *count += 1);
        }
    }
}
