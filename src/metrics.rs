//! What a guard tells a recorder of the [`metrics`](https://docs.rs/metrics) facade.
//!
//! | metric | kind | unit | labels | what it says |
//! |---|---|---|---|---|
//! | `cattleguard_fetches_total` | counter | fetches | `guard`, `outcome` | requests that were answered, each caller once, by [`Outcome::as_str`](crate::Outcome::as_str) or [`Error::as_str`](crate::Error::as_str) |
//! | `cattleguard_fetches_dropped_total` | counter | fetches | `guard` | callers that went away before they were answered |
//! | `cattleguard_fetch_seconds` | histogram | seconds | `guard` | how long answers took that were no plain near hits |
//! | `cattleguard_loads_total` | counter | loads | `guard`, `result` | calls to the origin that have ended, that of a batch once: `ok`, `error_origin`, `error_load_timeout`, `error_load_panicked`, `error_shut_down`, or `error_abandoned` when no caller waited for it any more |
//! | `cattleguard_load_seconds` | histogram | seconds | `guard` | how long they took, however they ended |
//! | `cattleguard_loads_in_progress` | gauge | loads | `guard` | loads that run now, each until its task is gone; those beyond the [bound](crate::Policy::max_concurrent_loads) are [slow](crate::Policy::slow_load_after) |
//! | `cattleguard_loads_queued` | gauge | loads | `guard` | loads that wait for a place in the bulkhead |
//! | `cattleguard_flights_open` | gauge | flights | `guard` | flights in the air: loads, refreshes, and waits for another process |
//! | `cattleguard_far_errors_total` | counter | calls | `guard`, `kind` | calls to the far tier that failed, probes included: `config`, `unreachable`, `timeout`, `busy`, `refused`, `codec` |
//! | `cattleguard_breaker_state` | gauge | – | `guard` | the breaker before the far tier: 0 closed, 1 half open, 2 open |
//! | `cattleguard_pending_invalidations` | gauge | names | `guard` | invalidations that wait for the far tier to come back |
//! | `cattleguard_writes_total` | counter | writes | `guard`, `what`, `result` | what became of each `put` (`stored`, `older`, `failed`) and each `invalidate` (`everywhere`, `unconfirmed`, `unreplicated`, `failed`) |
//! | `cattleguard_commits_refused_total` | counter | loads | `guard`, `why` | loads whose value was not written: `lease_lost` (revoked or run out), `older` (than what is stored), `outdated` (than an acknowledged write, from a lagging replica; the load is repeated) |
//! | `cattleguard_served_stale_seconds` | histogram | seconds | `guard` | how long the ttl was over of each answer that was stale, whatever the reason |
//! | `cattleguard_served_outdated_seconds` | histogram | seconds | `guard` | how long before its answer a caller's process had heard of a write or an invalidation that the answer may not contain |
//! | `cattleguard_near_entries` | gauge | entries | `guard` | entries in the near tier, those past their time that have not left yet among them |
//! | `cattleguard_near_bytes` | gauge | bytes | `guard` | what they take: name, surroundings, and the value as far as its size is known, by the [size function](crate::GuardBuilder::size_of) or its encoding |
//! | `cattleguard_near_evictions_total` | counter | entries | `guard`, `why` | entries that left the near tier, or did not get in, other than for a newer one or an invalidation: `capacity` (no room), `expired` (past their time), `too_large` (more than a sixteenth of the bound, or the size function panicked) |
//!
//! The label `guard` is [`GuardBuilder::name`](crate::GuardBuilder::name). Guards of one name in a process add
//! up, also in the gauges. No label is ever a key: the values above are all there are, and each has its series
//! from the start. [`Guard::peek`](crate::Guard::peek) is no fetch. A request without a key is a fetch
//! (`bypassed_no_key`, or its error), and no load.
//!
//! An answer is *outdated* if its load, or its reading from the far tier, began before the news, or its version is
//! below the one that the news told of. Only callers that asked before the news get one: they share the flight that
//! was in progress. Not measured are a reading of the far tier by one caller alone, which takes no longer than a far
//! timeout, and purges of tags, which do not tell what they are about.
//!
//! # Install the recorder first
//!
//! A guard makes its handles when it is built, so that a near hit looks nothing up. A recorder that is installed
//! later hears nothing of it.
//!
//! ```
//! use cattleguard::{Guard, metrics::BUCKETS};
//! use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! // Without buckets this exporter makes summaries, which cannot be added up over processes.
//! let prometheus = PrometheusBuilder::new()
//!     .set_buckets_for_metric(Matcher::Prefix("cattleguard_".to_owned()), BUCKETS)?
//!     .install_recorder()?;
//! let users: Guard<u64, String> = Guard::builder().name("users").build();
//!
//! // Where Prometheus asks:
//! let page = prometheus.render();
//! assert!(page.contains(r#"cattleguard_fetches_total{guard="users",outcome="hit_near"} 0"#));
//! # drop(users);
//! # Ok(()) }
//! ```
//!
//! `examples/grafana.json` in the repository is a dashboard of all of them.
//!
//! # What to alert on
//!
//! - `cattleguard_breaker_state` above 0 for longer than the far tier takes to fail over.
//! - `cattleguard_fetches_total` with `outcome=~"error_.*"`, as a share of all.
//! - `cattleguard_loads_queued` above 0 for minutes: the origin does not keep up with the bulkhead.
//! - `cattleguard_near_evictions_total` with `why="capacity"`, as many as far hits: the near tier is too small for
//!   what is asked for within the near ttl.
//! - `cattleguard_served_stale_seconds` near the sum of grace and stale-if-error: soon there is nothing left to serve.
//! - `cattleguard_commits_refused_total` with `why="outdated"`, growing: loads read from a replica that lags.

/// Bounds for the histograms, in seconds: from a far hit to the default load timeout, and on to an hour for what is stale.
pub const BUCKETS: &[f64] = &[
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 30.0, 60.0, 600.0, 3600.0,
];
