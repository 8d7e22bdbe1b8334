//! Breadth first through every state: the first trace to a broken promise is a shortest one.

use std::{
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
};

use crate::{
    action::{Action, actions},
    apply::apply,
    rules::{Broken, Config, Promise},
    state::State,
};

/// Steps, with the state before and after each.
pub type Trace = Vec<(State, Action, State)>;

/// What a search has found.
pub struct Explored {
    pub states: usize,
    /// Steps that were not followed, because a process would have had too many messages under way.
    pub cut: usize,
    pub traces: Vec<(Promise, Trace)>,
}

impl Explored {
    pub fn breaks(&self, promise: Promise) -> bool {
        self.traces.iter().any(|(broken, _)| *broken == promise)
    }

    pub fn trace(&self, promise: Promise) -> Option<&[(State, Action, State)]> {
        let found = self.traces.iter().find(|(broken, _)| *broken == promise);
        found.map(|(_, trace)| trace.as_slice())
    }
}

#[derive(Default)]
struct Visited {
    /// Each state, with its parent and the step from there.
    states: Vec<(State, u32, Option<Action>)>,
    known: HashMap<State, (), BuildHasherDefault<Mixer>>,
}

impl Visited {
    fn add(&mut self, state: State, parent: usize, action: Option<Action>) {
        if self.known.insert(state, ()).is_none() {
            self.states.push((state, parent as u32, action));
        }
    }

    fn trace_to(&self, parent: usize, action: Action, end: State) -> Trace {
        let mut trace = vec![(self.states[parent].0, action, end)];
        let mut at = parent;
        while let (state, before, Some(action)) = self.states[at] {
            trace.push((self.states[before as usize].0, action, state));
            at = before as usize;
        }
        trace.reverse();
        trace
    }
}

/// Visits every state, or stops when `until` is broken.
pub fn explore(config: &Config, until: Option<Promise>) -> Explored {
    let mut visited = Visited::default();
    let mut explored = Explored { states: 0, cut: 0, traces: Vec::new() };
    let mut found = Broken::default();
    visited.add(State { row: 1, ..State::default() }, 0, None);
    let mut at = 0;
    let mut enabled = Vec::new();
    while at < visited.states.len() {
        let state = visited.states[at].0;
        enabled.clear();
        actions(config, &state, &mut enabled);
        for &action in &enabled {
            let Some((next, broken)) = apply(config, &state, action) else {
                explored.cut += 1;
                continue;
            };
            for promise in Promise::ALL {
                if broken.has(promise) && !found.has(promise) {
                    found.add(promise);
                    explored.traces.push((promise, visited.trace_to(at, action, next)));
                }
            }
            visited.add(next, at, Some(action));
        }
        at += 1;
        if until.is_some_and(|promise| found.has(promise)) {
            break;
        }
    }
    explored.states = visited.states.len();
    explored
}

/// A hasher that is fast for small values. States are compared in full.
#[derive(Default)]
struct Mixer(u64);

impl Mixer {
    fn mix(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

impl Hasher for Mixer {
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }

    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.mix(u64::from(byte));
        }
    }

    fn write_u8(&mut self, byte: u8) {
        self.mix(u64::from(byte));
    }

    fn write_isize(&mut self, word: isize) {
        self.mix(word as u64);
    }

    fn write_usize(&mut self, word: usize) {
        self.mix(word as u64);
    }
}
