//! What a step does: the scripts, and the guard. The table in the README says what each mirrors.

use crate::{
    action::Action,
    rules::{Broken, Config, Promise},
    state::{
        Fence, Flight, Holder, INBOX, Kind, Lease, Link, Message, Minimum, Process, Record, Stage,
        State, Store, UNCOUNTED, Version, Write,
    },
};

/// The state after `action`, and the promises that it breaks. `None`: too many messages would be under way.
pub fn apply(config: &Config, state: &State, action: Action) -> Option<(State, Broken)> {
    let mut step = Step { config, state: *state, broken: Broken::default(), is_cut: false };
    step.state.faults += u8::from(action.is_fault(state));
    match action {
        Action::Call(at, slot) => step.call(at, slot),
        Action::LookUp(at, slot) => step.look_up_or_lease(at, slot),
        Action::Register(at, slot) => step.wait(at, slot),
        Action::LookAgain(at, slot) => step.look_again(at, slot),
        Action::Load(at, slot, version) => step.load(at, slot, version),
        Action::LoadAgain(at, slot) => step.load_again(at, slot),
        Action::Commit(at, slot) => step.commit(at, slot),
        Action::ReadAgain(at, slot) => step.read_again(at, slot),
        Action::Complete(at, slot) => step.complete(at, slot),
        Action::Fail(at, slot) => step.end_lease(at, slot, Lease::BackOff),
        Action::Release(at, slot) => step.end_lease(at, slot, Lease::Free),
        Action::Deliver(at) => step.deliver(at, true),
        Action::DeliverTwice(at) => step.deliver(at, false),
        Action::DropLate(at) => step.drop_late(at),
        Action::NearEnds(at) => step.state.processes[at].near = None,
        Action::Change(at, kind) => step.change(at, kind),
        Action::Write(at) => step.write(at),
        Action::Acknowledge(at) => step.acknowledge(at),
        Action::Crash(at) => step.crash(at),
        Action::Cut(at) => step.cut(at),
        Action::Notice(at) => step.disconnected(at),
        Action::Reconnect(at) => step.connected(at),
        _ => step.of_store(action),
    }
    step.check();
    (!step.is_cut).then_some((step.state, step.broken))
}

struct Step<'a> {
    config: &'a Config,
    state: State,
    broken: Broken,
    is_cut: bool,
}

