//! Purging by URL and by tag.

use std::fmt;

use http::Uri;

use super::layer::HttpGuardLayer;
use crate::{Error, NegativeVersion, Version, far::Invalidated};

impl HttpGuardLayer {
    /// Invalidates all variants of a URL: an absolute one, or a relative one of `host`. With the promise of
    /// [`Guard::invalidate`](crate::Guard::invalidate). For responses with a
    /// [`key_part`](Self::key_part) there is [`purge_part`](Self::purge_part).
    ///
    /// # Cancel safety
    ///
    /// A URL has two entries, one for requests with `Authorization`. Once polled the first is invalidated,
    /// even if the future is dropped; the second may not be. Call it again.
    ///
    /// # Errors
    ///
    /// [`PurgeError::NoHost`] if the URL has no host and none is given; [`PurgeError::Guard`] as
    /// [`Guard::invalidate`](crate::Guard::invalidate) fails.
    pub async fn purge(&self, url: &Uri, host: Option<&str>) -> Result<Invalidated, PurgeError> {
        self.invalidate(url, host, None, None).await
    }

    /// As [`purge`](Self::purge), for the responses with this [`key_part`](Self::key_part).
    ///
    /// # Cancel safety
    ///
    /// As for [`purge`](Self::purge).
    ///
    /// # Errors
    ///
    /// As for [`purge`](Self::purge).
    pub async fn purge_part(
        &self,
        url: &Uri,
        host: Option<&str>,
        part: &str,
    ) -> Result<Invalidated, PurgeError> {
        self.invalidate(url, host, Some(part), None).await
    }

    /// As [`purge`](Self::purge), for the responses below a version, with the promise of
    /// [`Guard::invalidate_at`](crate::Guard::invalidate_at).
    ///
    /// # Cancel safety
    ///
    /// As for [`purge`](Self::purge).
    ///
    /// # Errors
    ///
    /// As for [`purge`](Self::purge).
    pub async fn purge_at(
        &self,
        url: &Uri,
        host: Option<&str>,
        version: impl TryInto<Version, Error: Into<NegativeVersion>>,
    ) -> Result<Invalidated, PurgeError> {
        let version = version.try_into();
        let version = version.map_err(|_| PurgeError::Guard(Error::NegativeVersion))?;
        self.invalidate(url, host, None, Some(version)).await
    }

    /// Invalidates all responses with a tag of the [`tag_field`](Self::tag_field), those whose load is in
    /// progress too. Each is loaded again when it is next requested. If it fails because the far tier is away, this
    /// process serves none of them either, and the guard repeats it.
    ///
    /// # Cancel safety
    ///
    /// Once polled it is carried out, also when the future is dropped.
    ///
    /// # Errors
    ///
    /// [`PurgeError::Guard`] as [`Guard::invalidate_tag`](crate::Guard::invalidate_tag) fails, also if neither this layer
    /// nor one that shares its guard has a tag field.
    pub async fn purge_tag(&self, tag: &str) -> Result<Invalidated, PurgeError> {
        self.guard.invalidate_tag(tag).await.map_err(PurgeError::Guard)
    }

    /// As [`purge_tag`](Self::purge_tag), for all responses, with tags and without. For this, too, the layer needs a
    /// [`tag_field`](Self::tag_field), or its builder [`tags`](crate::GuardBuilder::tags). What was stored without is not
    /// purged.
    ///
    /// # Cancel safety
    ///
    /// As for [`purge_tag`](Self::purge_tag).
    ///
    /// # Errors
    ///
    /// As for [`purge_tag`](Self::purge_tag).
    pub async fn clear(&self) -> Result<Invalidated, PurgeError> {
        self.guard.clear().await.map_err(PurgeError::Guard)
    }

    async fn invalidate(
        &self,
        url: &Uri,
        host: Option<&str>,
        part: Option<&str>,
        version: Option<Version>,
    ) -> Result<Invalidated, PurgeError> {
        let keys = self.settings.keys.keys_of_url(url, host, part).ok_or(PurgeError::NoHost)?;
        let mut worst = Ok(Invalidated::Everywhere);
        // All of them, even if one fails: then this process serves none.
        for key in keys {
            let done = match version {
                Some(version) => self.guard.invalidate_at(&*key, version).await,
                None => self.guard.invalidate(&*key).await,
            };
            worst = worse(worst, done);
        }
        worst.map_err(PurgeError::Guard)
    }
}

/// The one that promises less: the worst outcome so far, or the latest.
pub(super) fn worse<E>(
    worst: Result<Invalidated, E>,
    done: Result<Invalidated, E>,
) -> Result<Invalidated, E> {
    match (worst, done) {
        (Err(error), _) | (Ok(_), Err(error)) => Err(error),
        (worst, Ok(Invalidated::Everywhere)) => worst,
        (_, done) => done,
    }
}

/// Why a purge is not acknowledged.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub enum PurgeError {
    /// The URL names no host, and none was given with it.
    NoHost,
    /// The guard could not confirm the invalidation.
    Guard(Error),
}

impl fmt::Display for PurgeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHost => f.write_str("the URL to be purged names no host; give one"),
            Self::Guard(error) => write!(f, "the purge was not acknowledged: {error}"),
        }
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
