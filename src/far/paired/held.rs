use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use crate::{
    far::{Grant, Token},
    lock::Lease,
};

/// The leases of this process' loads.
#[derive(Default)]
pub(super) struct Held {
    by_token: Mutex<HashMap<Token, Load>>,
}

pub(super) struct Load {
    pub(super) lease: Arc<Lease>,
    pub(super) grant: Grant,
}

impl Held {
    pub(super) fn get(&self, token: Token) -> Option<Load> {
        let held = self.by_token.lock();
        held.get(&token).map(|load| Load { lease: load.lease.clone(), grant: load.grant })
    }

    pub(super) fn insert(&self, token: Token, load: Load) {
        self.by_token.lock().insert(token, load);
    }

    pub(super) fn take(&self, token: Token) -> Option<Load> {
        self.by_token.lock().remove(&token)
    }

    /// The fencing tokens of the loads of a name.
    pub(super) fn of(&self, name: &str) -> Vec<(Token, u64)> {
        let held = self.by_token.lock();
        let of_name = held.iter().filter(|(_, load)| load.lease.name() == name);
        of_name.map(|(token, load)| (*token, load.lease.fence())).collect()
    }
}