/// A flight of a process.
impl Step<'_> {
    fn flight(&mut self, at: usize, slot: usize) -> &mut Flight {
        &mut self.state.processes[at].flights[slot]
    }

    /// What a caller that comes now may not get less than; of a closed flight, the last one aboard.
    fn minimum(&self, at: usize, slot: usize) -> Minimum {
        let process = &self.state.processes[at];
        match process.flights[slot].is_open {
            true => Minimum { own: process.acknowledged, everywhere: self.state.everywhere },
            false => process.flights[slot].late,
        }
    }

    fn begin_epoch(&mut self, at: usize, slot: usize) {
        self.flight(at, slot).early = self.minimum(at, slot);
    }

    fn call(&mut self, at: usize, slot: usize) {
        *self.flight(at, slot) =
            Flight { stage: Stage::LookUp, is_open: true, ..Flight::default() };
        self.begin_epoch(at, slot);
    }

    fn look_again(&mut self, at: usize, slot: usize) {
        self.flight(at, slot).stage = Stage::LookUp;
        self.begin_epoch(at, slot);
    }

    fn look_up_or_lease(&mut self, at: usize, slot: usize) {
        let record = self.state.store.record;
        if let Some(version) = record.fresh() {
            self.flight(at, slot).stage = Stage::Hit(version);
            return;
        }
        let holder = Holder { process: at as u8, slot: slot as u8 };
        match self.state.store.lease {
            Lease::Held { holder, waiters } if self.config.rules.granted_once => {
                let is_room = waiters.count_ones() < self.config.noted;
                let noted = match self.config.rules.waiters_noted && is_room {
                    true => waiters | 1 << at,
                    false => waiters,
                };
                self.state.store.lease = Lease::Held { holder, waiters: noted };
                match self.config.rules.registered_first {
                    true => self.wait(at, slot),
                    false => self.flight(at, slot).stage = Stage::Unregistered,
                }
            }
            Lease::BackOff => *self.flight(at, slot) = Flight::default(),
            _ => {
                self.grant();
                self.state.store.lease = Lease::Held { holder: Some(holder), waiters: 0 };
                self.begin_epoch(at, slot);
                let minimum = record.version();
                self.flight(at, slot).stage = Stage::Leased { minimum, is_overtaken: false };
            }
        }
    }

    /// Others that load now, and the fence.
    fn grant(&mut self) {
        let mut flights = self.state.processes.iter().flat_map(|process| process.flights);
        if flights.any(|flight| flight.stage.is_loading()) {
            self.broken.add(Promise::OneLoad);
        }
        if !self.config.faults.clock {
            return;
        }
        let Store { record, .. } = self.state.store;
        let Fence { is_clock_behind, is_floor_behind } = self.state.fence;
        let is_covered = record != Record::Absent && !is_floor_behind;
        if is_clock_behind && !(is_covered && self.config.rules.fence_past_floor) {
            self.broken.add(Promise::GrowingFences);
            if is_covered {
                self.broken.add(Promise::FencesPastWrites);
            }
        }
        self.state.fence.is_floor_behind = record != Record::Absent;
    }

    fn wait(&mut self, at: usize, slot: usize) {
        let flight = self.flight(at, slot);
        flight.stage = Stage::Held { notified: false, timer: false };
        // A new epoch begins before the next look-up.
        flight.early = Minimum::default();
    }

    fn load(&mut self, at: usize, slot: usize, version: Version) {
        if let Stage::Leased { minimum, is_overtaken } = self.flight(at, slot).stage {
            self.flight(at, slot).stage = Stage::Loaded { version, minimum, is_overtaken };
        }
    }

    fn load_again(&mut self, at: usize, slot: usize) {
        let holder = Holder { process: at as u8, slot: slot as u8 };
        let is_held = self.state.store.lease.is_of(holder);
        self.begin_epoch(at, slot);
        let flight = self.flight(at, slot);
        flight.stage = match flight.stage {
            Stage::Loaded { minimum, .. } if is_held => {
                Stage::Leased { minimum, is_overtaken: false }
            }
            _ => Stage::LookUp,
        };
    }

    fn commit(&mut self, at: usize, slot: usize) {
        let Stage::Loaded { version, is_overtaken, .. } = self.flight(at, slot).stage else {
            return;
        };
        let Store { record, lease } = self.state.store;
        let is_held = lease.is_of(Holder { process: at as u8, slot: slot as u8 });
        let rules = self.config.rules;
        if rules.token_checked && !is_held {
            self.flight(at, slot).stage = Stage::Refused(version);
            return;
        }
        self.state.store.lease = Lease::Free;
        if rules.version_compared && version < record.version() {
            self.tell(lease.waiters(), false, Message::Released);
            self.flight(at, slot).stage = Stage::Refused(version);
            return;
        }
        if !is_held {
            self.broken.add(Promise::OneCommit);
        }
        if is_overtaken || version < self.state.at {
            self.broken.add(Promise::NoResurrection);
        }
        self.store(version, lease);
        let replaces = matches!(record, Record::Entry { version: older, .. } if version > older);
        self.tell(lease.waiters(), replaces, Message::Committed(version));
        let flight = self.flight(at, slot);
        // For all aboard.
        (flight.stage, flight.early) = (Stage::Stored(version), Minimum::default());
    }

    fn read_again(&mut self, at: usize, slot: usize) {
        if let Some(version) = self.state.store.record.fresh() {
            self.begin_epoch(at, slot);
            self.flight(at, slot).stage = Stage::Hit(version);
            return;
        }
        let flight = *self.flight(at, slot);
        if let Stage::Refused(version) = flight.stage {
            self.answer(version, flight.early);
            if !self.config.rules.rejected_for_early_only {
                self.answer(version, self.minimum(at, slot));
            }
        }
        *self.flight(at, slot) = Flight::default();
    }

    fn complete(&mut self, at: usize, slot: usize) {
        let flight = *self.flight(at, slot);
        let (version, minimum) = match flight.stage {
            Stage::Hit(version) => (version, flight.early),
            Stage::Stored(version) => (version, self.minimum(at, slot)),
            _ => return,
        };
        self.answer(version, minimum);
        let rules = self.config.rules;
        let may_fill = flight.is_open || !rules.closed_unfilled;
        if may_fill && (version >= flight.floor || !rules.floor_respected) {
            self.state.processes[at].near = Some(version);
        }
        *self.flight(at, slot) = Flight::default();
    }

    /// `release` and `fail`: those that wait are told.
    fn end_lease(&mut self, at: usize, slot: usize, next: Lease) {
        let lease = self.state.store.lease;
        if lease.is_of(Holder { process: at as u8, slot: slot as u8 }) {
            self.state.store.lease = next;
            self.tell(lease.waiters(), false, Message::Released);
        }
        *self.flight(at, slot) = Flight::default();
    }
}

