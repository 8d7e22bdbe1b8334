use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use crate::{far::Grant, lock::Lease, token::Token};

/// The loads of this process that are open at their records, by the guard's token.
#[derive(Default)]
pub(super) struct OpenLoads {
    by_token: Mutex<HashMap<Token, OpenLoad>>,
}

#[derive(Clone)]
pub(super) struct OpenLoad {
    pub(super) lease: Arc<Lease>,
    pub(super) grant: Grant,
}

impl OpenLoad {
    /// Names the load at its record.
    pub(super) fn record_token(&self) -> Token {
        Token::of_fence(self.lease.fence())
    }
}

impl OpenLoads {
    pub(super) fn get(&self, token: Token) -> Option<OpenLoad> {
        self.by_token.lock().get(&token).cloned()
    }

    pub(super) fn insert(&self, token: Token, load: OpenLoad) {
        self.by_token.lock().insert(token, load);
    }

    pub(super) fn take(&self, token: Token) -> Option<OpenLoad> {
        self.by_token.lock().remove(&token)
    }

    /// The loads of a name.
    pub(super) fn of(&self, name: &str) -> Vec<Token> {
        let loads = self.by_token.lock();
        let of_name = loads.iter().filter(|(_, load)| load.lease.name() == name);
        of_name.map(|(token, _)| *token).collect()
    }
}
