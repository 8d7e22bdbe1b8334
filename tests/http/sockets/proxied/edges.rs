//! What stands beside the core of the rules, and what strangers send: each over each store.

use super::*;
use crate::sockets::rules::{FRESH as FRESH_FIELD, Rule, obeys};

const FRESH: &str = "cache-control: max-age=60\r\n";

over_each_store!(
    rfc9213_2_1_the_proxy_ignores_values_of_the_wrong_type_and_them_alone,
    rfc9110_5_6_7_the_proxy_reads_dates_in_three_forms_and_any_case,
    rfc9111_3_the_proxy_reuses_failures_that_say_how_long_they_are_fresh,
    rfc9111_3_5_the_proxy_shares_what_the_origin_opens_among_all_credentials,
    cookies_are_shared_where_an_option_says_so_and_the_response_is_explicitly_fresh,
    rfc9110_14_ranges_and_conditions_apply_to_what_is_not_stored,
    rfc9111_5_2_1_requests_reload_where_an_option_says_so,
    rfc9111_5_2_1_4_a_reload_that_fails_takes_nothing_away,
    rfc9110_13_lists_of_tags_and_parts_are_judged_on_the_stored_response,
    rfc9111_4_1_all_lines_of_a_field_select_as_one_list,
);

async fn rfc9213_2_1_the_proxy_ignores_values_of_the_wrong_type_and_them_alone(store: Store) {
    const NO_STORE: (&str, &str) = ("cache-control", "no-store");
    const CDN: &str = "cdn-cache-control";
    let rules: &[Rule<'_>] = &[
        ("/text", &[], 200, &[NO_STORE, (CDN, "max-age=\"10000\"")], false),
        ("/decimal", &[], 200, &[NO_STORE, (CDN, "max-age=10000.5")], false),
        ("/token", &[], 200, &[NO_STORE, (CDN, "max-age=abc")], false),
        ("/nothing", &[], 200, &[NO_STORE, (CDN, "max-age")], false),
        ("/private", &[], 200, &[("cache-control", "private"), (CDN, "max-age=\"1\"")], false),
        ("/beside-no-store", &[], 200, &[FRESH_FIELD, (CDN, "max-age=\"9\", no-store")], false),
        ("/none-left", &[], 200, &[FRESH_FIELD, (CDN, "max-age=\"10000\"")], true),
        ("/others", &[], 200, &[NO_STORE, (CDN, "s-maxage=\"9\", max-age=60")], true),
        ("/right", &[], 200, &[NO_STORE, (CDN, "max-age=60")], true),
    ];
    obeys(store, rules).await;
}

async fn rfc9110_5_6_7_the_proxy_reads_dates_in_three_forms_and_any_case(store: Store) {
    let expires = |expires: &'static str| [("expires", expires)];
    let dates = [
        ("/fixed", expires("Sun, 06 Nov 2044 08:49:37 GMT"), true),
        ("/lower", expires("sun, 06 nov 2044 08:49:37 gmt"), true),
        ("/upper", expires("SUN, 06 NOV 2044 08:49:37 GMT"), true),
        ("/rfc-850", expires("Sunday, 06-Nov-44 08:49:37 GMT"), true),
        ("/rfc-850-lower", expires("sunday, 06-nov-44 08:49:37 gmt"), true),
        ("/asctime", expires("Sun Nov  6 08:49:37 2044"), true),
        ("/asctime-upper", expires("SUN NOV  6 08:49:37 2044"), true),
        ("/one-digit", expires("Sun, 6 Nov 2044 08:49:37 GMT"), false),
        ("/zone", expires("Sun, 06 Nov 2044 08:49:37 UTC"), false),
        ("/offset", expires("Sun, 06 Nov 2044 08:49:37 +0000"), false),
        ("/no-zone", expires("Sun, 06 Nov 2044 08:49:37"), false),
        ("/other-day", expires("Mon, 06 Nov 2044 08:49:37 GMT"), false),
        ("/iso", expires("2044-11-06T08:49:37Z"), false),
        ("/number", expires("2362034977"), false),
    ];
    let rules: Vec<Rule<'_>> = dates
        .iter()
        .map(|(path, fields, reused)| (*path, &[][..], 200, &fields[..], *reused))
        .collect();
    obeys(store, &rules).await;
}

async fn rfc9111_3_the_proxy_reuses_failures_that_say_how_long_they_are_fresh(store: Store) {
    let failures = [("/500", 500), ("/502", 502), ("/503", 503), ("/504", 504)];
    let fresh = failures.map(|(path, status)| (path, &[][..], status, &[FRESH_FIELD][..], true));
    obeys(store, &fresh).await;
    let expires: &[_] = &[("expires", "Sun, 06 Nov 2044 08:49:37 GMT")];
    obeys(store, &failures.map(|(path, status)| (path, &[][..], status, expires, true))).await;
    let public: &[_] = &[("cache-control", "public"), ("etag", "\"1\"")];
    obeys(store, &failures.map(|(path, status)| (path, &[][..], status, public, false))).await;
}

