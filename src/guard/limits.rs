use std::time::Duration;

/// Longer than any wait, and short enough to add to an `Instant`.
pub(super) const FOREVER: Duration = Duration::from_secs(365 * 24 * 3600);
