//! What a test opens when it wants.

use std::sync::Arc;

use tokio::sync::Semaphore;

/// Holds up whoever passes, until it opens.
#[derive(Clone, Debug)]
pub(crate) struct Gate(Arc<Semaphore>);

impl Gate {
    pub(crate) fn closed() -> Self {
        Self(Arc::new(Semaphore::new(0)))
    }

    pub(crate) fn opened() -> Self {
        let gate = Self::closed();
        gate.open();
        gate
    }

    /// For everyone who waits and everyone to come.
    pub(crate) fn open(&self) {
        self.0.close();
    }

    /// For the one who came first.
    pub(crate) fn let_one_pass(&self) {
        self.0.add_permits(1);
    }

    pub(crate) async fn pass(&self) {
        if let Ok(permit) = self.0.acquire().await {
            permit.forget();
        }
    }
}
