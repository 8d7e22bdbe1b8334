//! `Cache-Control` (RFC 9111 §5.2, RFC 5861, RFC 8246) and `CDN-Cache-Control` (RFC 9213).
//!
//! - Directive names are compared without regard to case; arguments may be tokens or quoted strings,
//!   whichever the definition prefers.
//! - Of a repeated directive the more restrictive one counts (§4.2.1); a malformed number makes the
//!   response stale at once.
//! - Malformed text is skipped up to the next token: a directive counts even if only a semicolon or white
//!   space separates it. A quote that never closes may hide a `no-store`, so it counts as one. Unknown
//!   directives are ignored (§5.2.3).

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::directive::directives;

/// The directives of all fields of one message.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct CacheControl {
    pub(crate) no_store: bool,
    pub(crate) no_cache: Option<Scope>,
    pub(crate) private: Option<Scope>,
    pub(crate) public: bool,
    pub(crate) must_revalidate: bool,
    pub(crate) proxy_revalidate: bool,
    pub(crate) must_understand: bool,
    pub(crate) only_if_cached: bool,
    pub(crate) max_age: Option<Duration>,
    pub(crate) s_maxage: Option<Duration>,
    pub(crate) min_fresh: Option<Duration>,
    pub(crate) max_stale: Option<Duration>,
    pub(crate) stale_while_revalidate: Option<Duration>,
    pub(crate) stale_if_error: Option<Duration>,
    /// Read from `CDN-Cache-Control`, which overrules `Cache-Control` and `Expires` (RFC 9213 §2.2).
    pub(crate) is_targeted: bool,
}

/// What `private` or `no-cache` applies to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Scope {
    /// The whole response.
    Response,
    /// These fields of it.
    Fields(Vec<HeaderName>),
}

impl CacheControl {
    /// Those of a request. `Pragma: no-cache` counts if there is no `Cache-Control` (§5.4).
    pub(crate) fn of_request(headers: &HeaderMap) -> Self {
        let mut read = Self::of_fields(headers.get_all(header::CACHE_CONTROL));
        if !headers.contains_key(header::CACHE_CONTROL)
            && headers.get_all(header::PRAGMA).iter().any(|value| {
                directives(value.as_bytes()).any(|(name, _)| name.eq_ignore_ascii_case("no-cache"))
            })
        {
            read.no_cache = Some(Scope::Response);
        }
        read
    }

    /// Those of a response: only those of `CDN-Cache-Control` if it is valid.
    pub(crate) fn of_response(headers: &HeaderMap) -> Self {
        #[cfg(test)]
        PARSED_RESPONSES.set(PARSED_RESPONSES.get() + 1);
        Self::targeted(headers)
            .unwrap_or_else(|| Self::of_fields(headers.get_all(header::CACHE_CONTROL)))
    }

    fn targeted(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(&CDN_CACHE_CONTROL).iter().peekable();
        values.peek()?;
        // Several lines are one list.
        let mut joined = Vec::new();
        for value in values {
            if !joined.is_empty() {
                joined.extend_from_slice(b", ");
            }
            joined.extend_from_slice(value.as_bytes());
        }
        let dictionary = sfv::Parser::new(&joined).parse::<sfv::Dictionary>().ok()?;
        let mut read = Self { is_targeted: true, ..Self::default() };
        let mut is_valid = false;
        for (name, member) in &dictionary {
            is_valid |= read.take_targeted(name.as_str(), member);
        }
        // If all are of the wrong type: a no-store beside them must not give way to nothing.
        is_valid.then_some(read)
    }

    /// A directive whose value has the type that its definition implies (RFC 9213 §2.1). Any other is ignored:
    /// `false`.
    fn take_targeted(&mut self, name: &str, member: &sfv::ListEntry) -> bool {
        use sfv::GenericBareItem::{Boolean, Integer, String};
        let sfv::ListEntry::Item(item) = member else { return Value::of(name) == Value::Unknown };
        match (Value::of(name), &item.bare_item) {
            (Value::Seconds, Integer(seconds)) => self.take(name, Some(&seconds.to_string())),
            (Value::Fields, String(names)) => self.take(name, Some(names.as_str())),
            (Value::Fields | Value::None, Boolean(true)) => self.take(name, None),
            (Value::Fields | Value::None, Boolean(false)) | (Value::Unknown, _) => {}
            _ => return false,
        }
        true
    }

