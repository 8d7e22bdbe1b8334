use std::{fmt, sync::Arc};

use crate::{Entry, Outcome, Version};

/// What a caller gets: the shared entry and how it came. Cloning copies a pointer.
///
/// ```
/// # async fn show(guard: cattleguard::Guard<str, String>) -> Result<(), cattleguard::Error> {
/// # use cattleguard::Loaded;
/// let fetched = guard.fetch("greeting", || async { Ok::<_, std::io::Error>(Loaded::found("hi".to_owned(), 1)) }).await?;
/// match fetched.value() {
///     Some(text) => println!("{text}, {:?}", fetched.outcome()),
///     None => println!("there is no such row"),
/// }
/// # Ok(()) }
/// ```
pub struct Fetched<V> {
    entry: Arc<Entry<V>>,
    outcome: Outcome,
}

impl<V> Fetched<V> {
    pub(crate) fn new(entry: Arc<Entry<V>>, outcome: Outcome) -> Self {
        Self { entry, outcome }
    }

    pub(crate) fn with(&self, outcome: Outcome) -> Self {
        Self { entry: self.entry.clone(), outcome }
    }

    /// The value, or `None` where the origin says that there is none.
    pub fn value(&self) -> Option<&V> {
        self.entry.value()
    }

    /// The version under which the origin had it.
    pub fn version(&self) -> Version {
        self.entry.version()
    }

    /// How this request was answered.
    pub fn outcome(&self) -> Outcome {
        self.outcome
    }

    /// Whether a fresh entry of a tier was the answer: no load, and nothing stale.
    pub fn is_hit(&self) -> bool {
        matches!(self.outcome, Outcome::Hit(_))
    }

    /// A value of one's own, or `None` where the origin says that there is none. Copies it, unless this is the
    /// only one that has it.
    pub fn into_value(self) -> Option<V>
    where
        V: Clone,
    {
        match Arc::try_unwrap(self.entry) {
            Ok(entry) => entry.into_value(),
            Err(shared) => shared.value().cloned(),
        }
    }

    /// The value, or `default` where the origin says that there is none.
    pub fn value_or<'a>(&'a self, default: &'a V) -> &'a V {
        self.value().unwrap_or(default)
    }

    /// The entry, shared with the near tier and every other caller.
    pub fn entry(&self) -> &Arc<Entry<V>> {
        &self.entry
    }
}

impl<V> Clone for Fetched<V> {
    fn clone(&self) -> Self {
        self.with(self.outcome)
    }
}

impl<V> fmt::Debug for Fetched<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fetched")
            .field("entry", &self.entry)
            .field("outcome", &self.outcome)
            .finish()
    }
}
