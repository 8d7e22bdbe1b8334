//! Several responses of one URL, told apart by request fields (RFC 9111 §4.1).

use std::io::{self, Write};

use http::{HeaderMap, HeaderName, header};

use super::cache_key::{CacheKey, MAX_LENGTH};

/// The variants of a URL.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Variants {
    /// Part of the key of every variant: a new generation forgets them all.
    pub(crate) generation: u64,
    /// The request fields that select a variant.
    pub(crate) fields: Vec<HeaderName>,
}

impl Variants {
    /// Those of a response that `fields` selected. `None` if `known` covers these fields.
    pub(crate) fn extended(known: Option<&Self>, fields: Vec<HeaderName>) -> Option<Self> {
        let known = known.map_or(&[][..], |known| &known.fields);
        if fields.iter().all(|field| known.contains(field)) {
            return None;
        }
        let mut fields: Vec<HeaderName> = known.iter().cloned().chain(fields).collect();
        fields.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        fields.dedup();
        Some(Self { generation: fastrand::u64(..), fields })
    }

    /// The key of the variant that a request selects.
    pub(crate) fn key(&self, primary: &str, request: &HeaderMap) -> CacheKey {
        // On the path of a hit: what a key has room for needs none of its own.
        let mut room = [0; MAX_LENGTH];
        let mut left = &mut room[..];
        if write_values(request, &self.fields, &mut left).is_ok() {
            let length = MAX_LENGTH - left.len();
            return CacheKey::of_variant(primary, self.generation, &room[..length]);
        }
        let mut long = Vec::new();
        // There is room for all of it.
        let _ = write_values(request, &self.fields, &mut long);
        CacheKey::of_variant(primary, self.generation, &long)
    }
}

/// Appends a request's values of these fields, so that two requests get the same text exactly when their
/// values match. A missing field differs from an empty one.
fn write_values(
    request: &HeaderMap,
    names: &[HeaderName],
    text: &mut impl Write,
) -> io::Result<()> {
    for name in names {
        text.write_all(name.as_str().as_bytes())?;
        let mut values = request.get_all(name).iter().peekable();
        if values.peek().is_none() {
            text.write_all(b"\n")?;
            continue;
        }
        text.write_all(b":")?;
        for (at, value) in values.enumerate() {
            if at > 0 {
                text.write_all(b",")?;
            }
            // A quoted string may contain a comma.
            match is_list_of_choices(name) && !value.as_bytes().contains(&b'"') {
                true => write_list(value.as_bytes(), text)?,
                false => text.write_all(value.as_bytes().trim_ascii())?,
            }
        }
        // No field value contains a line break.
        text.write_all(b"\n")?;
    }
    Ok(())
}

/// Fields whose value is a list of names, compared without regard to their case and to white space between
/// them (§4.1: "normalizing both header field values in a way known to have identical semantics").
fn is_list_of_choices(name: &HeaderName) -> bool {
    [header::ACCEPT_ENCODING, header::ACCEPT_LANGUAGE, header::ACCEPT, header::ACCEPT_CHARSET]
        .contains(name)
}

fn write_list(value: &[u8], text: &mut impl Write) -> io::Result<()> {
    for (at, element) in value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii).enumerate() {
        if at > 0 {
            text.write_all(b",")?;
        }
        let end = element.iter().position(|byte| *byte == b';').unwrap_or(element.len());
        let (name, parameters) = element.split_at(end);
        // Parameters have values, and what is no name may mean anything: both count as they were sent.
        match name.iter().any(u8::is_ascii_uppercase) && name.iter().all(is_of_a_name) {
            true => text.write_all(&name.to_ascii_lowercase())?,
            false => text.write_all(name)?,
        }
        text.write_all(parameters)?;
    }
    Ok(())
}

/// A coding, a language, a charset, a media type, or `*`.
fn is_of_a_name(byte: &u8) -> bool {
    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'+' | b'*' | b'/')
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn request(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    fn values(names: &[&'static str], fields: &[(&'static str, &'static str)]) -> Vec<u8> {
        let names: Vec<_> = names.iter().map(|name| HeaderName::from_static(name)).collect();
        let mut text = Vec::new();
        write_values(&request(fields), &names, &mut text).expect("room");
        text
    }

    #[test]
    fn equal_choices_are_one_variant_however_they_are_written() {
        let encoding = |value| values(&["accept-encoding"], &[("accept-encoding", value)]);
        assert_eq!(encoding("gzip, br"), encoding(" GZIP,br "));
        assert_ne!(encoding("gzip, br"), encoding("br"));
        let lines = [("accept-encoding", "gzip"), ("accept-encoding", "br")];
        assert_eq!(encoding("gzip, br"), values(&["accept-encoding"], &lines));
        let accept = |value| values(&["accept"], &[("accept", value)]);
        assert_eq!(accept("text/html, */*;q=0.1"), accept("TEXT/html,*/*;q=0.1"));
        assert_eq!(accept("TEXT/html;q=0.1"), accept("text/html;q=0.1"));
        assert_ne!(accept("a/b;c=\"D\""), accept("a/b;c=\"d\""));
    }

    #[test]
    fn what_may_mean_something_else_is_another_variant() {
        let is_one =
            |name, one, other| values(&[name], &[(name, one)]) == values(&[name], &[(name, other)]);
        for (name, one, other) in [
            ("accept-language", "d e", "de"),
            ("accept", "application/ json", "application/json"),
            ("accept", "a/b;c=D", "a/b;c=d"),
            ("accept", "a/b;c=d e", "a/b;c=de"),
            ("accept", "a/b;c=\"d, e\"", "a/b;c=\"d,e\""),
            ("accept-encoding", "gzip,,br", "gzip,br"),
            ("accept-encoding", ",gzip", "gzip"),
            ("accept-language", "(DE)", "(de)"),
            ("accept-language", "", ","),
        ] {
            assert!(!is_one(name, one, other), "{name}: {one}");
        }
        // An empty line is an element as well.
        let lines = [("accept-encoding", ""), ("accept-encoding", "br")];
        assert_ne!(values(&["accept-encoding"], &lines), values(&["accept-encoding"], &lines[1..]));
        let lines = [("x-a", ""), ("x-a", "b")];
        assert_ne!(values(&["x-a"], &lines), values(&["x-a"], &lines[1..]));
    }

    #[test]
    fn values_longer_than_a_key_count_to_their_ends() {
        let variants = Variants { generation: 1, fields: vec![HeaderName::from_static("x-a")] };
        let key = |length: usize, end: &str| {
            let value = HeaderValue::from_str(&("x".repeat(length) + end)).expect("a value");
            variants.key("p", &HeaderMap::from_iter([(variants.fields[0].clone(), value)]))
        };
        let lengths = [0, MAX_LENGTH - 6, MAX_LENGTH - 5, MAX_LENGTH, 2 * MAX_LENGTH];
        let all = lengths.map(|length| [key(length, "a"), key(length, "b")]);
        let distinct: std::collections::HashSet<_> = all.iter().flatten().collect();
        assert_eq!(distinct.len(), 10);
    }

    #[test]
    fn other_values_are_compared_byte_by_byte() {
        let value = |value| values(&["x-a"], &[("x-a", value)]);
        assert_ne!(value("A"), value("a"));
        assert_ne!(value(""), values(&["x-a"], &[]));
        // The end of one field cannot pass for the beginning of another.
        assert_ne!(
            values(&["x-a", "x-b"], &[("x-a", "1"), ("x-b", "2")]),
            values(&["x-a", "x-b"], &[("x-a", "1x-b:2")])
        );
    }
}
