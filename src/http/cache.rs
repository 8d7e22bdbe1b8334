//! What all clones of a service share.

use std::time::SystemTime;

use bytes::Bytes;
use http::{Response, request::Parts};
use http_body::Body as HttpBody;

use super::{
    body::Body,
    cache_mode::CacheMode,
    fields::cache_status,
    key::CacheKey,
    response::{Kind, StoredResponse},
    settings::Settings,
};
use crate::{Error, Fetched, Guard, Version, far::Invalidated, freshness::Found};

pub(super) struct Cache {
    pub(super) guard: Guard<str, StoredResponse>,
    pub(super) settings: Settings,
}

impl Cache {
    /// The response to a plain near hit: fresh, and accepted by the request. Waits for nothing.
    #[inline]
    pub(super) fn near_hit<B: HttpBody<Data = Bytes>>(
        &self,
        request: &Parts,
        primary: &CacheKey,
        mode: CacheMode,
    ) -> Option<Response<Body<B>>> {
        let mut look = self.guard.look(primary);
        if let Found::Fresh(entry) = &look
            && let Some(StoredResponse(Kind::Variants(variants))) = entry.value()
        {
            look = self.guard.look(&variants.key(primary, &request.headers));
        }
        let Found::Fresh(entry) = look else { return None };
        let cached = entry.value()?.response()?;
        let now = SystemTime::now();
        if !mode.accepts(cached, now) {
            return None;
        }
        self.guard.count_near_hit();
        Some(cached.respond(&request.method, &request.headers, cache_status::HIT, now))
    }

    /// The stored response to a request, near or far, without a load.
    pub(super) async fn find(
        &self,
        request: &Parts,
        primary: &CacheKey,
        mode: CacheMode,
    ) -> Option<Fetched<StoredResponse>> {
        let mut fetched = self.guard.find_servable(primary).await?;
        if let Kind::Variants(variants) = &fetched.value()?.0 {
            fetched = self.guard.find_servable(&*variants.key(primary, &request.headers)).await?;
        }
        let cached = fetched.value()?.response()?;
        mode.accepts(cached, SystemTime::now()).then_some(fetched)
    }

    /// As [`find`](Self::find), also what the origin lets be served only if a load fails: for a request that takes
    /// something stale itself (RFC 9111 §4.2.4).
    pub(super) async fn find_stale(
        &self,
        request: &Parts,
        primary: &CacheKey,
        mode: CacheMode,
    ) -> Option<Fetched<StoredResponse>> {
        let mut fetched = self.guard.find_stale(primary).await?;
        if let Kind::Variants(variants) = &fetched.value()?.0 {
            let key = variants.key(primary, &request.headers);
            fetched = self.guard.find_stale(&*key).await?;
        }
        let cached = fetched.value()?.response()?;
        mode.accepts_stale(cached, SystemTime::now()).then_some(fetched)
    }

    /// Whether this process knows that responses of a URL, or of a variant, could not be stored.
    pub(super) fn is_passed_near(&self, key: &CacheKey) -> bool {
        matches!(self.guard.look(key), Found::Fresh(entry) if entry.value().is_none())
    }

    /// Invalidates a response; with a version, only what is older.
    pub(super) fn invalidate(
        &self,
        key: CacheKey,
        version: Option<Version>,
    ) -> impl Future<Output = Result<Invalidated, Error>> + Send {
        match version {
            Some(version) => self.guard.invalidate_at(&*key, version).into_future(),
            None => self.guard.invalidate(&*key).into_future(),
        }
    }
}
