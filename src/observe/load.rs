use super::{
    Stopwatch,
    observer::{OK, Observer},
};
use crate::Error;

/// One call to the origin, until it has ended. Counted once, however it ends: dropped without an end it
/// has panicked, or no flight was left to wait for it.
#[must_use = "a load that is dropped counts as abandoned"]
pub(crate) struct Load<'a> {
    /// `None` once it is counted.
    observer: Option<&'a Observer>,
    begun: Stopwatch,
}

impl Observer {
    pub(crate) fn load(&self) -> Load<'_> {
        Load { observer: Some(self), begun: Stopwatch::start() }
    }
}

impl Load<'_> {
    pub(crate) fn ended<T>(mut self, loaded: &Result<T, Error>) {
        self.count(loaded.as_ref().map_or_else(Error::as_str, |_| OK));
    }

    fn count(&mut self, result: &'static str) {
        if let Some(observer) = self.observer.take() {
            observer.loads.count(result);
            observer.load_seconds.record(self.begun);
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