/// Messages, and what a process does with them.
impl Step<'_> {
    fn tell(&mut self, waiters: u8, all: bool, message: Message) {
        if !self.config.rules.told {
            return;
        }
        let all = all || waiters.count_ones() >= self.config.noted;
        for at in 0..self.config.processes {
            let process = &mut self.state.processes[at];
            if process.link != Link::Up || !(all || waiters & 1 << at != 0) {
                continue;
            }
            let free = process.inbox.iter().position(Option::is_none);
            match free {
                // As if it had come twice.
                Some(free) if free > 0 && process.inbox[free - 1] == Some(message) => {}
                Some(free) => process.inbox[free] = Some(message),
                None => self.is_cut = true,
            }
        }
    }

    fn deliver(&mut self, at: usize, is_taken: bool) {
        let process = &mut self.state.processes[at];
        let Some(message) = process.inbox[0] else { return };
        if is_taken {
            process.inbox.copy_within(1.., 0);
            process.inbox[INBOX - 1] = None;
        }
        let drops = self.config.rules.near_dropped;
        match message {
            Message::Committed(version) => {
                for flight in process.flights.iter_mut().filter(|flight| flight.is_open) {
                    flight.floor = flight.floor.max(version);
                }
                process.near = process.near.filter(|&near| near >= version || !drops);
            }
            Message::Put(version) if drops => self.forget(at, |near| near <= version),
            Message::Invalidated { below, writer, number } => {
                if drops && self.config.rules.confirmed_after_drop {
                    self.forget_below(at, below);
                } else if drops {
                    process.dropping = Some(below);
                }
                self.confirm(at, writer as usize, number);
            }
            _ => {}
        }
        self.notify(at);
    }

    fn drop_late(&mut self, at: usize) {
        if let Some(below) = self.state.processes[at].dropping.take() {
            self.forget_below(at, below);
        }
    }

    fn confirm(&mut self, by: usize, writer: usize, number: Version) {
        if let Write::Told { version, unconfirmed, .. } = &mut self.state.processes[writer].write
            && *version == number
        {
            *unconfirmed &= !(1 << by);
        }
    }

    fn notify(&mut self, at: usize) {
        for flight in &mut self.state.processes[at].flights {
            if let Stage::Held { notified, .. } = &mut flight.stage {
                *notified = true;
            }
        }
    }

    fn forget_below(&mut self, at: usize, below: Option<Version>) {
        self.forget(at, |near| below.is_none_or(|below| near < below));
    }

    /// Closes the flight and drops the near entry, under the name's lock.
    fn forget(&mut self, at: usize, is_outdated: impl Fn(Version) -> bool) {
        self.close(at);
        let process = &mut self.state.processes[at];
        process.near = process.near.filter(|&near| !is_outdated(near));
    }

    fn close(&mut self, at: usize) {
        for slot in 0..self.config.slots {
            let late = self.minimum(at, slot);
            let flight = self.flight(at, slot);
            if flight.is_open {
                (flight.is_open, flight.late, flight.floor) = (false, late, 0);
            }
        }
    }

    fn cut(&mut self, at: usize) {
        self.state.processes[at].link = Link::Cut;
        self.state.processes[at].inbox = Default::default();
    }

    fn disconnected(&mut self, at: usize) {
        let process = &mut self.state.processes[at];
        (process.link, process.near) = (Link::Down, None);
        process.inbox = Default::default();
        self.notify(at);
    }

    fn connected(&mut self, at: usize) {
        self.close(at);
        let process = &mut self.state.processes[at];
        (process.link, process.near) = (Link::Up, None);
        self.notify(at);
    }

    fn crash(&mut self, at: usize) {
        if let Lease::Held { holder: Some(by), waiters } = self.state.store.lease
            && by.process as usize == at
        {
            self.state.store.lease = Lease::Held { holder: None, waiters };
        }
        self.state.processes[at] = Process::default();
    }
}

