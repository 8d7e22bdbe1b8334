use std::{
    collections::VecDeque,
    fmt,
    pin::Pin,
    task::{Context, Poll},
};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use pin_project::pin_project;

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
    Resumed(Resumed<B>),
}

/// A body of the origin that was read in part, until it turned out that it cannot be stored.
struct Resumed<B: HttpBody> {
    buffered: VecDeque<Frame<Bytes>>,
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
    /// It is too long, has trailers or broke off: it can be passed on, but not stored.
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
        let buffered = VecDeque::from([Frame::data(bytes)]);
        Self { source: Source::Resumed(Resumed { buffered, rest: Rest::Ended }) }
    }

    /// Reads a body to its end, unless it is longer than `max_size` bytes.
    pub(super) async fn buffer(body: B, max_size: usize) -> Buffered<B> {
        let is_too_long = |length: u64| length > max_size as u64;
        if is_too_long(body.size_hint().lower()) {
            return Buffered::Incomplete(Self::origin(body));
        }
        let mut body = Box::pin(body);
        let (mut buffered, mut length) = (VecDeque::new(), 0);
        let rest = loop {
            let frame = match body.frame().await {
                None => return Buffered::Complete(concat(buffered, length)),
                Some(Err(error)) => break Rest::Failed(error),
                Some(Ok(frame)) => frame,
            };
            length += frame.data_ref().map_or(0, Bytes::len);
            let is_trailers = !frame.is_data();
            buffered.push_back(frame);
            if is_trailers || is_too_long(length as u64) {
                break Rest::Open(body);
            }
        };
        Buffered::Incomplete(Self { source: Source::Resumed(Resumed { buffered, rest }) })
    }
}

/// A body of one frame, the usual case, is not copied.
fn concat(frames: VecDeque<Frame<Bytes>>, length: usize) -> Bytes {
    let mut chunks = frames.into_iter().filter_map(|frame| frame.into_data().ok());
    let first = chunks.next().unwrap_or_default();
    let Some(second) = chunks.next() else { return first };
    let mut all = Vec::with_capacity(length);
    all.extend_from_slice(&first);
    all.extend_from_slice(&second);
    chunks.for_each(|chunk| all.extend_from_slice(&chunk));
    all.into()
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
                if let Some(frame) = resumed.buffered.pop_front() {
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
            Source::Resumed(Resumed { buffered, rest }) => {
                buffered.is_empty()
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
            Source::Resumed(Resumed { buffered, rest }) => {
                let buffered = buffered.iter().filter_map(Frame::data_ref).map(Bytes::len);
                let buffered = buffered.sum::<usize>() as u64;
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
