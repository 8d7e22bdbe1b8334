//! The origin of the processes: rows that are there at once, or when a gate opens.

use std::{
    convert::Infallible,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
};

use bytes::Bytes;
use cattleguard::Loaded;
use tokio::sync::watch;

pub struct Gate {
    version: AtomicU64,
    is_open: watch::Sender<bool>,
    waiting: AtomicUsize,
}

const VALUE: Bytes = Bytes::from_static(&[7; 200]);

impl Gate {
    pub fn open() -> Self {
        Self {
            version: AtomicU64::new(1),
            is_open: watch::Sender::new(true),
            waiting: AtomicUsize::new(0),
        }
    }

    pub async fn load(&self) -> Result<Loaded<Bytes>, Infallible> {
        self.waiting.fetch_add(1, Ordering::Relaxed);
        // It fails without the sender, which is here.
        let _ = self.is_open.subscribe().wait_for(|open| *open).await;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        Ok(Loaded::found(VALUE, self.version.load(Ordering::Relaxed)))
    }

    /// How many loads run.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    pub fn set_open(&self, open: bool) {
        self.is_open.send_replace(open);
    }

    /// All rows change.
    pub fn change(&self) {
        self.version.fetch_add(1, Ordering::Relaxed);
    }
}
