//! One request that a plain near hit does not answer.

use std::{sync::Arc, time::SystemTime};

use bytes::Bytes;
use futures::future::join_all;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header, request::Parts};
use http_body::Body as HttpBody;
use parking_lot::Mutex;
use tokio::time::Instant;
use tower::{Service, ServiceExt};

use super::{
    Body, StoredResponse, cache_status,
    key::{self, Spelt},
    origin::{Failed, Index, Origin, Reload, Why, version},
    service::Shared,
    stored::Kind,
    tags::Epochs,
    wants::Wants,
};
use crate::{Error, Fetched, Outcome, Tier, freshness::Found};

pub(super) struct Exchange<S, B, R: HttpBody, E> {
    pub(super) inner: S,
    pub(super) shared: Arc<Shared>,
    pub(super) parts: Arc<Parts>,
    pub(super) hands: Arc<Hands<B, R, E>>,
}

/// What goes from a client's request to the load that it begins, and back past the cache.
pub(super) struct Hands<B, R: HttpBody, E> {
    /// The request's body, until somebody sends it.
    body: Mutex<Option<B>>,
    /// The origin's own answer, for this client alone.
    own: Mutex<Option<Own<R, E>>>,
}

type Own<R, E> = Result<Response<Body<R>>, E>;

impl<B: Default, R: HttpBody, E> Hands<B, R, E> {
    /// The body for the first time; a load that is made again has none.
    pub(super) fn body(&self) -> B {
        self.body.lock().take().unwrap_or_default()
    }

    pub(super) fn give(&self, own: Own<R, E>) {
        let before = self.own.lock().replace(own);
        drop(before);
    }

    fn take(&self) -> Option<Own<R, E>> {
        self.own.lock().take()
    }
}

