//! The server behind the proxy.

use std::{error::Error, io, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version,
    header,
    uri::{Authority, Scheme},
};
use http_body_util::{BodyExt, Full, combinators::UnsyncBoxBody};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};

use crate::console;

/// Streamed. Empty by default, for a request that the cache makes itself.
pub type Body = UnsyncBoxBody<Bytes, hyper::Error>;

#[derive(Clone)]
pub struct Upstream {
    client: Client<HttpConnector, Body>,
    authority: Authority,
    timeout: Duration,
}

impl Upstream {
    pub fn new(authority: Authority, timeout: Duration) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(timeout));
        let client =
            Client::builder(TokioExecutor::new()).pool_timer(TokioTimer::new()).build(connector);
        Self { client, authority, timeout }
    }

    /// The upstream's answer, or 502 or 504 in place of it.
    pub async fn ask(&self, request: Request<Body>) -> Response<Body> {
        // A cache does not tunnel.
        if request.method() == Method::CONNECT {
            return say(StatusCode::NOT_IMPLEMENTED, "no tunnels through this proxy");
        }
        let asked = self.client.request(self.outgoing(request));
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

    fn outgoing(&self, request: Request<Body>) -> Request<Body> {
        let (mut head, body) = request.into_parts();
        for_one_hop(&mut head.headers);
        via(&mut head.headers, head.version);
        // The upstream gets the host that the client asked for, whatever its protocol.
        let named = head.uri.authority().and_then(|name| HeaderValue::from_str(name.as_str()).ok());
        if let Some(name) = named {
            head.headers.insert(header::HOST, name);
        }
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

fn incoming(response: Response<Incoming>) -> Response<Body> {
    let mut response = response.map(BodyExt::boxed_unsync);
    let version = response.version();
    for_one_hop(response.headers_mut());
    via(response.headers_mut(), version);
    response
}

/// Removes the fields of one connection (RFC 9110 §7.6.1).
fn for_one_hop(headers: &mut HeaderMap) {
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|list| list.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [
        header::CONNECTION,
        HeaderName::from_static("keep-alive"),
        HeaderName::from_static("proxy-connection"),
        header::PROXY_AUTHORIZATION,
        header::TE,
        header::TRANSFER_ENCODING,
        header::UPGRADE,
    ] {
        headers.remove(name);
    }
}

/// RFC 9110 §7.6.3.
fn via(headers: &mut HeaderMap, received: Version) {
    let by = match received {
        Version::HTTP_10 => "1.0 cattleguard",
        Version::HTTP_2 => "2 cattleguard",
        _ => "1.1 cattleguard",
    };
    headers.append(header::VIA, HeaderValue::from_static(by));
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

fn say(status: StatusCode, text: &'static str) -> Response<Body> {
    let text = Full::from(format!("{text}\n")).map_err(|never| match never {});
    let mut response = Response::new(text.boxed_unsync());
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
}
