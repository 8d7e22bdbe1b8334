use std::{
    fmt,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use pin_project::pin_project;
use tokio::time::Instant;

/// The body of a response: the stored bytes, or the origin's own body, which streams through.
#[pin_project]
pub struct Body<B: HttpBody> {
    #[pin]
    source: Source<B>,
}

#[pin_project(project = Projected)]
enum Source<B: HttpBody> {
    Stored(Option<Bytes>),
    Origin(#[pin] B),
    /// Boxed, so that the others stay small.
    Resumed(Box<Resumed<B>>),
}

/// A body of the origin that was read in part, until it turned out that it cannot be stored.
struct Resumed<B: HttpBody> {
    buffered: Bytes,
    /// The trailers, or the data for which there was no room.
    next: Option<Frame<Bytes>>,
    rest: Rest<B>,
}

enum Rest<B: HttpBody> {
    Open(Pin<Box<B>>),
    Failed(B::Error),
    Ended,
}

/// An origin's body, as far as it was read.
pub(super) enum Buffered<B: HttpBody> {
    Complete(Bytes),
    /// It is too long or too slow, has trailers or broke off: it can be passed on, but not stored.
    Incomplete(Body<B>),
}

impl<B: HttpBody<Data = Bytes>> Body<B> {
    pub(super) fn stored(bytes: Bytes) -> Self {
        Self { source: Source::Stored((!bytes.is_empty()).then_some(bytes)) }
    }

    pub(super) fn origin(body: B) -> Self {
        Self { source: Source::Origin(body) }
    }

    /// The bytes of a response whose fields declare another length. It keeps its own to itself, or a server
    /// sends one length and as many bytes as the other, and what follows on the connection is misread.
    pub(super) fn of_another_length(bytes: Bytes) -> Self {
        let resumed = Resumed { buffered: bytes, next: None, rest: Rest::Ended };
        Self { source: Source::Resumed(Box::new(resumed)) }
    }

    /// Reads a body to its end, unless it is longer than `max_size` bytes or not complete by `until`. Copies it: its
    /// pieces may be a few bytes each of a large buffer, which they would keep.
    pub(super) async fn buffer(body: B, max_size: usize, until: Instant) -> Buffered<B> {
        let is_too_long = |length: u64| length > max_size as u64;
        if is_too_long(body.size_hint().lower()) {
            return Buffered::Incomplete(Self::origin(body));
        }
        let mut body = Box::pin(body);
        let mut timeout = pin!(tokio::time::sleep_until(until));
        let mut buffered = Vec::new();
        let (next, rest) = loop {
            let frame = tokio::select! {
                biased;
                frame = body.frame() => frame,
                () = &mut timeout => break (None, Rest::Open(body)),
            };
            let frame = match frame {
                None => return Buffered::Complete(exact(buffered)),
                Some(Err(error)) => break (None, Rest::Failed(error)),
                Some(Ok(frame)) => frame,
            };
            match frame.data_ref() {
                Some(data) if !is_too_long((buffered.len() + data.len()) as u64) => {
                    buffered.extend_from_slice(data);
                }
                _ => break (Some(frame), Rest::Open(body)),
            }
        };
        let resumed = Resumed { buffered: exact(buffered), next, rest };
        Buffered::Incomplete(Self { source: Source::Resumed(Box::new(resumed)) })
    }
}

/// Without the room that it has grown.
fn exact(buffered: Vec<u8>) -> Bytes {
    buffered.into_boxed_slice().into()
}

impl<B: HttpBody<Data = Bytes>> HttpBody for Body<B> {
    type Data = Bytes;
    type Error = B::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>> {
        match self.project().source.project() {
            Projected::Stored(bytes) => Poll::Ready(bytes.take().map(|all| Ok(Frame::data(all)))),
            Projected::Origin(body) => body.poll_frame(cx),
            Projected::Resumed(resumed) => {
                if !resumed.buffered.is_empty() {
                    let buffered = std::mem::take(&mut resumed.buffered);
                    return Poll::Ready(Some(Ok(Frame::data(buffered))));
                }
                if let Some(frame) = resumed.next.take() {
                    return Poll::Ready(Some(Ok(frame)));
                }
                if let Rest::Open(body) = &mut resumed.rest {
                    return body.as_mut().poll_frame(cx);
                }
                match std::mem::replace(&mut resumed.rest, Rest::Ended) {
                    Rest::Failed(error) => Poll::Ready(Some(Err(error))),
                    _ => Poll::Ready(None),
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Stored(bytes) => bytes.is_none(),
            Source::Origin(body) => body.is_end_stream(),
            Source::Resumed(resumed) => {
                let Resumed { buffered, next, rest } = &**resumed;
                buffered.is_empty()
                    && next.is_none()
                    && match rest {
                        Rest::Open(body) => body.is_end_stream(),
                        Rest::Failed(_) => false,
                        Rest::Ended => true,
                    }
            }
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Stored(bytes) => {
                SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64))
            }
            Source::Origin(body) => body.size_hint(),
            Source::Resumed(resumed) => {
                let Resumed { buffered, next, rest } = &**resumed;
                let next = next.as_ref().and_then(Frame::data_ref).map_or(0, Bytes::len);
                let buffered = (buffered.len() + next) as u64;
                let rest = match rest {
                    Rest::Open(body) => body.size_hint(),
                    _ => SizeHint::default(),
                };
                let mut hint = SizeHint::new();
                hint.set_lower(buffered + rest.lower());
                if let Some(upper) = rest.upper() {
                    hint.set_upper(buffered + upper);
                }
                hint
            }
        }
    }
}

impl<B: HttpBody> fmt::Debug for Body<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Body").finish_non_exhaustive()
    }
}
