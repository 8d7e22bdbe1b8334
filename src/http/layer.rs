use std::{fmt, sync::Arc, time::Duration};

use http::{Extensions, HeaderName, Uri, request::Parts};
use tower::Layer;

use super::{
    cache::Cache,
    fields::cache_status,
    key::{Query, SentUri},
    response::StoredResponse,
    service::HttpGuard,
    settings::{NEAR_BYTES, Reloads, Settings},
};
use crate::{Guard, GuardBuilder, Shutdown};

/// Makes a router an HTTP cache. The [module](crate::http) says what it stores, and for whom.
///
/// Clones, and all services that it makes, share one guard: flights, near tier and connections. axum
/// calls [`layer`](Layer::layer) once per route.
///
/// ```
/// use std::time::Duration;
/// use cattleguard::{Guard, http::HttpGuardLayer};
///
/// let cache = HttpGuardLayer::new(Guard::builder().near_capacity(1_000))
///     .default_ttl(Duration::from_secs(5));
/// ```
#[derive(Clone)]
pub struct HttpGuardLayer {
    pub(super) guard: Guard<str, StoredResponse>,
    pub(super) settings: Settings,
}

impl HttpGuardLayer {
    /// A cache on the guard that it builds: with the policy, the tiers and the capacity of `builder`. A far
    /// tier that processes share needs the codec [`Responses`](crate::http::Responses).
    ///
    /// The near tier holds 256 MiB of responses, body and fields, beside its capacity in entries, unless
    /// `builder` has another bound: [`near_bytes`](GuardBuilder::near_bytes). Raise it if much more than that is asked
    /// for within the near ttl. A response larger than a sixteenth of it is served from the far tier.
    pub fn new(builder: GuardBuilder<str, StoredResponse>) -> Self {
        let guard = builder.or_near_bytes(NEAR_BYTES).size_of(StoredResponse::size).build();
        Self { guard, settings: Settings::default() }
    }

    /// How long a response is fresh that does not say so, if its status is 200, 203, 301, 308, 404 or 410. Default:
    /// a tenth of the time since its `Last-Modified`, one day at most; a response without `Last-Modified` is not
    /// stored. Neither is for a request with `Cookie` or `Authorization`, unless the response is `public`. Set it
    /// where handlers say nothing and all that they answer is for everyone.
    pub fn default_ttl(mut self, ttl: Duration) -> Self {
        self.settings.store.default_ttl = Some(ttl);
        self
    }

    /// How long a response with an `ETag` or `Last-Modified` is kept once it may not be served any more, only to ask
    /// the origin whether it is as it was: a 304 then costs no body. Default 1 h. What the far tier holds for it lasts
    /// that much longer, within its bounds, so shorten it where its memory is short; lengthen it where bodies are
    /// large and requests for one URL are further apart. Zero leaves the policy's
    /// [`version_retention`](crate::Policy::version_retention).
    pub fn validation_window(mut self, window: Duration) -> Self {
        self.settings.store.validation_window = window;
        self
    }

    /// Stores explicitly fresh responses with their `Set-Cookie`, which every client then gets. Default: a response that sets a
    /// cookie is for one client. Set it in front of an origin that sets the same cookies for everybody, and says how long its
    /// responses are fresh only where that is so.
    pub fn store_cookies(mut self) -> Self {
        self.settings.store.cookies = true;
        self
    }

    /// The size in bytes above which a body is not stored, but streams through. Default 1 MiB. A body up to
    /// this size is buffered before it is served; raise it if larger ones are worth that.
    pub fn max_body_size(mut self, bytes: usize) -> Self {
        self.settings.max_body_size = bytes;
        self
    }

    /// How long a body that does not say how long it is may take to come after its head. Default 1 s. What is still
    /// coming then is passed as it comes, and is not stored; requests that waited for it make their own. So are those
    /// for the same URL in the [hit-for-pass ttl](Self::hit_for_pass_ttl). A body of a declared length has 5 s, or
    /// this if it is longer. None has more than half of what is left of the load timeout. Raise it where slow pages are
    /// worth storing and nothing is streamed.
    pub fn body_timeout(mut self, timeout: Duration) -> Self {
        self.settings.body_timeout = timeout;
        self
    }

