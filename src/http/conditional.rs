//! Conditional and partial requests, answered from a stored 200 (RFC 9111 §4.3.2, RFC 9110 §13, §14).

use std::ops::RangeInclusive;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::storing::date;

/// What of a stored 200 a request is to get.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Portion {
    Whole,
    /// 304: the client has it.
    NotModified,
    /// 206.
    Part(RangeInclusive<u64>),
    /// 416: nothing of what it asks for.
    Unsatisfiable,
}

impl Portion {
    /// In the order of RFC 9110 §13.2.2; `length` is the body's. Conditions on writing (If-Match,
    /// If-Unmodified-Since) are the origin's to check.
    pub(super) fn asked_for(request: &HeaderMap, stored: &HeaderMap, length: u64) -> Self {
        if request.contains_key(header::IF_NONE_MATCH) {
            if if_none_match(request, stored.get(header::ETAG)) {
                return Self::NotModified;
            }
        } else if let Some(since) = date_of_single(request, header::IF_MODIFIED_SINCE) {
            // §4.3.2: without Last-Modified, the Date will do.
            let modified =
                date(stored, header::LAST_MODIFIED).or_else(|| date(stored, header::DATE));
            if modified.is_some_and(|modified| modified <= since) {
                return Self::NotModified;
            }
        }
        match request.get(header::RANGE) {
            Some(range) if if_range(request, stored) => part(range, length),
            _ => Self::Whole,
        }
    }
}

/// Whether one of the tags is that of the stored response, by weak comparison (RFC 9110 §13.1.2).
fn if_none_match(request: &HeaderMap, stored: Option<&HeaderValue>) -> bool {
    let values = request.get_all(header::IF_NONE_MATCH);
    let mut tags = values.iter().flat_map(|value| entity_tags(value.as_bytes()));
    tags.any(|tag| {
        // "*" means whatever there is.
        tag == b"*" || stored.is_some_and(|stored| opaque(tag) == opaque(stored.as_bytes()))
    })
}

/// Whether a range may be answered with a part: only of what the client has the rest of (RFC 9110
/// §13.1.5).
fn if_range(request: &HeaderMap, stored: &HeaderMap) -> bool {
    let Some(value) = request.get(header::IF_RANGE) else { return true };
    if value.as_bytes().starts_with(b"\"") {
        // Strong comparison: a weak one begins otherwise.
        return stored.get(header::ETAG) == Some(value);
    }
    // A date tells two versions apart only if there were none within its second (§8.8.2.2).
    let is_strong = |modified| {
        let sent = date(stored, header::DATE);
        sent.is_some_and(|sent| sent.duration_since(modified).is_ok_and(|since| !since.is_zero()))
    };
    let since = date_of_single(request, header::IF_RANGE);
    since == date(stored, header::LAST_MODIFIED) && since.is_some_and(is_strong)
}

/// Several ranges are answered with the whole, as RFC 9110 §14.2 allows.
fn part(range: &HeaderValue, length: u64) -> Portion {
    let Some((unit, set)) = range.to_str().ok().and_then(|range| range.split_once('=')) else {
        return Portion::Whole;
    };
    if !unit.eq_ignore_ascii_case("bytes") || set.contains(',') {
        return Portion::Whole;
    }
    let Some((first, last)) = set.trim().split_once('-') else { return Portion::Whole };
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
        digits.then(|| text.parse().unwrap_or(u64::MAX))
    };
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first > last => Portion::Whole,
        (Some(first), _) if first >= length && (last.is_empty() || number(last).is_some()) => {
            Portion::Unsatisfiable
        }
        (Some(first), Some(last)) => Portion::Part(first..=last.min(length - 1)),
        (Some(first), None) if last.is_empty() => Portion::Part(first..=length - 1),
        (None, Some(suffix)) if first.is_empty() => match suffix.min(length) {
            0 => Portion::Unsatisfiable,
            suffix => Portion::Part(length - suffix..=length - 1),
        },
        _ => Portion::Whole,
    }
}

fn date_of_single(headers: &HeaderMap, name: HeaderName) -> Option<std::time::SystemTime> {
    let mut values = headers.get_all(&name).iter();
    values.next()?;
    values.next().is_none().then(|| date(headers, name)).flatten()
}

/// The tags of a list: commas may stand in them.
fn entity_tags(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        while let [b' ' | b'\t' | b',', after @ ..] = rest {
            rest = after;
        }
        let quote = rest.iter().position(|byte| matches!(byte, b'"' | b','));
        let end = match quote {
            None => rest.len(),
            Some(at) if rest[at] == b',' => at,
            Some(at) => match rest[at + 1..].iter().position(|byte| *byte == b'"') {
                Some(length) => at + length + 2,
                None => rest.len(),
            },
        };
        let (tag, after) = rest.split_at(end);
        rest = after;
        (!tag.is_empty()).then(|| tag.trim_ascii())
    })
}

