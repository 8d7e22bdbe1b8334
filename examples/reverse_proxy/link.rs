//! A connection to the upstream that knows whether it was closed before it answered.
//!
//! The upstream may close a connection that has been idle at the moment when the next request is sent. The
//! request was not refused then, it was lost: one that may be repeated (RFC 9110 §9.2.2) is sent again. A
//! connection that has never answered is no such case: the upstream does not want the request.

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use http::Extensions;
use hyper_util::{
    client::legacy::{
        Error,
        connect::{Connected, Connection, HttpConnector},
    },
    rt::TokioIo,
};
use tokio::net::TcpStream;
use tower::{ServiceExt, util::MapResponse};

use crate::observed::{Observed, Observer};

#[derive(Clone, Default)]
pub struct Link(Arc<State>);

#[derive(Default)]
struct State {
    /// It has answered a request.
    has_answered: AtomicBool,
    /// Nothing has come since the last bytes were sent.
    is_silent: AtomicBool,
}

type Linked = TokioIo<Observed<Link>>;
pub type LinkConnector = MapResponse<HttpConnector, fn(TokioIo<TcpStream>) -> Linked>;

pub fn linked(connector: HttpConnector) -> LinkConnector {
    connector
        .map_response(|stream| TokioIo::new(Observed::new(stream.into_inner(), Link::default())))
}

impl Link {
    /// Whether a request failed because a connection that had answered others was closed.
    pub fn was_closed_unanswered(error: &Error) -> bool {
        let mut extras = Extensions::new();
        if let Some(connected) = error.connect_info() {
            connected.get_extras(&mut extras);
        }
        extras.get::<Self>().is_some_and(|Self(state)| {
            state.has_answered.load(Ordering::Relaxed) && state.is_silent.load(Ordering::Relaxed)
        })
    }
}

impl Observer for Link {
    fn received(&self, bytes: usize) {
        if bytes > 0 {
            self.0.has_answered.store(true, Ordering::Relaxed);
            self.0.is_silent.store(false, Ordering::Relaxed);
        }
    }

    fn sent(&self, _: usize) {
        self.0.is_silent.store(true, Ordering::Relaxed);
    }
}

impl Connection for Observed<Link> {
    fn connected(&self) -> Connected {
        Connected::new().extra(self.observer.clone())
    }
}
