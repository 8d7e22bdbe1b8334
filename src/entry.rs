use std::{
    fmt,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use crate::{
    Loaded, Moment, Version,
    policy::StaleFor,
    terms::{Tags, Terms},
};

/// What is stored: a value or "known absent", its version, and the moment until which it is fresh.
pub struct Entry<V> {
    value: Option<V>,
    version: Version,
    fresh_until: Moment,
    load_time: Duration,
    /// `None`: the default ones.
    terms: Option<Box<Terms>>,
    /// What the value takes, as far as it is known: the length of its encoding, or what a size function
    /// has said. Set once the entry is shared already.
    bytes: AtomicUsize,
}

impl<V> Entry<V> {
    /// An entry whose times are moments of the clock of the far tier that keeps it.
    pub fn new(value: Option<V>, version: Version, fresh_until: Moment) -> Self {
        let bytes = AtomicUsize::new(0);
        Self { value, version, fresh_until, load_time: Duration::ZERO, terms: None, bytes }
    }

    /// The same entry with the time that its load took. Without one it is not refreshed early.
    #[must_use]
    pub fn loaded_in(mut self, load_time: Duration) -> Self {
        self.load_time = load_time;
        self
    }

    /// The same entry with what [`terms`](Self::terms) has given, or `None` for other bytes. For a far tier that
    /// keeps entries as bytes.
    #[must_use]
    pub fn with_terms(self, terms: &[u8]) -> Option<Self> {
        Some(self.on(Terms::from_bytes(terms)?))
    }

    /// What a far tier must keep with the entry, if there is any: how long it may be served stale, and its tags.
    pub fn terms(&self) -> Option<Vec<u8>> {
        self.terms.as_ref().map(|terms| terms.to_bytes())
    }

    pub(crate) fn on(mut self, terms: Terms) -> Self {
        self.terms = (!terms.is_default()).then(|| Box::new(terms));
        self
    }

    /// An absence in its place that has taken over a version.
    pub(crate) fn absent_at(&self, version: Version) -> Self {
        let absent = Self::new(None, version, self.fresh_until).loaded_in(self.load_time);
        Self { terms: self.terms.clone(), ..absent }
    }

    pub(crate) fn stale_for(&self) -> StaleFor {
        self.terms.as_ref().map_or_else(StaleFor::default, |terms| terms.stale)
    }

    pub(crate) fn tags(&self) -> &Tags {
        self.terms.as_ref().map_or(&Tags::None, |terms| &terms.tags)
    }

    /// The value, or `None` where it is known that there is none.
    pub fn value(&self) -> Option<&V> {
        self.value.as_ref()
    }

    /// The value, taken out.
    pub(crate) fn into_value(self) -> Option<V> {
        self.value
    }

    /// The version under which the origin had it.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The end of its ttl.
    pub fn fresh_until(&self) -> Moment {
        self.fresh_until
    }

    /// How long its load took; zero if that is not known.
    pub fn load_time(&self) -> Duration {
        self.load_time
    }

    /// What a load returns if the origin says that this entry is as it was: the same value, version and tags, with a
    /// new ttl. See [`Loader`](crate::Loader).
    pub fn not_modified(&self) -> Loaded<V>
    where
        V: Clone,
    {
        let tagged = self.tags().names().map(str::to_owned).collect();
        let stale = self.stale_for();
        Loaded { value: self.value.clone(), stale, tagged, ..Loaded::absent() }
            .version(self.version)
    }

    /// What the value takes, as far as that is known, and its terms.
    pub(crate) fn bytes(&self) -> usize {
        let terms = self.terms.as_ref().map_or(0, |terms| terms.size());
        self.bytes.load(Ordering::Relaxed).saturating_add(terms)
    }

    pub(crate) fn set_bytes(&self, bytes: usize) {
        self.bytes.store(bytes, Ordering::Relaxed);
    }

    /// Whether a request at `now` is to refresh this fresh entry before its end: XFetch, by which the
    /// chance grows with the load time and as the end comes near.
    pub(crate) fn is_early(&self, now: Moment, beta: f64) -> bool {
        // 1 − U has the same distribution and is never zero.
        let gap = self.load_time.as_secs_f64() * beta * -(1.0 - fastrand::f64()).ln();
        now.after(Duration::try_from_secs_f64(gap).unwrap_or(Duration::MAX)) >= self.fresh_until
    }

    /// Before this moment the chance of that is below one in a thousand million.
    pub(crate) fn early_from(&self, beta: f64) -> Moment {
        let longest = self.load_time.as_secs_f64() * beta * -(1e-9f64).ln();
        self.fresh_until.before(Duration::try_from_secs_f64(longest).unwrap_or(Duration::MAX))
    }

    /// Whether `moment` is within its ttl.
    pub(crate) fn is_fresh_at(&self, moment: Moment) -> bool {
        moment < self.fresh_until
    }
}

impl<V> fmt::Debug for Entry<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Entry")
            .field("found", &self.value.is_some())
            .field("version", &self.version)
            .field("fresh_until", &self.fresh_until)
            .finish()
    }
}
