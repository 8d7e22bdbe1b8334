//! The cache between connections and the upstream.

use std::{convert::Infallible, future::Future, time::Duration};

use cattleguard::http::HttpGuardLayer;
use http::Request;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use tokio::net::{TcpListener, TcpStream};
use tower::{Layer, ServiceExt, service_fn};

use crate::upstream::{Body, Upstream};

/// How long connections may take to end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);

/// Serves connections until `end`, then lets the open ones finish.
pub async fn serve(
    listener: TcpListener,
    cache: &HttpGuardLayer,
    upstream: Upstream,
    end: impl Future<Output = ()>,
) {
    let service = cache.layer(service_fn(move |request: Request<Body>| {
        let upstream = upstream.clone();
        async move { Ok::<_, Infallible>(upstream.ask(request).await) }
    }));
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new());
    server.http2().timer(TokioTimer::new());
    let open = GracefulShutdown::new();
    let mut end = std::pin::pin!(end);
    loop {
        let stream = tokio::select! {
            stream = accepted(&listener) => stream,
            () = &mut end => break,
        };
        let service = service.clone();
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            service.clone().oneshot(request.map(BodyExt::boxed_unsync))
        });
        let connection = server.serve_connection(TokioIo::new(stream), service);
        let connection = open.watch(connection.into_owned());
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(error, "a connection broke off");
            }
        });
    }
    drop(listener);
    if tokio::time::timeout(DRAIN_TIMEOUT, open.shutdown()).await.is_err() {
        eprintln!("reverse_proxy: some connections took too long");
    }
}

async fn accepted(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // A response must not wait for the next one.
                let _ = stream.set_nodelay(true);
                return stream;
            }
            Err(error) => {
                eprintln!("reverse_proxy: {error}");
                // Out of file descriptors, say: some will be closed.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
