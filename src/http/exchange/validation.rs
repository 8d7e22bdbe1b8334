use std::{sync::Arc, time::SystemTime};

use http::Response;

use super::{
    super::{
        body::Body,
        fields::{CacheControl, cache_status},
        key::CacheKey,
        response::{
            CachedResponse, Head, Kind, Reuse, Storable, StoredResponse, VALIDATORS, is_failure,
            may_be_of_one_client,
        },
    },
    error_response,
    exchange::Exchange,
    loader::{Answered, OriginLoader, wants_less},
    origin::Origin,
    passthrough::Answer,
};
use crate::{Entry, guard::FlightLoader};

/// Asks the origin whether a stored response is still as it was, for one request alone (RFC 9111 §4.3): that of
/// `no-cache`, `max-age=0` or what was stale on arrival. Requests share no answer, and do not wait for one another.
pub(crate) struct Validation<S: Origin<B>, B> {
    exchange: Exchange<S, B>,
    key: CacheKey,
    stored: Arc<Entry<StoredResponse>>,
}

impl<S: Origin<B>, B: Default + Send + 'static> Validation<S, B> {
    pub(crate) fn new(
        exchange: Exchange<S, B>,
        key: CacheKey,
        stored: Arc<Entry<StoredResponse>>,
    ) -> Self {
        Self { exchange, key, stored }
    }

    pub(crate) async fn run(self) -> Answer<S::Body, S::Error> {
        let request = &self.exchange.request.headers;
        if may_be_of_one_client(request, &self.stored_directives()) {
            return self.exchange.forward(cache_status::HIT_FOR_PASS).await;
        }
        let mut load = OriginLoader::new(self.exchange.clone(), self.key, None);
        load.previous(&self.stored);
        match load.call().await {
            Ok(Answered::NotModified(head, body)) => match self.storable(&head) {
                Some(storable) => {
                    if storable.reuse != Reuse::Validated {
                        self.forget();
                    }
                    let confirmed = CachedResponse::new(&head, body, storable);
                    Ok(self.respond(&confirmed))
                }
                None => {
                    self.forget();
                    self.pass(head, Body::stored(body)).await
                }
            },
            Ok(Answered::Response(head, body)) => {
                if self.storable(&head).is_some() && !is_failure(head.parts.status) {
                    self.forget();
                }
                self.pass(head, Body::origin(body)).await
            }
            Err(error) => {
                let answer = self.exchange.passthrough.take_answer();
                answer.unwrap_or_else(|| Ok(error_response::failed(&error)))
            }
        }
    }

    fn respond(&self, confirmed: &CachedResponse) -> Response<Body<S::Body>> {
        let Exchange { request, passthrough, .. } = &self.exchange;
        let (method, headers) = (&request.method, &request.headers);
        let mut response =
            confirmed.respond(method, headers, cache_status::VALIDATED, SystemTime::now());
        for (name, value) in &passthrough.take_own_fields() {
            response.headers_mut().append(name, value.clone());
        }
        response
    }

    /// The origin's own answer. It was asked for the whole: who wants less asks again.
    async fn pass(self, head: Head, body: Body<S::Body>) -> Answer<S::Body, S::Error> {
        let mut parts = head.parts;
        if parts.status.is_success() && wants_less(&self.exchange.request.headers) {
            return self.exchange.forward(cache_status::CHANGED).await;
        }
        cache_status::add(&mut parts.headers, cache_status::CHANGED);
        Ok(Response::from_parts(parts, body))
    }

    /// Has the next request load what has taken the place of the stored response. Nothing is stored here: a purge may
    /// have come since the origin was asked.
    fn forget(&self) {
        let (cache, key, stored) = (self.exchange.cache.clone(), self.key, self.stored.clone());
        tokio::spawn(async move {
            let found = cache.guard.find_servable(&*key).await;
            let Some(Kind::Unvalidated(found)) = found.as_ref().and_then(|it| Some(&it.value()?.0))
            else {
                return;
            };
            // Only once: another request may have loaded the new one by now.
            let old = stored.value().and_then(StoredResponse::to_validate);
            let is_same =
                |name| old.is_some_and(|old| old.headers.get(name) == found.headers.get(name));
            if !VALIDATORS.iter().all(is_same) {
                return;
            }
            if let Err(error) = cache.invalidate(key, None).await {
                tracing::debug!(%error, "a response that has changed is validated for a while");
            }
        });
    }

    fn storable(&self, head: &Head) -> Option<Storable> {
        let settings = &self.exchange.cache.settings.store;
        Storable::check(&self.exchange.request.headers, head, settings).ok()
    }

    fn stored_directives(&self) -> CacheControl {
        let stored = self.stored.value().and_then(StoredResponse::to_validate);
        stored.map(|stored| CacheControl::of_response(&stored.headers)).unwrap_or_default()
    }
}
