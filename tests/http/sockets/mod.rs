//! The cache in front of real connections.

mod bodies;
mod curl;
mod protocols;
mod proxied;
mod rules;
mod store;

use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use axum::{Router, body::Body as AxumBody};
use bytes::Bytes;
use futures::TryFutureExt;
use http::{Request, Response, Uri, uri::Scheme};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
    server::conn::auto,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tower::{Service, ServiceExt, service_fn};

/// How often a handler ran.
#[derive(Clone, Default)]
struct Runs(Arc<AtomicUsize>);

impl Runs {
    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    fn one_more(&self) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst) + 1
    }

    /// Answers with how often it has run, fresh for a minute.
    fn handler(&self) -> axum::routing::MethodRouter {
        let runs = self.clone();
        let fields = [("cache-control", "max-age=60"), ("etag", "\"1\"")];
        axum::routing::get(async move || (fields, format!("run {}", runs.one_more())))
    }
}

async fn serve(router: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move { axum::serve(listener, router).await });
    address
}

/// Without axum.
async fn serve_by_hyper<S, B>(service: S) -> SocketAddr
where
    S: Service<Request<AxumBody>, Response = Response<B>> + Clone + Send + 'static,
    S::Future: Send,
    S::Error: Into<tower::BoxError> + Send,
    B: http_body::Body<Data = Bytes> + Send + 'static,
    B::Error: Into<tower::BoxError>,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("an address");
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service.clone();
            let service = hyper::service::service_fn(move |request: Request<Incoming>| {
                let response = service.clone().oneshot(request.map(AxumBody::new));
                response.map_ok(|response| response.map(AxumBody::new))
            });
            tokio::spawn(async move {
                let server = auto::Builder::new(TokioExecutor::new());
                let _ = server.serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    address
}

type HyperClient = Client<HttpConnector, Full<Bytes>>;

fn client(http2: bool) -> HyperClient {
    Client::builder(TokioExecutor::new()).http2_only(http2).build_http()
}

struct Got {
    head: http::response::Parts,
    body: Result<String, hyper::Error>,
}

impl Got {
    fn text(&self) -> &str {
        self.body.as_ref().expect("a whole body")
    }

    fn how(&self) -> &str {
        self.head.headers["cache-status"].to_str().expect("text")
    }
}

async fn get(client: &HyperClient, server: SocketAddr, path: &str) -> Got {
    ask(client, server, path).await.expect("a response")
}

async fn ask(
    client: &HyperClient,
    server: SocketAddr,
    path: &str,
) -> Result<Got, hyper_util::client::legacy::Error> {
    let request = Request::get(format!("http://{server}{path}")).body(Full::default());
    let (head, body) = client.request(request.expect("a request")).await?.into_parts();
    let body =
        body.collect().await.map(|body| String::from_utf8(body.to_bytes().to_vec()).expect("text"));
    Ok(Got { head, body })
}

/// A request as it is written, and all that comes back until the server closes.
async fn write(server: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(server).await.expect("a connection");
    stream.write_all(request.as_bytes()).await.expect("written");
    let mut answer = Vec::new();
    // A server that refuses may reset the connection behind its answer.
    let _ = stream.read_to_end(&mut answer).await;
    String::from_utf8_lossy(&answer).into_owned()
}

/// The way to another server, as the inner service of a proxy.
fn upstream(
    server: SocketAddr,
) -> impl Service<
    Request<AxumBody>,
    Response = Response<Incoming>,
    Error = hyper_util::client::legacy::Error,
    Future: Send,
> + Clone
+ Send
+ 'static {
    let client: Client<_, AxumBody> = Client::builder(TokioExecutor::new()).build_http();
    service_fn(move |mut request: Request<AxumBody>| {
        let mut uri = std::mem::take(request.uri_mut()).into_parts();
        uri.scheme = Some(Scheme::HTTP);
        uri.authority = Some(server.to_string().parse().expect("an authority"));
        *request.uri_mut() = Uri::from_parts(uri).expect("a URL");
        *request.version_mut() = http::Version::HTTP_11;
        client.request(request)
    })
}
