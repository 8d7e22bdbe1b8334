//! What a load hands to and from the one client that started it, past the cache.

use http::{HeaderMap, Response};
use http_body::Body as HttpBody;
use parking_lot::Mutex;

use super::super::body::Body;

/// The request's body on its way to the origin, and the origin's own answer on its way back.
pub(crate) struct Passthrough<B, R: HttpBody, E> {
    /// Until it is sent.
    body: Mutex<Option<B>>,
    answer: Mutex<Option<Answer<R, E>>>,
    own: Mutex<Own>,
}

/// What the client that started the load gets, or learns, beside the response for all.
#[derive(Default)]
struct Own {
    /// Fields that the response withholds from others.
    fields: HeaderMap,
    was_stale: bool,
}

/// What a client gets: a response, or the inner service's error.
pub(crate) type Answer<R, E> = Result<Response<Body<R>>, E>;

impl<B: Default, R: HttpBody, E> Passthrough<B, R, E> {
    pub(crate) fn new(body: B) -> Self {
        Self { body: Mutex::new(Some(body)), answer: Mutex::default(), own: Mutex::default() }
    }

    /// The request's body; an empty one if the load is repeated.
    pub(crate) fn take_body(&self) -> B {
        self.body.lock().take().unwrap_or_default()
    }

    /// Whether the origin was asked with this request.
    pub(crate) fn is_sent(&self) -> bool {
        self.body.lock().is_none()
    }

    /// The fields that only this client gets.
    pub(crate) fn set_own_fields(&self, fields: HeaderMap) {
        // After a 304 the response that is stored has none any more.
        if !fields.is_empty() {
            self.own.lock().fields = fields;
        }
    }

    pub(crate) fn take_own_fields(&self) -> HeaderMap {
        std::mem::take(&mut self.own.lock().fields)
    }

    /// The load replaces or validates a stored response.
    pub(crate) fn set_stale(&self) {
        self.own.lock().was_stale = true;
    }

    pub(crate) fn was_stale(&self) -> bool {
        self.own.lock().was_stale
    }

    /// The latest answer counts. The one before is dropped outside of the lock: it is the user's type.
    pub(crate) fn set_answer(&self, answer: Answer<R, E>) {
        let before = self.answer.lock().replace(answer);
        drop(before);
    }

    pub(crate) fn take_answer(&self) -> Option<Answer<R, E>> {
        self.answer.lock().take()
    }
}
