//! How many commits were refused in this process, as the library's events tell.

use std::sync::atomic::{AtomicU64, Ordering};

use tracing_subscriber::{Layer, filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

static REFUSED: AtomicU64 = AtomicU64::new(0);

/// Counts from now on.
pub fn count() {
    let refused = Targets::new().with_target("cattleguard::refused", tracing::Level::DEBUG);
    tracing_subscriber::registry().with(CountRefused.with_filter(refused)).init();
}

/// Until now.
pub fn counted() -> u64 {
    REFUSED.load(Ordering::Relaxed)
}

struct CountRefused;

impl<S: tracing::Subscriber> Layer<S> for CountRefused {
    fn on_event(&self, _: &tracing::Event<'_>, _: tracing_subscriber::layer::Context<'_, S>) {
        REFUSED.fetch_add(1, Ordering::Relaxed);
    }
}
