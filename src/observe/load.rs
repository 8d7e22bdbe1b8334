use tokio::time::Instant;

use super::{
    event::GuardEventKind,
    observer::{OK, Observer},
};
use crate::Error;

/// One call to the origin, until it has ended. Counted once, however it ends: dropped without an end it
/// has panicked, or no flight was left to wait for it.
#[must_use = "a load that is dropped counts as abandoned"]
pub(crate) struct Load<'a> {
    /// `None` once it is counted.
    observer: Option<&'a Observer>,
    begun: Instant,
    /// `None` for the load of a batch.
    name: Option<&'a str>,
}

impl Observer {
    pub(crate) fn load<'a>(&'a self, name: Option<&'a str>) -> Load<'a> {
        Load { observer: Some(self), begun: Instant::now(), name }
    }
}

impl Load<'_> {
    pub(crate) fn ended<T>(mut self, loaded: &Result<T, Error>) {
        self.count(loaded.as_ref().map_or_else(Error::as_str, |_| OK));
    }

    fn count(&mut self, result: &'static str) {
        if let Some(observer) = self.observer.take() {
            observer.loads.count(result);
            let took = self.begun.elapsed();
            observer.load_seconds.record(took);
            observer.tell(self.name, GuardEventKind::LoadEnded { result, took });
        }
    }
}

impl Drop for Load<'_> {
    fn drop(&mut self) {
        let panics = std::thread::panicking();
        let error = if panics { Error::LoadPanicked } else { Error::Abandoned };
        self.count(error.as_str());
    }
}
