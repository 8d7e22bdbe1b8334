//! The responses of the cache itself, where there is none of the origin, and what a handler answers for an error.

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use http_body::Body as HttpBody;

use super::{
    super::{body::Body, fields::cache_status},
    origin::OriginFailure,
};
use crate::Error;

/// 504 to a request with `only-if-cached` for which nothing is stored (RFC 9111 §5.2.1.7).
pub(crate) fn not_cached<R: HttpBody<Data = Bytes>>() -> Response<Body<R>> {
    let mut response = Response::new(Body::stored(Bytes::new()));
    *response.status_mut() = StatusCode::GATEWAY_TIMEOUT;
    cache_status::add(response.headers_mut(), "cattleguard; detail=only-if-cached");
    response
}

/// The response to a request whose load failed.
pub(crate) fn failed<R: HttpBody<Data = Bytes>>(error: &Error) -> Response<Body<R>> {
    let mut response = answer(error, Body::stored(Bytes::new()));
    let member = format!("cattleguard; fwd=miss; detail={}", error.as_str());
    if let Ok(member) = HeaderValue::from_str(&member) {
        response.headers_mut().insert(cache_status::NAME, member);
    }
    response
}

/// What all responses for an error have.
fn answer<B>(error: &Error, body: B) -> Response<B> {
    let mut response = Response::new(body);
    *response.status_mut() = error.status();
    let headers = response.headers_mut();
    if let Some(after) = error.retry_after() {
        // Rounded up: a client that is back too early fails again.
        let seconds = after.as_secs().saturating_add(u64::from(after.subsec_nanos() > 0));
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// With the feature `http`.
impl Error {
    /// The status that a handler answers with, if this is why it has no value. The HTTP cache answers with the same.
    ///
    /// | error | status |
    /// |---|---|
    /// | [`Origin`](Self::Origin), [`FailedElsewhere`](Self::FailedElsewhere) | 502 |
    /// | [`LoadTimeout`](Self::LoadTimeout), [`WaitTimeout`](Self::WaitTimeout), [`DeadlineExceeded`](Self::DeadlineExceeded) | 504 |
    /// | [`Overloaded`](Self::Overloaded), [`ShutDown`](Self::ShutDown), [`Abandoned`](Self::Abandoned), [`Outdated`](Self::Outdated), [`Far`](Self::Far) | 503 |
    /// | [`LoadPanicked`](Self::LoadPanicked), [`NegativeVersion`](Self::NegativeVersion) | 500 |
    /// | [`Nested`](Self::Nested) | 508 |
    pub fn status(&self) -> StatusCode {
        match self {
            Self::Origin(error) => match error.downcast_ref::<OriginFailure>() {
                Some(failure) => failure.0,
                None => StatusCode::BAD_GATEWAY,
            },
            Self::FailedElsewhere { .. } => StatusCode::BAD_GATEWAY,
            Self::LoadTimeout { .. } | Self::WaitTimeout { .. } | Self::DeadlineExceeded => {
                StatusCode::GATEWAY_TIMEOUT
            }
            Self::Overloaded { .. }
            | Self::ShutDown
            | Self::Abandoned
            | Self::Outdated { .. }
            | Self::Far(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::LoadPanicked | Self::NegativeVersion => StatusCode::INTERNAL_SERVER_ERROR,
            Self::Nested => StatusCode::LOOP_DETECTED,
        }
    }

    /// A whole response for a handler that has no value: the [`status`](Self::status), its name as the body,
    /// `Retry-After` where [`retry_after`](Self::retry_after) knows it, and `Cache-Control: no-store`. Nothing of the
    /// cause: strangers read it. Log the error itself.
    ///
    /// With the feature `axum` the error is such a response by itself, and a handler may return
    /// `Result<_, cattleguard::Error>`.
    ///
    /// Not for an invalidation that follows a committed write: the write has succeeded, whatever became of the
    /// invalidation.
    ///
    /// ```
    /// use cattleguard::Error;
    ///
    /// let response = Error::DeadlineExceeded.to_response();
    /// assert_eq!((response.status().as_u16(), response.body().as_str()), (504, "Gateway Timeout"));
    /// ```
    pub fn to_response(&self) -> Response<String> {
        let text = self.status().canonical_reason().unwrap_or_default();
        let mut response = answer(self, text.to_owned());
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, plain);
        response
    }
}

/// [`Error::to_response`].
#[cfg(feature = "axum")]
impl axum::response::IntoResponse for Error {
    fn into_response(self) -> axum::response::Response {
        self.to_response().into_response()
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::Arc, time::Duration};

    use super::*;

    #[test]
    fn an_answer_names_no_cause() {
        let errors = [
            Error::Origin(Arc::from(tower::BoxError::from("secret"))),
            crate::Fault::saying(crate::FaultKind::Refused, "secret").into(),
        ];
        for error in errors {
            assert!(error.to_string().contains("secret"), "{error}");
            let response = error.to_response();
            assert!(!format!("{response:?}").contains("secret"), "{response:?}");
            assert_eq!(response.headers()[header::CACHE_CONTROL], "no-store");
        }
    }

    #[test]
    fn an_answer_says_when_to_ask_again_and_not_too_early() {
        let after = |millis| {
            let error = Error::Overloaded { retry_after: Duration::from_millis(millis) };
            error.to_response().headers()[header::RETRY_AFTER].clone()
        };
        assert_eq!([0, 1, 1_000, 1_001, 2_999].map(after), ["1", "1", "1", "2", "3"]);
        assert!(!Error::ShutDown.to_response().headers().contains_key(header::RETRY_AFTER));
    }

    #[cfg(feature = "axum")]
    #[tokio::test]
    async fn an_axum_handler_may_return_an_error() {
        use tower::ServiceExt;

        let handler = || async { Err::<&str, _>(Error::DeadlineExceeded) };
        let app: axum::Router = axum::Router::new().route("/", axum::routing::get(handler));
        let response = app.oneshot(http::Request::new(axum::body::Body::empty())).await;
        let response = response.expect("an answer");
        assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
        let body = axum::body::to_bytes(response.into_body(), 100).await.expect("a body");
        assert_eq!(&body[..], b"Gateway Timeout");
    }
}
