//! A trace in words.

use crate::{
    action::Action,
    state::{Kind, Message, Record, Stage, State, Write},
};

/// One line for each step.
pub fn trace_in_words(trace: &[(State, Action, State)]) -> String {
    let mut text = String::new();
    for (number, (before, action, after)) in trace.iter().enumerate() {
        text += &format!("{}. {}\n", number + 1, in_words(before, *action, after));
    }
    text
}

fn name(at: usize) -> char {
    ['A', 'B', 'C'][at]
}

fn in_words(before: &State, action: Action, after: &State) -> String {
    match action {
        Action::Call(at, _) => format!("{}: a caller misses, and opens a flight", name(at)),
        Action::LookUp(at, slot) => {
            format!("{} looks up: {}", name(at), found(after.processes[at].flights[slot].stage))
        }
        Action::Register(at, _) => format!("{} registers for a wake-up", name(at)),
        Action::LookAgain(at, _) => format!("{} wakes", name(at)),
        Action::Load(at, _, version) => {
            let lags = if version < before.row { ", from a lagging replica" } else { "" };
            format!("{} reads version {version} from the origin{lags}", name(at))
        }
        Action::LoadAgain(at, _) => format!("{} finds its load older than the record", name(at)),
        Action::Commit(at, slot) => {
            commit(name(at), before, after.processes[at].flights[slot].stage)
        }
        Action::ReadAgain(at, slot) => match after.processes[at].flights[slot].stage {
            Stage::Hit(version) => format!("{} reads version {version} instead", name(at)),
            _ => format!("{} gives its own value to the callers aboard", name(at)),
        },
        Action::Complete(at, _) => complete(at, before, after),
        Action::Fail(at, _) => format!("{}: the load fails, a back-off begins", name(at)),
        Action::Release(at, _) => format!("{} releases its lease", name(at)),
        _ => of_process(before, action, after),
    }
}

fn found(stage: Stage) -> String {
    match stage {
        Stage::Hit(version) => format!("version {version}"),
        Stage::Leased { .. } => "it is granted the lease".into(),
        Stage::Idle => "back-off".into(),
        _ => "another holds the lease".into(),
    }
}

fn commit(name: char, before: &State, stage: Stage) -> String {
    match (stage, before.store.record) {
        (Stage::Stored(version), Record::Absent) => format!("{name} commits version {version}"),
        (Stage::Stored(version), record) => {
            format!("{name} commits version {version} over {}", record.version())
        }
        _ => format!("{name} commits, and is refused"),
    }
}

fn complete(at: usize, before: &State, after: &State) -> String {
    match (before.processes[at].near, after.processes[at].near) {
        (None, Some(version)) => {
            format!("{} answers its callers, and keeps version {version} near", name(at))
        }
        _ => format!("{} answers its callers, and keeps nothing near", name(at)),
    }
}

fn of_process(before: &State, action: Action, after: &State) -> String {
    match action {
        Action::Deliver(at) | Action::DeliverTwice(at) => {
            let message = before.processes[at].inbox[0].map_or("nothing".into(), message);
            let again = if matches!(action, Action::Deliver(_)) { "" } else { ", to come again" };
            format!("{} hears: {message}{again}", name(at))
        }
        Action::DropLate(at) => format!("{} drops its near entry", name(at)),
        Action::NearEnds(at) => format!("{}: the near entry ends", name(at)),
        Action::Change(at, kind) => {
            let call = call(kind, after.row);
            format!("{} writes version {} to the origin, and begins `{call}`", name(at), after.row)
        }
        Action::Write(at) => write(at, before, after),
        Action::Acknowledge(at) => acknowledge(at, before),
        Action::Crash(at) => format!("{} crashes, and starts anew", name(at)),
        Action::Cut(at) => format!("{}: its subscription is cut, and it does not know", name(at)),
        Action::Notice(at) => format!("{} notices that its subscription is cut", name(at)),
        Action::Reconnect(at) => format!("{} subscribes again", name(at)),
        _ => of_store(action).into(),
    }
}

fn call(kind: Kind, version: u8) -> String {
    match kind {
        Kind::Put => format!("put({version})"),
        Kind::At => format!("invalidate_at({version})"),
        Kind::Any => "invalidate()".into(),
    }
}

fn message(message: Message) -> String {
    match message {
        Message::Committed(version) => format!("version {version} was committed"),
        Message::Put(version) => format!("version {version} was put"),
        Message::Invalidated { below: Some(below), .. } => {
            format!("all below version {below} is invalid")
        }
        Message::Invalidated { .. } => "all is invalid".into(),
        Message::Released => "the lease is released".into(),
    }
}

fn write(at: usize, before: &State, after: &State) -> String {
    let Write::Begun { kind, version } = before.processes[at].write else { return String::new() };
    let refused = after.processes[at].write == Write::Idle;
    let what = if refused { "refuses" } else { "carries out" };
    format!("the store {what} `{}` of {}", call(kind, version), name(at))
}

fn acknowledge(at: usize, before: &State) -> String {
    let Write::Told { kind, version, unconfirmed } = before.processes[at].write else {
        return String::new();
    };
    let answer = match (kind, unconfirmed) {
        (Kind::Put, _) => "",
        (_, 0) => ": Everywhere",
        _ => ": Unconfirmed",
    };
    format!("{}: `{}` returns{answer}", name(at), call(kind, version))
}

fn of_store(action: Action) -> &'static str {
    match action {
        Action::GoStale => "the entry on record is no longer fresh",
        Action::Expire => "the lease expires",
        Action::BackOffEnds => "the back-off ends",
        Action::EvictRecord => "the store evicts the record",
        Action::EvictLease => "the store evicts the lease",
        Action::Snapshot => "the store's replica stops following",
        Action::FailOver => "the store fails over to that replica",
        Action::ClockBack => "the store's clock is set back",
        Action::ClockForward => "the store's clock has caught up",
        _ => "",
    }
}
