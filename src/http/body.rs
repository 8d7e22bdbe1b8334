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

/// The body of a response: stored bytes, or the origin's own, which passes through as it comes.
#[pin_project]
pub struct Body<B: HttpBody> {
    #[pin]
    source: Source<B>,
}

#[pin_project(project = Projected)]
enum Source<B: HttpBody> {
    Stored(Option<Bytes>),
    Origin(#[pin] B),
    Begun(Begun<B>),
}

/// A body of the origin that was read from, and turned out not to be one for the cache.
pub(super) struct Begun<B: HttpBody> {
    read: VecDeque<Frame<Bytes>>,
    end: End<B>,
}

enum End<B: HttpBody> {
    Open(Pin<Box<B>>),
    Failed(B::Error),
    Done,
}

/// What reading a whole body came to.
pub(super) enum Read<B: HttpBody> {
    All(Bytes),
    /// Too long, with trailers, or broken off: it is passed on as far as it came, and goes on.
    Begun(Body<B>),
}

impl<B: HttpBody<Data = Bytes>> Body<B> {
    pub(super) fn stored(bytes: Bytes) -> Self {
        Self { source: Source::Stored((!bytes.is_empty()).then_some(bytes)) }
    }

    pub(super) fn origin(body: B) -> Self {
        Self { source: Source::Origin(body) }
    }

    /// Reads a body to its end, if that comes within `limit` bytes.
    pub(super) async fn read(body: B, limit: usize) -> Read<B> {
        let too_long = |length: u64| length > limit as u64;
        if too_long(body.size_hint().lower()) {
            return Read::Begun(Self::origin(body));
        }
        let mut body = Box::pin(body);
        let (mut read, mut length) = (VecDeque::new(), 0);
        let end = loop {
            match body.frame().await {
                None => break None,
                Some(Err(error)) => break Some(End::Failed(error)),
                Some(Ok(frame)) => {
                    length += frame.data_ref().map_or(0, Bytes::len);
                    let to_be_kept = frame.is_data() && !too_long(length as u64);
                    read.push_back(frame);
                    if !to_be_kept {
                        break Some(End::Open(body));
                    }
                }
            }
        };
        match end {
            Some(end) => Read::Begun(Self { source: Source::Begun(Begun { read, end }) }),
            None => {
                let mut chunks = read.into_iter().filter_map(|frame| frame.into_data().ok());
                let first = chunks.next().unwrap_or_default();
                let Some(second) = chunks.next() else { return Read::All(first) };
                let mut all = Vec::with_capacity(length);
                all.extend_from_slice(&first);
                all.extend_from_slice(&second);
                chunks.for_each(|chunk| all.extend_from_slice(&chunk));
                Read::All(all.into())
            }
        }
    }
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
            Projected::Begun(begun) => {
                if let Some(frame) = begun.read.pop_front() {
                    return Poll::Ready(Some(Ok(frame)));
                }
                if let End::Open(body) = &mut begun.end {
                    return body.as_mut().poll_frame(cx);
                }
                match std::mem::replace(&mut begun.end, End::Done) {
                    End::Failed(error) => Poll::Ready(Some(Err(error))),
                    _ => Poll::Ready(None),
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Stored(bytes) => bytes.is_none(),
            Source::Origin(body) => body.is_end_stream(),
            Source::Begun(Begun { read, end }) => {
                read.is_empty()
                    && match end {
                        End::Open(body) => body.is_end_stream(),
                        End::Failed(_) => false,
                        End::Done => true,
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
            Source::Begun(Begun { read, end }) => {
                let read: usize = read.iter().filter_map(Frame::data_ref).map(Bytes::len).sum();
                let rest = match end {
                    End::Open(body) => body.size_hint(),
                    _ => SizeHint::default(),
                };
                let mut hint = SizeHint::new();
                hint.set_lower(read as u64 + rest.lower());
                if let Some(upper) = rest.upper() {
                    hint.set_upper(read as u64 + upper);
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
