//! The load of a response. Nothing else calls the inner service for a response that may be stored.
//!
//! A load calls the origin, with the validators of the stored response if there is one. A response that may
//! be stored is read to its end and stored; any other goes to the client that started the load, and a
//! hit-for-pass marker tells the other clients to ask for their own. A response that request fields select
//! is stored as a variant, and the URL's own key leads to it.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, Request, Response, StatusCode, header};
use tokio::time::Instant as Deadline;
use tower::ServiceExt;

use super::{
    super::{
        body::Body,
        fields::{cache_status, vary},
        key::{CacheKey, Variants},
        response::{
            CachedResponse, Head, Kind, Reuse, Storable, StoredResponse, is_failure, tag_names,
        },
        settings::Settings,
    },
    exchange::Exchange,
    origin::{Origin, OriginFailure, remove_overruled_length},
    received::{Complete, Received},
};
use crate::{
    Entry, Error, Loaded, Version,
    freshness::Found,
    guard::{Before, FlightLoader, LoadBudget},
    policy::StaleFor,
};

/// Loads the response of a URL, or that of one of its variants.
pub(crate) struct OriginLoader<S: Origin<B>, B> {
    exchange: Exchange<S, B>,
    /// The URL's own key.
    primary: CacheKey,
    /// Set in the load of a variant.
    known: Option<KnownVariants>,
    previous: Option<Arc<Entry<StoredResponse>>>,
    /// What was known of tags before the origin was asked.
    before: Option<Before>,
    /// More than one if the guard refused a response as older than what is known.
    attempts: u32,
}

/// The variants of a URL when a request selected one.
#[derive(Clone)]
pub(crate) struct KnownVariants {
    pub(crate) variants: Variants,
    /// At least that of the last purge: no older response becomes a variant.
    pub(crate) version: Version,
}

/// What the origin answered.
pub(super) enum Answered<R> {
    /// With a response.
    Response(Head, R),
    /// With a 304: the stored response, its fields updated.
    NotModified(Head, Bytes),
}

/// Stores the variant that the load of its URL has brought.
struct FirstVariant {
    response: Option<Loaded<StoredResponse>>,
    /// Of the load that has asked the origin.
    before: Option<Before>,
}

/// The entry under a URL's own key that leads to its variants.
struct VariantIndex {
    variants: Variants,
    version: Version,
    ttl: Duration,
}

impl<S: Origin<B>, B: Default + Send + 'static> FlightLoader<StoredResponse>
    for OriginLoader<S, B>
{
    fn is_passed_if_uncacheable(&self) -> bool {
        false
    }

    fn load(
        &mut self,
        budget: &LoadBudget,
    ) -> impl Future<Output = Result<Loaded<StoredResponse>, Error>> + Send + use<S, B> {
        self.attempts += 1;
        self.clone().run(budget.deadline())
    }

    fn begins(&mut self, before: Before) {
        self.before = Some(before);
    }

    fn previous(&mut self, entry: &Arc<Entry<StoredResponse>>) {
        self.previous = Some(entry.clone());
        self.exchange.passthrough.set_stale();
    }
}

