//! What an entry says of its own use, beside its times: how long it may be served stale, and its tags.

use std::{sync::Arc, time::Duration};

use bytes::{Buf, BufMut};

use crate::{Version, policy::StaleFor};

/// Kept with an entry in every tier.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Terms {
    pub(crate) stale: StaleFor,
    pub(crate) tags: Tags,
}

/// What an entry is invalidated together with: see `guard/tags`.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) enum Tags {
    #[default]
    None,
    /// The epoch that each of its tags had when it was loaded.
    Of(Box<[Tag]>),
    /// Loaded while the far tier said nothing about epochs: good for its own process until that has heard of so
    /// many purges.
    Local(u64),
    /// One of its tags may have been purged during its load.
    Purged,
}

impl Tags {
    /// As loads name them.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        let tags = match self {
            Self::Of(tags) => &**tags,
            Self::None | Self::Local(_) | Self::Purged => &[],
        };
        tags.iter().filter_map(|(name, _)| name.strip_prefix(TAG))
    }
}

/// What the name of a tag begins with in the far tier.
pub(crate) const TAG: &str = "\0t";

/// A tag's name in the far tier, and its epoch.
pub(crate) type Tag = (Arc<str>, Version);

/// Whether these are too many tags for one entry, or too long ones.
pub(crate) fn are_too_many<'a>(mut names: impl Iterator<Item = &'a str>) -> bool {
    names.by_ref().take(MAX_TAGS).any(|name| name.len() > MAX_BYTES) || names.next().is_some()
}

impl Terms {
    /// The bytes that they hold.
    pub(crate) fn size(&self) -> usize {
        let tags = match &self.tags {
            Tags::Of(tags) => &**tags,
            Tags::None | Tags::Local(_) | Tags::Purged => &[],
        };
        let tags = tags.iter().map(|(name, _)| name.len() + PER_TAG);
        size_of::<Self>() + tags.sum::<usize>()
    }

    pub(crate) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for window in [self.stale.grace, self.stale.if_error] {
            let millis =
                window.map(|window| u64::try_from(window.as_millis()).unwrap_or(NO_WINDOW - 1));
            bytes.put_u64(millis.unwrap_or(NO_WINDOW));
        }
        match &self.tags {
            Tags::None => bytes.put_u16(0),
            Tags::Of(tags) => {
                bytes.put_u16(u16::try_from(tags.len()).unwrap_or(PURGED));
                for (name, epoch) in tags {
                    bytes.put_u16(u16::try_from(name.len()).unwrap_or(u16::MAX));
                    bytes.put(name.as_bytes());
                    bytes.put(&epoch.to_bytes()[..]);
                }
            }
            // To other processes it is as good as purged.
            Tags::Local(_) | Tags::Purged => bytes.put_u16(PURGED),
        }
        bytes
    }

    /// `None` for bytes that [`to_bytes`](Self::to_bytes) has not written.
    pub(crate) fn from_bytes(mut bytes: &[u8]) -> Option<Self> {
        let mut window = || {
            let millis = bytes.try_get_u64().ok()?;
            Some((millis != NO_WINDOW).then(|| Duration::from_millis(millis)))
        };
        let stale = StaleFor { grace: window()?, if_error: window()? };
        let tags = match bytes.try_get_u16().ok()? {
            0 => Tags::None,
            PURGED => Tags::Purged,
            count => Tags::Of((0..count).map(|_| tag(&mut bytes)).collect::<Option<_>>()?),
        };
        bytes.is_empty().then_some(Self { stale, tags })
    }
}

fn tag(bytes: &mut &[u8]) -> Option<Tag> {
    let length = bytes.try_get_u16().ok()?;
    let (name, rest) = bytes.split_at_checked(length.into())?;
    let (epoch, rest) = rest.split_first_chunk()?;
    *bytes = rest;
    Some((str::from_utf8(name).ok()?.into(), Version::from_bytes(*epoch)))
}

const MAX_TAGS: usize = 64;
const MAX_BYTES: usize = 1_000;
/// What a tag needs beside its name: with the counts of the `Arc`.
const PER_TAG: usize = size_of::<Tag>() + 2 * size_of::<usize>();
const NO_WINDOW: u64 = u64::MAX;
const PURGED: u16 = u16::MAX;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn terms_survive_their_encoding_and_nothing_else_does() {
        let stale = StaleFor { grace: Some(Duration::from_secs(3)), if_error: None };
        let of = [("a".into(), Version::with_tie(1, 2)), ("".into(), Version::ZERO)];
        for tags in [Tags::None, Tags::Of(of.into()), Tags::Purged] {
            let terms = Terms { stale, tags };
            let bytes = terms.to_bytes();
            assert_eq!(Terms::from_bytes(&bytes), Some(terms));
            for end in 0..bytes.len() {
                assert_eq!(Terms::from_bytes(&bytes[..end]), None, "{end} bytes");
            }
            assert_eq!(Terms::from_bytes(&[&bytes[..], &[0]].concat()), None);
        }
        let local = Terms { stale, tags: Tags::Local(7) }.to_bytes();
        assert_eq!(Terms::from_bytes(&local).map(|terms| terms.tags), Some(Tags::Purged));
    }
}