/// The fields of a request for `/a`, the status and body that come back, and how many requests the origin has had
/// by then.
type Step<'a> = (&'a str, u16, &'a str, usize);

async fn takes(proxy: SocketAddr, heads: &Heads, steps: &[Step<'_>]) {
    for (at, (fields, status, body, asked)) in steps.iter().enumerate() {
        let answer =
            one(proxy, &format!("GET /a HTTP/1.1\r\nhost: shop.test\r\n{fields}x-a: 1")).await;
        let (head, got) = answer.split_once("\r\n\r\n").expect("a head");
        let is_as_expected = head.starts_with(&format!("HTTP/1.1 {status} ")) && got == *body;
        assert!(is_as_expected, "step {at}: {fields:?}: {answer}");
        assert_eq!(heads.count(), *asked, "step {at}: {fields:?}: {answer}");
    }
}

async fn rfc9111_3_5_the_proxy_shares_what_the_origin_opens_among_all_credentials(store: Store) {
    const ONE: &str = "authorization: Basic eDp5\r\n";
    const OTHER: &str = "authorization: Bearer b\r\n";
    for opens in ["public, max-age=60", "s-maxage=60", "must-revalidate, max-age=60"] {
        let fields = format!("cache-control: {opens}\r\n");
        let (origin, heads) = says(move |_| ok(&fields, "hello")).await;
        let proxy = proxy_of(origin, over(store)).await;
        // Without credentials an origin answers 401, or another page.
        let steps = [(ONE, 200, "hello", 1), (OTHER, 200, "hello", 1), ("", 200, "hello", 2)];
        takes(proxy, &heads, &steps).await;
    }
    let (origin, heads) = says(|_| ok(FRESH, "hello")).await;
    let proxy = proxy_of(origin, over(store)).await;
    let steps = [(ONE, 200, "hello", 1), (ONE, 200, "hello", 2), (OTHER, 200, "hello", 3)];
    takes(proxy, &heads, &steps).await;
}

async fn cookies_are_shared_where_an_option_says_so_and_the_response_is_explicitly_fresh(
    store: Store,
) {
    let shares = Options { layer: HttpGuardLayer::store_cookies, ..over(store) };
    for (options, control, is_shared) in [
        (over(store), "max-age=60", false),
        (shares, "max-age=60", true),
        (shares, "private, max-age=60", false),
        (shares, "public", false),
    ] {
        let fields = format!("cache-control: {control}\r\nset-cookie: a=b\r\n");
        let (origin, heads) = says(move |_| ok(&fields, "hello")).await;
        let proxy = proxy_of(origin, options).await;
        for run in 1..=3 {
            let answer = one(proxy, "GET /a HTTP/1.1\r\nhost: a").await;
            assert!(answer.contains("\r\nset-cookie: a=b\r\n"), "{answer}");
            assert_eq!(heads.count(), if is_shared { 1 } else { run }, "{control}");
        }
    }
}

async fn rfc9110_14_ranges_and_conditions_apply_to_what_is_not_stored(store: Store) {
    let (origin, heads) = says(|head| {
        let head = head.to_ascii_lowercase();
        let fields = "cache-control: no-store\r\netag: \"1\"\r\n";
        if head.contains("\r\nif-none-match: \"1\"\r\n") {
            return format!("HTTP/1.1 304 Not Modified\r\n{fields}\r\n");
        }
        if head.contains("\r\nrange: bytes=2-4\r\n") {
            let part = "content-range: bytes 2-4/1000000\r\ncontent-length: 3\r\n\r\n234";
            return format!("HTTP/1.1 206 Partial Content\r\n{fields}{part}");
        }
        ok(fields, &"0123456789".repeat(100_000))
    })
    .await;
    // The first client of each proxy, too: for it the whole is asked for first, to see whether it may be stored.
    let (part, unchanged) = ("range: bytes=2-4\r\n", "if-none-match: \"1\"\r\n");
    let proxy = proxy_of(origin, over(store)).await;
    let steps = [(part, 206, "234", 2), (part, 206, "234", 3), (unchanged, 304, "", 4)];
    takes(proxy, &heads, &steps).await;
    let proxy = proxy_of(origin, over(store)).await;
    let steps = [(unchanged, 304, "", 6), (part, 206, "234", 7), (unchanged, 304, "", 8)];
    takes(proxy, &heads, &steps).await;
}

/// Numbers its answers, which are fresh for a minute; the `n`th is a failure.
async fn numbered(fails_at: usize) -> (SocketAddr, Heads) {
    let runs = Runs::default();
    says(move |_| match runs.one_more() {
        run if run == fails_at => {
            "HTTP/1.1 503 Service Unavailable\r\ncontent-length: 4\r\n\r\ndown".to_owned()
        }
        run => ok(&format!("{FRESH}etag: \"{run}\"\r\n"), &run.to_string()),
    })
    .await
}

async fn rfc9111_5_2_1_requests_reload_where_an_option_says_so(store: Store) {
    let reloads = Options { layer: HttpGuardLayer::allow_reloads, ..over(store) };
    let (origin, heads) = numbered(0).await;
    let proxy = proxy_of(origin, reloads).await;
    let steps = [
        ("", 200, "1", 1),
        ("cache-control: max-age=50\r\n", 200, "1", 1),
        ("cache-control: min-fresh=10\r\n", 200, "1", 1),
        ("cache-control: no-cache\r\n", 200, "2", 2),
        ("", 200, "2", 2),
        ("cache-control: max-age=0\r\n", 200, "3", 3),
        ("cache-control: min-fresh=61\r\n", 200, "4", 4),
        ("pragma: no-cache\r\n", 200, "5", 5),
        ("", 200, "5", 5),
    ];
    takes(proxy, &heads, &steps).await;
    // Strangers may not.
    let (origin, heads) = numbered(0).await;
    let proxy = proxy_of(origin, over(store)).await;
    takes(proxy, &heads, &[("", 200, "1", 1)]).await;
    for (fields, ..) in steps {
        takes(proxy, &heads, &[(fields, 200, "1", 1)]).await;
    }
}

async fn rfc9111_5_2_1_4_a_reload_that_fails_takes_nothing_away(store: Store) {
    let reloads = Options { layer: HttpGuardLayer::allow_reloads, ..over(store) };
    let (origin, heads) = numbered(2).await;
    let proxy = proxy_of(origin, reloads).await;
    let reload = "cache-control: no-cache\r\n";
    let steps = [("", 200, "1", 1), (reload, 503, "down", 2), ("", 200, "1", 2)];
    takes(proxy, &heads, &steps).await;
}

async fn rfc9110_13_lists_of_tags_and_parts_are_judged_on_the_stored_response(store: Store) {
    let fields = format!(
        "{FRESH}etag: \"1\"\r\ncontent-location: /b\r\nexpires: 0\r\nvary: accept\r\nx-own: 1\r\n"
    );
    let (origin, heads) = says(move |_| ok(&fields, "0123456789")).await;
    let proxy = proxy_of(origin, over(store)).await;
    let whole = "0123456789";
    let steps = [
        ("", 200, whole, 1),
        ("if-none-match: \"0\", W/\"1\", \"2\"\r\n", 304, "", 1),
        ("if-none-match: \"0\"\r\nif-none-match: \"1\"\r\n", 304, "", 1),
        ("if-none-match: \"0\",\"2\"\r\n", 200, whole, 1),
        ("if-none-match: *\r\n", 304, "", 1),
        ("range: bytes=0-\r\n", 206, whole, 1),
        ("range: bytes=2-4\r\n", 206, "234", 1),
        ("range: bytes=-3\r\n", 206, "789", 1),
        ("range: bytes=8-20\r\n", 206, "89", 1),
        ("range: bytes=20-\r\n", 416, "", 1),
        ("range: bytes=2-4\r\nif-range: \"1\"\r\n", 206, "234", 1),
        ("range: bytes=2-4\r\nif-range: \"2\"\r\n", 200, whole, 1),
        ("range: lines=2-4\r\n", 200, whole, 1),
    ];
    takes(proxy, &heads, &steps).await;
    let unchanged = "GET /a HTTP/1.1\r\nhost: shop.test\r\nif-none-match: \"1\"\r\nx-a: 1";
    let answer = one(proxy, unchanged).await;
    assert!(answer.starts_with("HTTP/1.1 304 "), "{answer}");
    for field in ["cache-control: max-age=60", "etag: \"1\"", "content-location: /b", "expires: 0"]
    {
        assert!(answer.contains(&format!("\r\n{field}\r\n")), "{field}: {answer}");
    }
    assert!(answer.contains("\r\nvary: accept\r\n") && answer.contains("\r\ndate: "), "{answer}");
    assert!(!answer.contains("\r\ncontent-length: "), "{answer}");
}

async fn rfc9111_4_1_all_lines_of_a_field_select_as_one_list(store: Store) {
    let fields = format!("{FRESH}vary: accept-language\r\nvary: x-b, x-c\r\n");
    let (origin, heads) = says(move |_| ok(&fields, "hello")).await;
    let proxy = proxy_of(origin, over(store)).await;
    let steps = [
        ("accept-language: de, en\r\n", 200, "hello", 1),
        ("accept-language: de\r\naccept-language: en\r\n", 200, "hello", 1),
        ("accept-language: de,en\r\n", 200, "hello", 1),
        ("accept-language: en, de\r\n", 200, "hello", 2),
        ("accept-language: de, en\r\nx-c: 1\r\n", 200, "hello", 3),
        ("accept-language: de, en\r\nx-b: 1\r\n", 200, "hello", 4),
        ("accept-language: de, en\r\nx-c: 1\r\n", 200, "hello", 4),
    ];
    takes(proxy, &heads, &steps).await;
}
