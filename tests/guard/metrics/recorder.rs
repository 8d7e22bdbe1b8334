//! A recorder that remembers everything, and what the spans say beside it.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
};

use metrics::{Counter, Gauge, Histogram, HistogramFn, Key, KeyName, Metadata, SharedString, Unit};
use parking_lot::Mutex;
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{
    Layer,
    layer::{Context, SubscriberExt},
    registry::LookupSpan,
};

/// How often each word was said.
pub(super) type Tally = BTreeMap<String, u64>;

#[derive(Clone, Default)]
pub(super) struct Recorder(Arc<State>);

#[derive(Default)]
struct State {
    numbers: Mutex<BTreeMap<Series, Arc<AtomicU64>>>,
    samples: Mutex<BTreeMap<Series, Arc<Samples>>>,
    kinds: Mutex<BTreeMap<String, &'static str>>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Series {
    pub(super) name: String,
    pub(super) labels: BTreeMap<String, String>,
}

#[derive(Default)]
struct Samples(Mutex<Vec<f64>>);

impl HistogramFn for Samples {
    fn record(&self, value: f64) {
        self.0.lock().push(value);
    }
}

impl Recorder {
    /// Guards that are built meanwhile tell this recorder.
    pub(super) fn during<T>(&self, build: impl FnOnce() -> T) -> T {
        metrics::with_local_recorder(self, build)
    }

    /// The counter of this name with this label.
    pub(super) fn counter(&self, name: &str, label: &str, value: &str) -> u64 {
        let numbers = self.0.numbers.lock();
        let mut of = numbers.iter().filter(|(series, _)| {
            series.name == name && series.labels.get(label).is_some_and(|is| is == value)
        });
        let (_, count) = of.next().unwrap_or_else(|| panic!("no {name} {value}"));
        count.load(SeqCst)
    }

    /// All counters of this name that are not zero, by this label.
    pub(super) fn counters(&self, name: &str, label: &str) -> Tally {
        let numbers = self.0.numbers.lock();
        let of = numbers.iter().filter(|(series, _)| series.name == name);
        let mut tally = Tally::new();
        for (series, count) in of.filter(|(_, count)| count.load(SeqCst) > 0) {
            *tally.entry(series.labels[label].clone()).or_default() += count.load(SeqCst);
        }
        tally
    }

    pub(super) fn total(&self, name: &str) -> u64 {
        self.counters(name, "guard").values().sum()
    }

    pub(super) fn gauge(&self, name: &str) -> f64 {
        let numbers = self.0.numbers.lock();
        let mut of = numbers.iter().filter(|(series, _)| series.name == name);
        f64::from_bits(of.next().unwrap_or_else(|| panic!("no {name}")).1.load(SeqCst))
    }

    pub(super) fn samples(&self, name: &str) -> Vec<f64> {
        let samples = self.0.samples.lock();
        let of = samples.iter().filter(|(series, _)| series.name == name);
        of.flat_map(|(_, samples)| samples.0.lock().clone()).collect()
    }

    /// All that was ever asked for.
    pub(super) fn series(&self) -> BTreeSet<Series> {
        let numbers = self.0.numbers.lock();
        numbers.keys().chain(self.0.samples.lock().keys()).cloned().collect()
    }

    /// What was described, and as what.
    pub(super) fn kinds(&self) -> BTreeMap<String, &'static str> {
        self.0.kinds.lock().clone()
    }

    fn describe(&self, name: &KeyName, kind: &'static str, says: &SharedString) {
        assert!(!says.is_empty());
        self.0.kinds.lock().insert(name.as_str().to_owned(), kind);
    }

    fn number(&self, key: &Key) -> Arc<AtomicU64> {
        self.0.numbers.lock().entry(Series::of(key)).or_default().clone()
    }
}

impl Series {
    fn of(key: &Key) -> Self {
        let labels = key.labels().map(|label| (label.key().to_owned(), label.value().to_owned()));
        Self { name: key.name().to_owned(), labels: labels.collect() }
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, says: SharedString) {
        self.describe(&name, "counter", &says);
    }

    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, says: SharedString) {
        self.describe(&name, "gauge", &says);
    }

    fn describe_histogram(&self, name: KeyName, unit: Option<Unit>, says: SharedString) {
        assert_eq!(unit, Some(Unit::Seconds));
        self.describe(&name, "histogram", &says);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.number(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.number(key))
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::from_arc(self.0.samples.lock().entry(Series::of(key)).or_default().clone())
    }
}

/// The outcomes that `fetch` spans and events carry.
#[derive(Clone, Default)]
pub(super) struct Spans(Arc<Mutex<Tally>>);

impl Spans {
    pub(super) fn subscriber(&self) -> impl Subscriber + Send + Sync + use<> {
        tracing_subscriber::registry().with(self.clone())
    }

    pub(super) fn tally(&self) -> Tally {
        self.0.lock().clone()
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Spans {
    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        if context.span(id).is_some_and(|span| span.name() == "fetch") {
            values.record(&mut Outcome(self));
        }
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut is_fetch = IsFetch(false);
        event.record(&mut is_fetch);
        if is_fetch.0 {
            event.record(&mut Outcome(self));
        }
    }
}

struct Outcome<'a>(&'a Spans);

impl Visit for Outcome<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == "outcome" {
            *self.0.0.lock().entry(value.to_owned()).or_default() += 1;
        }
    }

    fn record_debug(&mut self, _: &Field, _: &dyn Debug) {}
}

struct IsFetch(bool);

impl Visit for IsFetch {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0 |= field.name() == "message" && format!("{value:?}") == "fetch";
    }
}
