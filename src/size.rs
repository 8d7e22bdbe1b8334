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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Moment, Version,
        terms::{Tags, Terms},
    };

    #[test]
    fn an_entry_is_as_large_as_its_value_and_its_tags() {
        let size = |tags| {
            let entry = Entry::new(Some(()), Version::ZERO, Moment::FAR_FUTURE);
            let entry = entry.on(Terms { tags, ..Terms::default() });
            SizeOf::by(|()| 1_000).measure(&entry).unwrap_or(0)
        };
        let tags = ["a".repeat(10), "b".repeat(500)].map(|name| (name.into(), Version::ZERO));
        assert_eq!(size(Tags::None), 1_000);
        assert!((1_510..1_800).contains(&size(Tags::Of(tags.into()))));
    }
}
