//! How many bytes the value of an entry takes.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use crate::Entry;

/// The user's size function, if there is one. Without one an entry counts with the length of its encoding,
/// where that is known.
pub(crate) struct SizeOf<V>(Option<Arc<Function<V>>>);

type Function<V> = dyn Fn(&V) -> usize + Send + Sync;

/// A size function has panicked.
pub(crate) struct Panicked;

impl<V> SizeOf<V> {
    pub(crate) fn by(size_of: impl Fn(&V) -> usize + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(size_of)))
    }

    /// Whether there is a function.
    pub(crate) fn is_asked(&self) -> bool {
        self.0.is_some()
    }

    /// The bytes of the entry, which remembers those of its value. Runs the user's code, so never under a lock.
    pub(crate) fn measure(&self, entry: &Entry<V>) -> Result<usize, Panicked> {
        let (Some(size_of), Some(value)) = (&self.0, entry.value()) else {
            return Ok(entry.bytes());
        };
        let measured = catch_unwind(AssertUnwindSafe(|| size_of(value)));
        let bytes = measured.map_err(|_| Panicked)?;
        entry.set_bytes(bytes);
        Ok(entry.bytes())
    }
}

impl<V> Clone for SizeOf<V> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<V> Default for SizeOf<V> {
    fn default() -> Self {
        Self(None)
    }
}
