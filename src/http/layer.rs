use std::{fmt, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Uri, request::Parts};
use tower::Layer;

use super::{
    HttpGuard, StoredResponse,
    key::{Keys, Query},
    tags::{self, Epochs},
};
use crate::{Error, Guard, GuardBuilder, Version, far::Invalidated};

/// Makes a router an HTTP cache. See the [module](self::super) for what it stores, and for whom.
///
/// Clones, and all services that it makes, share one guard: flights, near tier and connections. axum
/// calls [`layer`](Layer::layer) once per route.
///
/// ```
/// use std::time::Duration;
/// use cattleguard::{Guard, http::HttpGuardLayer};
///
/// let cache = HttpGuardLayer::new(Guard::builder().near_capacity(1_000))
///     .default_ttl(Duration::from_secs(5));
/// ```
#[derive(Clone)]
pub struct HttpGuardLayer {
    guard: Guard<str, StoredResponse>,
    rules: Rules,
}

/// What the user has set.
#[derive(Clone)]
pub(super) struct Rules {
    pub(super) keys: Keys,
    pub(super) key_part: Option<KeyPart>,
    pub(super) default_ttl: Option<Duration>,
    pub(super) longest_body: usize,
    pub(super) give_up_for: Duration,
    pub(super) version_field: Option<HeaderName>,
    pub(super) tag_field: Option<HeaderName>,
    pub(super) allows_reloads: bool,
    pub(super) timeout: Option<Duration>,
}

type KeyPart = Arc<dyn Fn(&Parts) -> Option<String> + Send + Sync>;

impl HttpGuardLayer {
    /// A cache with the policy, the far tier and the near capacity of `builder`, which the layer
    /// builds. For a far tier that is shared, use the codec [`Responses`](super::Responses).
    pub fn new(builder: GuardBuilder<str, StoredResponse>) -> Self {
        Self {
            guard: builder.stale_for(StoredResponse::stale_for).build(),
            rules: Rules {
                keys: Keys::default(),
                key_part: None,
                default_ttl: None,
                longest_body: 1 << 20,
                give_up_for: Duration::from_secs(10),
                version_field: None,
                tag_field: None,
                allows_reloads: false,
                timeout: None,
            },
        }
    }

    /// How long a response is fresh that does not say it, and whose status may be stored without a word
    /// (200, 404 and others, RFC 9110 §15.1). Default: a tenth of the time since its `Last-Modified`, a
    /// day at most; without one it is not stored.
    pub fn default_ttl(mut self, ttl: Duration) -> Self {
        self.rules.default_ttl = Some(ttl);
        self
    }

    /// The longest body that is stored, in bytes. Default 1 MiB. Longer ones pass through as they come.
    pub fn longest_body(mut self, bytes: usize) -> Self {
        self.rules.longest_body = bytes;
        self
    }

    /// How long everybody goes alone for a URL whose response may not be stored. Default 10 s. Who comes
    /// after it waits once for the head of a response, to find out whether that has changed.
    pub fn give_up_for(mut self, time: Duration) -> Self {
        self.rules.give_up_for = time;
        self
    }

    /// The response field that has the version of what the handler read, a number; the field is passed
    /// on. Default: the [`Version`] in the response's extensions, if there is one. Without either, a response
    /// is protected by the lease alone, see [`Loaded::unversioned`](crate::Loaded::unversioned).
    pub fn version_field(mut self, name: HeaderName) -> Self {
        self.rules.version_field = Some(name);
        self
    }

    /// The response field that has the tags by which [`purge_tag`](Self::purge_tag) finds a response, and many
    /// others with it: names separated by spaces or commas, `Surrogate-Key` or `Cache-Tag`, say. The field is
    /// passed on. Default: none; a hit looks after each of its tags, so they should be few.
    pub fn tag_field(mut self, name: HeaderName) -> Self {
        self.rules.tag_field = Some(name);
        self
    }

    /// Sorts the query's parameters by name, and leaves out these: for URLs that differ in what makes no
    /// difference. Default: the query as sent.
    pub fn sorted_query(mut self, without: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let without = without.into_iter().map(Into::into).collect();
        self.rules.keys.query = Query::Sorted { without };
        self
    }

    /// Requests that do not say their scheme came by HTTPS. Default: by HTTP.
    pub fn https(mut self) -> Self {
        self.rules.keys.https = true;
        self
    }

    /// Adds a part to the key, a tenant say; `None` sends the request past the cache. Whatever a handler
    /// looks at, other than the URL, belongs here or in `Vary`, or one client's answer is another's.
    pub fn key_part(
        mut self,
        part: impl Fn(&Parts) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.rules.key_part = Some(Arc::new(part));
        self
    }

