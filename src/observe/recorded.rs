//! The handles with the feature `metrics`. Every label has few values, all known here and registered from
//! the start: no key can become one, and a rate has its zero to begin from.

use std::time::Duration;

use ::metrics::{Label, SharedString, Unit};
use tokio::time::Instant;

/// Makes the handles of one guard.
pub(super) struct Meter {
    guard: SharedString,
}

/// Counters of one name, to be told apart by a label.
pub(super) struct Unlabelled {
    name: &'static str,
    labels: Vec<Label>,
}

pub(super) struct Counter(::metrics::Counter);

/// A counter for each value of a label. Few enough to look through.
#[derive(Clone)]
pub(super) struct Counters(Box<[(&'static str, ::metrics::Counter)]>);

pub(super) struct Histogram(::metrics::Histogram);

#[derive(Clone)]
pub(crate) struct Gauge(::metrics::Gauge);

#[derive(Clone, Copy)]
pub(crate) struct Stopwatch(Instant);

impl Meter {
    pub(super) fn of(guard: &str) -> Self {
        Self { guard: guard.to_owned().into() }
    }

    fn labels(&self) -> Vec<Label> {
        vec![Label::new("guard", self.guard.clone())]
    }

    pub(super) fn counter(&self, name: &'static str, says: &'static str) -> Counter {
        ::metrics::describe_counter!(name, says);
        let counter = ::metrics::counter!(name, self.labels());
        Counter(counter)
    }

    pub(super) fn counters(&self, name: &'static str, says: &'static str) -> Unlabelled {
        ::metrics::describe_counter!(name, says);
        Unlabelled { name, labels: self.labels() }
    }

    /// A histogram of times.
    pub(super) fn seconds(&self, name: &'static str, says: &'static str) -> Histogram {
        ::metrics::describe_histogram!(name, Unit::Seconds, says);
        Histogram(::metrics::histogram!(name, self.labels()))
    }

    pub(super) fn gauge(&self, name: &'static str, says: &'static str) -> Gauge {
        ::metrics::describe_gauge!(name, says);
        let gauge = Gauge(::metrics::gauge!(name, self.labels()));
        // So that it is there before it first moves. Not `set`: guards of one name add up.
        gauge.add(0.0);
        gauge
    }
}

impl Unlabelled {
    pub(super) fn with(mut self, label: &'static str, value: &'static str) -> Self {
        self.labels.push(Label::from_static_parts(label, value));
        self
    }

    pub(super) fn by(
        self,
        label: &'static str,
        values: impl IntoIterator<Item = &'static str>,
    ) -> Counters {
        let counter = |value| {
            let mut labels = self.labels.clone();
            labels.push(Label::from_static_parts(label, value));
            (value, ::metrics::counter!(self.name, labels))
        };
        Counters(values.into_iter().map(counter).collect())
    }
}

impl Counter {
    pub(super) fn increment(&self) {
        self.0.increment(1);
    }
}

impl Counters {
    pub(super) fn of(&self, value: &'static str) -> Counter {
        let found = self.0.iter().find(|(known, _)| *known == value);
        debug_assert!(found.is_some(), "{value} is not registered");
        Counter(found.map_or_else(::metrics::Counter::noop, |(_, counter)| counter.clone()))
    }

    pub(super) fn count(&self, value: &'static str) {
        let found = self.0.iter().find(|(known, _)| *known == value);
        debug_assert!(found.is_some(), "{value} is not registered");
        if let Some((_, counter)) = found {
            counter.increment(1);
        }
    }
}

impl Histogram {
    pub(super) fn record(&self, took: Duration) {
        self.0.record(took);
    }
}

impl Gauge {
    pub(crate) fn add(&self, delta: f64) {
        if delta < 0.0 {
            self.0.decrement(-delta);
        } else {
            self.0.increment(delta);
        }
    }
}

impl Default for Gauge {
    fn default() -> Self {
        Self(::metrics::Gauge::noop())
    }
}

impl Stopwatch {
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(super) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}
