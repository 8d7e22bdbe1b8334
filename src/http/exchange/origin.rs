//! The service behind the cache.

use std::fmt;

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode, header};
use http_body::Body as HttpBody;
use tower::Service;

/// What the cache asks of the inner service, in one name.
pub(crate) trait Origin<B>:
    Service<
        Request<B>,
        Response = Response<<Self as Origin<B>>::Body>,
        Error: Send + 'static,
        Future: Send + 'static,
    > + Clone
    + Send
    + 'static
{
    type Body: HttpBody<Data = Bytes, Error: Send> + Send + 'static;
}

impl<S, B, R> Origin<B> for S
where
    S: Service<Request<B>, Response = Response<R>> + Clone + Send + 'static,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    R: HttpBody<Data = Bytes> + Send + 'static,
    R::Error: Send,
{
    type Body = R;
}

/// Beside `Transfer-Encoding` a length counts for nothing, and would end the response where its body does not
/// (RFC 9112 §6.3).
pub(crate) fn remove_overruled_length(headers: &mut HeaderMap) {
    if headers.contains_key(header::TRANSFER_ENCODING) {
        headers.remove(header::CONTENT_LENGTH);
    }
}

/// The error of a load that the origin answered with a failure.
#[derive(Clone, Copy, Debug)]
pub(crate) struct OriginFailure(pub(crate) StatusCode);

impl fmt::Display for OriginFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the origin answered {}", self.0)
    }
}

impl std::error::Error for OriginFailure {}
