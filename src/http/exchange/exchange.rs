use std::{panic::AssertUnwindSafe, sync::Arc, time::SystemTime};

use futures::{FutureExt, future::join_all};
use http::{Request, Response, request::Parts};
use tokio::time::Instant;
use tower::ServiceExt;

use super::{
    super::{
        body::Body,
        cache::Cache,
        fields::cache_status,
        key::CacheKey,
        response::{Head, Storable},
    },
    error_response,
    origin::{Origin, remove_overruled_length},
    passthrough::{Answer, Passthrough},
};

use crate::Error;

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

    /// As [`forward`](Self::forward), once there is room beside the loads: for requests that an origin which fails
    /// gets all at once.
    pub(crate) async fn forward_in_turn(
        self,
        cache_status: &'static str,
        deadline: Option<Instant>,
    ) -> Answer<S::Body, S::Error> {
        let _place = match self.cache.guard.place(deadline).await {
            Ok(place) => place,
            Err(error) => return Ok(error_response::failed(&error)),
        };
        // A handler that panics for one request does so for others.
        let answering = AssertUnwindSafe(self.forward(cache_status)).catch_unwind();
        let answer = match deadline {
            Some(deadline) => tokio::time::timeout_at(deadline, answering).await,
            None => Ok(answering.await),
        };
        match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(_)) => Ok(error_response::failed(&Error::LoadPanicked)),
            Err(_) => Ok(error_response::failed(&Error::DeadlineExceeded)),
        }
    }

    /// Forwards a request for a URL whose responses could not be stored. One that can be stored ends that at once.
    pub(crate) async fn pass(self, key: CacheKey) -> Answer<S::Body, S::Error> {
        let (cache, request, begun) = (self.cache.clone(), self.request.clone(), Instant::now());
        let response = self.forward(cache_status::HIT_FOR_PASS).await?;
        let (parts, body) = response.into_parts();
        let head = Head::new(parts, begun.elapsed(), SystemTime::now());
        let is_storable = Storable::check(&request.headers, &head, &cache.settings.store).is_ok();
        // Only the first one: later ones would end the load that follows.
        if is_storable && cache.is_passed_near(&key) {
            tokio::spawn(async move {
                if let Err(error) = cache.invalidate(key, None).await {
                    tracing::debug!(%error, "a URL may be passed for a while although it could be stored");
                }
            });
        }
        Ok(Response::from_parts(head.parts, body))
    }

    /// Forwards a request with a method that may change its target, and invalidates what it has changed before
    /// the client learns of its success (RFC 9111 §4.4).
    pub(crate) async fn write_through(self) -> Answer<S::Body, S::Error> {
        let (cache, request) = (self.cache.clone(), self.request.clone());
        let response = self.forward(cache_status::METHOD).await?;
        let status = response.status();
        let has_changed =
            !request.method.is_safe() && (status.is_success() || status.is_redirection());
        let keys = &cache.settings.keys;
        if !has_changed || !keys.sent_uri.is_told::<B>() {
            return Ok(response);
        }
        let (parts, body) = response.into_parts();
        let version = cache.settings.version_of(&parts);
        let changed = keys.changed(&request, &parts.headers).into_iter();
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
