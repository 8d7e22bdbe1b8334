use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use super::{Bounds, Evicted, Near};
use crate::{
    Clock, Entry, Moment, Policy, Version,
    freshness::Freshness,
    observe::{EventHook, Observer},
    size::SizeOf,
};

struct Tier<V>(Near<V>, Freshness);

impl<V> Tier<V> {
    fn of(bounds: Bounds, size_of: SizeOf<V>) -> Self {
        let usage = Observer::new("", Clock::manual(), EventHook::default()).near_usage;
        let near = Near::new(bounds, size_of, Clock::manual(), usage);
        Self(near, Freshness::new(Policy::default()))
    }

    fn insert(&self, name: &str, value: V) -> Evicted<V> {
        self.insert_sized(name, value, 0)
    }

    fn insert_sized(&self, name: &str, value: V, bytes: usize) -> Evicted<V> {
        let entry = Entry::new(Some(value), Version::new(1), Moment::FAR_FUTURE);
        entry.set_bytes(bytes);
        self.0.insert(&name.into(), &Arc::new(entry), Duration::from_secs(5), &self.1)
    }

    fn has(&self, name: &str) -> bool {
        self.0.look(name, &self.1).fresh().is_some()
    }
}

fn entries(entries: usize) -> Bounds {
    Bounds { entries, bytes: None }
}

#[test]
fn a_value_that_looks_near_or_panics_when_it_is_dropped_does_not_stop_a_clearing() {
    struct Odd(usize, Arc<OnceLock<Arc<Tier<Odd>>>>, Arc<AtomicUsize>);
    impl Drop for Odd {
        fn drop(&mut self) {
            self.2.fetch_add(1, SeqCst);
            // A shard that is locked would not let it in.
            let has = self.1.get().is_some_and(|tier| tier.has(&self.0.to_string()));
            assert!(has || !self.0.is_multiple_of(3), "on purpose");
        }
    }
    let (shared, dropped) = (Arc::new(OnceLock::new()), Arc::new(AtomicUsize::new(0)));
    let tier = Arc::new(Tier::of(entries(1_000), SizeOf::default()));
    let _ = shared.set(tier.clone());
    for n in 0..100 {
        drop(tier.insert(&n.to_string(), Odd(n, shared.clone(), dropped.clone())));
    }
    tier.0.clear();
    assert_eq!(dropped.load(SeqCst), 100);
    assert!((0..100).all(|n| !tier.has(&n.to_string())));
}

#[test]
fn what_was_removed_before_it_was_measured_does_not_come_back() {
    let bounds = Bounds { entries: 100, bytes: Some(10_000) };
    let tier = Tier::of(bounds, SizeOf::by(|bytes: &usize| *bytes));
    let inserted = tier.insert("k", 100);
    assert!(tier.0.remove_if("k", |_| true).is_some());
    drop(inserted);
    assert!(!tier.has("k"));
    // Nor does it take the place of a later one.
    let first = tier.insert("k", 9_000);
    let second = tier.insert("k", 100);
    drop(second);
    drop(first);
    assert!(tier.has("k"));
}

#[test]
fn no_value_is_dropped_before_the_insertion_is_over() {
    struct Counted(Arc<AtomicUsize>);
    impl Drop for Counted {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let tier = Tier::of(Bounds { entries: 1_000, bytes: Some(100_000) }, SizeOf::default());
    let dropped = Arc::new(AtomicUsize::new(0));
    let mut most_at_once = 0;
    for n in 0..3_000 {
        let before = dropped.load(SeqCst);
        // At times one takes the room of several, or the place of one before.
        let bytes = if n % 10 == 9 { 5_000 } else { 10 };
        let evicted = tier.insert_sized(&(n % 500).to_string(), Counted(dropped.clone()), bytes);
        assert_eq!(dropped.load(SeqCst), before);
        drop(evicted);
        most_at_once = most_at_once.max(dropped.load(SeqCst) - before);
    }
    assert!(most_at_once > 2, "{most_at_once} at once");
}
