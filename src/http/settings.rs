//! What the user has set.

use std::{sync::Arc, time::Duration};

use http::{HeaderName, response::Parts};

use super::{key::KeyExtractor, response::StoreSettings};
use crate::Version;

/// What the near tier of an HTTP cache holds, unless its builder says otherwise.
pub(super) const NEAR_BYTES: usize = 256 << 20;

#[derive(Clone)]
pub(super) struct Settings {
    pub(super) keys: KeyExtractor,
    pub(super) store: StoreSettings,
    pub(super) max_body_size: usize,
    /// For a body that does not say how long it is.
    pub(super) body_timeout: Duration,
    pub(super) hit_for_pass_ttl: Duration,
    pub(super) version_field: Option<HeaderName>,
    pub(super) reloads: Reloads,
    pub(super) timeout: Option<Duration>,
    /// As it is sent; `None` for `cattleguard`.
    pub(super) cache_name: Option<Arc<str>>,
}

/// Whether a client may ask for a response that is fresher than the stored one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Reloads {
    Ignored,
    Allowed,
}

impl Settings {
    /// The version that the handler has set.
    pub(super) fn version_of(&self, response: &Parts) -> Option<Version> {
        let in_field = || {
            let value = response.headers.get(self.version_field.as_ref()?)?;
            Some(Version::new(value.to_str().ok()?.parse().ok()?))
        };
        response.extensions.get::<Version>().copied().or_else(in_field)
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            keys: KeyExtractor::default(),
            store: StoreSettings::default(),
            max_body_size: 1 << 20,
            body_timeout: Duration::from_secs(1),
            hit_for_pass_ttl: Duration::from_secs(10),
            version_field: None,
            reloads: Reloads::Ignored,
            timeout: None,
            cache_name: None,
        }
    }
}
