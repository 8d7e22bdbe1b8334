//! Conditional and range requests, answered from a stored 200 (RFC 9111 §4.3.2, RFC 9110 §13, §14).

use std::ops::RangeInclusive;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::super::fields::{EntityTag, date};

/// How much of a stored 200 a request gets.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Portion {
    Whole,
    /// 304: the client has it.
    NotModified,
    /// 206.
    Part(RangeInclusive<u64>),
    /// 416: the range is outside of the body.
    Unsatisfiable,
}

impl Portion {
    /// Evaluates the conditions in the order of RFC 9110 §13.2.2; `length` is that of the body. `If-Match`
    /// and `If-Unmodified-Since` are for the origin.
    pub(crate) fn requested(request: &HeaderMap, stored: &HeaderMap, length: u64) -> Self {
        // Most requests have none of them: one pass over the names is less than a look for each.
        let selects = |name: &HeaderName| {
            matches!(*name, header::IF_NONE_MATCH | header::IF_MODIFIED_SINCE | header::RANGE)
        };
        if !request.keys().any(selects) {
            return Self::Whole;
        }
        let since = || is_unmodified_since(request, stored);
        if is_listed(request, stored).unwrap_or_else(since) {
            return Self::NotModified;
        }
        match request.get(header::RANGE) {
            Some(range) if if_range(request, stored) => part(range, length),
            _ => Self::Whole,
        }
    }
}

/// Whether `If-None-Match` lists the tag of the stored response, by weak comparison (RFC 9110 §13.1.2). `None` without
/// the field.
fn is_listed(request: &HeaderMap, stored: &HeaderMap) -> Option<bool> {
    let mut values = request.get_all(header::IF_NONE_MATCH).iter().peekable();
    values.peek()?;
    let stored = stored.get(header::ETAG).map(EntityTag::new);
    let is_it =
        |tag: EntityTag<'_>| tag.is_any() || stored.is_some_and(|own| own.matches_weakly(tag));
    Some(values.flat_map(EntityTag::list).any(is_it))
}

/// `If-Modified-Since`.
fn is_unmodified_since(request: &HeaderMap, stored: &HeaderMap) -> bool {
    let Some(since) = date::single(request, header::IF_MODIFIED_SINCE) else { return false };
    // §4.3.2: Date stands in for a missing Last-Modified.
    let modified =
        date::first(stored, header::LAST_MODIFIED).or_else(|| date::first(stored, header::DATE));
    modified.is_some_and(|modified| modified <= since)
}

/// Whether a range may be answered: the client must hold the rest of the same response (RFC 9110 §13.1.5).
fn if_range(request: &HeaderMap, stored: &HeaderMap) -> bool {
    let Some(value) = request.get(header::IF_RANGE) else { return true };
    if value.as_bytes().starts_with(b"\"") {
        let stored = stored.get(header::ETAG).map(EntityTag::new);
        return stored.is_some_and(|stored| stored.matches_strongly(EntityTag::new(value)));
    }
    // A date is a strong validator only if the response was sent in a later second (§8.8.2.2).
    let is_strong = |modified| {
        let sent = date::first(stored, header::DATE);
        sent.is_some_and(|sent| sent.duration_since(modified).is_ok_and(|since| !since.is_zero()))
    };
    let since = date::single(request, header::IF_RANGE);
    since == date::first(stored, header::LAST_MODIFIED) && since.is_some_and(is_strong)
}

/// Several ranges are answered with the whole body, as RFC 9110 §14.2 allows.
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

#[cfg(test)]
mod tests {
    use http::HeaderName;
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

    fn portion(request: &[(&'static str, &'static str)]) -> Portion {
        let stored = fields(&[("etag", "\"a,b\""), ("last-modified", DATE), ("date", LATER)]);
        Portion::requested(&fields(request), &stored, 10)
    }

    #[test]
    fn entity_tags_are_compared_weakly() {
        for matching in ["\"a,b\"", "W/\"a,b\"", "\"x\", \"a,b\"", "*", " ,\"x\",W/\"a,b\" , \"y\""]
        {
            assert_eq!(portion(&[("if-none-match", matching)]), Portion::NotModified, "{matching}");
        }
        for other in ["\"a\"", "\"b\"", "a,b", "\"a,b", "w/\"a,b\"", ""] {
            assert_eq!(portion(&[("if-none-match", other)]), Portion::Whole, "{other}");
        }
        assert_eq!(
            portion(&[("if-none-match", "\"x\""), ("if-none-match", "\"a,b\"")]),
            Portion::NotModified
        );
    }