    fn of_fields<'a>(values: impl IntoIterator<Item = &'a HeaderValue>) -> Self {
        let mut read = Self::default();
        for value in values {
            for (name, argument) in directives(value.as_bytes()) {
                read.take(name, argument.as_deref());
            }
        }
        read
    }

    fn take(&mut self, name: &str, argument: Option<&str>) {
        let lower = name.to_ascii_lowercase();
        match lower.as_str() {
            "no-store" => self.no_store = true,
            "no-cache" => Scope::add(&mut self.no_cache, argument),
            "private" => Scope::add(&mut self.private, argument),
            "public" => self.public = true,
            "must-revalidate" => self.must_revalidate = true,
            "proxy-revalidate" => self.proxy_revalidate = true,
            "must-understand" => self.must_understand = true,
            "only-if-cached" => self.only_if_cached = true,
            "max-age" => least(&mut self.max_age, seconds(argument)),
            "s-maxage" => least(&mut self.s_maxage, seconds(argument)),
            "min-fresh" => most(&mut self.min_fresh, seconds(argument)),
            // Without an argument: any staleness.
            "max-stale" => least(
                &mut self.max_stale,
                argument.map_or(LONGEST, |argument| seconds(Some(argument))),
            ),
            "stale-while-revalidate" => {
                least(&mut self.stale_while_revalidate, seconds(argument));
            }
            "stale-if-error" => least(&mut self.stale_if_error, seconds(argument)),
            _ => {}
        }
    }

    /// The fields that must not be stored (§5.2.2.4, §5.2.2.7).
    pub(crate) fn withheld(&self) -> impl Iterator<Item = &HeaderName> {
        [&self.no_cache, &self.private].into_iter().flatten().flat_map(|fields| match fields {
            Scope::Response => [].iter(),
            Scope::Fields(names) => names.iter(),
        })
    }

    /// Whether the response must not be served stale (§4.2.4).
    pub(crate) fn forbids_stale(&self) -> bool {
        self.must_revalidate
            || self.proxy_revalidate
            || self.s_maxage.is_some()
            || matches!(self.no_cache, Some(Scope::Response))
    }
}

/// What a response directive has for a value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Value {
    None,
    Seconds,
    /// Names of fields, or none.
    Fields,
    Unknown,
}

impl Value {
    fn of(name: &str) -> Self {
        match name {
            "max-age" | "s-maxage" | "stale-while-revalidate" | "stale-if-error" => Self::Seconds,
            "private" | "no-cache" => Self::Fields,
            "no-store" | "public" | "must-revalidate" | "proxy-revalidate" | "must-understand" => {
                Self::None
            }
            _ => Self::Unknown,
        }
    }
}

impl Scope {
    fn add(to: &mut Option<Self>, argument: Option<&str>) {
        let names: Option<Vec<HeaderName>> = argument.and_then(|list| {
            let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
            // With an invalid name it is unknown which fields are meant: the whole response, then.
            names.map(|name| name.parse().ok()).collect()
        });
        match (to, names) {
            (Some(Self::Fields(all)), Some(names)) => all.extend(names),
            (to @ None, Some(names)) if !names.is_empty() => *to = Some(Self::Fields(names)),
            (to, _) => *to = Some(Self::Response),
        }
    }
}

fn least(to: &mut Option<Duration>, one: Duration) {
    *to = Some(to.map_or(one, |other| other.min(one)));
}

fn most(to: &mut Option<Duration>, one: Duration) {
    *to = Some(to.map_or(one, |other| other.max(one)));
}

/// Delta-seconds (§1.2.2). A huge number counts as [`LONGEST`], a malformed one as zero.
fn seconds(argument: Option<&str>) -> Duration {
    let digits = argument.unwrap_or_default();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Duration::ZERO;
    }
    digits.parse().map_or(LONGEST, |seconds| Duration::from_secs(seconds).min(LONGEST))
}

