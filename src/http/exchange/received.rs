use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, header};
use http_body::Body as HttpBody;
use tokio::time::Instant as Deadline;

use super::super::{
    body::{Body, Buffered},
    response::{Head, Storable},
    settings::Settings,
};

/// The response, ready to be stored or passed.
pub(super) enum Received<R: HttpBody> {
    Complete(Complete),
    NotStorable(Head, Body<R>),
    /// It may be stored, but for its body.
    Unbuffered(Head, Body<R>),
}

/// A whole response that may be stored.
pub(super) struct Complete {
    pub(super) head: Head,
    pub(super) body: Bytes,
    pub(super) storable: Storable,
}

impl<R: HttpBody<Data = Bytes>> Received<R> {
    /// Reads a body to its end. It is incomplete if it is cut off (RFC 9111 §3.3) or contradicts its declared
    /// length.
    pub(super) async fn read(
        head: Head,
        body: R,
        storable: Storable,
        settings: &Settings,
        deadline: Deadline,
    ) -> Self {
        let max_size = settings.max_body_size;
        let mut declared = head.parts.headers.get_all(header::CONTENT_LENGTH).iter();
        // Not every body knows its length when the fields do.
        let declared = declared.next().and_then(number).or(body.size_hint().exact());
        if declared.is_some_and(|length| length > max_size as u64) {
            return Self::Unbuffered(head, Body::origin(body));
        }
        let now = Deadline::now();
        // What is left of the load is for the client that gets the rest as it comes.
        let half = now + deadline.saturating_duration_since(now) / 2;
        let timeout = match declared {
            Some(_) => settings.body_timeout.max(DECLARED_BODY_TIMEOUT),
            None => settings.body_timeout,
        };
        let until = now.checked_add(timeout).map_or(half, |until| until.min(half));
        match Body::buffer(body, max_size, until).await {
            Buffered::Incomplete(body) => Self::Unbuffered(head, body),
            Buffered::Complete(body) => {
                let length = body.len().to_string();
                let mut declared = head.parts.headers.get_all(header::CONTENT_LENGTH).iter();
                match declared.all(|declared| declared.as_bytes() == length.as_bytes()) {
                    true => Self::Complete(Complete { head, body, storable }),
                    false => Self::NotStorable(head, Body::of_another_length(body)),
                }
            }
        }
    }
}

fn number(value: &HeaderValue) -> Option<u64> {
    value.to_str().ok()?.parse().ok()
}

/// How long at least a body may take that says how long it is: it ends.
const DECLARED_BODY_TIMEOUT: Duration = Duration::from_secs(5);