impl<S: Origin<B>, B: Default + Send + 'static> OriginLoader<S, B> {
    pub(crate) fn new(
        exchange: Exchange<S, B>,
        primary: CacheKey,
        known: Option<KnownVariants>,
    ) -> Self {
        Self { exchange, primary, known, previous: None, before: None, attempts: 0 }
    }

    async fn run(mut self, deadline: Deadline) -> Result<Loaded<StoredResponse>, Error> {
        let received = match self.call().await? {
            Answered::Response(head, body) if self.is_failed(&head) => {
                let failure = OriginFailure(head.parts.status);
                self.pass(head, Body::origin(body));
                return Err(Error::Origin(Arc::new(failure)));
            }
            Answered::Response(head, body) => match self.storable(&head) {
                Some(storable) => {
                    Received::read(head, body, storable, self.settings(), deadline).await
                }
                None => Received::NotStorable(head, Body::origin(body)),
            },
            Answered::NotModified(head, body) => match self.storable(&head) {
                Some(storable) => Received::Complete(Complete { head, body, storable }),
                None => Received::NotStorable(head, Body::stored(body)),
            },
        };
        match received {
            Received::Complete(complete) => self.store(complete).await,
            Received::NotStorable(head, body) => Ok(self.hit_for_pass(head, body)),
            Received::Unbuffered(head, body) => {
                let version = self.settings().version_of(&head.parts).unwrap_or(Version::ZERO);
                let passed = self.hit_for_pass(head, body);
                if self.attempts > 1 {
                    // As in `store`.
                    return Ok(passed);
                }
                let value = Some(StoredResponse(Kind::Unbuffered));
                Ok(Loaded { value, version: Some(version), ..passed })
            }
        }
    }

    /// Calls the origin. If it answers with a 304 about another response than the stored one, calls it again
    /// without a condition.
    pub(super) async fn call(&mut self) -> Result<Answered<S::Body>, Error> {
        let begun = Instant::now();
        loop {
            let response = match self.exchange.origin.clone().oneshot(self.request()).await {
                Ok(response) => response,
                Err(error) => {
                    self.exchange.passthrough.set_answer(Err(error));
                    return Err(Error::Origin(Arc::new(OriginFailure(StatusCode::BAD_GATEWAY))));
                }
            };
            let (mut parts, body) = response.into_parts();
            remove_overruled_length(&mut parts.headers);
            let head = Head::new(parts, begun.elapsed(), SystemTime::now());
            let is_update = head.parts.status == StatusCode::NOT_MODIFIED;
            let Some(stored) = self.stored().filter(|_| is_update) else {
                return Ok(Answered::Response(head, body));
            };
            if stored.is_validated_by(&head.parts.headers) {
                return Ok(Answered::NotModified(self.updated(stored, head), stored.body.clone()));
            }
            self.previous = None;
        }
    }

    /// A request for the whole response, even if the client asks for a part.
    fn request(&self) -> Request<B> {
        let mut parts = (*self.exchange.request).clone();
        for name in LESS {
            parts.headers.remove(name);
        }
        let stored = self.stored().map(|stored| &stored.headers);
        // RFC 9111 §4.3.1.
        for (validator, condition) in [
            (header::ETAG, header::IF_NONE_MATCH),
            (header::LAST_MODIFIED, header::IF_MODIFIED_SINCE),
        ] {
            if let Some(value) = stored.and_then(|stored| stored.get(validator)) {
                parts.headers.insert(condition, value.clone());
            }
        }
        Request::from_parts(parts, self.exchange.passthrough.take_body())
    }

    /// The head of the stored response after a 304.
    fn updated(&self, stored: &CachedResponse, update: Head) -> Head {
        let headers = stored.updated_by(&update);
        self.exchange.passthrough.set_own_fields(CachedResponse::withheld(&update));
        let Head { mut parts, took, received, .. } = update;
        // An unchanged response keeps its version, unless the handler sets another.
        let kept = || self.previous.as_ref().map(|entry| entry.version());
        if let Some(version) = self.settings().version_of(&parts).or_else(kept) {
            parts.extensions.insert(version);
        }
        parts.headers = headers;
        parts.status = stored.status;
        Head::new(parts, took, received)
    }

    /// A failure that says how long it is fresh is a response as any other, unless something stale may be better.
    fn is_failed(&self, head: &Head) -> bool {
        let is_better = || self.previous.is_some() || self.storable(head).is_none();
        is_failure(head.parts.status) && is_better()
    }

    fn storable(&self, head: &Head) -> Option<Storable> {
        let request = &self.exchange.request.headers;
        match Storable::check(request, head, &self.settings().store) {
            Ok(storable) => Some(storable),
            Err(reason) => {
                tracing::trace!(?reason, "a response is not stored");
                None
            }
        }
    }

    async fn store(self, complete: Complete) -> Result<Loaded<StoredResponse>, Error> {
        let Complete { head, body, storable } = complete;
        let version = self.settings().version_of(&head.parts);
        if version.is_none() && self.attempts > 1 {
            // The row had a version and was purged by it; its 404 has none, and would never be new enough.
            return Ok(self.hit_for_pass(head, Body::stored(body)));
        }
        let version = version.unwrap_or(Version::ZERO);
        if self.known.as_ref().is_some_and(|known| version < known.version) {
            // A lagging handler. The purge was of the URL; of its variants only the index knows of it.
            self.pass(head, Body::stored(body));
            return Ok(Loaded::absent().uncacheable());
        }
        self.exchange.passthrough.set_own_fields(CachedResponse::withheld(&head));
        let response = self.response(&head, body.clone(), storable).version(version);
        let fields = vary::selecting_fields(&head.parts.headers).unwrap_or_default();
        let known = self.known.as_ref().map(|known| &known.variants);
        let Some(variants) = Variants::extended(known, fields) else { return Ok(response) };
        // While one of them can be validated.
        let ttl = storable.lifetime.saturating_add(response.validated_for);
        let ttl = ttl.max(MIN_VARIANTS_TTL);
        let index = VariantIndex { variants, version, ttl };
        match self.known {
            None => self.store_variant(index, response).await,
            Some(_) => {
                self.pass(head, Body::stored(body));
                self.store_index(index).await
            }
        }
    }

    /// A response as it is stored: for how long, and with which tags.
    fn response(&self, head: &Head, body: Bytes, storable: Storable) -> Loaded<StoredResponse> {
        let settings = &self.settings().store;
        let cached = CachedResponse::new(head, body, storable);
        let window = match cached.has_validator() {
            true => settings.validation_window,
            false => Duration::ZERO,
        };
        let (kind, stale) = match storable.reuse {
            Reuse::WhileFresh => (Kind::Response(cached), storable.stale),
            Reuse::Validated => (Kind::Unvalidated(cached), StaleFor::NEVER),
        };
        let response = Loaded { stale, ..Loaded::unversioned(StoredResponse(kind)) };
        let response = response.ttl(storable.ttl(settings)).validated_for(window);
        let tags =
            settings.tag_field.iter().flat_map(|field| tag_names(field, &head.parts.headers));
        tags.fold(response, Loaded::tag)
    }

    /// The URL turns out to have variants: stores the first, then the index, so that no request is led to
    /// a variant that is not there yet.
    async fn store_variant(
        self,
        index: VariantIndex,
        response: Loaded<StoredResponse>,
    ) -> Result<Loaded<StoredResponse>, Error> {
        let key = index.variants.key(&self.primary, &self.exchange.request.headers);
        let load = FirstVariant { response: Some(response), before: self.before };
        let guard = &self.exchange.cache.guard;
        let _ = guard.resolve_part(Found::Nothing, (&*key).into(), None, load).await?;
        Ok(index.loaded())
    }

    /// More fields select than the known ones: stores the index of a new generation, which has no variants
    /// yet. Not even this response is one: a purge may have come during the load, and the lease of a variant
    /// does not know of it.
    async fn store_index(self, index: VariantIndex) -> Result<Loaded<StoredResponse>, Error> {
        if let Err(error) = self.exchange.cache.guard.put(&*self.primary, index.loaded()).await {
            tracing::debug!(%error, "the new variants of a URL are not known everywhere");
        }
        Ok(index.loaded().uncacheable())
    }

    /// Passes a response to its client, and has the other clients ask for their own. So does this client if it wants
    /// less than the whole: the origin was asked for all of it.
    fn hit_for_pass(&self, head: Head, body: Body<S::Body>) -> Loaded<StoredResponse> {
        if !wants_less(&self.exchange.request.headers) || head.parts.status != StatusCode::OK {
            self.pass(head, body);
        }
        never_refreshed(Loaded::absent()).ttl(self.settings().hit_for_pass_ttl)
    }

    /// Passes a response to the client that started the load, and to no other.
    fn pass(&self, head: Head, body: Body<S::Body>) {
        let mut parts = head.parts;
        cache_status::add(&mut parts.headers, cache_status::NOT_STORED);
        self.exchange.passthrough.set_answer(Ok(Response::from_parts(parts, body)));
    }

    /// The stored response that this load replaces or validates.
    fn stored(&self) -> Option<&CachedResponse> {
        self.previous.as_ref()?.value()?.to_validate()
    }

    fn settings(&self) -> &Settings {
        &self.exchange.cache.settings
    }
}

