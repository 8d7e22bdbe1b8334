//! `Cache-Control` (RFC 9111 §5.2, RFC 5861, RFC 8246) and `CDN-Cache-Control` (RFC 9213).
//!
//! - Directive names are compared without regard to case; arguments may be tokens or quoted strings,
//!   whichever the definition prefers.
//! - Of a directive that comes twice the more restrictive counts (§4.2.1); a number that is none makes
//!   the response stale at once.
//! - What is malformed is passed over, up to the next token: a directive counts also where a semicolon or
//!   nothing but white space sets it off. What a quote hides that never closes may be a no-store, so it
//!   counts as one. Unknown directives are ignored (§5.2.3).

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, header};

use super::elements::elements;

/// The directives of all fields of one message.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct CacheControl {
    pub(super) no_store: bool,
    pub(super) no_cache: Option<Fields>,
    pub(super) private: Option<Fields>,
    pub(super) public: bool,
    pub(super) must_revalidate: bool,
    pub(super) proxy_revalidate: bool,
    pub(super) must_understand: bool,
    pub(super) only_if_cached: bool,
    pub(super) max_age: Option<Duration>,
    pub(super) s_maxage: Option<Duration>,
    pub(super) min_fresh: Option<Duration>,
    pub(super) max_stale: Option<Duration>,
    pub(super) stale_while_revalidate: Option<Duration>,
    pub(super) stale_if_error: Option<Duration>,
}

/// What `private` and `no-cache` are about.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Fields {
    /// The whole response.
    All,
    /// These fields of it.
    Named(Vec<HeaderName>),
}

impl CacheControl {
    /// Of a request. `Pragma: no-cache` counts where there is no `Cache-Control` (§5.4).
    pub(super) fn of_request(headers: &HeaderMap) -> Self {
        let mut directives = Self::of_fields(headers.get_all(header::CACHE_CONTROL));
        if !headers.contains_key(header::CACHE_CONTROL)
            && headers.get_all(header::PRAGMA).iter().any(|value| {
                elements(value.as_bytes()).any(|(name, _)| name.eq_ignore_ascii_case("no-cache"))
            })
        {
            directives.no_cache = Some(Fields::All);
        }
        directives
    }

    /// Of a response: of `CDN-Cache-Control` alone if there is a valid one.
    pub(super) fn of_response(headers: &HeaderMap) -> Self {
        Self::targeted(headers)
            .unwrap_or_else(|| Self::of_fields(headers.get_all(header::CACHE_CONTROL)))
    }

    /// Whether `Cache-Control` and `Expires` are overruled.
    pub(super) fn targeted(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all(&CDN_CACHE_CONTROL).iter().peekable();
        values.peek()?;
        // A list over several lines is one list.
        let mut joined = Vec::new();
        for value in values {
            if !joined.is_empty() {
                joined.extend_from_slice(b", ");
            }
            joined.extend_from_slice(value.as_bytes());
        }
        let dictionary = sfv::Parser::new(&joined).parse::<sfv::Dictionary>().ok()?;
        if dictionary.is_empty() {
            return None;
        }
        let mut directives = Self::default();
        for (name, member) in &dictionary {
            let sfv::ListEntry::Item(item) = member else { continue };
            match &item.bare_item {
                sfv::BareItem::Boolean(true) => directives.take(name.as_str(), None),
                sfv::BareItem::Boolean(false) => {}
                sfv::BareItem::Integer(number) => {
                    directives.take(name.as_str(), Some(&number.to_string()));
                }
                sfv::BareItem::String(text) => directives.take(name.as_str(), Some(text.as_str())),
                sfv::BareItem::Token(text) => directives.take(name.as_str(), Some(text.as_str())),
                _ => directives.take(name.as_str(), Some("")),
            }
        }
        Some(directives)
    }

