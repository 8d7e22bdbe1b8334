use std::sync::Arc;

#[cfg(feature = "metrics")]
use super::recorded::{Counters, Gauge, Meter};
#[cfg(not(feature = "metrics"))]
use super::silent::{Counters, Gauge, Meter};

/// What the near tier holds, and what leaves it unasked.
#[derive(Clone)]
pub(crate) struct NearUsage {
    guard: Arc<str>,
    entries: Gauge,
    bytes: Gauge,
    evictions: Counters,
}

/// Why an entry has left the near tier, other than for a newer one or an invalidation.
#[derive(Clone, Copy)]
pub(crate) enum EvictedFor {
    /// There was no room.
    Capacity,
    /// Its time was over.
    Expired,
    /// It alone takes too much of the bound, or its size function panicked.
    TooLarge,
}

impl EvictedFor {
    const ALL: [Self; 3] = [Self::Capacity, Self::Expired, Self::TooLarge];

    pub(crate) fn of(is_expired: bool) -> Self {
        if is_expired { Self::Expired } else { Self::Capacity }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Capacity => "capacity",
            Self::Expired => "expired",
            Self::TooLarge => "too_large",
        }
    }
}

impl NearUsage {
    pub(super) fn new(guard: &Arc<str>, of: &Meter) -> Self {
        Self {
            guard: guard.clone(),
            entries: of.gauge("cattleguard_near_entries", "Entries in the near tier."),
            bytes: of.gauge(
                "cattleguard_near_bytes",
                "What the entries in the near tier take, as far as their sizes are known.",
            ),
            evictions: of
                .counters(
                    "cattleguard_near_evictions_total",
                    "Entries that left the near tier unasked, by why.",
                )
                .by("why", EvictedFor::ALL.map(EvictedFor::as_str)),
        }
    }

    /// The name of the guard, for logs.
    pub(crate) fn guard(&self) -> &str {
        &self.guard
    }

    pub(crate) fn came(&self) {
        self.entries.add(1.0);
    }

    pub(crate) fn left(&self) {
        self.entries.add(-1.0);
    }

    pub(crate) fn resized(&self, bytes: f64) {
        self.bytes.add(bytes);
    }

    pub(crate) fn evicted(&self, why: EvictedFor) {
        self.evictions.count(why.as_str());
    }
}