impl<S, B, R> Exchange<S, B, R, S::Error>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: HttpBody + Default + Send + 'static,
    R: HttpBody<Data = Bytes> + Send + 'static,
    R::Error: Send,
{
    pub(super) fn new(inner: S, shared: Arc<Shared>, parts: Parts, body: B) -> Self {
        let hands = Hands { body: Mutex::new(Some(body)), own: Mutex::default() };
        Self { inner, shared, parts: Arc::new(parts), hands: Arc::new(hands) }
    }

    /// Straight to the origin, and nothing of it is kept.
    pub(super) async fn go_alone(self, why: &'static str) -> Own<R, S::Error> {
        let request = Request::from_parts((*self.parts).clone(), self.hands.body());
        let mut response = self.inner.oneshot(request).await?.map(Body::origin);
        cache_status::add(response.headers_mut(), why);
        Ok(response)
    }

    /// A method that may change what it is called on (RFC 9111 §4.4): what is stored of it is forgotten
    /// before the client hears of its success.
    pub(super) async fn write(self, key: Option<Spelt>) -> Own<R, S::Error> {
        let shared = self.shared.clone();
        let parts = self.parts.clone();
        let response = self.go_alone(cache_status::METHOD).await?;
        let status = response.status();
        if parts.method.is_safe() || !(status.is_success() || status.is_redirection()) {
            return Ok(response);
        }
        if key.is_none() {
            return Ok(response);
        }
        let version = version(&shared.rules, response.headers(), response.extensions());
        let told = [header::LOCATION, header::CONTENT_LOCATION].map(|name| {
            let url = response.headers().get(name)?.to_str().ok()?.parse().ok()?;
            shared.keys_of_same_origin(&url, &parts)
        });
        let own = shared.keys_of_same_origin(&parts.uri, &parts);
        let forgetting = told.into_iter().flatten().chain(own).flatten().map(|key| match version {
            Some(version) => shared.guard.invalidate_at(&*key, version),
            None => shared.guard.invalidate(&*key),
        });
        let forgetting = forgetting.map(IntoFuture::into_future);
        // All at once: what is polled is carried out, also if the client is gone by now.
        for error in join_all(forgetting).await.into_iter().filter_map(Result::err) {
            // Kept by the guard, and sent when the far tier is back.
            tracing::debug!(%error, "what a request has changed is not forgotten everywhere yet");
        }
        Ok(response)
    }

    /// GET or HEAD.
    pub(super) async fn read(self, key: Spelt, wants: Wants) -> Own<R, S::Error> {
        match wants {
            Wants::OnlyCached(_) => {
                let (shared, parts) = (self.shared.clone(), self.parts.clone());
                drop(self);
                let found = found(&shared, &parts, &key, wants).await;
                Ok(found.and_then(|found| respond(&parts, &found)).unwrap_or_else(not_cached))
            }
            Wants::Fresher(_) => self.fresher(key, wants).await,
            _ if self.parts.method == Method::HEAD => {
                // A HEAD would leave nothing to store.
                let (shared, parts) = (self.shared.clone(), self.parts.clone());
                let found = found(&shared, &parts, &key, wants).await;
                match found.and_then(|found| respond(&parts, &found)) {
                    Some(response) => Ok(response),
                    None => self.go_alone(cache_status::METHOD).await,
                }
            }
            _ => self.fetch(key).await,
        }
    }

    async fn fetch(self, primary: Spelt) -> Own<R, S::Error> {
        let deadline = self.shared.rules.timeout.and_then(|t| Instant::now().checked_add(t));
        let (mut name, mut index) = (primary, None);
        let (mut origin_asked, mut reloaded) = (None, false);
        // The URL, then its variant; once more, if more is found to select, or something was purged.
        for _ in 0..4 {
            let answer = match self.shared.guard.look_near(&name) {
                Found::Fresh(entry) => Ok(Fetched::new(entry, Outcome::Hit(Tier::Near))),
                look => {
                    let origin = Origin::new(&self, primary, index.clone());
                    let name = (&*name).into();
                    self.shared.guard.resolve_miss(look, name, deadline, origin).await
                }
            };
            let mut fetched = match answer {
                Ok(fetched) => fetched,
                Err(error) => return self.hands.take().unwrap_or_else(|| Ok(failure(&error))),
            };
            match (fetched.outcome(), origin_asked) {
                // It came with the answer that said that there are variants.
                (Outcome::Hit(_), Some(outcome)) => fetched = fetched.with(outcome),
                (Outcome::Hit(_), None) => {}
                (outcome, _) => origin_asked = Some(outcome),
            }
            if is_purged(&self.shared, &fetched).await {
                if self.reload(primary, Why::Purged).await.is_err() {
                    break;
                }
                (name, index, reloaded) = (primary, None, true);
                continue;
            }
            if let Some(mut response) = respond(&self.parts, &fetched) {
                if reloaded {
                    cache_status::replace(response.headers_mut(), cache_status::PURGED);
                }
                return Ok(response);
            }
            match fetched.value().map(|stored| &stored.0) {
                Some(Kind::Variants(variants)) => {
                    if let Some(own) = self.hands.take() {
                        return own;
                    }
                    name = variants.key(&primary, &self.parts.headers);
                    index = Some(Index { variants: variants.clone(), version: fetched.version() });
                }
                _ => break,
            }
        }
        match self.hands.take() {
            Some(own) => own,
            None => self.go_alone(cache_status::GAVE_UP).await,
        }
    }

    /// For a client that will not have what is stored: one new load for all who say so at one time.
    async fn fresher(self, key: Spelt, wants: Wants) -> Own<R, S::Error> {
        let found = self.shared.guard.find(&key).await;
        let purged = match &found {
            Some(found) => is_purged(&self.shared, found).await,
            None => false,
        };
        let reads = self.parts.method == Method::GET;
        match found.as_ref().map(|found| (found, found.value().map(|stored| &stored.0))) {
            Some((found, Some(Kind::Response(whole))))
                if !purged && wants.is_content_with(whole, SystemTime::now()) =>
            {
                return Ok(respond(&self.parts, found).unwrap_or_else(not_cached));
            }
            Some((_, Some(Kind::Response(_)))) if reads => {}
            None if reads => return self.fetch(key).await,
            // What varies cannot be shared before it is there.
            _ => return self.go_alone(cache_status::REQUEST).await,
        }
        match self.reload(key, Why::Request).await {
            Ok(()) => {
                let mut response = self.fetch(key).await?;
                cache_status::replace(response.headers_mut(), cache_status::REQUEST);
                Ok(response)
            }
            Err(error) => self.hands.take().unwrap_or_else(|| Ok(failure(&error))),
        }
    }

    /// All who say so at one time share it.
    fn reload(
        &self,
        key: Spelt,
        why: Why,
    ) -> impl Future<Output = Result<(), Error>> + Send + use<S, B, R> {
        let reload = Reload::new(self, key, why);
        let name = key::of_reload(&key);
        let reloaded =
            self.shared.guard.resolve_miss(Found::Nothing, (&*name).into(), None, reload);
        async move { reloaded.await.map(drop) }
    }
}

