use std::sync::Arc;

use futures::future::join_all;
use http::{Request, Response, header, request::Parts};
use tower::ServiceExt;

use super::{
    super::{body::Body, cache::Cache, fields::cache_status, key::CacheKey},
    origin::{Origin, remove_overruled_length},
    passthrough::{Answer, Passthrough},
};

/// A request, the cache, and the origin behind it.
pub(crate) struct Exchange<S: Origin<B>, B> {
    pub(crate) origin: S,
    pub(crate) cache: Arc<Cache>,
    pub(crate) request: Arc<Parts>,
    /// Shared with the loads that this request starts.
    pub(crate) passthrough: Arc<Passthrough<B, S::Body, S::Error>>,
}

impl<S: Origin<B>, B: Default + Send + 'static> Exchange<S, B> {
    pub(crate) fn new(origin: S, cache: Arc<Cache>, request: Parts, body: B) -> Self {
        let passthrough = Arc::new(Passthrough::new(body));
        Self { origin, cache, request: Arc::new(request), passthrough }
    }

    /// Sends the request straight to the origin and stores nothing.
    pub(crate) async fn forward(self, cache_status: &'static str) -> Answer<S::Body, S::Error> {
        let request = Request::from_parts((*self.request).clone(), self.passthrough.take_body());
        let mut response = self.origin.oneshot(request).await?.map(Body::origin);
        remove_overruled_length(response.headers_mut());
        cache_status::add(response.headers_mut(), cache_status);
        Ok(response)
    }

    /// Forwards a request with a method that may change its target, and invalidates what it has changed before
    /// the client learns of its success (RFC 9111 §4.4).
    pub(crate) async fn write_through(self, key: Option<CacheKey>) -> Answer<S::Body, S::Error> {
        let (cache, request) = (self.cache.clone(), self.request.clone());
        let response = self.forward(cache_status::METHOD).await?;
        let status = response.status();
        let has_changed =
            !request.method.is_safe() && (status.is_success() || status.is_redirection());
        if !has_changed || key.is_none() {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let version = cache.settings.version_of(&parts);
        let keys = &cache.settings.keys;
        let named = [header::LOCATION, header::CONTENT_LOCATION].map(|name| {
            let url = parts.headers.get(name)?.to_str().ok()?.parse().ok()?;
            keys.keys_of_same_origin(&url, &request)
        });
        let own = keys.keys_of_same_origin(&request.uri, &request);
        let changed = named.into_iter().chain([own]).flatten().flatten();
        let invalidations = changed.map(|key| cache.invalidate(key, version));
        // Concurrently: an invalidation is carried out once it is polled, even if the client goes away.
        for error in join_all(invalidations).await.into_iter().filter_map(Result::err) {
            // The guard keeps it, and sends it when the far tier is back.
            tracing::debug!(%error, "a change is not invalidated everywhere yet");
        }
        Ok(Response::from_parts(parts, body))
    }
}

impl<S: Origin<B>, B> Clone for Exchange<S, B> {
    fn clone(&self) -> Self {
        Self {
            origin: self.origin.clone(),
            cache: self.cache.clone(),
            request: self.request.clone(),
            passthrough: self.passthrough.clone(),
        }
    }
}
