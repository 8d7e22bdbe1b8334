//! Which promise holds under which fault, the rules left out, and what others ship.

use crate::{
    explore::{Explored, explore},
    rules::{Config, Faults, Promise, Rules},
    state::Kind,
    words::trace_in_words,
};

use Promise::*;

const NONE: &[Kind] = &[];
const VERSIONED: &[Kind] = &[Kind::Put, Kind::At];
const UNVERSIONED: &[Kind] = &[Kind::Any];
const AT: &[Kind] = &[Kind::At];
const PUT: &[Kind] = &[Kind::Put];
const MIXED: &[Kind] = &[Kind::Put, Kind::Any];

/// Faults, and what is written meanwhile.
pub struct Row {
    pub name: &'static str,
    pub config: Config,
    /// What the documentation says that can break, and no more.
    pub breaks: &'static [Promise],
}

fn row(
    name: &'static str,
    writes: &'static [Kind],
    faults: Faults,
    breaks: &'static [Promise],
) -> Row {
    let is_lean = !writes.is_empty() && (faults.failover || faults.evict && faults.lag);
    Row { name, config: Config { faults, is_lean, ..Config::new(writes) }, breaks }
}

const EVICTED_AND_LAGGING: &[Promise] =
    &[OneLoad, NeverBackwards, NoResurrection, FreshHere, FreshElsewhere, NearTold];
const RESTORED: &[Promise] = &[OneLoad, NeverBackwards, NoResurrection, FreshHere, FreshElsewhere];

/// The table of promises and faults.
pub fn rows() -> Vec<Row> {
    let faults = Faults::default;
    let twice = Faults { twice: true, ..faults() };
    let freeze = Faults { freeze: true, ..faults() };
    let crash = Faults { crash: true, ..faults() };
    let evict = Faults { evict: true, ..faults() };
    let lag = Faults { lag: true, ..faults() };
    let cut = Faults { cut: true, ..faults() };
    let failover = Faults { failover: true, ..faults() };
    let clock = Faults { clock: true, ..faults() };
    vec![
        row("nothing is written", NONE, faults(), &[]),
        row("… messages twice", NONE, twice, &[]),
        row("… a frozen holder", NONE, freeze, &[OneLoad]),
        row("… a crash", NONE, crash, &[]),
        row("… eviction", NONE, evict, &[OneLoad]),
        row("… a cut subscription", NONE, cut, &[]),
        row("… failover to older", NONE, failover, &[OneLoad]),
        row("… clock set back", NONE, clock, &[GrowingFences]),
        crowd(),
        row("`put`, `invalidate_at`", VERSIONED, faults(), &[OneLoad]),
        row("… lagging replicas", VERSIONED, lag, &[OneLoad]),
        row("`invalidate_at`", AT, faults(), &[OneLoad]),
        row("… messages twice", AT, twice, &[OneLoad]),
        row("… a frozen holder", AT, freeze, &[OneLoad]),
        row("… a crash", AT, crash, &[OneLoad]),
        row("… eviction", AT, evict, &[OneLoad, NearTold]),
        row("… eviction and lag", AT, Faults { lag: true, ..evict }, EVICTED_AND_LAGGING),
        row("… a cut subscription", AT, cut, &[OneLoad, FreshElsewhere]),
        row("… failover to older", AT, failover, RESTORED),
        row("`invalidate`", UNVERSIONED, faults(), &[OneLoad]),
        row("… a frozen holder", UNVERSIONED, freeze, &[OneLoad]),
        row("… eviction", UNVERSIONED, evict, &[OneLoad, NearTold]),
        row("… lagging replicas", UNVERSIONED, lag, &[OneLoad, FreshHere, FreshElsewhere]),
        row("`put`", PUT, faults(), &[OneLoad]),
        row("… failover to older", PUT, failover, &[OneLoad, NeverBackwards]),
    ]
}

/// More processes wait than a lease notes.
fn crowd() -> Row {
    let config = Config { processes: 3, noted: 1, ..Config::new(NONE) };
    Row { name: "… three processes, one noted", config, breaks: &[] }
}

/// A rule left out, the run that shows it, and what breaks.
pub struct Mutation {
    pub name: &'static str,
    pub config: Config,
    pub breaks: Promise,
}

/// Each rule left out alone.
pub fn mutations() -> Vec<Mutation> {
    let mut all = mutations_of_the_store();
    all.extend(mutations_of_the_guard());
    all
}

