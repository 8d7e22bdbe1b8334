//! What can happen next.

use crate::{
    rules::{Config, Faults},
    state::{Flight, Kind, Lease, Link, Process, Record, SLOTS, Stage, State, Version, Write},
};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Action {
    Call(usize, usize),
    LookUp(usize, usize),
    Register(usize, usize),
    LookAgain(usize, usize),
    Load(usize, usize, Version),
    LoadAgain(usize, usize),
    Commit(usize, usize),
    ReadAgain(usize, usize),
    Complete(usize, usize),
    Fail(usize, usize),
    Release(usize, usize),
    Deliver(usize),
    DeliverTwice(usize),
    DropLate(usize),
    NearEnds(usize),
    Change(usize, Kind),
    Write(usize),
    Acknowledge(usize),
    Crash(usize),
    Cut(usize),
    Notice(usize),
    Reconnect(usize),
    GoStale,
    Expire,
    BackOffEnds,
    EvictRecord,
    EvictLease,
    Snapshot,
    FailOver,
    ClockBack,
    ClockForward,
}

impl Action {
    /// Whether it is one of the faults that are counted.
    pub fn is_fault(self, state: &State) -> bool {
        match self {
            Self::Expire => matches!(state.store.lease, Lease::Held { holder: Some(_), .. }),
            Self::DeliverTwice(_) | Self::Crash(_) | Self::Cut(_) => true,
            Self::EvictRecord | Self::EvictLease | Self::FailOver => true,
            _ => false,
        }
    }
}

/// All that can happen in `state`.
pub fn actions(config: &Config, state: &State, into: &mut Vec<Action>) {
    for at in 0..config.processes {
        let process = &state.processes[at];
        open_flight(config, at, process, into);
        for (slot, flight) in process.flights.iter().enumerate() {
            of_flight(config, state, (at, slot), flight, into);
        }
        of_process(config, state, at, into);
    }
    of_store(config, state, into);
}

/// The faults that may still come.
fn left(config: &Config, state: &State) -> Faults {
    if state.faults < config.most_faults { config.faults } else { Faults::default() }
}

fn open_flight(config: &Config, at: usize, process: &Process, into: &mut Vec<Action>) {
    let is_idle = |flight: &Flight| flight.stage == Stage::Idle;
    let is_open = process.flights.iter().any(|flight| !is_idle(flight) && flight.is_open);
    if process.near.is_some() || is_open {
        return;
    }
    let free = process.flights.iter().take(config.slots.min(SLOTS)).position(is_idle);
    into.extend(free.map(|slot| Action::Call(at, slot)));
}

fn of_flight(
    config: &Config,
    state: &State,
    (at, slot): (usize, usize),
    flight: &Flight,
    into: &mut Vec<Action>,
) {
    match flight.stage {
        Stage::Idle | Stage::Held { notified: false, timer: false } => {}
        Stage::LookUp => into.push(Action::LookUp(at, slot)),
        Stage::Unregistered => into.push(Action::Register(at, slot)),
        Stage::Held { .. } => into.push(Action::LookAgain(at, slot)),
        Stage::Leased { .. } => {
            let oldest = if config.faults.lag { 1 } else { state.row };
            into.extend((oldest..=state.row).map(|version| Action::Load(at, slot, version)));
            if !config.is_lean {
                into.extend([Action::Fail(at, slot), Action::Release(at, slot)]);
            }
        }
        Stage::Loaded { version, minimum, .. } => into.push(match version < minimum {
            true if config.rules.version_compared => Action::LoadAgain(at, slot),
            _ => Action::Commit(at, slot),
        }),
        Stage::Refused(_) => into.push(Action::ReadAgain(at, slot)),
        Stage::Hit(_) | Stage::Stored(_) => into.push(Action::Complete(at, slot)),
    }
}

fn of_process(config: &Config, state: &State, at: usize, into: &mut Vec<Action>) {
    let (process, faults) = (&state.processes[at], left(config, state));
    if process.dropping.is_some() {
        into.push(Action::DropLate(at));
    } else if process.inbox[0].is_some() {
        into.push(Action::Deliver(at));
        if faults.twice {
            into.push(Action::DeliverTwice(at));
        }
    }
    if process.near.is_some() && !config.is_lean {
        into.push(Action::NearEnds(at));
    }
    match process.write {
        Write::Idle if state.row < config.versions => {
            into.extend(config.writes.iter().map(|&kind| Action::Change(at, kind)));
        }
        Write::Idle => {}
        Write::Begun { .. } => into.push(Action::Write(at)),
        Write::Told { .. } => into.push(Action::Acknowledge(at)),
    }
    if faults.crash && *process != Process::default() {
        into.push(Action::Crash(at));
    }
    match process.link {
        Link::Up if faults.cut => into.push(Action::Cut(at)),
        Link::Up => {}
        Link::Cut => into.push(Action::Notice(at)),
        Link::Down => into.push(Action::Reconnect(at)),
    }
}

fn of_store(config: &Config, state: &State, into: &mut Vec<Action>) {
    let (store, faults) = (&state.store, left(config, state));
    if store.record.fresh().is_some() && !config.is_lean {
        into.push(Action::GoStale);
    }
    match store.lease {
        Lease::Free => {}
        Lease::BackOff => into.push(Action::BackOffEnds),
        Lease::Held { holder, .. } if holder.is_none() || faults.freeze => {
            into.push(Action::Expire);
        }
        Lease::Held { .. } => {}
    }
    if faults.evict && store.record != Record::Absent {
        into.push(Action::EvictRecord);
    }
    if faults.evict && store.lease != Lease::Free {
        into.push(Action::EvictLease);
    }
    if faults.failover {
        into.push(match state.snapshot {
            None => Action::Snapshot,
            Some(_) => Action::FailOver,
        });
    }
    if config.faults.clock {
        into.push(match state.fence.is_clock_behind {
            true => Action::ClockForward,
            false => Action::ClockBack,
        });
    }
}
