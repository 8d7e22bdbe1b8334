//! The cache between connections and the upstream.

use std::{convert::Infallible, future::Future, io, pin::pin, sync::Arc, time::Duration};

use cattleguard::http::{self as http_cache, HttpGuard, HttpGuardLayer};
use http::{Request, Response};
use http_body_util::{BodyExt, Either};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use rustix::net::sockopt;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};
use tower::{Layer, Service, ServiceExt, service_fn};

use crate::{
    client::{Activity, Verdict},
    inbound,
    observed::Observed,
    upstream::{Body, Upstream, say},
};

/// How long connections may take to end.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a quiet connection may take to say goodbye, and how long it may be quiet while others wait for its
/// place.
const SHORT_TIMEOUT: Duration = Duration::from_secs(1);

/// How many probes without an answer end a connection.
const PROBES: u32 = 3;
/// What Linux takes.
const MAX_PROBE_SECONDS: u64 = 32_767;

/// What clients may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// How long a connection lasts on which a client neither completes a request nor takes an answer.
    pub idle_timeout: Duration,
    /// How many connections there are at one time. The next waits to be accepted, and those that are quiet end.
    pub connections: u32,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    Open,
    /// No place is left.
    Full,
    Ending,
}

/// Serves connections until `end`, then lets the open ones finish.
pub async fn serve(
    listener: TcpListener,
    cache: &HttpGuardLayer,
    upstream: Upstream,
    limits: Limits,
    end: impl Future<Output = ()>,
) {
    let service = cache.layer(service_fn(move |request: Request<Body>| {
        let upstream = upstream.clone();
        async move { Ok::<_, Infallible>(upstream.ask(request).await) }
    }));
    let server = Arc::new(server(limits));
    let places = Arc::new(Semaphore::new(limits.connections as usize));
    let phase = watch::Sender::new(Phase::Open);
    let mut end = pin!(end);
    loop {
        let next = async {
            let place = place(&places, &phase).await?;
            let stream = accepted(&listener).await;
            if let Err(error) = probe_when_silent(&stream, limits.idle_timeout) {
                tracing::debug!(%error, "a connection is not probed");
            }
            Some((stream, place))
        };
        let (stream, place) = tokio::select! {
            Some(next) = next => next,
            () = &mut end => break,
        };
        let (server, service, phase) = (server.clone(), service.clone(), phase.subscribe());
        tokio::spawn(async move {
            attend(stream, &server, service, limits, phase).await;
            drop(place);
        });
    }
    drop(listener);
    phase.send_replace(Phase::Ending);
    let ended = places.acquire_many(limits.connections);
    if tokio::time::timeout(DRAIN_TIMEOUT, ended).await.is_err() {
        eprintln!("reverse_proxy: some connections took too long");
    }
}

fn server(limits: Limits) -> auto::Builder<TokioExecutor> {
    let mut server = auto::Builder::new(TokioExecutor::new());
    server.http1().timer(TokioTimer::new()).header_read_timeout(limits.idle_timeout);
    // A client that is gone without a word answers no ping.
    let half = limits.idle_timeout / 2;
    let mut http2 = server.http2();
    http2.timer(TokioTimer::new()).keep_alive_interval(half).keep_alive_timeout(half);
    server
}

/// A place among the connections, as soon as there is one.
async fn place(
    places: &Arc<Semaphore>,
    phase: &watch::Sender<Phase>,
) -> Option<OwnedSemaphorePermit> {
    if let Ok(place) = places.clone().try_acquire_owned() {
        return Some(place);
    }
    phase.send_replace(Phase::Full);
    let place = places.clone().acquire_owned().await.ok();
    phase.send_replace(Phase::Open);
    place
}

/// Serves a connection until it ends, or has been quiet or stalled for too long.
async fn attend<S>(
    stream: TcpStream,
    server: &auto::Builder<TokioExecutor>,
    service: HttpGuard<S>,
    limits: Limits,
    mut phase: watch::Receiver<Phase>,
) where
    S: Origin<Future: Send>,
{
    let activity = Activity::new();
    let stream = TokioIo::new(Observed::new(stream, activity.clone()));
    let requests = activity.clone();
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let (open, service) = (requests.open(), service.clone());
        async move {
            let answer = answer(service, request).await;
            Ok::<_, Infallible>(answer.map(|body| open.answer(body)))
        }
    });
    let mut connection = pin!(server.serve_connection(stream, service));
    let mut is_ending = false;
    loop {
        let quiet = match *phase.borrow_and_update() {
            Phase::Open if !is_ending => limits.idle_timeout,
            _ => limits.idle_timeout.min(SHORT_TIMEOUT),
        };
        let until = match activity.verdict(quiet, limits.idle_timeout) {
            Verdict::Until(then) => then,
            Verdict::Quiet if !is_ending => {
                connection.as_mut().graceful_shutdown();
                activity.restart();
                is_ending = true;
                continue;
            }
            verdict => return tracing::debug!(?verdict, "a connection is ended"),
        };
        tokio::select! {
            ended = connection.as_mut() => {
                return tracing::debug!(?ended, "a connection has ended");
            }
            () = tokio::time::sleep_until(until) => {}
            Ok(()) = phase.changed() => {
                if *phase.borrow() == Phase::Ending && !is_ending {
                    connection.as_mut().graceful_shutdown();
                    activity.restart();
                    is_ending = true;
                }
            }
        }
    }
}

trait Origin:
    Service<Request<Body>, Response = Response<Body>, Error = Infallible> + Clone + Send + 'static
{
}

impl<S> Origin for S where
    S: Service<Request<Body>, Response = Response<Body>, Error = Infallible>
        + Clone
        + Send
        + 'static
{
}

/// From the cache, from the upstream, or a refusal.
async fn answer<S>(
    service: HttpGuard<S>,
    request: Request<Incoming>,
) -> Response<Either<http_cache::Body<Body>, Body>>
where
    S: Origin<Future: Send>,
{
    let (mut head, body) = request.into_parts();
    if let Err((status, text)) = inbound::clarify(&mut head) {
        return say(status, text).map(Either::Right);
    }
    let request = Request::from_parts(head, body.boxed_unsync());
    let Ok(response) = service.oneshot(request).await;
    response.map(Either::Left)
}

/// Has the system find out whether a silent client is still there: one that waits for a stream of the upstream may
/// be gone without a word.
pub fn probe_when_silent(stream: &TcpStream, idle_timeout: Duration) -> io::Result<()> {
    // Whole seconds, as the system counts.
    let idle = Duration::from_secs(idle_timeout.as_secs().clamp(1, MAX_PROBE_SECONDS));
    sockopt::set_socket_keepalive(stream, true)?;
    sockopt::set_tcp_keepidle(stream, idle)?;
    sockopt::set_tcp_keepintvl(stream, (idle / PROBES).max(Duration::from_secs(1)))?;
    sockopt::set_tcp_keepcnt(stream, PROBES)?;
    Ok(())
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
