//! What a process is subscribed to: over one connection, or over one to each primary of a Cluster of Redis 7.

use std::collections::{HashMap, HashSet};

use futures::future::join_all;

use super::{
    channel::{Bucket, ProcessId, Scope},
    cluster::Primary,
    fault::is_not_offered,
    push_connection::{PushConnection, Sink},
    route::Route,
};
use crate::{Fault, FaultKind};

/// What one listens to.
pub(super) struct Topics {
    pub(super) events: String,
    /// Of a namespace: who is on this channel, which has no messages, is to confirm. Its events have a sharded channel in
    /// each bucket where there are such, and a plain one in any case: a publisher may not be allowed to publish to
    /// the others.
    pub(super) subscribers: Option<String>,
}

pub(super) struct Subscriptions {
    process: ProcessId,
    sinks: Vec<Sink>,
    /// In a Cluster with sharded channels, which connection has the bucket.
    connection_of: HashMap<Bucket, usize>,
    /// By connection.
    channels: HashSet<(usize, String)>,
}

impl Subscriptions {
    pub(super) async fn open(
        route: &Route,
        process: ProcessId,
        attempt: usize,
    ) -> Result<(Vec<PushConnection>, Self), Fault> {
        match Self::open_to_shards(route, process).await? {
            Some(opened) => Ok(opened),
            None => {
                let subscription = route.subscription(attempt).await?;
                let connections = vec![PushConnection::to_server(subscription)];
                Ok(Self::over(connections, process, HashMap::new()))
            }
        }
    }

    /// To each primary of a Cluster that has sharded channels and lets us listen there.
    pub(super) async fn open_to_shards(
        route: &Route,
        process: ProcessId,
    ) -> Result<Option<(Vec<PushConnection>, Self)>, Fault> {
        let mut primaries = route.primaries().await?;
        if primaries.is_empty() {
            return Ok(None);
        }
        // With many shards not all have the slot of a channel.
        primaries.retain(|primary| bucket_of(primary).is_some());
        let mut connection_of = HashMap::new();
        for bucket in Bucket::all() {
            let found = primaries.iter().position(|primary| primary.has(bucket.slot()));
            // Nobody has the slot: the Cluster is about to change.
            connection_of.insert(bucket, found.ok_or(FaultKind::Unreachable)?);
        }
        let opening = primaries.iter().map(|primary| open_to_shard(route, process, primary));
        match join_all(opening).await.into_iter().collect::<Result<Vec<_>, Fault>>() {
            Ok(connections) => Ok(Some(Self::over(connections, process, connection_of))),
            // Alike for all processes. Any other refusal may be ours alone, who would not hear what the others send.
            Err(fault) if is_not_offered(&fault) => Ok(None),
            Err(fault) => Err(fault),
        }
    }

    fn over(
        connections: Vec<PushConnection>,
        process: ProcessId,
        connection_of: HashMap<Bucket, usize>,
    ) -> (Vec<PushConnection>, Self) {
        let sinks = connections.iter().map(|connection| connection.sink.clone()).collect();
        (connections, Self { process, sinks, connection_of, channels: HashSet::new() })
    }

    pub(super) fn is_sharded(&self) -> bool {
        !self.connection_of.is_empty()
    }

    /// Subscribes to these, and to nothing else.
    pub(super) async fn reconcile(
        &mut self,
        topics: impl Iterator<Item = &Topics>,
    ) -> Result<(), Fault> {
        let wanted = self.channels_of(topics);
        let of = |connection: usize, these: &HashSet<(usize, String)>, but: &HashSet<_>| {
            let here = these.difference(but).filter(|(at, _)| *at == connection);
            here.map(|(_, channel)| channel.clone()).collect::<Vec<_>>()
        };
        for (connection, sink) in self.sinks.iter_mut().enumerate() {
            sink.subscribe(&of(connection, &wanted, &self.channels)).await?;
            sink.unsubscribe(&of(connection, &self.channels, &wanted)).await?;
        }
        self.channels = wanted;
        Ok(())
    }

    fn channels_of<'a>(
        &self,
        topics: impl Iterator<Item = &'a Topics>,
    ) -> HashSet<(usize, String)> {
        let shards = || self.connection_of.iter().map(|(bucket, at)| (*at, Scope::Shard(*bucket)));
        let process = [(0, Scope::Global)].into_iter().chain(shards());
        let mut channels: HashSet<_> =
            process.map(|(at, scope)| (at, scope.process(self.process))).collect();
        for Topics { events, subscribers } in topics {
            channels.insert((0, events.clone()));
            let Some(subscribers) = subscribers else { continue };
            if !self.is_sharded() {
                channels.insert((0, subscribers.clone()));
            }
            channels.extend(shards().map(|(at, scope)| (at, scope.topic(events))));
        }
        channels
    }
}

/// Subscribes to a channel: the node says whether it knows such, and lets us listen.
async fn open_to_shard(
    route: &Route,
    process: ProcessId,
    primary: &Primary,
) -> Result<PushConnection, Fault> {
    let bucket = bucket_of(primary).ok_or(FaultKind::Unreachable)?;
    let channel = Scope::Shard(bucket).process(process);
    let mut connection = PushConnection::to_node(route, &primary.client).await?;
    connection.sink.subscribe(std::slice::from_ref(&channel)).await?;
    // A replica lets us listen, too, but nobody counts who does.
    connection.sink.has(&channel).await?;
    Ok(connection)
}

/// One whose channels are in a node.
fn bucket_of(primary: &Primary) -> Option<Bucket> {
    Bucket::all().find(|bucket| primary.has(bucket.slot()))
}