    #[test]
    fn a_date_counts_only_without_a_tag() {
        assert_eq!(portion(&[("if-modified-since", DATE)]), Portion::NotModified);
        assert_eq!(portion(&[("if-modified-since", LATER)]), Portion::NotModified);
        assert_eq!(
            portion(&[("if-modified-since", "Sun, 06 Nov 1994 08:49:36 GMT")]),
            Portion::Whole
        );
        assert_eq!(portion(&[("if-modified-since", "yesterday")]), Portion::Whole);
        assert_eq!(
            portion(&[("if-modified-since", DATE), ("if-none-match", "\"x\"")]),
            Portion::Whole
        );
        let stored = fields(&[("date", DATE)]);
        let request = fields(&[("if-modified-since", DATE)]);
        assert_eq!(Portion::requested(&request, &stored, 1), Portion::NotModified);
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
            assert_eq!(portion(&[("range", range)]), Portion::Part(part), "{range}");
        }
        for range in ["bytes=10-", "bytes=10-20", "bytes=-0", "bytes=99999999999999999999-"] {
            assert_eq!(portion(&[("range", range)]), Portion::Unsatisfiable, "{range}");
        }
        for range in ["bytes=0-1,3-4", "bytes=3-1", "bytes=x", "bytes=a-b", "lines=0-1", "0-1"] {
            assert_eq!(portion(&[("range", range)]), Portion::Whole, "{range}");
        }
        assert_eq!(
            Portion::requested(&fields(&[("range", "bytes=0-")]), &fields(&[]), 0),
            Portion::Unsatisfiable
        );
    }

    #[test]
    fn a_part_is_only_of_the_response_that_the_client_has() {
        for (if_range, expected) in [
            ("\"a,b\"", Portion::Part(0..=3)),
            ("W/\"a,b\"", Portion::Whole),
            ("\"x\"", Portion::Whole),
            (DATE, Portion::Part(0..=3)),
            (LATER, Portion::Whole),
        ] {
            assert_eq!(portion(&[("range", "bytes=0-3"), ("if-range", if_range)]), expected);
        }
        // Sent in the second of its last change: it may have changed again within it.
        let stored = fields(&[("last-modified", DATE), ("date", DATE)]);
        let request = fields(&[("range", "bytes=0-3"), ("if-range", DATE)]);
        assert_eq!(Portion::requested(&request, &stored, 10), Portion::Whole);
    }

    proptest! {
        #[test]
        fn parts_are_within_the_body(
            range in prop_oneof!["bytes=[0-9]{0,21}-[0-9]{0,21}", "[ -~]{0,20}"],
            tags in "[ -~]{0,30}",
            if_range in prop::option::of("[ -~]{0,20}"),
            length in prop_oneof![Just(0), Just(1), any::<u64>()],
        ) {
            let stored = fields(&[("etag", "\"a,b\""), ("last-modified", DATE)]);
            let value = |text: &str| HeaderValue::from_str(text).expect("a value");
            let mut request = HeaderMap::new();
            request.insert(header::IF_NONE_MATCH, value(&tags));
            let _ = Portion::requested(&request, &stored, length);
            request.remove(header::IF_NONE_MATCH);
            request.insert(header::RANGE, value(&range));
            if let Some(if_range) = &if_range {
                request.insert(header::IF_RANGE, value(if_range));
            }
            if let Portion::Part(part) = Portion::requested(&request, &stored, length) {
                prop_assert!(part.start() <= part.end() && *part.end() < length);
            }
        }

        #[test]
        fn a_tag_is_found_in_a_list(
            before in "(W/)?\"[!#-~]{0,8}\"( ?, ?|,)",
            weak in any::<bool>(),
        ) {
            let tag = if weak { "W/\"a,b\"" } else { "\"a,b\"" };
            let value = HeaderValue::from_str(&format!("{before}{tag}")).expect("a value");
            let request = HeaderMap::from_iter([(header::IF_NONE_MATCH, value)]);
            let stored = fields(&[("etag", "\"a,b\"")]);
            prop_assert_eq!(Portion::requested(&request, &stored, 1), Portion::NotModified);
        }
    }
}
