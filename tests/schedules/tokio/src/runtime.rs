use std::future::Future;

use crate::task::JoinHandle;

/// The only runtime there is.
#[derive(Clone, Debug)]
pub struct Handle;

impl Handle {
    pub fn current() -> Self {
        Self
    }

    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        crate::spawn(future)
    }
}
