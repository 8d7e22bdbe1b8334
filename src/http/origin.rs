//! The loads of an HTTP guard: the inner service is called here and nowhere else for what may be stored.

use std::{
    fmt,
    sync::Arc,
    time::{Instant, SystemTime},
};

use bytes::Bytes;
use http::{
    Extensions, HeaderMap, HeaderName, Request, Response, StatusCode, header, request::Parts,
    response,
};
use http_body::Body as HttpBody;
use tower::{Service, ServiceExt};

use super::{
    Body, StoredResponse,
    body::Read,
    cache_status,
    exchange::{Exchange, Hands, found},
    key::Spelt,
    layer::Rules,
    service::Shared,
    stored::{Kind, Variants, Whole},
    storing::{Storable, is_failure},
    tags::{Epoch, Epochs},
    variant,
    wants::Wants,
};
use crate::{
    Entry, Error, Loaded, Version,
    guard::{LoadBudget, Loader},
};

/// The variants of a URL, as they were found.
#[derive(Clone)]
pub(super) struct Index {
    pub(super) variants: Variants,
    /// What a purge has left, or more: no older response is one of these variants.
    pub(super) version: Version,
}

/// Calls the inner service for a URL, or for one of its variants.
pub(super) struct Origin<S, B, R: HttpBody, E> {
    inner: S,
    shared: Arc<Shared>,
    parts: Arc<Parts>,
    hands: Arc<Hands<B, R, E>>,
    primary: Spelt,
    index: Option<Index>,
    previous: Option<Arc<Entry<StoredResponse>>>,
    tries: Tries,
}

/// A load is made again when its response was refused as older than what is known.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tries {
    None,
    First,
    Again,
}

impl<S: Clone, B, R: HttpBody, E> Clone for Origin<S, B, R, E> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
            shared: self.shared.clone(),
            parts: self.parts.clone(),
            hands: self.hands.clone(),
            primary: self.primary,
            index: self.index.clone(),
            previous: self.previous.clone(),
            tries: self.tries,
        }
    }
}

impl<S: Clone, B, R: HttpBody, E> Origin<S, B, R, E> {
    pub(super) fn new(
        exchange: &Exchange<S, B, R, E>,
        primary: Spelt,
        index: Option<Index>,
    ) -> Self {
        Self {
            inner: exchange.inner.clone(),
            shared: exchange.shared.clone(),
            parts: exchange.parts.clone(),
            hands: exchange.hands.clone(),
            primary,
            index,
            previous: None,
            tries: Tries::None,
        }
    }
}

impl<S, B, R> Loader<StoredResponse> for Origin<S, B, R, S::Error>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: HttpBody + Default + Send + 'static,
    R: HttpBody<Data = Bytes> + Send + 'static,
    R::Error: Send,
{
    fn load(
        &mut self,
        _: &LoadBudget,
    ) -> impl Future<Output = Result<Loaded<StoredResponse>, Error>> + Send + use<S, B, R> {
        self.tries = match self.tries {
            Tries::None => Tries::First,
            _ => Tries::Again,
        };
        self.clone().ask()
    }

    fn previous(&mut self, entry: &Arc<Entry<StoredResponse>>) {
        self.previous = Some(entry.clone());
    }
}

