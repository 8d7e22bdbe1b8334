//! Those that listen, and those of them that the server lets.

use std::sync::Arc;

use tokio::sync::watch;

use super::{
    message::ReplyTo,
    subscriptions::{Subscriptions, Topics},
};
use crate::{Fault, FaultKind, subscription::State};

/// Hears what arrives. Called on the task that reads the messages: must be quick and must not block.
pub(super) trait Listener: Send + Sync + 'static {
    /// Whom to confirm to, once this returns.
    fn on_message(&self, payload: &[u8]) -> Option<ReplyTo>;
    fn on_connected(&self) {}
    fn on_disconnected(&self) {}
    /// The server refuses the channels.
    fn on_refused(&self) {}
}

pub(super) struct Member {
    pub(super) topics: Topics,
    pub(super) listener: Arc<dyn Listener>,
    pub(super) state: watch::Sender<State>,
}

/// Who listens over the connections of the moment.
pub(super) struct Audience {
    subscriptions: Subscriptions,
    members: Vec<Arc<Member>>,
    /// Whose channels the server refuses.
    refused: Vec<Arc<Member>>,
}

impl Audience {
    pub(super) fn of(subscriptions: Subscriptions) -> Self {
        Self { subscriptions, members: Vec::new(), refused: Vec::new() }
    }

    pub(super) fn tell_connected(&self) {
        for member in &self.members {
            if member.state.send_replace(State::Connected) != State::Connected {
                member.listener.on_connected();
            }
        }
    }

    /// Subscribes for those that are there now. Whose channels are refused is left out.
    pub(super) async fn follow(&mut self, all: &[Arc<Member>]) -> Result<(), Fault> {
        let (mut stay, mut new) = (Vec::new(), Vec::new());
        for member in all {
            if is_in(&self.members, member) {
                stay.push(member.clone());
            } else if !is_in(&self.refused, member) {
                new.push(member.clone());
            }
        }
        match self.admit(stay.iter().chain(&new).cloned().collect()).await {
            Err(fault) if fault.kind() == FaultKind::Refused && !new.is_empty() => {}
            admitted => return admitted,
        }
        self.admit(stay).await?;
        for member in new {
            let with = self.members.iter().chain([&member]).cloned().collect();
            match self.admit(with).await {
                Err(fault) if fault.kind() == FaultKind::Refused => {
                    member.state.send_replace(State::Broken);
                    member.listener.on_refused();
                    self.refused.push(member);
                }
                admitted => admitted?,
            }
        }
        Ok(())
    }

    /// Listens for these, and for nobody else.
    async fn admit(&mut self, members: Vec<Arc<Member>>) -> Result<(), Fault> {
        self.subscriptions.reconcile(members.iter().map(|member| &member.topics)).await?;
        self.members = members;
        Ok(())
    }
}

fn is_in(list: &[Arc<Member>], member: &Arc<Member>) -> bool {
    list.iter().any(|other| Arc::ptr_eq(other, member))
}