    /// How long requests for a URL go straight to the origin, without waiting for one another, after its
    /// response could not be stored. Default 10 s. The first request after that finds out whether the
    /// response can be stored by now, and the others wait for the head of its response. Lower it if URLs
    /// soon become cacheable again.
    pub fn hit_for_pass_ttl(mut self, ttl: Duration) -> Self {
        self.settings.hit_for_pass_ttl = ttl;
        self
    }

    /// The response field that holds the version of what the handler read, a number. The field is passed
    /// on. Default: none; the [`Version`](crate::Version) in the response's extensions counts. Without
    /// either, a response is protected by the lease alone, as
    /// [`Loaded::unversioned`](crate::Loaded::unversioned) says.
    pub fn version_field(mut self, name: HeaderName) -> Self {
        self.settings.version_field = Some(name);
        self
    }

    /// The response field that holds the tags by which [`purge_tag`](Self::purge_tag) finds a response:
    /// names separated by spaces or commas, as in `Surrogate-Key` or `Cache-Tag`. The field is passed on.
    /// Default: none. With one the guard keeps [tags](GuardBuilder::tags), which has a price: a hit looks up each of its
    /// tags, so a response should have few. One with more than 64, or with one of more than 1,000 bytes, is not stored.
    pub fn tag_field(mut self, name: HeaderName) -> Self {
        self.guard.keep_tags();
        self.settings.store.tag_field = Some(name);
        self
    }

    /// Sorts the parameters of the query by name and ignores those in `without`, so that URLs that differ
    /// only in these share an entry. Default: the query counts as sent; so does, with this option too, a query in which
    /// not every origin finds the same parameters: with `;`, `%26` or `%3B` in it, or names of other characters than
    /// letters, digits, `-` and `_`.
    pub fn sorted_query(mut self, without: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let without = without.into_iter().map(Into::into).collect();
        self.settings.keys.query = Query::Sorted { without };
        self
    }

    /// Where a router notes the URI that the client sent, if it takes a prefix off it before this layer sees the
    /// request. Default: where axum 0.8 does, with the feature `axum`. Set it for another router that nests, or
    /// another version of axum: its requests have no key otherwise. `None` says that the URI of the request
    /// is the one that was sent.
    ///
    /// ```
    /// # use cattleguard::{Guard, http::HttpGuardLayer};
    /// use axum::extract::OriginalUri;
    ///
    /// let cache = HttpGuardLayer::new(Guard::builder())
    ///     .sent_uri(|extensions| extensions.get().map(|OriginalUri(uri)| uri));
    /// ```
    pub fn sent_uri(
        mut self,
        read: impl Fn(&Extensions) -> Option<&Uri> + Send + Sync + 'static,
    ) -> Self {
        self.settings.keys.sent_uri = SentUri::Read(Arc::new(read));
        self
    }

    /// Takes requests that do not name their scheme for `https`. Default: `http`. Set it where TLS ends in
    /// front of this service.
    pub fn https(mut self) -> Self {
        self.settings.keys.default_scheme = "https";
        self
    }

    /// Adds a part to the key, such as a tenant; a request for which it is `None` bypasses the cache.
    /// Default: none. Whatever a handler reads other than the URL belongs here or in `Vary`, or one client
    /// is served the response of another.
    ///
    /// A request that changes something and has no part invalidates what is public: what has the part of
    /// the same request without `Cookie` and `Authorization`, or else without its extensions, or else without
    /// other fields. For this the function is asked again. Entries with other parts need a
    /// [`purge_part`](Self::purge_part).
    pub fn key_part(
        mut self,
        part: impl Fn(&Parts) -> Option<String> + Send + Sync + 'static,
    ) -> Self {
        self.settings.keys.part = Some(Arc::new(part));
        self
    }

