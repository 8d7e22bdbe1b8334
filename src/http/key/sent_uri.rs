//! The URI that the client sent.
//!
//! A router that nests another takes its prefix off the URI before the inner one sees the request. A layer
//! inside sees `/orders` for `/t/acme/orders` and for `/t/globex/orders`, and must not take them for one resource.
//! Only the router knows the whole URI, and notes it in the request's extensions under a type of its own. That
//! of axum is known with the feature `axum`. Without it, or from another version of axum, nothing tells what was
//! sent, and a request that axum has handled has no key.

use std::{
    any::type_name,
    sync::{Arc, Once},
};

use http::{Extensions, Uri, request::Parts};

/// Where the URI that the client sent is found.
#[derive(Clone, Default)]
pub(crate) enum SentUri {
    /// Where axum notes it, or in the request itself.
    #[default]
    Known,
    /// Where the user says.
    Read(Arc<ReadUri>),
}

/// `None` if the URI of the request is the one that the client sent.
type ReadUri = dyn Fn(&Extensions) -> Option<&Uri> + Send + Sync;

impl SentUri {
    #[inline]
    pub(crate) fn of<'a>(&self, request: &'a Parts) -> &'a Uri {
        let noted = match self {
            Self::Known => noted(&request.extensions),
            Self::Read(read) => read(&request.extensions),
        };
        noted.unwrap_or(&request.uri)
    }

    /// Changes the noted URI as well, for handlers that read it.
    pub(crate) fn rename(&self, extensions: &mut Extensions, rename: impl FnOnce(&mut Uri)) {
        if let Some(noted) = noted_mut(extensions) {
            rename(noted);
        }
    }

    /// Whether a request with this kind of body tells what the client sent.
    #[inline]
    pub(crate) fn is_told<B: 'static>(&self) -> bool {
        let is_told = matches!(self, Self::Read(_)) || is_told_by::<B>();
        if !is_told {
            warn_once();
        }
        is_told
    }

    /// Whether nothing but a prefix was taken off what the client sent. Middleware may have put in its place
    /// what fields or cookies say, and the key would not tell.
    #[inline]
    pub(crate) fn is_kept(&self, sent: &Uri, own: &Uri) -> bool {
        std::ptr::eq(sent, own)
            || matches!(self, Self::Read(_))
            || (sent.query() == own.query()
                && (sent.scheme(), sent.authority()) == (own.scheme(), own.authority())
                && (sent.path().ends_with(own.path()) || own.path() == "/"))
    }
}

#[cfg(feature = "axum")]
fn noted(extensions: &Extensions) -> Option<&Uri> {
    extensions.get::<axum::extract::OriginalUri>().map(|noted| &noted.0)
}

#[cfg(feature = "axum")]
fn noted_mut(extensions: &mut Extensions) -> Option<&mut Uri> {
    extensions.get_mut::<axum::extract::OriginalUri>().map(|noted| &mut noted.0)
}

#[cfg(not(feature = "axum"))]
fn noted_mut(_: &mut Extensions) -> Option<&mut Uri> {
    None
}

#[cfg(not(feature = "axum"))]
fn noted(_: &Extensions) -> Option<&Uri> {
    None
}

/// The types of another version of axum have the same names.
#[cfg(feature = "axum")]
fn is_told_by<B: 'static>() -> bool {
    use std::any::TypeId;

    TypeId::of::<B>() == TypeId::of::<axum::body::Body>() || type_name::<B>() != AXUM_BODY
}

#[cfg(not(feature = "axum"))]
fn is_told_by<B: 'static>() -> bool {
    !is_of_axum(type_name::<B>())
}

/// Other middleware may have wrapped the body, or boxed it with its error.
#[cfg(any(test, not(feature = "axum")))]
fn is_of_axum(body: &str) -> bool {
    let innermost = body.trim_end_matches('>');
    innermost.ends_with(AXUM_BODY) || innermost.ends_with("axum_core::error::Error")
}

#[cold]
fn warn_once() {
    static WARNED: Once = Once::new();
    WARNED.call_once(|| {
        tracing::warn!(
            "requests that come through axum are not cached: which URI was sent is not known without \
             the feature `axum` for axum 0.8, or `HttpGuardLayer::sent_uri`"
        );
    });
}

const AXUM_BODY: &str = "axum_core::body::Body";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_body_of_axum_is_known_by_its_name() {
        use http_body_util::{Limited, combinators::UnsyncBoxBody};

        assert_eq!(type_name::<axum::body::Body>(), AXUM_BODY);
        assert!(is_of_axum(AXUM_BODY));
        assert!(is_of_axum(type_name::<Limited<Limited<axum::body::Body>>>()));
        let boxed = type_name::<UnsyncBoxBody<bytes::Bytes, axum::Error>>();
        assert!(is_of_axum(boxed), "{boxed}");
        assert!(!is_of_axum(type_name::<Limited<http_body_util::Full<bytes::Bytes>>>()));
    }

    #[test]
    fn what_something_else_has_rewritten_is_not_what_was_sent() {
        for (sent, own, is_kept) in [
            ("/t/a/b?c", "/b?c", true),
            ("/t/a", "/", true),
            ("/a", "/a", true),
            ("/a", "/de/a", false),
            ("/a", "/b", false),
            ("/t/a?b", "/a?c", false),
            ("/t/a?b", "/a", false),
            ("http://h/t/a", "http://h/a", true),
            ("/t/a", "http://upstream/a", false),
            ("http://h/t/a", "http://upstream/a", false),
        ] {
            let uri = |text: &str| text.parse().expect("a URI");
            assert_eq!(SentUri::Known.is_kept(&uri(sent), &uri(own)), is_kept, "{sent} {own}");
        }
    }
}