/// Writes.
impl Step<'_> {
    fn change(&mut self, at: usize, kind: Kind) {
        self.state.row += 1;
        let version = self.state.row;
        self.forget_below(at, (kind != Kind::Any).then_some(version));
        self.state.processes[at].write = Write::Begun { kind, version };
    }

    fn write(&mut self, at: usize) {
        let Write::Begun { kind, version } = self.state.processes[at].write else { return };
        match kind {
            Kind::Put => self.put(at, version),
            Kind::At | Kind::Any => self.invalidate(at, kind, version),
        }
    }

    fn put(&mut self, at: usize, version: Version) {
        let Store { record, lease } = self.state.store;
        if self.config.rules.version_compared && version < record.version() {
            self.state.processes[at].write = Write::Idle;
            return self.forget_below(at, Some(record.version()));
        }
        if self.config.rules.revoked {
            self.state.store.lease = Lease::Free;
        }
        self.store(version, lease);
        self.tell(lease.waiters(), true, Message::Put(version));
        self.state.processes[at].write = Write::Told { kind: Kind::Put, version, unconfirmed: 0 };
    }

    /// Writes an entry.
    fn store(&mut self, version: Version, lease: Lease) {
        if version < self.state.newest {
            self.broken.add(Promise::NeverBackwards);
        }
        self.state.newest = self.state.newest.max(version);
        self.raise_floor(lease);
        self.state.store.record = Record::Entry { version, is_fresh: true };
    }

    /// Past the lease, the record's floor and the clock: behind only if all three are.
    fn raise_floor(&mut self, lease: Lease) {
        let Fence { is_clock_behind, is_floor_behind } = self.state.fence;
        let was_behind = is_floor_behind || self.state.store.record == Record::Absent;
        self.state.fence.is_floor_behind = is_clock_behind && was_behind && lease == Lease::Free;
    }

    fn invalidate(&mut self, at: usize, kind: Kind, version: Version) {
        let Store { record, lease } = self.state.store;
        if self.config.rules.revoked {
            self.state.store.lease = Lease::Free;
        }
        for flight in self.state.processes.iter_mut().flat_map(|process| &mut process.flights) {
            match &mut flight.stage {
                Stage::Leased { is_overtaken, .. } | Stage::Loaded { is_overtaken, .. } => {
                    *is_overtaken = true;
                }
                _ => {}
            }
        }
        self.raise_floor(lease);
        let (below, known) = ((kind == Kind::At).then_some(version), record.version());
        let stays = matches!(record, Record::Entry { .. }) && below.is_some_and(|at| at <= known);
        if !stays {
            let tombstone = Record::Tombstone(below.unwrap_or(known).max(known));
            self.state.store.record =
                if self.config.rules.tombstones { tombstone } else { Record::Absent };
        }
        if below.is_some() {
            self.state.newest = self.state.newest.max(version);
        }
        let writer = at as u8;
        self.tell(lease.waiters(), true, Message::Invalidated { below, writer, number: version });
        let processes = self.state.processes.iter().take(self.config.processes).enumerate();
        let connected = processes.filter(|(_, process)| process.link == Link::Up);
        let unconfirmed = match self.config.rules.told {
            true => connected.fold(0, |set, (at, _)| set | 1 << at),
            false => UNCOUNTED,
        };
        self.state.processes[at].write = Write::Told { kind, version, unconfirmed };
    }

    fn acknowledge(&mut self, at: usize) {
        let Write::Told { kind, version, unconfirmed } = self.state.processes[at].write else {
            return;
        };
        self.state.processes[at].write = Write::Idle;
        if kind == Kind::Put {
            return self.forget(at, |near| near <= version);
        }
        if self.config.rules.dropped_again {
            self.forget_below(at, (kind == Kind::At).then_some(version));
        }
        let process = &mut self.state.processes[at];
        process.acknowledged = process.acknowledged.max(version);
        if unconfirmed == 0 {
            self.state.everywhere = self.state.everywhere.max(version);
        }
        if kind == Kind::At {
            self.state.at = self.state.at.max(version);
        }
    }
}