impl<S, B, R> Origin<S, B, R, S::Error>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: HttpBody + Default + Send + 'static,
    R: HttpBody<Data = Bytes> + Send + 'static,
    R::Error: Send,
{
    async fn ask(mut self) -> Result<Loaded<StoredResponse>, Error> {
        let before = match self.shared.rules.tag_field {
            Some(_) => Some(Epochs(&self.shared.guard).of_all().await?),
            None => None,
        };
        let begun = Instant::now();
        let (mut head, body) = loop {
            let response = match self.inner.clone().oneshot(self.request()).await {
                Ok(response) => response,
                Err(error) => {
                    self.hands.give(Err(error));
                    return Err(Error::Origin(Arc::new(Failed(StatusCode::BAD_GATEWAY))));
                }
            };
            match self.previous() {
                // Nothing that is stored: it is asked for itself.
                Some(stored)
                    if response.status() == StatusCode::NOT_MODIFIED
                        && !stored.is_meant_by(response.headers()) =>
                {
                    self.previous = None;
                }
                _ => break response.into_parts(),
            }
        };
        let (took, now) = (begun.elapsed(), SystemTime::now());
        if is_failure(head.status) {
            let failed = Failed(head.status);
            self.pass(head, Body::origin(body));
            return Err(Error::Origin(Arc::new(failed)));
        }
        let rules = &self.shared.rules;
        let judge = |status, headers: &HeaderMap| {
            let asked = &self.parts.headers;
            Storable::judge(asked, status, headers, rules.default_ttl, took, now)
        };
        if let (StatusCode::NOT_MODIFIED, Some(stored)) = (head.status, self.previous()) {
            let said = version(rules, &head.headers, &head.extensions);
            let headers = stored.freshened(&head.headers);
            let storable = judge(stored.status, &headers);
            head.headers = headers;
            head.status = stored.status;
            // What is as it was has the version that it had, unless the handler says another.
            let kept = self.previous.as_ref().map(|entry| entry.version());
            if let Some(version) = said.or(kept) {
                head.extensions.insert(version);
            }
            let body = stored.body.clone();
            return self.keep(head, body, storable.ok(), before, now).await;
        }
        let longest = rules.longest_body;
        let storable = match judge(head.status, &head.headers) {
            Ok(storable) if !says_more_than(longest, &head.headers) => storable,
            _ => {
                self.pass(head, Body::origin(body));
                return Ok(self.nothing());
            }
        };
        match Body::read(body, longest).await {
            Read::All(bytes) => {
                // §3.3: what was cut off is no whole response, nor what says two things.
                let length = bytes.len().to_string();
                let mut said = head.headers.get_all(header::CONTENT_LENGTH).iter();
                let whole = said.all(|said| said.as_bytes() == length.as_bytes());
                self.keep(head, bytes, whole.then_some(storable), before, now).await
            }
            Read::Begun(body) => {
                self.pass(head, body);
                Ok(self.nothing())
            }
        }
    }

    /// For a whole response, whoever has asked for what of it.
    fn request(&self) -> Request<B> {
        let mut parts = (*self.parts).clone();
        for name in
            [header::IF_NONE_MATCH, header::IF_MODIFIED_SINCE, header::IF_RANGE, header::RANGE]
        {
            parts.headers.remove(name);
        }
        // §4.3.1.
        if let Some(stored) = self.previous() {
            for (validator, condition) in [
                (header::ETAG, header::IF_NONE_MATCH),
                (header::LAST_MODIFIED, header::IF_MODIFIED_SINCE),
            ] {
                if let Some(value) = stored.headers.get(validator) {
                    parts.headers.insert(condition, value.clone());
                }
            }
        }
        Request::from_parts(parts, self.hands.body())
    }

    fn previous(&self) -> Option<&Whole> {
        match &self.previous.as_ref()?.value()?.0 {
            Kind::Response(whole) => Some(whole),
            Kind::Variants(_) | Kind::Epoch(_) => None,
        }
    }

    /// To the client that has asked, and to no other.
    fn pass(&self, mut head: response::Parts, body: Body<R>) {
        cache_status::add(&mut head.headers, cache_status::NOT_STORED);
        self.hands.give(Ok(Response::from_parts(head, body)));
    }

    /// The word for the others: go alone.
    fn nothing(&self) -> Loaded<StoredResponse> {
        Loaded::absent().ttl(self.shared.rules.give_up_for)
    }

    async fn keep(
        self,
        head: response::Parts,
        body: Bytes,
        storable: Option<Storable>,
        before: Option<Epoch>,
        now: SystemTime,
    ) -> Result<Loaded<StoredResponse>, Error> {
        let Some(storable) = storable else {
            self.pass(head, Body::stored(body));
            return Ok(self.nothing());
        };
        let version = version(&self.shared.rules, &head.headers, &head.extensions);
        if version.is_none() && self.tries == Tries::Again {
            // A 404 say, where its row had a version and was purged by it. It would never be new enough.
            self.pass(head, Body::stored(body));
            return Ok(self.nothing());
        }
        let version = version.unwrap_or(Version::ZERO);
        if self.index.as_ref().is_some_and(|index| version < index.version) {
            // A handler that lags behind. The purge was of the URL; its variants know of it by their index.
            self.pass(head, Body::stored(body));
            return Ok(Loaded::absent().uncacheable());
        }
        let loaded = |kind| Loaded::found(StoredResponse(kind), version).ttl(storable.ttl());
        let fields = variant::selecting_fields(&head.headers).unwrap_or_default();
        let mut whole = Whole::new(head.status, head.headers.clone(), body.clone(), storable, now);
        if let (Some(field), Some(before)) = (&self.shared.rules.tag_field, before) {
            let epochs = Epochs(&self.shared.guard);
            whole.tags = epochs.tags(field, &head.headers, before).await?;
        }
        let response = loaded(Kind::Response(whole));
        let known = self.index.as_ref().map_or(&[][..], |index| &index.variants.fields);
        if fields.iter().all(|field| known.contains(field)) {
            return Ok(response);
        }
        // More fields select than was known: a new generation of variants begins with this one.
        let mut all: Vec<HeaderName> = known.iter().cloned().chain(fields).collect();
        all.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        all.dedup();
        let variants = Variants { generation: fastrand::u64(..), fields: all };
        let index = || loaded(Kind::Variants(variants.clone())).ttl(storable.lifetime.max(INDEX));
        let guard = &self.shared.guard;
        if self.index.is_some() {
            // This load was for a variant of the generation before. Of the new one there is nothing yet: a
            // purge may have come meanwhile, of which the lease of a variant does not know.
            self.pass(head, Body::stored(body));
            if let Err(error) = guard.put(&*self.primary, index()).await {
                tracing::debug!(%error, "the new variants of a URL are not known everywhere");
            }
            return Ok(index().uncacheable());
        }
        let name = variants.key(&self.primary, &self.parts.headers);
        let mut response = Some(response);
        let ready = move || {
            let response = response.take().ok_or(Failed(StatusCode::BAD_GATEWAY));
            async move { response }
        };
        // Stored before anybody is sent there.
        let _ = guard.fetch(&*name, ready).await?;
        Ok(index())
    }
}

