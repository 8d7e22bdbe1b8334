//! A scripted origin behind the cache.

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, Uri};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tower::Service;

pub(crate) type OriginBody = UnsyncBoxBody<Bytes, Broken>;

/// What a body breaks off with.
#[derive(Debug)]
pub struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("the body broke off")
    }
}

impl std::error::Error for Broken {}

/// A body whose pieces arrive one by one, as they are sent.
pub fn piecewise() -> (mpsc::UnboundedSender<Result<Frame<Bytes>, Broken>>, OriginBody) {
    let (sender, mut receiver) = mpsc::unbounded_channel();
    let pieces = futures::stream::poll_fn(move |cx| receiver.poll_recv(cx));
    (sender, StreamBody::new(pieces).boxed_unsync())
}

pub fn full(text: String) -> OriginBody {
    Full::new(Bytes::from(text)).map_err(|never| match never {}).boxed_unsync()
}

#[derive(Clone)]
pub struct Origin {
    answer: Arc<Handler>,
    asked: Arc<Mutex<Vec<Asked>>>,
    takes: Duration,
}

type Handler = dyn Fn(&Request<()>) -> Response<OriginBody> + Send + Sync;

/// A request as it reached the origin.
#[derive(Clone, Debug)]
pub struct Asked {
    pub method: Method,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Origin {
    pub fn new(
        answer: impl Fn(&Request<()>) -> Response<OriginBody> + Send + Sync + 'static,
    ) -> Self {
        Self { answer: Arc::new(answer), asked: Arc::default(), takes: Duration::ZERO }
    }

    pub fn taking(self, takes: Duration) -> Self {
        Self { takes, ..self }
    }

    pub fn asked(&self) -> Vec<Asked> {
        self.asked.lock().clone()
    }

    pub fn calls(&self) -> usize {
        self.asked.lock().len()
    }

    pub fn service(&self) -> OriginService {
        OriginService(self.clone())
    }
}

#[derive(Clone)]
pub struct OriginService(Origin);

impl Service<Request<Full<Bytes>>> for OriginService {
    type Response = Response<OriginBody>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<OriginBody>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Full<Bytes>>) -> Self::Future {
        let origin = self.0.clone();
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let Ok(body) = body.collect().await;
            origin.asked.lock().push(Asked {
                method: head.method.clone(),
                uri: head.uri.clone(),
                headers: head.headers.clone(),
                body: body.to_bytes(),
            });
            let answer = (origin.answer)(&Request::from_parts(head, ()));
            tokio::time::sleep(origin.takes).await;
            Ok(answer)
        })
    }
}
