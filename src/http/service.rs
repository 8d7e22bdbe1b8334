use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
    time::SystemTime,
};

use bytes::Bytes;
use futures::FutureExt;
use http::{Method, Request, Response, Version, header};
use http_body::Body as HttpBody;
use tower::Service;

use super::{
    Body, ResponseFuture, StoredResponse, cache_status,
    exchange::Exchange,
    key::{self, Spelt},
    layer::Rules,
    stored::Kind,
    tags::Epochs,
    variant,
    wants::Wants,
};
use crate::{Guard, freshness::Found};

/// The service that an [`HttpGuardLayer`](super::HttpGuardLayer) makes.
///
/// It is always ready: a hit needs nothing of the inner service, and a load drives its own clone of it
/// to readiness.
#[derive(Clone)]
pub struct HttpGuard<S> {
    inner: S,
    shared: Arc<Shared>,
}

/// What all clones of a service share.
pub(super) struct Shared {
    pub(super) guard: Guard<str, StoredResponse>,
    pub(super) rules: Rules,
}

impl<S> HttpGuard<S> {
    pub(super) fn new(inner: S, guard: Guard<str, StoredResponse>, rules: Rules) -> Self {
        Self { inner, shared: Arc::new(Shared { guard, rules }) }
    }
}

impl<S, B, R> Service<Request<B>> for HttpGuard<S>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: HttpBody + Default + Send + 'static,
    R: HttpBody<Data = Bytes> + Send + 'static,
    R::Error: Send,
{
    type Response = Response<Body<R>>;
    type Error = S::Error;
    type Future = ResponseFuture<R, S::Error>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let shared = &self.shared;
        let (parts, body) = request.into_parts();
        let key = shared.key(&parts);
        if parts.method != Method::GET && parts.method != Method::HEAD {
            let exchange = Exchange::new(self.inner.clone(), shared.clone(), parts, body);
            return ResponseFuture::pending(exchange.write(key).boxed());
        }
        let wants = match Wants::of(&parts.headers) {
            // No key tells one body from another.
            _ if has_body(&parts, &body) => Wants::TheOrigin,
            Wants::Fresher(_) if !shared.rules.allows_reloads => Wants::Anything,
            wants => wants,
        };
        let Some(key) = key.filter(|_| wants != Wants::TheOrigin) else {
            let why = match wants {
                Wants::TheOrigin => cache_status::REQUEST,
                _ => cache_status::NO_KEY,
            };
            let exchange = Exchange::new(self.inner.clone(), shared.clone(), parts, body);
            return ResponseFuture::pending(exchange.go_alone(why).boxed());
        };
        let mut look = shared.guard.look_near(&key);
        if let Found::Fresh(entry) = &look
            && let Some(StoredResponse(Kind::Variants(variants))) = entry.value()
        {
            look = shared.guard.look_near(&variants.key(&key, &parts.headers));
        }
        if let Found::Fresh(entry) = &look
            && let Some(StoredResponse(Kind::Response(whole))) = entry.value()
        {
            let now = SystemTime::now();
            let purged = || Epochs(&shared.guard).know_near(whole) != Some(true);
            if wants.is_content_with(whole, now) && (whole.tags.is_empty() || !purged()) {
                return ResponseFuture::ready(whole.respond(
                    &parts.method,
                    &parts.headers,
                    cache_status::HIT,
                    now,
                ));
            }
        }
        let exchange = Exchange::new(self.inner.clone(), shared.clone(), parts, body);
        ResponseFuture::pending(exchange.read(key, wants).boxed())
    }
}

impl Shared {
    fn key(&self, parts: &http::request::Parts) -> Option<Spelt> {
        let part = match &self.rules.key_part {
            Some(part) => Some(part(parts)?),
            None => None,
        };
        self.rules.keys.of(parts, part.as_deref())
    }

    /// The keys of a URL that is named in the response to a request, if it is of the same origin.
    pub(super) fn keys_of_same_origin(
        &self,
        url: &http::Uri,
        parts: &http::request::Parts,
    ) -> Option<[Spelt; 2]> {
        let part = self.rules.key_part.as_ref().and_then(|part| part(parts));
        self.rules.keys.of_same_origin(url, parts, part.as_deref())
    }
}

impl super::stored::Variants {
    /// The key of the variant that a request selects.
    pub(super) fn key(&self, primary: &str, request: &http::HeaderMap) -> Spelt {
        // Room for what browsers send, so that it does not grow.
        let mut selected_by = Vec::with_capacity(256);
        variant::spell(request, &self.fields, &mut selected_by);
        key::of_variant(primary, self.generation, &selected_by)
    }
}

/// Not every body says that it has ended before it is read, but HTTP/1 says it for them (RFC 9112 §6.3).
fn has_body(parts: &http::request::Parts, body: &impl HttpBody) -> bool {
    if body.is_end_stream() {
        return false;
    }
    let is_framed = match parts.headers.get(header::CONTENT_LENGTH) {
        Some(length) => length != "0",
        None => parts.version > Version::HTTP_11,
    };
    is_framed
        || parts.headers.contains_key(header::TRANSFER_ENCODING)
        || body.size_hint().lower() > 0
}

impl<S: fmt::Debug> fmt::Debug for HttpGuard<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpGuard").field("inner", &self.inner).finish_non_exhaustive()
    }
}
