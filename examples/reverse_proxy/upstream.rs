//! The server behind the proxy.

use std::{error::Error, io, time::Duration};

use bytes::Bytes;
use http::{
    HeaderValue, Request, Response, StatusCode, Uri, Version, header,
    uri::{Authority, Scheme},
};
use http_body::Body as _;
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{self, Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};

use crate::{
    console, hop,
    link::{Link, LinkConnector, linked},
};

/// Streamed. Empty by default, for a request that the cache makes itself.
pub type Body = UnsyncBoxBody<Bytes, hyper::Error>;

#[derive(Clone)]
pub struct Upstream {
    client: Client<LinkConnector, Body>,
    /// Makes a connection for each request.
    unpooled: Client<LinkConnector, Body>,
    authority: Authority,
    timeout: Duration,
}

impl Upstream {
    pub fn new(authority: Authority, timeout: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(timeout));
        let connector = linked(connector);
        let mut builder = Client::builder(TokioExecutor::new());
        let client = builder.pool_timer(TokioTimer::new()).build(connector.clone());
        let unpooled = builder.pool_max_idle_per_host(0).build(connector);
        Self { client, unpooled, authority, timeout }
    }

    /// The upstream's answer, or 502 or 504 in place of it.
    pub async fn ask(&self, request: Request<Body>) -> Response<Body> {
        let asked = self.send(self.outgoing(request));
        match tokio::time::timeout(self.timeout, asked).await {
            Err(_) => say(StatusCode::GATEWAY_TIMEOUT, "the upstream takes too long"),
            Ok(Ok(response)) => incoming(response),
            Ok(Err(error)) => {
                eprintln!("reverse_proxy: {}", console::chain(&error));
                match is_timeout(&error) {
                    true => say(StatusCode::GATEWAY_TIMEOUT, "the upstream takes too long"),
                    false => say(StatusCode::BAD_GATEWAY, "the upstream cannot be asked"),
                }
            }
        }
    }

    /// Sends a request once more if it met the end of a connection, and if that can do no harm.
    async fn send(&self, request: Request<Body>) -> Result<Response<Incoming>, legacy::Error> {
        let may_repeat = request.method().is_idempotent() && request.body().is_end_stream();
        let again = may_repeat.then(|| copy(&request));
        match (self.client.request(request).await, again) {
            (Err(error), Some(again)) if Link::was_closed_unanswered(&error) => {
                self.unpooled.request(again).await
            }
            (answered, _) => answered,
        }
    }

    fn outgoing(&self, request: Request<Body>) -> Request<Body> {
        let (mut head, body) = request.into_parts();
        hop::remove_nominated(&mut head.headers);
        head.headers.remove(header::TRANSFER_ENCODING);
        hop::via(&mut head.headers, head.version);
        let mut uri = Uri::default().into_parts();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(self.authority.clone());
        uri.path_and_query = head.uri.path_and_query().cloned().or(uri.path_and_query);
        // Only the asterisk of OPTIONS is no path.
        head.uri = Uri::from_parts(uri).unwrap_or_default();
        head.version = Version::HTTP_11;
        Request::from_parts(head, body)
    }
}

/// A request that has no body.
fn copy(request: &Request<Body>) -> Request<Body> {
    let mut copy = Request::new(Body::default());
    *copy.method_mut() = request.method().clone();
    *copy.uri_mut() = request.uri().clone();
    *copy.headers_mut() = request.headers().clone();
    copy
}

fn incoming(response: Response<Incoming>) -> Response<Body> {
    let mut response = response.map(BodyExt::boxed_unsync);
    let version = response.version();
    hop::remove_nominated(response.headers_mut());
    if hop::take_framing(response.headers_mut()).is_err() {
        return say(StatusCode::BAD_GATEWAY, "the upstream's answer cannot be read");
    }
    hop::via(response.headers_mut(), version);
    response
}

fn is_timeout(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error.downcast_ref::<io::Error>().is_some_and(|e| e.kind() == io::ErrorKind::TimedOut) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// An answer of the proxy's own.
pub fn say(status: StatusCode, text: &'static str) -> Response<Body> {
    let text = Full::from(format!("{text}\n")).map_err(|never| match never {});
    let mut response = Response::new(text.boxed_unsync());
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}
