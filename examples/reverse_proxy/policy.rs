//! What the proxy asks of the cache: one timeout for all, and nothing stale in front of strangers.

use std::time::Duration;

use cattleguard::Policy;
use http::uri::Authority;

/// How long the body of a response that is to be stored may take, after its head.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long at most a stale response is served while it is refreshed.
const GRACE: Duration = Duration::from_secs(30);

/// No clock of the cache ends before `timeout`, by which the upstream begins its answer: whoever waits is
/// answered by the upstream or with its 504. `stale` is what a response permits that says nothing of it (RFC 9111
/// §4.2.4).
pub fn policy(timeout: Duration, stale: Duration) -> Policy {
    let load_timeout = timeout.saturating_add(BODY_TIMEOUT);
    Policy::default()
        .load_timeout(load_timeout)
        .wait_timeout(load_timeout)
        .grace(stale.min(GRACE))
        .stale_if_error(stale)
}

/// Where in a shared store the responses of an upstream are.
pub fn namespace(upstream: &Authority) -> String {
    let host = upstream.host().to_ascii_lowercase();
    format!("http {host}:{}", upstream.port_u16().unwrap_or(80))
}
