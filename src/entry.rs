use std::{
    error, fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use crate::{
    Error, Moment, NegativeVersion, Outcome, Version,
    policy::StaleFor,
    terms::{Tags, Terms},
};

/// What a load returns: a value or "known absent", its [`Version`], and how it may be kept.
///
/// ```
/// use std::time::Duration;
/// use cattleguard::Loaded;
///
/// let row = Loaded::found("Ada", 17).ttl(Duration::from_secs(5));
/// let gone: Loaded<&str> = Loaded::absent();
/// ```
///
/// What a query returns is one, too: `Some((value, version))`, or `None` for no row.
///
/// ```
/// # use cattleguard::Loaded;
/// let row: Option<(String, i64)> = None;
/// let gone: Loaded<String> = row.into();
/// ```
#[must_use = "a loaded value does nothing until it is returned to the guard"]
#[derive(Clone)]
pub struct Loaded<V> {
    pub(crate) value: Option<V>,
    pub(crate) version: Option<Version>,
    pub(crate) ttl: Option<Duration>,
    pub(crate) cacheable: bool,
    pub(crate) failure: Option<Arc<dyn error::Error + Send + Sync>>,
    pub(crate) stale: StaleFor,
    /// The tags that it names.
    pub(crate) tagged: Vec<String>,
    /// What became of them; set by the guard.
    pub(crate) tags: Tags,
    /// How long it is kept once it may not be served any more, for a load that asks whether it is as it was.
    pub(crate) validated_for: Duration,
    /// How long the load took; set by the guard.
    pub(crate) load_time: Duration,
}

impl<V> Loaded<V> {
    /// A value and the version under which the origin has it: a `u64`, an `i64`, a [`Version`]. With a negative
    /// one the load has [`failed`](Self::failed).
    pub fn found(value: V, version: impl TryInto<Version, Error: Into<NegativeVersion>>) -> Self {
        Self { value: Some(value), ..Self::absent() }.version(version)
    }

    /// A value from an origin that has no versions. It is protected by the lease alone: loads are
    /// still elected, and revoked by an invalidation, but a read from a lagging replica is not
    /// noticed. Do not mix with versioned values of the same key.
    pub fn unversioned(value: V) -> Self {
        Self::found(value, Version::ZERO)
    }

    /// The origin knows that there is no value. Cached for the negative ttl.
    ///
    /// Without a [`version`](Self::version) an absence is judged by the lease alone and takes over
    /// the version on record. If loads may read a lagging replica, give it one.
    pub fn absent() -> Self {
        Self {
            value: None,
            version: None,
            ttl: None,
            cacheable: true,
            failure: None,
            stale: StaleFor::default(),
            tagged: Vec::new(),
            tags: Tags::None,
            validated_for: Duration::ZERO,
            load_time: Duration::ZERO,
        }
    }

    /// The load of this key failed: for one of the keys of [`Guard::fetch_many`](crate::Guard::fetch_many), so that
    /// the others have their answers. Anywhere else it is what returning the error is.
    ///
    /// ```
    /// use cattleguard::Loaded;
    ///
    /// let row = |id: u64, name: Result<String, std::string::FromUtf8Error>| match name {
    ///     Ok(name) => (id, Loaded::found(name, 1)),
    ///     Err(error) => (id, Loaded::failed(error)),
    /// };
    /// # let _ = row;
    /// ```
    pub fn failed(error: impl Into<Box<dyn error::Error + Send + Sync>>) -> Self {
        Self { failure: Some(Arc::from(error.into())), ..Self::absent() }
    }

    /// The error, if the load failed.
    pub(crate) fn into_result(self) -> Result<Self, Error> {
        match self.failure {
            Some(error) => Err(Error::Origin(error)),
            None => Ok(self),
        }
    }

    /// The version of a deletion, for instance the deleted row's version plus one. With a negative one the load
    /// has [`failed`](Self::failed).
    pub fn version(mut self, version: impl TryInto<Version, Error: Into<NegativeVersion>>) -> Self {
        match version.try_into() {
            Ok(version) => self.version = Some(version),
            Err(negative) => self.failure = Some(Arc::new(negative.into())),
        }
        self
    }

    /// How long this entry is fresh, less the policy's jitter. Default: the policy's ttl, or its
    /// negative ttl for an absence.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// How long this entry is served stale after its ttl while it is loaded anew. Default: the policy's grace.
    /// Zero, with [`stale_if_error`](Self::stale_if_error) zero, where what has ended must never be served.
    pub fn grace(mut self, grace: Duration) -> Self {
        self.stale.grace = Some(grace);
        self
    }

    /// How long after ttl and grace this entry is still served if its load fails. Default: the policy's.
    pub fn stale_if_error(mut self, window: Duration) -> Self {
        self.stale.if_error = Some(window);
        self
    }

    /// Adds a tag: [`Guard::invalidate_tag`](crate::Guard::invalidate_tag) invalidates all entries that have it. Needs
    /// a guard with [`tags`](crate::GuardBuilder::tags); without, or with more than 64 tags or one above 1,000 bytes, the
    /// value is not kept.
    ///
    /// ```
    /// use cattleguard::Loaded;
    ///
    /// let page = Loaded::found("…", 17).tag("products").tag("shop:7");
    /// ```
    pub fn tag(mut self, tag: impl Into<String>) -> Self {
        self.tagged.push(tag.into());
        self
    }

    /// See the field.
    #[cfg(feature = "http")]
    pub(crate) fn validated_for(mut self, window: Duration) -> Self {
        self.validated_for = window;
        self
    }

    /// Answers its callers, but is not kept in any tier.
    pub fn uncacheable(mut self) -> Self {
        self.cacheable = false;
        self
    }

    /// The value, or `None` for an absence.
    pub fn value(&self) -> Option<&V> {
        self.value.as_ref()
    }
}

/// A row with its version, or no row.
impl<V, N: TryInto<Version, Error: Into<NegativeVersion>>> From<Option<(V, N)>> for Loaded<V> {
    fn from(row: Option<(V, N)>) -> Self {
        row.map_or_else(Self::absent, |(value, version)| Self::found(value, version))
    }
}

impl<V> fmt::Debug for Loaded<V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaded")
            .field("found", &self.value.is_some())
            .field("version", &self.version)
            .field("ttl", &self.ttl)
            .field("cacheable", &self.cacheable)
            .field("failed", &self.failure.is_some())
            .finish()
    }
}

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
            Ok(entry) => entry.value,
            Err(shared) => shared.value.clone(),
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