    fn of_fields<'a>(values: impl IntoIterator<Item = &'a HeaderValue>) -> Self {
        let mut directives = Self::default();
        for value in values {
            for (name, argument) in elements(value.as_bytes()) {
                directives.take(name, argument.as_deref());
            }
        }
        directives
    }

    fn take(&mut self, name: &str, argument: Option<&str>) {
        let lower = name.to_ascii_lowercase();
        match lower.as_str() {
            "no-store" => self.no_store = true,
            "no-cache" => Fields::add(&mut self.no_cache, argument),
            "private" => Fields::add(&mut self.private, argument),
            "public" => self.public = true,
            "must-revalidate" => self.must_revalidate = true,
            "proxy-revalidate" => self.proxy_revalidate = true,
            "must-understand" => self.must_understand = true,
            "only-if-cached" => self.only_if_cached = true,
            "max-age" => least(&mut self.max_age, seconds(argument)),
            "s-maxage" => least(&mut self.s_maxage, seconds(argument)),
            "min-fresh" => most(&mut self.min_fresh, seconds(argument)),
            // Without an argument: however stale.
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

    /// Fields that may be stored with no response (§5.2.2.4, §5.2.2.7).
    pub(super) fn withheld(&self) -> impl Iterator<Item = &HeaderName> {
        [&self.no_cache, &self.private].into_iter().flatten().flat_map(|fields| match fields {
            Fields::All => [].iter(),
            Fields::Named(names) => names.iter(),
        })
    }

    /// Whether something stale may never be served (§4.2.4).
    pub(super) fn forbids_stale(&self) -> bool {
        self.must_revalidate
            || self.proxy_revalidate
            || self.s_maxage.is_some()
            || matches!(self.no_cache, Some(Fields::All))
    }
}

impl Fields {
    fn add(to: &mut Option<Self>, argument: Option<&str>) {
        let names: Option<Vec<HeaderName>> = argument.and_then(|list| {
            let names = list.split(',').map(str::trim).filter(|name| !name.is_empty());
            // A name that is none leaves us without a word on what is meant: everything, then.
            names.map(|name| name.parse().ok()).collect()
        });
        match (to, names) {
            (Some(Self::Named(all)), Some(names)) => all.extend(names),
            (to @ None, Some(names)) if !names.is_empty() => *to = Some(Self::Named(names)),
            (to, _) => *to = Some(Self::All),
        }
    }
}

fn least(to: &mut Option<Duration>, one: Duration) {
    *to = Some(to.map_or(one, |other| other.min(one)));
}

fn most(to: &mut Option<Duration>, one: Duration) {
    *to = Some(to.map_or(one, |other| other.max(one)));
}

/// Delta-seconds (§1.2.2); too many are very many, and what is no number is none.
fn seconds(argument: Option<&str>) -> Duration {
    let digits = argument.unwrap_or_default();
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Duration::ZERO;
    }
    digits.parse().map_or(LONGEST, |seconds| Duration::from_secs(seconds).min(LONGEST))
}

/// 2³¹ seconds, what §1.2.2 has for "very many".
const LONGEST: Duration = Duration::from_secs(1 << 31);

const CDN_CACHE_CONTROL: HeaderName = HeaderName::from_static("cdn-cache-control");

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
        assert_eq!(one("private=\"set-cookie\", private").private, Some(Fields::All));
        assert_eq!(one("private, private=\"set-cookie\"").private, Some(Fields::All));
    }

    #[test]
    fn a_number_that_is_none_is_zero_and_a_huge_one_is_very_long() {
        for bad in ["x", "-1", "1.5", "", "\"\"", "1 2x", "+1"] {
            let read = one(&format!("max-age={bad}")).max_age;
            let expected = if bad == "1 2x" { secs(1) } else { secs(0) };
            assert_eq!(read, expected, "{bad}");
        }
        assert_eq!(one("max-age").max_age, secs(0));
        assert_eq!(one("max-age=99999999999999999999999").max_age, Some(LONGEST));
    }

    #[test]
    fn what_stands_in_quotes_is_no_directive() {
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
    fn what_is_malformed_is_passed_over() {
        let read = one("@@@, =5, max-age=5;x, , no-cache");
        assert_eq!((read.max_age, read.no_cache), (secs(5), Some(Fields::All)));
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
            Some(Fields::Named(names.collect()))
        };
        assert_eq!(one("no-cache=\"Set-Cookie, x-a\"").no_cache, named(&["set-cookie", "x-a"]));
        assert_eq!(one("private=set-cookie").private, named(&["set-cookie"]));
        // Not a word on which: everything.
        assert_eq!(one("private=\"\"").private, Some(Fields::All));
        assert_eq!(one("private=\"a b\"").private, Some(Fields::All));
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
        assert_eq!(request(&[("pragma", "no-cache")]).no_cache, Some(Fields::All));
        let both = request(&[("pragma", "no-cache"), ("cache-control", "max-age=5")]);
        assert_eq!(both.no_cache, None);
        assert_eq!(request(&[("cache-control", "max-stale")]).max_stale, Some(LONGEST));
    }

    proptest! {
        #[test]
        fn nothing_that_is_sent_panics(
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

        /// Whatever else there is: outside of a whole quoted string it is found.
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

        /// What is added can only make the response fresh for a shorter time.
        #[test]
        fn another_max_age_makes_nothing_last_longer(other in "[a-z0-9\"=,; -]{0,12}") {
            let read = one(&format!("max-age=60, max-age={other}")).max_age;
            prop_assert!(read <= secs(60));
        }
    }

    /// Directives, and rubbish without quotes.
    fn element() -> impl Strategy<Value = String> {
        prop_oneof![
            "[!-~&&[^\"]]{0,12}",
            "[a-z-]{1,10}(=[a-z0-9]{0,5})?",
            "[a-z-]{1,10}=\"[a-z,= ]{0,10}\"",
            "[a-z]{1,4}=\"(\\\\[\"\\\\]|[a-z,]){0,6}\"",
        ]
    }
}
