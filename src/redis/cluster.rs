//! A Redis Cluster: its nodes, as far as they are known, and a gate for each.
//!
//! The client finds new places of slots by itself, and new servers that it is told about. It does not leave a
//! primary that hangs, so it is made anew from what the other nodes say. The old one serves the other
//! shards until then.

use std::{collections::HashMap, ops::RangeInclusive, sync::Arc, time::Duration};

use ::redis::{
    Client, Cmd, ConnectionAddr, ErrorKind, FromRedisValue, RedisError, RedisResult, Value,
    cluster::ClusterClientBuilder, cluster_async::ClusterConnection, cluster_routing::Slot,
};
use futures::{StreamExt, future::join_all, stream::FuturesUnordered};
use parking_lot::RwLock;

use super::{
    command::{self, Command},
    gate::Gate,
    link::{Dial, Link},
    options::{CONNECT_TIMEOUT, Options, tcp_settings},
};
use crate::Fault;

pub(super) struct Cluster {
    seeds: Vec<Client>,
    pub(super) options: Options,
    nodes: RwLock<Nodes>,
    /// Before the nodes are known, and for commands without a key.
    gate: Arc<Gate>,
}

#[derive(Default)]
struct Nodes {
    clients: Vec<Client>,
    primaries: Vec<Primary>,
    gates: HashMap<String, Arc<Gate>>,
    slots: HashMap<Slot, Arc<Gate>>,
}

/// A node that takes commands, and its slots.
#[derive(Clone)]
pub(super) struct Primary {
    pub(super) client: Client,
    slots: Vec<RangeInclusive<u16>>,
}

impl Primary {
    pub(super) fn has(&self, slot: u16) -> bool {
        self.slots.iter().any(|slots| slots.contains(&slot))
    }
}

/// How long one node may take to say what it knows of the others.
const ASK_TIMEOUT: Duration = Duration::from_millis(500);

/// How many nodes may be asked for what any of them can do.
const TRIES: u32 = 3;

/// Sends a command to the node that has its key. One without a key goes to a random node, and to another one if
/// that is silent.
pub(super) async fn send<T: FromRedisValue + Send>(
    link: &Arc<Link<Cluster>>,
    command: &impl Command,
    timeout: Duration,
) -> Result<Result<T, RedisError>, Fault> {
    let cluster = link.dialer();
    if let Some(slot) = command::slot(command).await {
        return link.send(&cluster.gate(slot), command, timeout).await;
    }
    for _ in 1..TRIES {
        let answer = link.send(&cluster.gate, command, timeout / TRIES).await;
        if answer.is_ok() {
            return answer;
        }
    }
    link.send(&cluster.gate, command, timeout / TRIES).await
}

impl Cluster {
    pub(super) fn new(seeds: Vec<Client>, options: Options) -> Self {
        Self { seeds, options, nodes: RwLock::default(), gate: Arc::default() }
    }

    fn gate(&self, slot: Slot) -> Arc<Gate> {
        let gate = self.nodes.read().slots.get(&slot).cloned();
        gate.unwrap_or_else(|| self.gate.clone())
    }

    /// All nodes that are known to serve, and the seeds.
    pub(super) fn clients(&self) -> Vec<Client> {
        let mut clients = self.nodes.read().clients.clone();
        for seed in &self.seeds {
            if clients.iter().all(|client| address(client) != address(seed)) {
                clients.push(seed.clone());
            }
        }
        clients
    }

    pub(super) fn primaries(&self) -> Vec<Primary> {
        self.nodes.read().primaries.clone()
    }

