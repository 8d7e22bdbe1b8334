//! The handles without the feature `metrics`: nothing is counted, and nothing is left after compiling.

use std::time::Duration;

#[derive(Clone, Copy)]
pub(super) struct Meter;

pub(super) struct Counter;
#[derive(Clone)]
pub(super) struct Counters;
pub(super) struct Histogram;

#[derive(Clone, Default)]
pub(crate) struct Gauge;

#[derive(Clone, Copy)]
pub(crate) struct Stopwatch;

impl Meter {
    pub(super) fn of(_guard: &str) -> Self {
        Self
    }

    pub(super) fn counter(&self, _name: &'static str, _says: &'static str) -> Counter {
        Counter
    }

    pub(super) fn counters(&self, _name: &'static str, _says: &'static str) -> Self {
        Self
    }

    pub(super) fn with(self, _label: &'static str, _value: &'static str) -> Self {
        Self
    }

    pub(super) fn by(
        self,
        _label: &'static str,
        _values: impl IntoIterator<Item = &'static str>,
    ) -> Counters {
        Counters
    }

    pub(super) fn seconds(&self, _name: &'static str, _says: &'static str) -> Histogram {
        Histogram
    }

    pub(super) fn gauge(&self, _name: &'static str, _says: &'static str) -> Gauge {
        Gauge
    }
}

impl Counter {
    pub(super) fn increment(&self) {}
}

impl Counters {
    pub(super) fn of(&self, _value: &'static str) -> Counter {
        Counter
    }

    pub(super) fn count(&self, _value: &'static str) {}
}

impl Histogram {
    pub(super) fn record(&self, _took: Duration) {}
}

impl Gauge {
    pub(crate) fn add(&self, _delta: f64) {}
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self
    }

    pub(super) fn elapsed(self) -> Duration {
        Duration::ZERO
    }
}