    /// Honours `no-cache`, `max-age`, `min-fresh` and the limit of `max-stale` in requests. Default: they are ignored, as
    /// RFC 9111 §5.2.1 allows, because any client could send them; `max-stale` is permission to serve what the response
    /// itself, or the policy, lets be served stale if a load fails. Set it where all clients are trusted.
    ///
    /// Requests that reload a URL at one time share a load, which validates the stored response. That stays until there is
    /// another: if the origin fails, the failure is the answer of the reload alone.
    pub fn allow_reloads(mut self) -> Self {
        self.settings.reloads = Reloads::Allowed;
        self
    }

    /// How long a request waits for a load. Then it is answered with an expired response if there is one,
    /// or with 504, and the load continues. Default: none; what takes longer than the
    /// [`load_timeout`](crate::Policy::load_timeout) is no load any more, and each request goes to the origin by itself, as
    /// many at one time as there may be loads. Set it where clients have a deadline.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.settings.timeout = Some(timeout);
        self
    }

    /// The name of this cache in `Cache-Status`. Default `cattleguard`. Set it where responses pass several of
    /// them, such as that of the edge and that of a region, to tell them apart. What is neither visible ASCII nor
    /// a space is sent as `?`.
    pub fn cache_name(mut self, name: impl AsRef<str>) -> Self {
        self.settings.cache_name = Some(cache_status::spelt(name.as_ref()).into());
        self
    }

    /// Ends the loads in progress, as [`Guard::shutdown`] does.
    ///
    /// # Cancel safety
    ///
    /// When the future is dropped, no more loads are started; those in progress continue to their end.
    pub async fn shutdown(&self, timeout: Duration) -> Shutdown {
        self.guard.shutdown(timeout).await
    }
}

impl<S> Layer<S> for HttpGuardLayer {
    type Service = HttpGuard<S>;

    fn layer(&self, inner: S) -> HttpGuard<S> {
        let Self { guard, settings } = self.clone();
        HttpGuard::new(inner, Cache { guard, settings })
    }
}

impl fmt::Debug for HttpGuardLayer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpGuardLayer").field("guard", &self.guard).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use http::{Request, Response, header};
    use http_body_util::BodyExt;
    use tower::{ServiceExt, service_fn};

    use super::{super::fields::parsed_responses, *};

    async fn origin(request: Request<String>) -> Result<Response<String>, Infallible> {
        let response = Response::builder()
            .header(header::CACHE_CONTROL, "max-age=60, private=\"x-a\"")
            .header(header::ETAG, "\"1\"")
            .header("x-a", "1");
        let is_validation = request.headers().contains_key(header::IF_NONE_MATCH);
        let response = response.status(if is_validation { 304 } else { 200 });
        Ok(response.body("body".to_owned()).expect("a response"))
    }

    #[tokio::test(start_paused = true)]
    async fn the_directives_of_a_response_are_parsed_once() {
        let policy = crate::Policy::default().jitter(0.0).early_refresh(0.0).grace(Duration::ZERO);
        let cache = Guard::builder().policy(policy).clock(crate::Clock::tokio());
        let cache = HttpGuardLayer::new(cache).layer(service_fn(origin));
        let parsed_by_a_get = async || {
            let before = parsed_responses();
            let request = Request::get("http://h/").body(String::new()).expect("a request");
            let Ok(response) = cache.clone().oneshot(request).await;
            assert_eq!(response.collect().await.expect("a body").to_bytes(), "body");
            parsed_responses() - before
        };
        assert_eq!(parsed_by_a_get().await, 1, "a miss");
        assert_eq!(parsed_by_a_get().await, 0, "a hit");
        // Those of the 304, and those of the stored response that it updates.
        tokio::time::advance(Duration::from_secs(61)).await;
        assert_eq!(parsed_by_a_get().await, 2, "a validation");
    }
}