    /// Asks all nodes for the others; the first answer counts. Returns the node that gave it.
    pub(super) async fn learn(&self) -> RedisResult<Client> {
        let asked = self.clients().into_iter().map(|client| async move {
            let slots = tokio::time::timeout(ASK_TIMEOUT, self.ask(&client)).await;
            slots.unwrap_or_else(|_| Err(none())).map(|slots| (client, slots))
        });
        let mut answers = asked.collect::<FuturesUnordered<_>>();
        let mut last = none();
        while let Some(answer) = answers.next().await {
            match answer {
                Ok((client, ranges)) if !ranges.is_empty() => {
                    self.nodes.write().learn(&client, &ranges);
                    return Ok(client);
                }
                Ok(_) => {}
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn ask(&self, client: &Client) -> RedisResult<Vec<Range>> {
        let mut slots = Cmd::new();
        slots.arg("CLUSTER").arg("SLOTS");
        let mut connection = self.options.dial(client).await?;
        let answer: Vec<Vec<Value>> = slots.query_async(&mut connection).await?;
        Ok(answer.iter().filter_map(|range| Range::read(range)).collect())
    }

    /// Whether every primary answers.
    async fn all_answer(&self) -> bool {
        let primaries = self.primaries();
        let asked = primaries.iter().map(|primary| async {
            let answer = tokio::time::timeout(ASK_TIMEOUT, self.ask(&primary.client)).await;
            answer.is_ok_and(|answer| answer.is_ok())
        });
        join_all(asked).await.into_iter().all(|answers| answers)
    }
}

impl Nodes {
    fn learn(&mut self, told_by: &Client, ranges: &[Range]) {
        let before = std::mem::take(&mut self.gates);
        self.clients.clear();
        self.primaries.clear();
        self.slots.clear();
        for range in ranges {
            let mut servers = range.nodes.iter().filter_map(|node| at(told_by, node));
            let Some(primary) = servers.next() else { continue };
            let name = address(&primary);
            let known = before.get(&name).cloned();
            self.note_slots(&primary, range.first..=range.last);
            let gate = self.gates.entry(name).or_insert_with(|| known.unwrap_or_default()).clone();
            let slots = (range.first..=range.last).filter_map(Slot::new);
            self.slots.extend(slots.map(|slot| (slot, gate.clone())));
            for server in [primary].into_iter().chain(servers) {
                if self.clients.iter().all(|client| address(client) != address(&server)) {
                    self.clients.push(server);
                }
            }
        }
    }
}

impl Nodes {
    fn note_slots(&mut self, primary: &Client, slots: RangeInclusive<u16>) {
        let is_it = |known: &&mut Primary| address(&known.client) == address(primary);
        match self.primaries.iter_mut().find(is_it) {
            Some(known) => known.slots.push(slots),
            None => {
                self.primaries.push(Primary { client: primary.clone(), slots: vec![slots] });
            }
        }
    }
}

impl Dial for Cluster {
    type Connection = ClusterConnection;

    const MENDS_ITSELF: bool = true;

    const LIMIT: Duration = CONNECT_TIMEOUT.saturating_mul(3);

    async fn dial(&self, replacing: bool) -> RedisResult<ClusterConnection> {
        // From one that answers: the client waits for all that it is given.
        let node = self.learn().await?;
        // A client that finds a primary silent holds up the commands of all. The one that there is does not.
        if replacing && !self.all_answer().await {
            return Err(none());
        }
        let cluster = ClusterClientBuilder::new([node.get_connection_info().clone()])
            .connection_timeout(CONNECT_TIMEOUT)
            .response_timeout(CONNECT_TIMEOUT)
            .tcp_settings(tcp_settings())
            // Some 20 ms in all: a slot that migrates may be there a moment later.
            .retries(5)
            .retry_wait_formula(1, 2)
            .min_retry_wait(1)
            .max_retry_wait(16);
        self.options.of_cluster(cluster).build()?.get_async_connection().await
    }
}

/// The slots from `first` to `last`, and who serves them: the primary first.
struct Range {
    first: u16,
    last: u16,
    nodes: Vec<(Option<String>, u16)>,
}

impl Range {
    fn read(answer: &[Value]) -> Option<Self> {
        let [Value::Int(first), Value::Int(last), nodes @ ..] = answer else { return None };
        let nodes = nodes.iter().filter_map(|node| match node {
            Value::Array(node) => match &node[..] {
                [host, Value::Int(port), ..] => Some((text(host), u16::try_from(*port).ok()?)),
                _ => None,
            },
            _ => None,
        });
        let (first, last) = (u16::try_from(*first).ok()?, u16::try_from(*last).ok()?);
        Some(Self { first, last, nodes: nodes.collect() })
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes.clone()).ok(),
        Value::SimpleString(text) => Some(text.clone()),
        _ => None,
    }
}

/// A node, reached as the one that told of it. Without a host it is on the same one.
fn at(told_by: &Client, (host, port): &(Option<String>, u16)) -> Option<Client> {
    let info = told_by.get_connection_info();
    let host = |own: &str| match host.as_deref() {
        None | Some("" | "0.0.0.0" | "::") => Some(own.to_owned()),
        Some("?") => None,
        Some(host) => Some(host.to_owned()),
    };
    let address = match info.addr() {
        ConnectionAddr::Tcp(own, _) => ConnectionAddr::Tcp(host(own)?, *port),
        ConnectionAddr::TcpTls { host: own, insecure, tls_params, .. } => ConnectionAddr::TcpTls {
            host: host(own)?,
            port: *port,
            insecure: *insecure,
            tls_params: tls_params.clone(),
        },
        _ => return None,
    };
    Client::open(info.clone().set_addr(address)).ok()
}

fn address(client: &Client) -> String {
    client.get_connection_info().addr().to_string()
}

fn none() -> RedisError {
    (ErrorKind::Io, "no node of the cluster answers").into()
}
