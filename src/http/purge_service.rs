//! Purging by request, for clients that know a token.

use std::{
    convert::Infallible,
    fmt,
    hint::black_box,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body::Body as HttpBody;
use http_body_util::{BodyExt, Full, Limited};
use sha2::{Digest, Sha256};
use tower::Service;

use super::{
    layer::HttpGuardLayer,
    purge::{PurgeError, worse},
    response::tag_names,
};
use crate::far::Invalidated;

/// Purges by request. Mount it where only clients that may purge reach it.
///
/// | request | purges |
/// |---|---|
/// | `PURGE` of a URL | that URL |
/// | `POST` | each URL in its body, one per line with scheme and host, and each tag in its [`tag_field`](HttpGuardLayer::tag_field) |
///
/// A request needs `Authorization: Bearer` and the token, which is compared in constant time. With a
/// [`version_field`](HttpGuardLayer::version_field) in the request, only responses below that version are
/// purged by URL. A body is 64 KiB at most.
///
/// | response | means |
/// |---|---|
/// | 204 | every connected process has dropped it |
/// | 202 | purged, but not confirmed by all processes yet, see [`Invalidated`] |
/// | 400, 405, 413 | the request is malformed; the lines before the malformed one are purged |
/// | 401 | the token is missing or wrong |
/// | 503 | one of them is not acknowledged: ask again |
///
/// # Cancel safety
///
/// If a client goes away, the rest of its URLs and tags is not purged.
///
/// ```
/// use axum::{Router, routing::get};
/// use cattleguard::{Guard, http::HttpGuardLayer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let cache = HttpGuardLayer::new(Guard::builder());
/// let router: Router = Router::new()
///     .route("/", get(async || "hello"))
///     .layer(cache.clone())
///     // curl -d http://example.com/ -H 'Authorization: Bearer secret' example.com/purge
///     .route_service("/purge", cache.purge_service("secret"));
/// # }
/// ```
#[derive(Clone)]
pub struct PurgeService {
    cache: HttpGuardLayer,
    /// A hash: all have one length, and how far two agree tells nothing about the token.
    token: [u8; 32],
}

impl HttpGuardLayer {
    /// A service that purges for clients that know `token`. With an empty token it refuses every request.
    pub fn purge_service(&self, token: impl AsRef<[u8]>) -> PurgeService {
        PurgeService { cache: self.clone(), token: Sha256::digest(token).into() }
    }
}

impl PurgeService {
    async fn answer<B>(self, request: Request<B>) -> Response<Full<Bytes>>
    where
        B: HttpBody,
        B::Error: Into<tower::BoxError>,
    {
        let (parts, body) = request.into_parts();
        if !self.admits(&parts.headers) {
            let mut response = empty(StatusCode::UNAUTHORIZED);
            let challenge = HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            return response;
        }
        let purged = match parts.method.as_str() {
            "PURGE" => {
                let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok());
                let url = self.cache.settings.keys.sent_uri.of(&parts);
                self.purge(url, host, &parts.headers).await
            }
            _ if parts.method == Method::POST => {
                let Ok(body) = Limited::new(body, MAX_BODY_SIZE).collect().await else {
                    return empty(StatusCode::PAYLOAD_TOO_LARGE);
                };
                self.purge_all(&body.to_bytes(), &parts.headers).await
            }
            _ => {
                let mut response = empty(StatusCode::METHOD_NOT_ALLOWED);
                let allowed = HeaderValue::from_static("POST, PURGE");
                response.headers_mut().insert(header::ALLOW, allowed);
                return response;
            }
        };
        empty(match purged {
            Ok(Invalidated::Everywhere) => StatusCode::NO_CONTENT,
            Ok(_) => StatusCode::ACCEPTED,
            Err(Rejection::Malformed) => StatusCode::BAD_REQUEST,
            Err(Rejection::NotAcknowledged) => StatusCode::SERVICE_UNAVAILABLE,
        })
    }

    fn admits(&self, headers: &HeaderMap) -> bool {
        let mut credentials = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(credentials), None) = (credentials.next(), credentials.next()) else {
            return false;
        };
        let Some((scheme, token)) = credentials.as_bytes().split_at_checked(7) else {
            return false;
        };
        if !scheme.eq_ignore_ascii_case(b"bearer ") || token.is_empty() {
            return false;
        }
        let given: [u8; 32] = Sha256::digest(token).into();
        let differing =
            given.iter().zip(&self.token).fold(0, |all, (a, b)| black_box(all | (a ^ b)));
        differing == 0
    }

    async fn purge_all(&self, urls: &[u8], headers: &HeaderMap) -> Result<Invalidated, Rejection> {
        let urls = std::str::from_utf8(urls).map_err(|_| Rejection::Malformed)?;
        let urls = urls.lines().map(str::trim).filter(|url| !url.is_empty());
        let tag_field = self.cache.settings.store.tag_field.as_ref();
        let tags = tag_field.into_iter().flat_map(|field| tag_names(field, headers));
        let mut purged = None;
        // What is not acknowledged stops no other, or this process would serve that.
        let add = |purged: Option<_>, done| Some(worse(purged.unwrap_or(EVERYWHERE), done));
        for url in urls {
            let url: Uri = url.parse().map_err(|_| Rejection::Malformed)?;
            match self.purge(&url, None, headers).await {
                Err(Rejection::Malformed) => return Err(Rejection::Malformed),
                done => purged = add(purged, done),
            }
        }
        for tag in tags {
            purged = add(purged, self.cache.purge_tag(tag).await.map_err(Rejection::from));
        }
        purged.unwrap_or(Err(Rejection::Malformed))
    }

    async fn purge(
        &self,
        url: &Uri,
        host: Option<&str>,
        headers: &HeaderMap,
    ) -> Result<Invalidated, Rejection> {
        let version_field = self.cache.settings.version_field.as_ref();
        let Some(version) = version_field.and_then(|field| headers.get(field)) else {
            return Ok(self.cache.purge(url, host).await?);
        };
        let version: Option<u64> = version.to_str().ok().and_then(|text| text.parse().ok());
        let version = version.ok_or(Rejection::Malformed)?;
        Ok(self.cache.purge_at(url, host, version).await?)
    }
}

enum Rejection {
    Malformed,
    NotAcknowledged,
}

impl From<PurgeError> for Rejection {
    fn from(error: PurgeError) -> Self {
        match error {
            PurgeError::NoHost => Self::Malformed,
            PurgeError::Guard(error) => {
                tracing::warn!(%error, "a purge was not acknowledged");
                Self::NotAcknowledged
            }
        }
    }
}

fn empty(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::default());
    *response.status_mut() = status;
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().insert(header::CACHE_CONTROL, no_store);
    response
}

impl<B> Service<Request<B>> for PurgeService
where
    B: HttpBody + Send + 'static,
    B::Data: Send,
    B::Error: Into<tower::BoxError>,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = BoxFuture<'static, Result<Response<Full<Bytes>>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        self.clone().answer(request).map(Ok).boxed()
    }
}

impl fmt::Debug for PurgeService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PurgeService").finish_non_exhaustive()
    }
}

const EVERYWHERE: Result<Invalidated, Rejection> = Ok(Invalidated::Everywhere);

/// In bytes.
const MAX_BODY_SIZE: usize = 64 << 10;