impl FlightLoader<StoredResponse> for FirstVariant {
    fn load(
        &mut self,
        _: &LoadBudget,
    ) -> impl Future<Output = Result<Loaded<StoredResponse>, Error>> + Send + use<> {
        let failure = || Error::Origin(Arc::new(OriginFailure(StatusCode::BAD_GATEWAY)));
        std::future::ready(self.response.take().ok_or_else(failure))
    }

    fn begun(&self) -> Option<Before> {
        self.before
    }
}

impl VariantIndex {
    fn loaded(&self) -> Loaded<StoredResponse> {
        let variants = StoredResponse(Kind::Variants(self.variants.clone()));
        never_refreshed(Loaded::found(variants, self.version)).ttl(self.ttl)
    }
}

impl<S: Origin<B>, B> Clone for OriginLoader<S, B> {
    fn clone(&self) -> Self {
        Self {
            exchange: self.exchange.clone(),
            primary: self.primary,
            known: self.known.clone(),
            previous: self.previous.clone(),
            before: self.before,
            attempts: self.attempts,
        }
    }
}

/// What is no response is not served while it is refreshed, neither stale nor before its end: no request would wait
/// for that load.
fn never_refreshed(loaded: Loaded<StoredResponse>) -> Loaded<StoredResponse> {
    Loaded { stale: StaleFor::NEVER, load_time: NO_TIME, ..loaded }
}

/// Whether the client asks for a part of a response, or for none if it has it.
pub(super) fn wants_less(request: &HeaderMap) -> bool {
    LESS.iter().any(|name| request.contains_key(name))
}

/// Fields of a request for a part of a response, or for none if the client has it.
const LESS: [HeaderName; 4] =
    [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE, header::IF_RANGE, header::RANGE];

/// The shortest time that counts as one.
const NO_TIME: Duration = Duration::from_nanos(1);

/// How long at least a URL is known to have variants.
const MIN_VARIANTS_TTL: Duration = Duration::from_secs(3600);