/// What befalls the store.
impl Step<'_> {
    fn of_store(&mut self, action: Action) {
        let store = &mut self.state.store;
        match action {
            Action::GoStale => {
                let version = store.record.version();
                store.record = Record::Entry { version, is_fresh: false };
            }
            Action::Expire | Action::EvictLease => {
                store.lease = Lease::Free;
                self.timers_end();
            }
            Action::BackOffEnds => store.lease = Lease::Free,
            Action::EvictRecord => {
                store.record = Record::Absent;
                self.state.fence.is_floor_behind = false;
            }
            Action::Snapshot => self.state.snapshot = Some(*store),
            Action::FailOver => self.fail_over(),
            Action::ClockBack => self.state.fence.is_clock_behind = true,
            Action::ClockForward => self.state.fence.is_clock_behind = false,
            _ => {}
        }
    }

    /// Who waits looks again at the end of the lease that was seen.
    fn timers_end(&mut self) {
        for flight in self.state.processes.iter_mut().flat_map(|process| &mut process.flights) {
            if let Stage::Held { timer, .. } = &mut flight.stage {
                *timer = true;
            }
        }
    }

    fn fail_over(&mut self) {
        let Some(mut snapshot) = self.state.snapshot.take() else { return };
        // A flight's token is its own: one that has ended holds nothing.
        if let Lease::Held { holder, .. } = &mut snapshot.lease
            && let Some(by) = *holder
            && !self.flight(by.process.into(), by.slot.into()).stage.is_loading()
        {
            *holder = None;
        }
        self.state.store = snapshot;
        for at in 0..self.config.processes {
            self.disconnected(at);
            if let Write::Told { unconfirmed, .. } = &mut self.state.processes[at].write {
                *unconfirmed |= UNCOUNTED;
            }
        }
    }

    fn answer(&mut self, version: Version, minimum: Minimum) {
        if version < minimum.own {
            self.broken.add(Promise::FreshHere);
        } else if version < minimum.everywhere {
            self.broken.add(Promise::FreshElsewhere);
        }
    }

    /// What must hold in every state.
    fn check(&mut self) {
        let everywhere = self.state.everywhere;
        let lease = self.state.store.lease;
        let processes = self.state.processes;
        let processes = &processes[..self.config.processes];
        let is_quiet = processes.iter().all(Process::is_quiet);
        for (at, process) in processes.iter().enumerate() {
            if let Some(near) = process.near {
                // A caller may come now.
                self.answer(near, Minimum { own: process.acknowledged, everywhere });
                let is_older = matches!(self.state.store.record, Record::Entry { version, .. } if near < version);
                if is_quiet && is_older {
                    self.broken.add(Promise::NearTold);
                }
            }
            let waits = process.flights.iter().any(Flight::waits_for_message);
            let is_noted =
                lease.waiters() & 1 << at != 0 || lease.waiters().count_ones() >= self.config.noted;
            if waits && process.is_quiet() && !is_noted {
                self.broken.add(Promise::Woken);
            }
        }
    }
}

impl Process {
    /// Messages arrive, and none is under way.
    fn is_quiet(&self) -> bool {
        self.link == Link::Up && self.inbox[0].is_none() && self.dropping.is_none()
    }
}

impl Flight {
    fn waits_for_message(&self) -> bool {
        self.stage == Stage::Held { notified: false, timer: false }
    }
}