fn mutation(
    name: &'static str,
    (writes, faults): (&'static [Kind], Faults),
    breaks: Promise,
    rules: Rules,
) -> Mutation {
    Mutation { name, config: Config { rules, faults, ..Config::new(writes) }, breaks }
}

fn mutations_of_the_store() -> Vec<Mutation> {
    let (ours, quiet) = (Rules::OURS, Faults::default());
    let frozen = (VERSIONED, Faults { freeze: true, ..quiet });
    let lagging = (VERSIONED, Faults { lag: true, ..quiet });
    let clock = (VERSIONED, Faults { clock: true, ..quiet });
    let (reading, unversioned) = ((NONE, quiet), (UNVERSIONED, quiet));
    let token = Rules { token_checked: false, ..ours };
    let version = Rules { version_compared: false, ..ours };
    let grant = Rules { granted_once: false, ..ours };
    let revoke = Rules { revoked: false, ..ours };
    let tombstone = Rules { tombstones: false, ..ours };
    let waiter = Rules { waiters_noted: false, ..ours };
    let fence = Rules { fence_past_floor: false, ..ours };
    vec![
        mutation("the token is not checked", frozen, OneCommit, token),
        mutation("the version is not compared", lagging, NeverBackwards, version),
        mutation("the lease is granted twice", reading, OneLoad, grant),
        mutation("an invalidation does not revoke the lease", unversioned, NoResurrection, revoke),
        mutation("no tombstone is left", lagging, NoResurrection, tombstone),
        mutation("a waiter is not noted", reading, Woken, waiter),
        mutation("the fence does not pass the floor", clock, FencesPastWrites, fence),
    ]
}

fn mutations_of_the_guard() -> Vec<Mutation> {
    let (ours, quiet) = (Rules::OURS, Faults::default());
    let (reading, writing) = ((NONE, quiet), (VERSIONED, quiet));
    let late = Rules { registered_first: false, ..ours };
    let near = Rules { near_dropped: false, ..ours };
    let confirmed = Rules { confirmed_after_drop: false, ..ours };
    let again = Rules { dropped_again: false, ..ours };
    let closed = Rules { closed_unfilled: false, ..ours };
    let floor = Rules { floor_respected: false, ..ours };
    let dropped_once = "nothing is dropped again before an invalidation returns";
    let below_floor = "a flight fills below the version that it has heard of";
    vec![
        mutation("a waiter registers after its look-up", reading, Woken, late),
        mutation("a message does not drop the near entry", writing, FreshElsewhere, near),
        mutation("a process confirms before it drops", writing, FreshElsewhere, confirmed),
        mutation(dropped_once, writing, FreshHere, again),
        mutation("a closed flight fills the near tier", writing, FreshHere, closed),
        mutation(below_floor, writing, NearTold, floor),
    ]
}

/// A refused value is given to late callers, too. Breaks nothing alone: what revokes a lease has closed the flight
/// before it is acknowledged, so that no caller boards that may not have this value.
pub fn covered() -> Config {
    let rules = Rules { rejected_for_early_only: false, ..Rules::OURS };
    Config { rules, ..Config::new(VERSIONED) }
}

/// What others ship, and the promises that it does not keep.
pub struct Variant {
    pub name: &'static str,
    pub config: Config,
    pub breaks: &'static [Promise],
}

pub fn variants() -> Vec<Variant> {
    let ours = Rules::OURS;
    let bare = Rules { tombstones: false, ..ours };
    let lock = Rules { token_checked: false, version_compared: false, revoked: false, ..bare };
    let version = Rules { token_checked: false, granted_once: false, revoked: false, ..bare };
    let token = Rules { version_compared: false, ..bare };
    let poll = Rules { told: false, ..ours };
    let quiet = Faults::default();
    let freeze = Faults { freeze: true, ..quiet };
    let lag = Faults { lag: true, ..quiet };
    let variant = |name, writes, faults, rules, breaks| Variant {
        name,
        config: Config { rules, faults, ..Config::new(writes) },
        breaks,
    };
    let mut puts = variant("Token only", PUT, quiet, token, &[NeverBackwards]);
    puts.config.versions = 3;
    let mut late_put = variant(
        "Ours, `put` beside `invalidate` without a version",
        MIXED,
        quiet,
        ours,
        &[FreshHere],
    );
    late_put.config.versions = 3;
    let mut evicted = variant(
        "Ours, a late `put` after eviction",
        PUT,
        Faults { evict: true, ..quiet },
        ours,
        &[NeverBackwards],
    );
    evicted.config.versions = 3;
    vec![
        variant("Lock only", UNVERSIONED, quiet, lock, &[NoResurrection]),
        variant(
            "Lock only, a frozen holder",
            UNVERSIONED,
            freeze,
            lock,
            &[OneCommit, NeverBackwards],
        ),
        variant("Version only", UNVERSIONED, quiet, version, &[OneLoad, NoResurrection]),
        puts,
        variant("Token only, lagging replicas", VERSIONED, lag, token, &[NoResurrection]),
        variant("Poll only", VERSIONED, quiet, poll, &[Woken, NearTold]),
        late_put,
        evicted,
    ]
}

pub fn explored(config: &Config) -> Explored {
    explore(config, None)
}

/// The table as the README has it, and the numbers of the run.
pub fn table_in_words(runs: &[(Row, Explored)]) -> String {
    let mut text = String::from("| |");
    for promise in Promise::ALL {
        text += &format!(" {} |", promise.name());
    }
    text += " states |\n|---|";
    text += &"---|".repeat(Promise::ALL.len() + 1);
    text += "\n";
    for (row, explored) in runs {
        text += &format!("| {} |", row.name);
        for promise in Promise::ALL {
            let cell = explored.trace(promise).map(|trace| format!(" {} steps |", trace.len()));
            text += cell.as_deref().unwrap_or(" holds |");
        }
        text += &format!(" {} |\n", explored.states);
    }
    text
}

/// The shortest counterexamples of what others ship.
pub fn variants_in_words() -> String {
    let mut text = String::new();
    for Variant { name, config, breaks } in variants() {
        for &promise in breaks {
            let explored = explore(&config, Some(promise));
            let Some(trace) = explored.trace(promise) else { continue };
            text +=
                &format!("### {name}: not \"{}\"\n\n{}\n", promise.name(), trace_in_words(trace));
        }
    }
    text
}
