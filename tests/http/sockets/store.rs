//! Where a proxy keeps what it stores: a promise over sockets is kept over each store.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use cattleguard::{
    Guard, GuardBuilder,
    http::{Responses, StoredResponse},
    redis::{Connection, RedisFar},
};

use crate::servers::Redis;

#[derive(Clone, Copy, Debug)]
pub enum Store {
    Memory,
    Redis,
}

/// One for all tests. The watchdog of the server ends it with this process.
static SERVER: OnceLock<Redis> = OnceLock::new();
static STORES: AtomicUsize = AtomicUsize::new(0);

impl Store {
    /// A cache on an empty one. Without a near tier in front of Redis: what is reused has been there and back.
    pub fn builder(self) -> GuardBuilder<str, StoredResponse> {
        match self {
            Self::Memory => Guard::builder(),
            Self::Redis => {
                let server = SERVER.get_or_init(|| Redis::start().expect("a server"));
                let connection = Connection::open_lazy(&server.url()).expect("a URL");
                // A busy machine is no outage, nor is a clock that a test hurries.
                let connection = connection.timeout(Duration::from_secs(10));
                let namespace = format!("store {}", STORES.fetch_add(1, Ordering::Relaxed));
                let far = RedisFar::new(connection, Responses::default());
                Guard::builder().near_capacity(0).far(far.namespace(&namespace))
            }
        }
    }
}

/// Stamps promises over each store.
macro_rules! over_each_store {
    ($($promise:ident),+ $(,)?) => {
        mod memory {
            $(#[tokio::test]
            async fn $promise() {
                super::$promise($crate::sockets::store::Store::Memory).await;
            })+
        }

        mod redis {
            $(#[tokio::test]
            async fn $promise() {
                super::$promise($crate::sockets::store::Store::Redis).await;
            })+
        }
    };
}
pub(super) use over_each_store;