/// What is stored for a request, without a load.
pub(super) async fn found(
    shared: &Shared,
    parts: &Parts,
    key: &str,
    wants: Wants,
) -> Option<Fetched<StoredResponse>> {
    let mut fetched = shared.guard.find(key).await?;
    if let Kind::Variants(variants) = &fetched.value()?.0 {
        fetched = shared.guard.find(&*variants.key(key, &parts.headers)).await?;
    }
    match &fetched.value()?.0 {
        Kind::Response(whole) if !wants.is_content_with(whole, SystemTime::now()) => None,
        _ => (!is_purged(shared, &fetched).await).then_some(fetched),
    }
}

async fn is_purged(shared: &Shared, fetched: &Fetched<StoredResponse>) -> bool {
    match fetched.value().map(|stored| &stored.0) {
        Some(Kind::Response(whole)) => !Epochs(&shared.guard).allow(whole).await,
        _ => false,
    }
}

fn respond<R: HttpBody<Data = Bytes>>(
    parts: &Parts,
    fetched: &Fetched<StoredResponse>,
) -> Option<Response<Body<R>>> {
    let Kind::Response(whole) = &fetched.value()?.0 else { return None };
    let how = cache_status::of(fetched.outcome());
    Some(whole.respond(&parts.method, &parts.headers, how, SystemTime::now()))
}

/// §5.2.1.7.
fn not_cached<R: HttpBody<Data = Bytes>>() -> Response<Body<R>> {
    let mut response = Response::new(Body::stored(Bytes::new()));
    *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
    cache_status::add(response.headers_mut(), "cattleguard; detail=only-if-cached");
    response
}

/// The response where there is none.
fn failure<R: HttpBody<Data = Bytes>>(error: &Error) -> Response<Body<R>> {
    let status = match error {
        Error::Origin(error) => match error.downcast_ref::<Failed>() {
            Some(failed) => failed.status(),
            None => StatusCode::BAD_GATEWAY,
        },
        Error::LoadTimeout { .. } | Error::WaitTimeout { .. } | Error::DeadlineExceeded => {
            StatusCode::GATEWAY_TIMEOUT
        }
        Error::LoadPanicked => StatusCode::INTERNAL_SERVER_ERROR,
        Error::Nested => StatusCode::LOOP_DETECTED,
        Error::FailedElsewhere { .. } => StatusCode::BAD_GATEWAY,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    };
    let mut response = Response::new(Body::stored(Bytes::new()));
    *response.status_mut() = status;
    let headers: &mut HeaderMap = response.headers_mut();
    if let Some(after) = error.retry_after() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let how = format!("cattleguard; fwd=miss; detail={}", error.as_str());
    if let Ok(how) = HeaderValue::from_str(&how) {
        headers.insert(cache_status::NAME, how);
    }
    response
}
