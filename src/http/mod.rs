//! An HTTP cache for routers: RFC 9111 for a shared cache, on a [`Guard`](crate::Guard), so that the origin
//! is never asked twice for one URL at one time.
//!
//! [`HttpGuardLayer`] wraps any `Service<Request<_>, Response = Response<_>>`: with the feature `axum` a `Router` or
//! one of its routes, a service under hyper, the client of a proxy. Handlers say with `Cache-Control` what may be
//! stored, as they would for a cache between them and their clients. A response that says nothing is not
//! cached, unless it has a `Last-Modified` or the layer a [`default_ttl`](HttpGuardLayer::default_ttl), and the
//! request neither `Cookie` nor `Authorization`.
//!
//! ```
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use axum::{Router, body::Body, http::{Request, header}, routing::get};
//! use cattleguard::{Guard, http::HttpGuardLayer};
//! use tower::ServiceExt;
//!
//! let cache = HttpGuardLayer::new(Guard::builder().near_capacity(10_000));
//! let app = Router::new()
//!     .route("/prices", get(|| async { ([(header::CACHE_CONTROL, "max-age=60")], "1, 2, 3") }))
//!     .layer(cache.clone());
//!
//! let prices = || Request::get("https://shop.example/prices").body(Body::empty());
//! let first = app.clone().oneshot(prices()?).await?;
//! assert_eq!(first.headers()["cache-status"], "cattleguard; fwd=miss; stored");
//! let second = app.clone().oneshot(prices()?).await?;
//! assert_eq!(second.headers()["cache-status"], "cattleguard; hit");
//!
//! // After a change, before the client learns of it:
//! let done = cache.purge(&"https://shop.example/prices".parse()?, None).await?;
//! # Ok(()) }
//! ```
//!
//! # What is cached
//!
//! | | stored | test |
//! |---|---|---|
//! | GET | yes; the same entry answers HEAD, conditions (304) and ranges (206, 416) | `rfc9110_9_3_2_head_is_answered_from_get`, `rfc9111_4_3_2_the_cache_evaluates_conditions`, `rfc9110_14_the_cache_serves_ranges` |
//! | HEAD alone, other methods, GET with a body, `If-Match`, `If-Unmodified-Since`, `Upgrade` to anything but `h2c`, which some clients send with each request | no: they go to the origin as they are | `rfc9111_4_other_methods_are_written_through_with_their_bodies`, `rfc9110_9_3_1_a_get_with_a_body_goes_to_the_origin`, `requests_that_only_the_origin_can_answer_reach_it_as_they_are`, `rfc9113_3_1_a_request_that_would_take_http2_is_answered_from_the_cache` |
//! | GET with `no-store` | no; it is answered from the cache if it can be | `rfc9111_5_2_1_5_a_request_with_no_store_is_answered_from_the_cache_and_stores_nothing` |
//! | a request whose host is missing or ambiguous, whose port servers read in different ways (`:0080`, `:99999`), whose scheme is neither `http` nor `https`, whose URI middleware inside an axum router has rewritten, or for which the [`key_part`](HttpGuardLayer::key_part) is `None` | no | `rfc9110_7_2_a_request_without_a_clear_host_bypasses_the_cache`, `rfc9110_4_2_a_host_that_servers_read_in_different_ways_has_no_key`, `a_uri_that_middleware_has_rewritten_has_no_key`, `a_key_part_separates_clients_and_none_bypasses_the_cache` |
//! | `max-age`, `s-maxage` or `Expires`, in `Cache-Control` or `CDN-Cache-Control`, and fresh on arrival | yes, with every status except those below | `rfc9111_3_explicitly_fresh_responses_are_stored`, `rfc9111_3_statuses` |
//! | none of these, and 200, 203, 301, 308, 404 or 410 | for the [`default_ttl`](HttpGuardLayer::default_ttl), if there is one | `the_default_ttl_applies_without_explicit_freshness`, `the_default_ttl_is_for_statuses_that_speak_of_the_resource` |
//! | none of these, and `Last-Modified` | for a tenth of the time since then, if the status is heuristically cacheable (RFC 9110 §15.1) or the response is `public`; else no | `rfc9111_4_2_2_only_some_statuses_are_heuristically_fresh` |
//! | none of these, to a request with `Cookie` or `Authorization` | no, unless the response is `public` | `rfc9111_4_2_2_no_heuristic_freshness_for_who_says_who_he_is` |
//! | `no-store`, `private`, `Vary: *`; `no-cache` or stale on arrival without a validator | no | `rfc9111_3_no_store_is_never_stored`, `rfc9111_3_private_is_never_stored`, `rfc9111_5_2_2_4_no_cache_is_not_reused`, `rfc9111_4_2_1_responses_stale_on_arrival_are_not_stored`, `rfc9111_4_1_vary_star_is_never_stored` |
//! | 200 with `no-cache`, `max-age=0` or the like, and with `ETag` or `Last-Modified` | for the [`validation_window`](HttpGuardLayer::validation_window); each request validates it by itself, and shares that with no other. Not for a request with `Cookie`, unless the response has `public` or `s-maxage`: a date is often that of a template | `rfc9111_4_3_1_what_must_be_validated_each_time_costs_no_body`, `rfc9111_5_2_2_4_no_request_is_answered_by_the_validation_of_another`, `a_cookies_page_is_not_confirmed_by_the_date_of_its_template` |
//! | `Set-Cookie` | no; with `private="set-cookie"` or `no-cache="set-cookie"` it is stored without the field, which its own client gets; with [`store_cookies`](HttpGuardLayer::store_cookies) and explicit freshness it is stored with it | `a_cookie_is_for_one_client`, `a_cookie_is_shared_where_an_option_says_so_and_the_response_is_explicitly_fresh`, `rfc9111_5_2_2_7_a_withheld_field_reaches_its_own_client_and_no_other`, `a_client_that_loads_a_purged_response_again_gets_its_own_fields` |
//! | the response to a request with `Authorization` | if it has `public`, `s-maxage` or `must-revalidate`; then for all requests with `Authorization` | `rfc9111_3_5_an_authorized_response_needs_permission`, `rfc9111_3_5_what_the_origin_opens_is_shared_among_all_credentials` |
//! | 206, and 304 to a request without a condition | no | `rfc9111_3_statuses`, `an_unsolicited_304_is_passed_and_not_stored` |
//! | 500, 502, 503, 504 | if it says itself how long it is fresh, and nothing is stored yet; else no: the load has failed, and a stale response is served if that is allowed. Else it is the answer of the request that met it alone; the others make their own, as many at one time as there may be loads | `rfc9111_3_statuses`, `a_failure_is_the_answer_of_the_request_that_met_it`, `a_503_reaches_each_client_with_its_own_body_and_fields`, `an_origin_that_fails_is_not_asked_by_all_at_once`, `rfc9111_4_3_3_a_failure_leaves_the_stored_response` |
//! | a body above [`max_body_size`](HttpGuardLayer::max_body_size), with trailers, broken off, or not as long as its `Content-Length`; one that is still coming after the [`body_timeout`](HttpGuardLayer::body_timeout); more than 64 KiB of fields; `text/event-stream` | no; the body streams through | `rfc9111_3_3_incomplete_responses_are_not_stored`, `bodies_that_are_not_stored_stream_through`, `a_body_that_is_still_coming_after_a_second_is_passed_as_it_comes`, `a_body_that_is_still_coming_after_a_second_passes_as_it_comes`, `a_slow_body_of_a_declared_length_is_waited_for_once`, `oversized_fields_are_passed_and_not_stored` |
//!
//! Uncacheable responses do not queue requests. The first time, requests for the same URL wait together for
//! the head of one response. If it may not be stored, each of them goes to the origin at once, and so do
//! later ones for the [hit-for-pass ttl](HttpGuardLayer::hit_for_pass_ttl), or until one of them gets a response that
//! may be stored (`one_response_that_cannot_be_stored_is_no_rule`). A body that
//! may be stored is read to its end before it is served, unless that takes longer than the
//! [`body_timeout`](HttpGuardLayer::body_timeout): mark endless ones `no-store`, and nothing waits for them.
//!
//! # The rules
//!
//! The MUSTs of RFC 9111 for a shared cache, and the rules beside them that matter, each with its test.
//! `rfc9111_3_the_proxy_stores_what_it_may_and_nothing_else` and
//! `rfc9111_4_the_proxy_selects_validates_and_forgets` check them over sockets, by the example
//! `reverse_proxy`, in front of memory and of Redis.
//!
//! | § | rule | test |
//! |---|---|---|
//! | 2, 4 | the target URI matches: scheme, host, port, path, query as the client sent them, whatever a router takes off | `rfc9111_2_other_resources_have_other_entries`, `rfc9111_2_a_nested_router_is_keyed_on_the_uri_that_the_client_sent`, `another_router_tells_where_it_notes_the_uri_that_was_sent`, `long_urls_are_told_apart` |
//! | 2, 4 | a load names the host as the key does (RFC 9110 §4.2.3) | `rfc9110_4_2_3_a_load_names_the_host_as_its_key_does` |
//! | 2, 4 | what `Connection` names is not in the request (RFC 9110 §7.6.1); it cannot name `Host`, `Cache-Control`, `Authorization` and `Content-*` | `rfc9110_7_6_1_fields_that_connection_names_leave_before_the_key_is_made`, `rfc9110_7_6_1_connection_takes_nothing_off_that_decides_who_may_have_a_response`, `rfc9110_7_6_1_fields_of_one_connection_reach_no_load_and_select_nothing` |
//! | 3 | the method is understood: GET | `rfc9111_4_other_methods_are_written_through_with_their_bodies` |
//! | 3 | a final status; 206 and 304 are not understood | `rfc9111_3_statuses` |
//! | 3, 5.2.2.3 | `must-understand` overrules `no-store` if the status is understood, and only then | `rfc9111_5_2_2_3_must_understand_overrules_no_store_for_a_known_status_only` |
//! | 3, 5.2.1.5, 5.2.2.5 | nothing with `no-store`, in request or response; nothing of the response to a request with `no-store` | `rfc9111_3_no_store_is_never_stored`, `rfc9111_5_2_1_5_a_request_with_no_store_is_answered_from_the_cache_and_stores_nothing` |
//! | 3, 5.2.2.7 | nothing `private`; named fields are withheld | `rfc9111_3_private_is_never_stored`, `rfc9111_3_private_responses_reach_no_other_client` |
//! | 3, 3.5 | nothing for `Authorization` without permission | `rfc9111_3_5_an_authorized_response_needs_permission`, `rfc9111_3_private_responses_reach_no_other_client` |
//! | 3 | explicit freshness, `public`, or a heuristically cacheable status | `rfc9111_3_explicitly_fresh_responses_are_stored`, `rfc9111_4_2_2_only_some_statuses_are_heuristically_fresh` |
//! | 3.1 | all fields are stored, unknown ones too | `rfc9111_3_1_all_other_fields_are_stored_as_they_are` |
//! | 3.1 | except those of one connection and those of a proxy | `rfc9111_3_1_fields_of_one_connection_are_not_stored` |
//! | 3.1 | trailers do not become fields | `rfc9111_3_1_trailers_pass_and_become_no_fields` |
//! | 3.2 | the fields of a 304 replace the stored ones, except `Content-Length`, those that the stored bytes depend on (`Content-Encoding`, `Content-Range`) and those that 3.1 excepts | `rfc9111_4_3_3_a_stale_response_is_validated_and_its_fields_updated` |
//! | 3.3 | nothing incomplete is stored; a part is served as 206 | `rfc9111_3_3_incomplete_responses_are_not_stored`, `rfc9110_14_the_cache_serves_ranges` |
//! | 3.3, RFC 9112 6.3 | `Content-Length` beside `Transfer-Encoding` is removed; a body of another length than declared is neither stored nor the start of the next response | `rfc9112_6_3_a_length_beside_chunks_counts_for_nothing_whatever_is_behind_the_cache`, `a_response_that_contradicts_its_length_is_not_the_start_of_the_next` |
//! | 4 | `Age` in every response from the cache, in place of the origin's | `rfc9111_5_1_age_counts_from_the_origin` |
//! | 4 | unsafe methods are written through | `rfc9111_4_other_methods_are_written_through_with_their_bodies` |
//! | 4 | what is reused is fresh, validated, or allowed to be stale | `rfc9111_4_a_fresh_response_is_reused_until_it_is_stale` |
//! | 4 | collapsed requests share a response only if it may be reused | `rfc9111_4_a_hundred_clients_of_a_cold_url_are_one_call`, `rfc9111_4_uncacheable_responses_do_not_queue_requests` |
//! | 4.1 | all fields match that `Vary` names in all its lines; a missing field matches a missing one only | `rfc9111_4_1_variants_are_selected_by_the_request`, `rfc9111_4_1_all_lines_of_vary_count_and_all_of_a_field`, `rfc9111_4_1_later_vary_fields_select_too`, `rfc9111_4_1_each_variant_is_called_for_once` |
//! | 4.1 | values match as they were sent; only the case of names in `Accept` and its like, and white space around commas, count for nothing | `rfc9111_4_1_a_variant_is_selected_by_what_was_sent`, `what_may_mean_something_else_is_another_variant` |
//! | 4.1 | the crumbs of a cookie are one field (RFC 9113 §8.2.3) | `rfc9113_8_2_3_crumbs_are_one_cookie` |
//! | 4.1 | `*` never matches, nor does an invalid field name | `rfc9111_4_1_vary_star_is_never_stored` |
//! | 4.2.1 | `s-maxage` overrules `max-age`, and that `Expires`; of several the shortest counts; a malformed number or date is stale | `rfc9111_4_2_1_responses_stale_on_arrival_are_not_stored` |
//! | 4.2 | names in dates match without regard to case; RFC 850 and asctime forms are read; what is none of the three is no date | `rfc9110_5_6_7_a_date_is_read_in_three_forms_and_any_case` |
//! | 4.2.2 | no heuristic beside explicit freshness | `rfc9111_4_2_1_responses_stale_on_arrival_are_not_stored` |
//! | 4.2.3 | the age is made of `Age`, `Date` and the time of the transfer; a number beyond 2³¹ counts as that (§1.2.2) | `rfc9111_1_2_2_an_age_beyond_any_number_is_as_old_as_can_be`, `rfc9111_5_1_age_counts_from_the_origin`, `rfc9111_4_2_3_the_transfer_counts_for_responses_from_a_server` |
//! | 4.2.4, 5.2.2.2, 5.2.2.8, 5.2.2.10 | nothing stale with `must-revalidate`, `proxy-revalidate`, `s-maxage`; an error instead | `rfc9111_4_2_4_what_must_be_revalidated_is_never_served_stale`, `rfc9111_5_2_2_2_an_unreachable_origin_is_an_error_and_nothing_stale` |
//! | 4.2.4 | nothing stale without permission | `rfc9111_4_2_4_nothing_stale_is_served_without_permission`, `rfc5861_a_response_says_how_long_it_may_be_served_stale` |
//! | 4.3.1 | a validation sends the stored validators, also those of a response that may be served no more, for the [`validation_window`](HttpGuardLayer::validation_window): it answers nothing unconfirmed, whatever the request takes and the origin answers | `rfc9111_4_3_1_both_validators_are_sent`, `rfc9111_4_3_1_what_may_not_be_served_stale_is_validated_all_the_same`, `rfc9111_4_3_1_an_expired_response_is_kept_for_a_while_only_to_validate_it`, `rfc9111_4_3_1_the_proxy_keeps_what_has_expired_only_to_validate_it`, `what_can_be_validated_has_a_window_of_its_own_for_that`, `rfc9111_4_3_3_each_variant_is_validated_by_its_own_validator` |
//! | 4.3.2 | a client's conditions are evaluated on the stored response; `If-Match` goes to the origin | `rfc9111_4_3_2_the_cache_evaluates_conditions`, `rfc9110_15_4_5_a_304_has_the_fields_that_its_200_would_have` |
//! | 4.3.3 | a full response replaces the stored one, a 5xx leaves it | `rfc9111_4_3_3_a_full_response_replaces_the_stored_one`, `rfc9111_4_3_3_a_response_that_has_changed_takes_the_place_of_the_one_to_validate`, `rfc9111_4_3_3_a_failure_leaves_the_stored_response` |
//! | 4.3.4 | a 304 about another response updates nothing | `rfc9111_4_3_4_a_304_about_another_response_updates_nothing`, `rfc9111_4_3_4_the_age_counts_from_the_validation` |
//! | 4.4 | a successful unsafe request invalidates its target | `rfc9111_4_4_an_unsafe_request_that_succeeds_invalidates_the_target`, `rfc9111_4_4_failed_and_safe_requests_invalidate_nothing`, `rfc9111_4_4_a_key_part_does_not_evade_invalidation`, `rfc9111_4_4_what_has_no_key_part_still_invalidates` |
//! | 4.4 | and the URLs that its response names, if they are of the same origin | `rfc9111_4_4_urls_of_the_same_origin_in_the_response_are_invalidated` |
//! | 5.2.1 | `only-if-cached` of a request; `no-cache`, `max-age`, `min-fresh`, and `max-stale` as a limit, with [`allow_reloads`](HttpGuardLayer::allow_reloads) | `rfc9111_5_2_1_a_request_for_a_fresher_response_gets_one`, `rfc9111_5_2_1_each_directive_of_a_request_means_what_it_says`, `rfc9111_5_2_1_7_only_if_cached_asks_no_origin` |
//! | 5.2.1.2 | `max-stale` of a request takes what the origin lets be served stale, also where no load has failed; nothing beyond that, and nothing that must be revalidated | `rfc9111_5_2_1_2_max_stale_takes_what_the_origin_lets_be_served_stale`, `rfc9111_5_2_1_2_the_proxy_serves_max_stale_what_the_origin_lets_be_served_stale` |
//! | 5.2.2.4 | `no-cache` is never reused without a validation for that very request; named fields are withheld | `rfc9111_5_2_2_4_no_cache_is_not_reused`, `rfc9111_5_2_2_4_no_request_is_answered_by_the_validation_of_another`, `a_cookie_is_for_one_client` |
//! | 5.2.2.6 | `no-transform`: bodies are compressed in the far tier, and decompressed to the same bytes | `responses_come_back_as_they_were` |
//! | RFC 9110 15.2 | interim responses are not stored, and their fields not merged | `rfc9110_15_2_interim_responses_change_no_final_one` |
//! | 5.2.3 | unknown directives are ignored | `rfc9111_5_2_3_unknown_and_malformed_directives_permit_nothing`, `no_store_is_found_wherever_it_stands` |
//! | 5.3 | `Expires` is ignored beside `max-age`, and in the past if it is malformed | `rfc9111_4_2_1_responses_stale_on_arrival_are_not_stored` |
//! | RFC 9213 2.1 | a directive of `CDN-Cache-Control` whose value has the wrong type is ignored; if none is left, `Cache-Control` counts | `rfc9213_2_1_a_value_of_the_wrong_type_is_ignored_and_the_others_count` |
//! | RFC 9211 2 | `fwd=stale` for what was stored and stale; the cache's [name](HttpGuardLayer::cache_name) | `rfc9211_2_2_what_was_stale_is_forwarded_as_stale`, `rfc9211_2_caches_in_a_row_are_told_apart_by_their_names` |
//! | RFC 9530 2 | a part has no `Content-Digest` of the whole | `rfc9530_2_a_part_has_no_digest_of_the_whole` |
//! | 5.4, 5.5 | `Pragma` counts in a request without `Cache-Control`; `Warning` is a field like others | `rfc9111_5_2_1_a_request_for_a_fresher_response_gets_one`, `rfc9111_3_1_all_other_fields_are_stored_as_they_are` |
//!
//! What §3 to §5 recommend or permit, and what is left out on purpose:
//!
//! | § | recommended or permitted | here |
//! |---|---|---|
//! | 3.3, 3.4 | completing an incomplete response, and combining parts | no: nothing incomplete is stored, a 206 passes, and a part is served from a stored whole |
//! | 4 | sharing one forwarded request among many | yes: `rfc9111_4_a_hundred_clients_of_a_cold_url_are_one_call` |
//! | 4.1 | validating all variants at once for a request that selects none | no: it is a miss |
//! | 4.1 | normalising fields that select, where it is known to change nothing | case and white space of `Accept` and its like alone: `what_may_mean_something_else_is_another_variant` |
//! | 4.2 | reading dates in any case, and in the obsolete forms | yes: `rfc9110_5_6_7_a_date_is_read_in_three_forms_and_any_case` |
//! | 4.2.1 | taking invalid or contradictory freshness for stale | yes: `rfc9111_4_2_1_responses_stale_on_arrival_are_not_stored` |
//! | 4.2.2 | a heuristic of a tenth of the time since `Last-Modified` at most | yes, and a day at most; [`default_ttl`](HttpGuardLayer::default_ttl) is the user's word |
//! | 4.2.4 | serving stale while disconnected | no: it takes the response's permission, the policy's, or the request's within these |
//! | 4.3.1 | sending both validators (RFC 9110 §8.8.4) | yes: `rfc9111_4_3_1_both_validators_are_sent` |
//! | 4.3.2 | `Date` in place of a missing `Last-Modified` | yes, beside `Portion` |
//! | 4.3.3 | something stale in place of a 5xx to a validation, where that is allowed | yes: `rfc9111_4_3_3_a_failure_leaves_the_stored_response` |
//! | 4.3.4 | a 304 updates every stored response that it is about | only the one that was validated, as variants have validators of their own. What is validated for each request keeps the fields that it was stored with: those of a 304 go into the one answer, as a purge may have come meanwhile |
//! | 4.3.5 | updating or invalidating by HEAD | no: a HEAD may have another handler, and any client can send one |
//! | 4.4 | invalidating `Location` and `Content-Location` of the same origin | yes: `rfc9111_4_4_urls_of_the_same_origin_in_the_response_are_invalidated` |
//! | 5.2.1 | honouring the directives of a request | with `allow_reloads`, because any client can send them; `no-store`, `only-if-cached` and, as a permission, `max-stale` always |
//! | 5.2.1.7 | 504 to `only-if-cached` if nothing is stored | yes: `rfc9111_5_2_1_7_only_if_cached_asks_no_origin` |
//! | 5.2.2.3 | ignoring the `no-store` beside a `must-understand` that is understood | yes: `rfc9111_5_2_2_3_must_understand_overrules_no_store_for_a_known_status_only` |
//! | 5.5 | `Warning` is obsolete | it is not generated |
//!
//! **Serving stale.** Where a response does not say for how long (RFC 5861), the grace and stale-if-error of
//! the [`Policy`](crate::Policy) apply, by default 30 s and 5 min. §4.2.4 allows that by agreement with the
//! origin, and a handler in the same process has agreed. In front of other people's origins set both to
//! zero, as the example `reverse_proxy` does (`rfc9111_4_2_4_the_proxy_serves_nothing_stale_without_permission`).
//!
//! # Versions
//!
//! A handler can give its response the [`Version`](crate::Version) of what it read, in the response's
//! extensions or in the [`version_field`](HttpGuardLayer::version_field). An older response then never
//! replaces a newer one: not that of a lagging replica, and not after a
//! [`purge_at`](HttpGuardLayer::purge_at) (`a_response_older_than_a_purge_is_not_stored`,
//! `a_variant_older_than_a_purge_is_not_stored_either`).
//!
//! A response without a version is protected by the lease: no load that began before a purge or an unsafe
//! request fills the cache after it (`a_load_from_before_a_purge_answers_no_later_request`,
//! `a_load_that_finds_more_variants_restores_nothing_purged`). That does not notice a handler that
//! reads from a lagging replica. `Last-Modified` and `Date` are not versions: two changes within a second
//! have the same. Give one to all responses of a URL that is purged by version: a 404 without one is not
//! stored after the purge (`a_response_without_version_is_not_stored_after_a_purge_by_version`).
//!
//! # Tags
//!
//! A purge of a [tag](HttpGuardLayer::tag_field) has the promise of an invalidation: once it is acknowledged,
//! no connected process serves a response from before, even if the far tier falls silent at that moment
//! (`after_an_acknowledged_purge_nothing_old_is_served_even_if_the_far_tier_falls_silent`). If it fails, this process
//! serves nothing old all the same
//! (`after_a_purge_that_failed_the_process_serves_nothing_old`). A load that began before it fills no tier
//! (`a_load_from_before_a_purge_fills_no_tier_even_if_its_tags_cannot_be_read`). The tags are those of the guard, see
//! [`Loaded::tag`](crate::Loaded::tag): a response with more than it keeps is not stored
//! (`a_response_with_too_many_tags_is_passed_and_queues_no_requests`), and a layer without a tag field pays nothing for them
//! (`a_layer_without_a_tag_field_asks_about_no_tags`). [`clear`](HttpGuardLayer::clear) purges all there is
//! (`a_layer_can_be_cleared_in_all_processes`). What cannot be checked while the far
//! tier is away is loaded again, once per key and process for as long as a near entry lives then
//! (`tagged_pages_keep_one_load_per_key_while_the_far_tier_is_away`). A request counts once in the metrics
//! (`a_request_counts_once_whatever_tags_it_has`).
//!
//! # What the key must cover
//!
//! A stored response is served to every client that asks for its URL. So nothing else that a client can
//! choose may affect it: no `X-Forwarded-Host`, no cookie, no `X-HTTP-Method-Override`. Otherwise the client
//! that sends the right field first chooses what the others see. Whatever affects the response belongs in
//! `Vary` or in the [`key_part`](HttpGuardLayer::key_part)
//! (`a_field_that_is_not_in_the_key_must_be_in_vary_or_a_part`). A request whose `Host` differs from its
//! target, or that has a body, bypasses the cache.
//!
//! The URL is the one that the client sent, also in a router that another one nests; the guide's page on HTTP
//! says how. With [`sorted_query`](HttpGuardLayer::sorted_query) the order of parameters does not count, if every
//! origin finds the same ones in the query (`a_query_is_sorted_only_where_every_origin_finds_the_same_parameters`).
//!
//! # Cancel safety
//!
//! A client that goes away cancels nothing that others wait for: the load continues, answers them and fills
//! the cache (`a_client_that_goes_away_cancels_nothing`). A request that bypasses the cache is cancelled as
//! without the layer. If it is an unsafe request that has changed something already, and its handler had
//! not answered yet, nothing is invalidated; where that matters, purge in the handler.
//!
//! # Beside a proxy cache
//!
//! Varnish, nginx or a CDN follow the same rules, save the network, and take load off the process. This
//! cache has what they lack: one load in the whole fleet instead of one per proxy; acknowledged
//! invalidation, after which nothing old comes back; versions; all that the service knows of its data; and
//! no other server to run. It can stand behind TLS, routing and authentication. Both go together:
//! `Cache-Status` names both, and `CDN-Cache-Control` addresses the one nearest to it.
//!
//! # Types of other crates
//!
//! Signatures name types of `http` 1, `http-body` 1 and `tower` 0.5; the feature `axum` is about `axum` 0.8. A handler
//! answers for an [`Error`](crate::Error) with [`to_response`](crate::Error::to_response).

mod body;
mod cache;
mod cache_mode;
mod exchange;
mod fields;
mod future;
#[cfg(any(test, fuzzing))]
pub(crate) mod fuzzing;
mod key;
mod layer;
mod purge;
mod purge_service;
mod response;
mod service;
mod settings;

pub use self::{
    body::Body,
    future::ResponseFuture,
    layer::HttpGuardLayer,
    purge::PurgeError,
    purge_service::PurgeService,
    response::{Responses, StoredResponse},
    service::HttpGuard,
};
