use std::{
    fmt,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::FutureExt;
use http::{Method, Request, Response, Version, header, request::Parts};
use http_body::Body as HttpBody;
use tower::Service;

use super::{
    body::Body,
    cache::Cache,
    cache_mode::CacheMode,
    exchange::{Exchange, Fetch, Origin},
    fields::{cache_status, connection, cookie},
    future::ResponseFuture,
    key::CacheKey,
    settings::Reloads,
};

/// The service that an [`HttpGuardLayer`](crate::http::HttpGuardLayer) makes.
///
/// It is always ready: a hit does not need the inner service, and a load drives its own clone of it to
/// readiness.
#[derive(Clone)]
pub struct HttpGuard<S> {
    inner: S,
    cache: Arc<Cache>,
}

impl<S> HttpGuard<S> {
    pub(super) fn new(inner: S, cache: Cache) -> Self {
        Self { inner, cache: Arc::new(cache) }
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
        match &self.cache.settings.cache_name {
            None => self.answer(request),
            Some(name) => self.answer(request).named(name.clone()),
        }
    }
}

impl<S> HttpGuard<S> {
    fn answer<B>(&self, request: Request<B>) -> ResponseFuture<<S as Origin<B>>::Body, S::Error>
    where
        S: Origin<B>,
        B: HttpBody + Default + Send + 'static,
    {
        let (mut request, body) = request.into_parts();
        connection::take_off_named(&mut request.headers);
        cookie::join_crumbs(&mut request.headers);
        let (inner, cache) = (&self.inner, &self.cache);
        let exchange = |request, body| Exchange::new(inner.clone(), cache.clone(), request, body);
        if request.method != Method::GET && request.method != Method::HEAD {
            return ResponseFuture::pending(exchange(request, body).write_through().boxed());
        }
        let mode = match CacheMode::of(&request.headers) {
            // The key does not tell one body from another.
            _ if has_body(&request, &body) => CacheMode::Bypass,
            mode if cache.settings.reloads == Reloads::Ignored => mode.without_reloads(),
            mode => mode,
        };
        if mode == CacheMode::Bypass {
            let response = exchange(request, body).forward(cache_status::REQUEST);
            return ResponseFuture::pending(response.boxed());
        }
        let keys = &cache.settings.keys;
        let mut room = CacheKey::empty();
        let Some(key) = keys.key::<B>(&request, &mut room) else {
            let response = exchange(request, body).forward(cache_status::NO_KEY);
            return ResponseFuture::pending(response.boxed());
        };
        if let Some(hit) = cache.near_hit(&request, key, mode) {
            return ResponseFuture::ready(hit);
        }
        keys.name_as_keyed(&mut request);
        connection::remove_of_one(&mut request.headers);
        ResponseFuture::pending(Fetch::new(exchange(request, body), *key).run(mode).boxed())
    }
}

/// Not every body knows that it is empty before it is read, but the fields of HTTP/1 tell (RFC 9112 §6.3).
fn has_body(request: &Parts, body: &impl HttpBody) -> bool {
    if body.is_end_stream() {
        return false;
    }
    let is_framed = match request.headers.get(header::CONTENT_LENGTH) {
        Some(length) => length != "0",
        None => request.version > Version::HTTP_11,
    };
    is_framed
        || request.headers.contains_key(header::TRANSFER_ENCODING)
        || body.size_hint().lower() > 0
}

impl<S: fmt::Debug> fmt::Debug for HttpGuard<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpGuard").field("inner", &self.inner).finish_non_exhaustive()
    }
}
