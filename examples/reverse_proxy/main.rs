//! A caching reverse proxy, by the rules of RFC 9111.
//!
//! ```text
//! cargo run --release --example reverse_proxy -- --upstream http://127.0.0.1:3000
//! cargo run --release --example reverse_proxy -- --upstream http://127.0.0.1:3000 --far redis://127.0.0.1
//!
//! curl -i localhost:8080/products/7
//! ```
//!
//! What may not be stored goes through as it comes. Redis may be away, also when the proxy starts:
//! then each instance asks for itself.

use std::{convert::Infallible, process::ExitCode, time::Duration};

use cattleguard::{
    Guard, Shutdown, far,
    http::{HttpGuardLayer, Responses},
    redis::Connection,
};
use http::Request;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use tokio::net::{TcpListener, TcpStream};
use tower::{BoxError, Layer, ServiceExt, service_fn};
use tracing_subscriber::EnvFilter;

use crate::{
    args::{Args, Far},
    upstream::{Body, Upstream},
};

mod args;
#[path = "../console/mod.rs"]
#[expect(dead_code, reason = "the other examples use the rest")]
mod console;
mod upstream;

const NAME: &str = "reverse_proxy";
/// How long connections, and after them loads, may take to end.
const PATIENCE: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let args: Args = match console::parse() {
        Ok(args) => args,
        Err(line) => return console::bad_input(NAME, &line),
    };
    let cache = match cache(&args) {
        Ok(cache) => cache,
        Err(error) => {
            let line = format!("--far: {}", console::chain(&*error));
            return console::bad_input(NAME, &line);
        }
    };
    let listener = match TcpListener::bind(args.listen).await {
        Ok(listener) => listener,
        Err(error) => {
            return console::bad_input(NAME, &format!("--listen {}: {error}", args.listen));
        }
    };
    if let Ok(address) = listener.local_addr() {
        println!("http://{address} in front of http://{}", args.upstream);
    }
    serve(listener, &cache, Upstream::new(args.upstream, args.timeout)).await;
    if let Shutdown::Aborted { flights } = cache.shutdown(PATIENCE).await {
        eprintln!("{NAME}: {flights} loads took too long");
    }
    ExitCode::SUCCESS
}

fn cache(args: &Args) -> Result<HttpGuardLayer, BoxError> {
    let builder = match &args.far {
        Far::Memory => Guard::builder(),
        Far::Redis(url) => {
            let redis = far::Redis::new(Connection::open_lazy(url)?, Responses::default());
            Guard::builder().far(redis.namespace("http"))
        }
    };
    let cache = HttpGuardLayer::new(builder.name(NAME));
    Ok(match args.default_ttl {
        Some(ttl) => cache.default_ttl(ttl),
        None => cache,
    })
}

/// Answers connections until the program is to end, and those that are open then to their end.
async fn serve(listener: TcpListener, cache: &HttpGuardLayer, upstream: Upstream) {
    let service = cache.layer(service_fn(move |request: Request<Body>| {
        let upstream = upstream.clone();
        async move { Ok::<_, Infallible>(upstream.ask(request).await) }
    }));
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new());
    server.http2().timer(TokioTimer::new());
    let open = GracefulShutdown::new();
    let mut end = std::pin::pin!(console::interrupted());
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
    if tokio::time::timeout(PATIENCE, open.shutdown()).await.is_err() {
        eprintln!("{NAME}: some connections took too long");
    }
}

async fn accepted(listener: &TcpListener) -> TcpStream {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                // An answer is not to wait for the next one.
                let _ = stream.set_nodelay(true);
                return stream;
            }
            Err(error) => {
                eprintln!("{NAME}: {error}");
                // Out of file descriptors, say: some will be closed.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}