/// 2³¹ seconds, to which §1.2.2 reduces larger numbers.
const LONGEST: Duration = Duration::from_secs(1 << 31);

const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

#[cfg(test)]
thread_local! {
    static PARSED_RESPONSES: std::cell::Cell<usize> = const { std::cell::Cell::new(0) };
}

/// How often this thread has parsed the directives of a response.
#[cfg(test)]
pub(crate) fn parsed_responses() -> usize {
    PARSED_RESPONSES.get()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn response(fields: &[(&'static str, &str)]) -> CacheControl {
        CacheControl::of_response(&headers(fields))
    }

    fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
        let field = |(name, value): &(&'static str, &str)| {
            (HeaderName::from_static(name), value.parse().expect("a value"))
        };
        fields.iter().map(field).collect()
    }

    fn one(value: &str) -> CacheControl {
        response(&[("cache-control", value)])
    }

    const fn secs(seconds: u64) -> Option<Duration> {
        Some(Duration::from_secs(seconds))
    }

    #[test]
    fn directives_are_read_in_any_case_and_either_form() {
        let read = one("Max-Age=60 , S-MAXAGE=\"120\",PUBLIC");
        assert_eq!((read.max_age, read.s_maxage, read.public), (secs(60), secs(120), true));
        let read = response(&[("cache-control", "max-age=60"), ("cache-control", "no-store")]);
        assert_eq!((read.max_age, read.no_store), (secs(60), true));
    }

    #[test]
    fn of_two_the_more_restrictive_counts() {
        assert_eq!(one("max-age=60, max-age=10").max_age, secs(10));
        assert_eq!(one("max-age=10, max-age=60").max_age, secs(10));
        assert_eq!(one("private=\"set-cookie\", private").private, Some(Scope::Response));
        assert_eq!(one("private, private=\"set-cookie\"").private, Some(Scope::Response));
    }

    #[test]
    fn a_malformed_number_is_zero_and_a_huge_one_is_capped() {
        for bad in ["x", "-1", "1.5", "", "\"\"", "1 2x", "+1"] {
            let read = one(&format!("max-age={bad}")).max_age;
            let expected = if bad == "1 2x" { secs(1) } else { secs(0) };
            assert_eq!(read, expected, "{bad}");
        }
        assert_eq!(one("max-age").max_age, secs(0));
        assert_eq!(one("max-age=99999999999999999999999").max_age, Some(LONGEST));
    }

    #[test]
    fn quoted_text_is_not_a_directive() {
        let read = one("ext=\"no-store, private\", max-age=5");
        assert_eq!((read.no_store, read.private, read.max_age), (false, None, secs(5)));
        assert!(!one("x=\"a\\\", no-store\"").no_store);
        assert!(!one("\"no-store\", max-age=5").no_store);
    }

    #[test]
    fn an_open_quote_hides_no_directive() {
        for open in ["x=\"a, no-store", "max-age=5, \"", "max-age=5, x=\"no-store\\\"", "private\""]
        {
            assert!(one(open).no_store, "{open}");
        }
    }

    #[test]
    fn malformed_text_is_skipped() {
        let read = one("@@@, =5, max-age=5;x, , no-cache");
        assert_eq!((read.max_age, read.no_cache), (secs(5), Some(Scope::Response)));
        for malformed in
            ["max-age=5; no-store", "max-age=5 no-store", "max-age=5 = no-store", "\u{e4}no-store"]
        {
            assert!(one(malformed).no_store, "{malformed}");
        }
        assert_eq!(one("max-age= 5").max_age, secs(0));
    }

    #[test]
    fn fields_are_named() {
        let named = |names: &[&'static str]| {
            let names = names.iter().map(|name| HeaderName::from_static(name));
            Some(Scope::Fields(names.collect()))
        };
        assert_eq!(one("no-cache=\"Set-Cookie, x-a\"").no_cache, named(&["set-cookie", "x-a"]));
        assert_eq!(one("private=set-cookie").private, named(&["set-cookie"]));
        // Without names: the whole response.
        assert_eq!(one("private=\"\"").private, Some(Scope::Response));
        assert_eq!(one("private=\"a b\"").private, Some(Scope::Response));
    }

    #[test]
    fn a_targeted_field_overrules_the_other() {
        let both =
            |cdn: &str| response(&[("cache-control", "no-store"), ("cdn-cache-control", cdn)]);
        assert_eq!(both("max-age=60, must-revalidate").max_age, secs(60));
        assert!(!both("max-age=60").no_store);
        // Not a structured dictionary, or an empty one: as if it were not there (RFC 9213 §2.2).
        for bad in ["max-age=60 60", "", "Max-Age=60", "max-age=\"6"] {
            assert!(both(bad).no_store, "{bad}");
        }
        assert!(!both("no-store=?0, max-age=1").no_store);
    }

    #[test]
    fn pragma_counts_only_alone() {
        let request = |fields: &[(&'static str, &str)]| CacheControl::of_request(&headers(fields));
        assert_eq!(request(&[("pragma", "no-cache")]).no_cache, Some(Scope::Response));
        let both = request(&[("pragma", "no-cache"), ("cache-control", "max-age=5")]);
        assert_eq!(both.no_cache, None);
        assert_eq!(request(&[("cache-control", "max-stale")]).max_stale, Some(LONGEST));
    }

    proptest! {
        #[test]
        fn no_input_panics(
            control in prop::collection::vec(any::<u8>(), 0..80),
            targeted in "[a-z*=;,\\?:\"() 0-9.-]{0,40}",
        ) {
            let mut fields = HeaderMap::new();
            for name in [header::CACHE_CONTROL, header::PRAGMA, CDN_CACHE_CONTROL] {
                if let Ok(value) = HeaderValue::from_bytes(&control) {
                    fields.append(name, value);
                }
            }
            let _ = CacheControl::of_request(&fields);
            let _ = CacheControl::of_response(&fields);
            let targeted = HeaderValue::from_str(&targeted).expect("a value");
            fields.insert(CDN_CACHE_CONTROL, targeted);
            let _ = CacheControl::of_response(&fields);
        }

        /// Outside of a closed quoted string it is always found.
        #[test]
        fn no_store_is_found_wherever_it_stands(
            before in element(),
            after in element(),
            space in "[ \t]{0,2}",
            lines in any::<bool>(),
            upper in any::<bool>(),
        ) {
            let word = if upper { "No-STORE" } else { "no-store" };
            let text = format!("{before}{space},{space}{word}{space},{after}");
            prop_assert!(one(&text).no_store, "{text}");
            if lines {
                let fields = [("cache-control", &*before), ("cache-control", word)];
                prop_assert!(response(&fields).no_store);
            }
            let quoted = format!("x=\"{word},{word}\"");
            prop_assert!(!one(&quoted).no_store);
        }

        #[test]
        fn a_number_is_read_as_it_is(seconds in 0u64..1 << 40, quoted in any::<bool>()) {
            let value = if quoted { format!("\"{seconds}\"") } else { seconds.to_string() };
            let read = one(&format!("a, max-age={value}, b=c")).max_age;
            prop_assert_eq!(read, Some(Duration::from_secs(seconds).min(LONGEST)));
        }

        /// A second max-age can only shorten the freshness.
        #[test]
        fn another_max_age_makes_nothing_last_longer(other in "[a-z0-9\"=,; -]{0,12}") {
            let read = one(&format!("max-age=60, max-age={other}")).max_age;
            prop_assert!(read <= secs(60));
        }
    }

    /// Directives, and garbage without quotes.
    fn element() -> impl Strategy<Value = String> {
        prop_oneof![
            "[!-~&&[^\"]]{0,12}",
            "[a-z-]{1,10}(=[a-z0-9]{0,5})?",
            "[a-z-]{1,10}=\"[a-z,= ]{0,10}\"",
            "[a-z]{1,4}=\"(\\\\[\"\\\\]|[a-z,]){0,6}\"",
        ]
    }
}