    /// Lets clients have what is stored looked after (`no-cache`, `max-age`, `min-fresh` in a request). All
    /// who ask at one time share one new load, for which what is stored is forgotten first: if the origin
    /// fails then, there is nothing stale to serve. Default: they are answered from the cache, as it may (RFC
    /// 9111 §5.2.1), because anybody could ask. Set it where all clients are trusted.
    pub fn allow_reloads(mut self) -> Self {
        self.rules.allows_reloads = true;
        self
    }

    /// The deadline of each request that waits for a load: then it gets an expired response, if there is
    /// one, or 504, and the load goes on. Default: none but those of the [`Policy`](crate::Policy).
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.rules.timeout = Some(timeout);
        self
    }

    /// Forgets what is stored for a URL, all variants of it: an absolute one, or one of `host`. As
    /// [`Guard::invalidate`], whose promise it has. Not what has a [`key_part`](Self::key_part), for which
    /// there is [`purge_part`](Self::purge_part).
    ///
    /// # Errors
    ///
    /// As [`Guard::invalidate`]. A URL without a host is [`PurgeError::NoHost`].
    pub async fn purge(&self, url: &Uri, host: Option<&str>) -> Result<Invalidated, PurgeError> {
        self.purge_by(url, host, None, None).await
    }

    /// As [`purge`](Self::purge), of what has this [`key_part`](Self::key_part).
    ///
    /// # Errors
    ///
    /// As [`purge`](Self::purge).
    pub async fn purge_part(
        &self,
        url: &Uri,
        host: Option<&str>,
        part: &str,
    ) -> Result<Invalidated, PurgeError> {
        self.purge_by(url, host, Some(part), None).await
    }

    /// As [`purge`](Self::purge), of responses below a version, as [`Guard::invalidate_at`].
    ///
    /// # Errors
    ///
    /// As [`purge`](Self::purge).
    pub async fn purge_at(
        &self,
        url: &Uri,
        host: Option<&str>,
        version: impl Into<Version>,
    ) -> Result<Invalidated, PurgeError> {
        self.purge_by(url, host, None, Some(version.into())).await
    }

    /// The tags that a request names.
    pub(super) fn tag_names<'a>(&self, headers: &'a HeaderMap) -> Vec<&'a str> {
        let field = self.rules.tag_field.as_ref();
        field.map(|field| tags::names(field, headers).collect()).unwrap_or_default()
    }

    /// What a request says in the version field.
    pub(super) fn version_named<'a>(&self, headers: &'a HeaderMap) -> Option<&'a HeaderValue> {
        headers.get(self.rules.version_field.as_ref()?)
    }

    async fn purge_by(
        &self,
        url: &Uri,
        host: Option<&str>,
        part: Option<&str>,
        version: Option<Version>,
    ) -> Result<Invalidated, PurgeError> {
        let keys = self.rules.keys.of_url(url, host, part).ok_or(PurgeError::NoHost)?;
        let mut worst = Invalidated::Everywhere;
        for key in keys {
            let done = match version {
                Some(version) => self.guard.invalidate_at(&*key, version).await,
                None => self.guard.invalidate(&*key).await,
            };
            match done.map_err(PurgeError::Guard)? {
                Invalidated::Everywhere => {}
                less => worst = less,
            }
        }
        Ok(worst)
    }

    /// Forgets all responses with a tag, see [`tag_field`](Self::tag_field); those too whose load is in the
    /// air. Each is loaded again when it is asked for, not before.
    ///
    /// # Errors
    ///
    /// As [`Guard::invalidate`], whose promise it has.
    pub async fn purge_tag(&self, tag: &str) -> Result<Invalidated, PurgeError> {
        Epochs(&self.guard).purge(tag).await.map_err(PurgeError::Guard)
    }

    /// Ends the loads in progress, as [`Guard::shutdown`].
    pub async fn shutdown(&self, timeout: Duration) -> crate::Shutdown {
        self.guard.shutdown(timeout).await
    }
}

/// Why a URL was not purged.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub enum PurgeError {
    /// The URL names no host, and none was given with it.
    NoHost,
    /// The invalidation was not acknowledged.
    Guard(Error),
}

impl fmt::Display for PurgeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoHost => "the URL to be purged names no host; give one",
            Self::Guard(_) => "the purge was not acknowledged",
        })
    }
}

impl std::error::Error for PurgeError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::NoHost => None,
            Self::Guard(error) => Some(error),
        }
    }
}

impl<S> Layer<S> for HttpGuardLayer {
    type Service = HttpGuard<S>;

    fn layer(&self, inner: S) -> HttpGuard<S> {
        HttpGuard::new(inner, self.guard.clone(), self.rules.clone())
    }
}

impl fmt::Debug for HttpGuardLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpGuardLayer").field("guard", &self.guard).finish_non_exhaustive()
    }
}