/// Without the mark of weakness.
pub(super) fn opaque(tag: &[u8]) -> &[u8] {
    tag.strip_prefix(b"W/").unwrap_or(tag)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const DATE: &str = "Sun, 06 Nov 1994 08:49:37 GMT";
    const LATER: &str = "Sun, 06 Nov 1994 08:49:38 GMT";

    fn fields(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    fn asked(request: &[(&'static str, &'static str)]) -> Portion {
        let stored = fields(&[("etag", "\"a,b\""), ("last-modified", DATE), ("date", LATER)]);
        Portion::asked_for(&fields(request), &stored, 10)
    }

    #[test]
    fn entity_tags_are_compared_weakly() {
        for matching in ["\"a,b\"", "W/\"a,b\"", "\"x\", \"a,b\"", "*", " ,\"x\",W/\"a,b\" , \"y\""]
        {
            assert_eq!(asked(&[("if-none-match", matching)]), Portion::NotModified, "{matching}");
        }
        for other in ["\"a\"", "\"b\"", "a,b", "\"a,b", "w/\"a,b\"", ""] {
            assert_eq!(asked(&[("if-none-match", other)]), Portion::Whole, "{other}");
        }
        assert_eq!(
            asked(&[("if-none-match", "\"x\""), ("if-none-match", "\"a,b\"")]),
            Portion::NotModified
        );
    }

    #[test]
    fn a_date_counts_only_without_a_tag() {
        assert_eq!(asked(&[("if-modified-since", DATE)]), Portion::NotModified);
        assert_eq!(asked(&[("if-modified-since", LATER)]), Portion::NotModified);
        assert_eq!(
            asked(&[("if-modified-since", "Sun, 06 Nov 1994 08:49:36 GMT")]),
            Portion::Whole
        );
        assert_eq!(asked(&[("if-modified-since", "yesterday")]), Portion::Whole);
        assert_eq!(
            asked(&[("if-modified-since", DATE), ("if-none-match", "\"x\"")]),
            Portion::Whole
        );
        let stored = fields(&[("date", DATE)]);
        let request = fields(&[("if-modified-since", DATE)]);
        assert_eq!(Portion::asked_for(&request, &stored, 1), Portion::NotModified);
    }

    #[test]
    fn one_range_of_bytes_is_a_part() {
        for (range, part) in [
            ("bytes=0-3", 0..=3),
            ("BYTES=2-", 2..=9),
            ("bytes=-4", 6..=9),
            ("bytes=-40", 0..=9),
            ("bytes=5-400", 5..=9),
            ("bytes=9-9", 9..=9),
        ] {
            assert_eq!(asked(&[("range", range)]), Portion::Part(part), "{range}");
        }
        for range in ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=99999999999999999999-"] {
            assert_eq!(asked(&[("range", range)]), Portion::Unsatisfiable, "{range}");
        }
        for range in ["bytes=0-1,3-4", "bytes=3-1", "bytes=x", "bytes=a-b", "lines=0-1", "0-1"] {
            assert_eq!(asked(&[("range", range)]), Portion::Whole, "{range}");
        }
        assert_eq!(
            Portion::asked_for(&fields(&[("range", "bytes=0-")]), &fields(&[]), 0),
            Portion::Unsatisfiable
        );
    }

    #[test]
    fn a_part_is_only_of_what_the_client_has() {
        for (if_range, portion) in [
            ("\"a,b\"", Portion::Part(0..=3)),
            ("W/\"a,b\"", Portion::Whole),
            ("\"x\"", Portion::Whole),
            (DATE, Portion::Part(0..=3)),
            (LATER, Portion::Whole),
        ] {
            assert_eq!(asked(&[("range", "bytes=0-3"), ("if-range", if_range)]), portion);
        }
        // Modified in the second in which it was sent: and perhaps once more.
        let stored = fields(&[("last-modified", DATE), ("date", DATE)]);
        let request = fields(&[("range", "bytes=0-3"), ("if-range", DATE)]);
        assert_eq!(Portion::asked_for(&request, &stored, 10), Portion::Whole);
    }

    proptest! {
        #[test]
        fn what_is_asked_for_is_within_the_body(
            range in prop_oneof!["bytes=[0-9]{0,21}-[0-9]{0,21}", "[ -~]{0,20}"],
            tags in "[ -~]{0,30}",
            if_range in prop::option::of("[ -~]{0,20}"),
            length in prop_oneof![Just(0), Just(1), any::<u64>()],
        ) {
            let stored = fields(&[("etag", "\"a,b\""), ("last-modified", DATE)]);
            let value = |text: &str| HeaderValue::from_str(text).expect("a value");
            let mut request = HeaderMap::new();
            request.insert(header::IF_NONE_MATCH, value(&tags));
            let _ = Portion::asked_for(&request, &stored, length);
            request.remove(header::IF_NONE_MATCH);
            request.insert(header::RANGE, value(&range));
            if let Some(if_range) = &if_range {
                request.insert(header::IF_RANGE, value(if_range));
            }
            if let Portion::Part(part) = Portion::asked_for(&request, &stored, length) {
                prop_assert!(part.start() <= part.end() && *part.end() < length);
            }
        }

        #[test]
        fn a_tag_is_found_among_others(
            before in "(W/)?\"[!#-~]{0,8}\"( ?, ?|,)",
            weak in any::<bool>(),
        ) {
            let tag = if weak { "W/\"a,b\"" } else { "\"a,b\"" };
            let value = HeaderValue::from_str(&format!("{before}{tag}")).expect("a value");
            let request = HeaderMap::from_iter([(header::IF_NONE_MATCH, value)]);
            let stored = fields(&[("etag", "\"a,b\"")]);
            prop_assert_eq!(Portion::asked_for(&request, &stored, 1), Portion::NotModified);
        }
    }
}