/// Forgets a response and asks for it anew.
pub(super) struct Reload<S, B, R: HttpBody, E> {
    origin: Origin<S, B, R, E>,
    why: Why,
}

/// Why what is stored will not do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Why {
    /// The client says so.
    Request,
    /// One of its tags was purged. Another process may have reloaded it before.
    Purged,
}

impl<S: Clone, B, R: HttpBody, E> Reload<S, B, R, E> {
    pub(super) fn new(exchange: &Exchange<S, B, R, E>, primary: Spelt, why: Why) -> Self {
        Self { origin: Origin::new(exchange, primary, None), why }
    }
}

impl<S, B, R> Loader<StoredResponse> for Reload<S, B, R, S::Error>
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: HttpBody + Default + Send + 'static,
    R: HttpBody<Data = Bytes> + Send + 'static,
    R::Error: Send,
{
    fn load(
        &mut self,
        _: &LoadBudget,
    ) -> impl Future<Output = Result<Loaded<StoredResponse>, Error>> + Send + use<S, B, R> {
        let (origin, why) = (self.origin.clone(), self.why);
        async move {
            let guard = origin.shared.guard.clone();
            let name = origin.primary;
            if why == Why::Purged
                && found(&origin.shared, &origin.parts, &name, Wants::Anything).await.is_some()
            {
                return Ok(Loaded::absent().uncacheable());
            }
            // An invalidation first: no load that has begun before may answer.
            let _ = guard.invalidate(&*name).await?;
            let look = crate::freshness::Found::Nothing;
            guard.resolve_miss(look, (&*name).into(), None, origin).await?;
            Ok(Loaded::absent().uncacheable())
        }
    }
}

/// Not every body knows its length, where the fields do.
fn says_more_than(longest: usize, headers: &HeaderMap) -> bool {
    let said = headers.get(header::CONTENT_LENGTH).and_then(|said| said.to_str().ok());
    said.and_then(|said| said.parse::<u64>().ok()).is_some_and(|said| said > longest as u64)
}

/// The version that the handler has set.
pub(super) fn version(
    rules: &Rules,
    headers: &HeaderMap,
    extensions: &Extensions,
) -> Option<Version> {
    let said = || {
        let value = headers.get(rules.version_field.as_ref()?)?;
        Some(Version::new(value.to_str().ok()?.parse().ok()?))
    };
    extensions.get::<Version>().copied().or_else(said)
}

/// The origin's answer says that it has none.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failed(StatusCode);

impl Failed {
    pub(super) fn status(self) -> StatusCode {
        self.0
    }
}

impl fmt::Display for Failed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the origin answered {}", self.0)
    }
}

impl std::error::Error for Failed {}

/// How long at least a URL is known to have variants.
const INDEX: std::time::Duration = std::time::Duration::from_secs(3600);
