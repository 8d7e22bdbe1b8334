use std::{error, fmt, sync::Arc, time::Duration};

use crate::{Error, NegativeVersion, Version, policy::StaleFor, terms::Tags};

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
