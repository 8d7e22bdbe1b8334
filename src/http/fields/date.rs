//! HTTP dates (RFC 9110 §5.6.7).

use std::time::SystemTime;

use http::{HeaderMap, HeaderName, HeaderValue};

/// The date in the first line of a field.
pub(crate) fn first(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    parse(headers.get(name)?.as_bytes())
}

/// One of the three forms. The names of days, months and zone match without regard to case (RFC 9111 §4.2).
fn parse(text: &[u8]) -> Option<SystemTime> {
    let mut spelt = [0; LONGEST];
    let spelt = spelt.get_mut(..text.len())?;
    spelt.copy_from_slice(text);
    for name in spelt.split_mut(|byte| !byte.is_ascii_alphabetic()) {
        name.make_ascii_lowercase();
        let is_zone = name == b"gmt";
        let capitals = if is_zone { name.len() } else { name.len().min(1) };
        name[..capitals].make_ascii_uppercase();
    }
    httpdate::parse_http_date(std::str::from_utf8(spelt).ok()?).ok()
}

/// `Wednesday, 06-Nov-94 08:49:37 GMT`.
const LONGEST: usize = 33;

/// The date of a field that has one line; `None` if there are several.
pub(crate) fn single(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    let mut values = headers.get_all(&name).iter();
    values.next()?;
    values.next().is_none().then(|| first(headers, name)).flatten()
}

/// The date of a field all lines of which are equal; `None` if they differ (RFC 9111 §4.2.1).
pub(crate) fn unanimous(headers: &HeaderMap, name: HeaderName) -> Option<SystemTime> {
    let mut values = headers.get_all(&name).iter();
    let value = values.next()?;
    values.all(|other| other == value).then(|| first(headers, name)).flatten()
}

pub(crate) fn value(at: SystemTime) -> HeaderValue {
    HeaderValue::from_str(&httpdate::fmt_http_date(at))
        .unwrap_or(HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rfc9110_5_6_7_all_three_forms_are_one_date() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        for text in [
            "Sun, 06 Nov 1994 08:49:37 GMT",
            "Sunday, 06-Nov-94 08:49:37 GMT",
            "Sun Nov  6 08:49:37 1994",
            "suN, 06 nov 1994 08:49:37 gmt",
        ] {
            assert_eq!(parse(text.as_bytes()), Some(at), "{text}");
        }
        let longest = b"Wednesday, 09-Nov-94 08:49:37 GMT";
        assert_eq!((longest.len(), parse(longest).is_some()), (LONGEST, true));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in prop::collection::vec(any::<u8>(), 0..40), seconds in 0u64..1 << 37) {
            let _ = parse(&text);
            let at = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds);
            prop_assert_eq!(parse(value(at).to_str().expect("text").to_lowercase().as_bytes()), Some(at));
        }
    }
}
