use std::{mem, sync::Arc};

use zookeeper_client as zk;

use super::{
    dir::{Dir, sequence},
    fault::to_fault,
    link::Link,
};
use crate::Fault;

/// Our node in the queue of a name. Dropping it deletes the node in the background.
pub(super) struct Claim {
    link: Arc<Link>,
    dir: Dir,
    /// `_c_<uuid>-lock-`, before the number.
    prefix: String,
    node: Node,
    fence: u64,
}

enum Node {
    /// There is no reply to its creation: it may exist or not.
    Asked,
    There(String),
    Gone,
}

/// Where a claim stands in the queue.
pub(super) enum Position {
    First,
    /// Behind the child of this name.
    Behind(String),
    /// Nowhere: its node was deleted.
    Gone,
}

const CONTAINER: zk::CreateOptions<'_> =
    zk::CreateMode::Container.with_acls(zk::Acls::anyone_all());
const OURS: zk::CreateOptions<'_> =
    zk::CreateMode::EphemeralSequential.with_acls(zk::Acls::anyone_all());

impl Claim {
    /// Enters the queue.
    ///
    /// # Cancel safety
    ///
    /// The node is deleted in the background, if it was created.
    pub(super) async fn enter(link: &Arc<Link>, dir: &Dir) -> Result<Self, zk::Error> {
        let (link, dir, prefix) = (link.clone(), dir.clone(), format!("_c_{}-lock-", uuid()));
        let path = dir.child(&prefix);
        let mut claim = Self { link, dir, prefix, node: Node::Asked, fence: 0 };
        loop {
            let client = claim.link.client();
            match client.create(&path, &[], &OURS).await {
                Ok((stat, number)) => {
                    claim.fence = stat.czxid.cast_unsigned();
                    claim.node = Node::There(format!("{}{number}", claim.prefix));
                    return Ok(claim);
                }
                // The first of this name, or the server cleared the empty directory away.
                Err(zk::Error::NoNode) => client.mkdir(claim.dir.path(), &CONTAINER).await?,
                Err(error) => {
                    if matches!(error, zk::Error::NoAuth | zk::Error::BadArguments(_)) {
                        claim.node = Node::Gone;
                    }
                    return Err(error);
                }
            }
        }
    }

    /// The zxid that created the node: greater than those of all earlier transactions.
    pub(super) fn fence(&self) -> u64 {
        self.fence
    }

    pub(super) fn link(&self) -> &Arc<Link> {
        &self.link
    }

    pub(super) fn path(&self) -> String {
        match &self.node {
            Node::There(child) => self.dir.child(child),
            Node::Asked | Node::Gone => self.dir.child(&self.prefix),
        }
    }

    pub(super) async fn position(&self) -> Result<Position, zk::Error> {
        let Node::There(ours) = &self.node else { return Ok(Position::Gone) };
        let children = match self.link.children(self.dir.path()).await {
            Ok(children) => children,
            Err(zk::Error::NoNode) => return Ok(Position::Gone),
            Err(error) => return Err(error),
        };
        if !children.contains(ours) {
            return Ok(Position::Gone);
        }
        let before = children.into_iter().filter(|child| sequence(child) < sequence(ours));
        let next = before.max_by(|a, b| sequence(a).cmp(sequence(b)));
        Ok(next.map_or(Position::First, Position::Behind))
    }

    /// Waits until the other's node is deleted, or until it is time to look again.
    pub(super) async fn watch(&self, other: &str) -> Result<(), zk::Error> {
        // Not `check_and_watch_stat`: its watch would stay on a node that never will exist.
        match self.link.client().get_and_watch_data(&self.dir.child(other)).await {
            Ok((.., watcher)) => {
                let _ = tokio::time::timeout(self.link.timeout(), watcher.changed()).await;
                Ok(())
            }
            Err(zk::Error::NoNode) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Deletes the node. If that fails, it is tried again in the background.
    pub(super) async fn withdraw(mut self) -> Result<(), Fault> {
        let deleting = delete(&self.link, &self.dir, &self.prefix, &self.node);
        match self.link.within(self.link.timeout(), deleting).await {
            Ok(()) => {
                self.node = Node::Gone;
                Ok(())
            }
            // The node went with its session.
            Err(_) if self.link.is_over() => Ok(()),
            Err(fault) => Err(fault),
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        let node = mem::replace(&mut self.node, Node::Gone);
        if matches!(node, Node::Gone) || self.link.is_over() {
            return;
        }
        let (link, dir, prefix) =
            (self.link.clone(), self.dir.clone(), mem::take(&mut self.prefix));
        self.link.runtime().spawn(async move {
            // For as long as the session lives, the node would hold the lock.
            while let Err(error) = delete(&link, &dir, &prefix, &node).await {
                if link.is_over() {
                    return;
                }
                tracing::debug!(fault = %to_fault(error), "a node could not be deleted yet");
                tokio::time::sleep(link.timeout() / 20).await;
            }
        });
    }
}

/// Deletes our node, also when its number is not known.
async fn delete(link: &Link, dir: &Dir, prefix: &str, node: &Node) -> Result<(), zk::Error> {
    match node {
        Node::Gone => Ok(()),
        Node::There(child) => link.delete(&dir.child(child)).await,
        // This request follows the creation in the order of the session. If the connection broke during the
        // creation, that has been carried out by now or never will be.
        Node::Asked => match link.children(dir.path()).await {
            Ok(children) => match children.iter().find(|child| child.starts_with(prefix)) {
                Some(child) => link.delete(&dir.child(child)).await,
                None => Ok(()),
            },
            Err(zk::Error::NoNode) => Ok(()),
            Err(error) => Err(error),
        },
    }
}

/// Version 4, as Java spells it.
fn uuid() -> String {
    let mut bytes = [0; 16];
    if getrandom::fill(&mut bytes).is_err() {
        fastrand::fill(&mut bytes);
    }
    let bits = u128::from_be_bytes(bytes);
    let bits = bits & !(0xf << 76) | 0x4 << 76;
    let bits = bits & !(0x3 << 62) | 0x2 << 62;
    let hex = format!("{bits:032x}");
    [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-")
}
