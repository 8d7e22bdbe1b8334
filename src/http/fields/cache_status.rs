//! `Cache-Status` (RFC 9211): how this cache handled a request.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::Outcome;

pub(crate) const NAME: HeaderName = HeaderName::from_static("cache-status");

pub(crate) const HIT: &str = "cattleguard; hit";
pub(crate) const REQUEST: &str = "cattleguard; fwd=request";
/// The request takes something stale.
pub(crate) const MAX_STALE: &str = "cattleguard; hit; detail=max-stale";
/// What was stored was stale, and the origin has sent or confirmed the response.
pub(crate) const STALE: &str = "cattleguard; fwd=stale; stored";
pub(crate) const STALE_NOT_STORED: &str = "cattleguard; fwd=stale; detail=not-storable";
/// The origin has confirmed what is stored, for this request alone.
pub(crate) const VALIDATED: &str = "cattleguard; fwd=stale; fwd-status=304";
/// The origin has sent another response than what is stored.
pub(crate) const CHANGED: &str = "cattleguard; fwd=stale";
pub(crate) const FAR_UNAVAILABLE: &str = "cattleguard; fwd=miss; detail=far-unavailable";
pub(crate) const METHOD: &str = "cattleguard; fwd=method";
pub(crate) const HIT_FOR_PASS: &str = "cattleguard; fwd=bypass; detail=not-storable";
pub(crate) const NO_KEY: &str = "cattleguard; fwd=bypass; detail=no-key";
/// After another client's request has failed.
pub(crate) const FAILED: &str = "cattleguard; fwd=miss; detail=load-failed";
pub(crate) const NOT_STORED: &str = "cattleguard; fwd=miss; detail=not-storable";

/// This cache's member for a response that was made from a stored one.
pub(crate) const fn of(outcome: Outcome) -> &'static str {
    use crate::{Bypass, StaleReason, Tier};
    match outcome {
        Outcome::Hit(Tier::Near) => HIT,
        Outcome::Hit(Tier::Far) => "cattleguard; hit; detail=far",
        Outcome::Stale(_) => "cattleguard; hit; detail=stale-while-revalidate",
        Outcome::StaleIfError(StaleReason::Failed) => "cattleguard; hit; detail=stale-if-error",
        Outcome::StaleIfError(_) => "cattleguard; hit; detail=stale-if-slow",
        Outcome::Loaded => "cattleguard; fwd=miss; stored",
        Outcome::Followed | Outcome::Awaited => "cattleguard; fwd=miss; stored; collapsed",
        Outcome::Bypassed(Bypass::FarUnavailable | Bypass::FarRefused) => FAR_UNAVAILABLE,
        Outcome::Bypassed(Bypass::NoKey) => NO_KEY,
        Outcome::Bypassed(Bypass::Uncacheable) => NOT_STORED,
    }
}

/// Adds this cache's member after those of the caches before it (§2), in one field.
pub(crate) fn add(headers: &mut HeaderMap, member: &'static str) {
    let mut before = headers.get_all(NAME).iter().peekable();
    let value = match before.peek() {
        None => HeaderValue::from_static(member),
        Some(_) => {
            let mut list = Vec::new();
            for value in before {
                list.extend_from_slice(value.as_bytes());
                list.extend_from_slice(b", ");
            }
            list.extend_from_slice(member.as_bytes());
            HeaderValue::from_bytes(&list).unwrap_or(HeaderValue::from_static(member))
        }
    };
    // A full map refuses it: the response matters more.
    let _ = headers.try_insert(NAME, value);
}

/// Replaces this cache's member, which is the last one.
pub(crate) fn replace(headers: &mut HeaderMap, member: &'static str) {
    remove(headers);
    add(headers, member);
}

/// Gives this cache's member, which is the last one, another name (§2). `name` is a token or a string as it is sent.
pub(crate) fn rename(headers: &mut HeaderMap, name: &str) {
    let Some(list) = headers.get(NAME).and_then(|value| value.to_str().ok()) else { return };
    let (before, own) = list.split_at(list.rfind(", cattleguard").map_or(0, |at| at + 2));
    let renamed = own.strip_prefix("cattleguard").map(|rest| format!("{before}{name}{rest}"));
    if let Some(renamed) = renamed.and_then(|list| list.parse::<HeaderValue>().ok()) {
        headers.insert(NAME, renamed);
    }
}

/// A name as it is sent: a token if it is one, else a string (RFC 8941 §3.3).
pub(crate) fn spelt(name: &str) -> String {
    let is_token = name.starts_with(|first: char| first.is_ascii_alphabetic())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._~*".contains(&byte));
    if is_token {
        return name.to_owned();
    }
    let mut text = String::from("\"");
    for char in name.chars() {
        match char {
            '"' | '\\' => text.extend(['\\', char]),
            ' '..='~' => text.push(char),
            _ => text.push('?'),
        }
    }
    text.push('"');
    text
}

/// Removes this cache's member, which is the last one.
pub(crate) fn remove(headers: &mut HeaderMap) {
    // Of other caches there may be what is no text.
    let list = headers.get(NAME).map_or(&[][..], HeaderValue::as_bytes);
    let own = b", cattleguard";
    let before = list.windows(own.len()).rposition(|part| part == own).map(|at| &list[..at]);
    match before.and_then(|before| HeaderValue::from_bytes(before).ok()) {
        Some(before) => headers.insert(NAME, before),
        None => headers.remove(NAME),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_say_stays_even_if_it_is_no_text() {
        for others in ["up; hit", "up\u{e4}; hit", "a, cattleguard; hit", ""] {
            let others = HeaderValue::from_bytes(others.as_bytes()).expect("a value");
            let mut headers = HeaderMap::from_iter([(NAME, others.clone())]);
            add(&mut headers, HIT);
            replace(&mut headers, REQUEST);
            remove(&mut headers);
            assert_eq!(headers.get(NAME), Some(&others));
        }
        let mut headers = HeaderMap::new();
        add(&mut headers, HIT);
        remove(&mut headers);
        assert!(headers.is_empty());
    }
}
