//! The events of a run in order, and what the rules ask about them.

use std::collections::{BTreeMap, HashMap};

use super::{
    event::{Deed, Event, Micros},
    faults::{Fault, Kind},
};

/// The times of the run's policy, and how much the machine may add to them.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    pub lease_ttl: Micros,
    pub near_ttl: Micros,
    pub near_outage_ttl: Micros,
    /// The longest that a load takes, with its retries: the load timeout.
    pub longest_load: Micros,
    /// Loads of a process at one time that have taken less than a second.
    pub loads_at_once: usize,
    /// How long before its end a fault may have been healed.
    pub settling: Micros,
    /// How late anything may be on this machine.
    pub slack: Micros,
}

pub(super) struct Record<'a> {
    pub(super) bounds: &'a Bounds,
    pub(super) faults: &'a [Fault],
    /// By begin.
    pub(super) by_key: BTreeMap<u32, Vec<&'a Event>>,
    sources: HashMap<u64, &'a Event>,
    /// When the last thing happened.
    pub(super) end: Micros,
}

impl<'a> Record<'a> {
    pub(super) fn of(events: &'a [Event], faults: &'a [Fault], bounds: &'a Bounds) -> Self {
        let mut by_key: BTreeMap<u32, Vec<&Event>> = BTreeMap::new();
        let mut sources = HashMap::new();
        for event in events {
            by_key.entry(event.key).or_default().push(event);
            if let Deed::Loaded { source, .. } | Deed::Put { source, .. } = event.deed {
                sources.insert(source, event);
            }
        }
        for of_key in by_key.values_mut() {
            of_key.sort_by_key(|event| event.span.begun);
        }
        let end = events.iter().filter_map(|event| event.span.ended).max().unwrap_or(0);
        Self { bounds, faults, by_key, sources, end }
    }

    /// The load or the put of this number, if it is about this key.
    pub(super) fn source(&self, source: u64, key: u32) -> Option<&'a Event> {
        self.sources.get(&source).copied().filter(|event| event.key == key)
    }

    /// When it was over at the latest: when its process died, if it was not seen to end.
    pub(super) fn over(&self, event: &Event) -> Micros {
        event.span.ended.unwrap_or_else(|| self.death(event.process).unwrap_or(self.end))
    }

    pub(super) fn death(&self, process: u32) -> Option<Micros> {
        let mut killed = self.faults.iter().filter(|fault| fault.kind == Kind::Killed);
        killed.find(|fault| fault.process == Some(process)).map(|fault| fault.begun)
    }

    /// Whether such a fault, of everything or of this process, lasts at some moment from `from` until `until`.
    pub(super) fn had(&self, kinds: &[Kind], process: u32, from: Micros, until: Micros) -> bool {
        self.faults.iter().any(|fault| {
            kinds.contains(&fault.kind)
                && fault.process.is_none_or(|who| who == process)
                && fault.begun <= until
                && from <= fault.ended
        })
    }

    /// The same, of whichever process.
    pub(super) fn had_any(&self, kinds: &[Kind], from: Micros, until: Micros) -> bool {
        self.faults
            .iter()
            .any(|fault| kinds.contains(&fault.kind) && fault.begun <= until && from <= fault.ended)
    }
}
