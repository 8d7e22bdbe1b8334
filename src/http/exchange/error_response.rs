//! The responses of the cache itself, where there is none of the origin.

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
    let mut response = Response::new(Body::stored(Bytes::new()));
    *response.status_mut() = status_of(error);
    let headers = response.headers_mut();
    if let Some(after) = error.retry_after() {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let member = format!("cattleguard; fwd=miss; detail={}", error.as_str());
    if let Ok(member) = HeaderValue::from_str(&member) {
        headers.insert(cache_status::NAME, member);
    }
    response
}

fn status_of(error: &Error) -> StatusCode {
    match error {
        Error::Origin(error) => match error.downcast_ref::<OriginFailure>() {
            Some(failure) => failure.0,
            None => StatusCode::BAD_GATEWAY,
        },
        Error::LoadTimeout { .. } | Error::WaitTimeout { .. } | Error::DeadlineExceeded => {
            StatusCode::GATEWAY_TIMEOUT
        }
        Error::LoadPanicked => StatusCode::INTERNAL_SERVER_ERROR,
        Error::Nested => StatusCode::LOOP_DETECTED,
        Error::FailedElsewhere { .. } => StatusCode::BAD_GATEWAY,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}
