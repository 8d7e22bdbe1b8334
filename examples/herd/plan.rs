//! What happens in a run: which fleets, which work, how often.

use crate::{
    args::{Args, Phenomenon},
    strategy::Strategy,
    work::{Steady, Work},
};

/// One strategy at one size.
#[derive(Clone, Debug)]
pub struct Point {
    pub strategy: Strategy,
    pub processes: u32,
    /// In each process.
    pub callers: u32,
}

/// Everything about a phenomenon that does not depend on the strategy.
#[derive(Clone, Debug)]
pub struct Plan {
    pub phenomenon: Phenomenon,
    pub work: Work,
    pub keys: u32,
    pub ttl_ms: u64,
    /// In one sentence, for the reader.
    pub story: String,
}

const STEADY_MS: u64 = 2_000;
const PAUSE_MS: u64 = 100;
const UPDATED_KEYS: u32 = 20;
/// With a tag each.
pub const TAGGED_KEYS: u32 = 5;
const UPDATE_MS: u64 = 50;

/// The load under which something breaks. It fits the process, so that what is slow is not the machine.
const BROKEN_KEYS: u32 = 50;
const BROKEN_PAUSE_MS: u64 = 75;
const BROKEN_UPDATE_MS: u64 = 200;
/// Two ends of a ttl.
pub const BEFORE_MS: u64 = 4_000;
const AFTER_OUTAGE_MS: u64 = 5_000;
/// The longest back-off, and some more.
const AFTER_FAILURE_MS: u64 = 8_000;

impl Plan {
    /// `keys` is the number of keys in the trace, if there is one.
    pub fn of(args: &Args, keys: u32) -> Self {
        let Usual { work, keys, ttl_ms, story } = Usual::of(args, keys);
        let ttl_ms = args.ttl_ms.unwrap_or(ttl_ms);
        let story = format!("{story} Ttl {ttl_ms} ms.");
        Self { phenomenon: args.phenomenon, work, keys, ttl_ms, story }
    }

    /// The sizes to run, smallest first, each with all strategies.
    pub fn points(&self, args: &Args) -> Vec<Point> {
        let sizes: Vec<(u32, u32)> = match self.phenomenon {
            Phenomenon::Scale => {
                let processes = [1, 2, 4, 8, 16].map(|processes| (processes, args.callers()));
                let callers = [10, 100, 1_000, 10_000u32]
                    .map(|callers| (args.processes(), callers.div_ceil(args.processes())));
                let mut sizes = [&processes[..], &callers].concat();
                sizes.sort_unstable();
                sizes.dedup();
                sizes
            }
            _ => vec![(args.processes(), args.callers())],
        };
        let strategies = args.strategies();
        let all = sizes.into_iter().flat_map(|(processes, callers)| {
            let point =
                move |strategy: &Strategy| Point { strategy: *strategy, processes, callers };
            strategies.iter().map(point)
        });
        all.collect()
    }
}

/// What a phenomenon is like if nothing else is asked for.
struct Usual {
    work: Work,
    keys: u32,
    ttl_ms: u64,
    story: String,
}

impl Usual {
    fn of(args: &Args, keys: u32) -> Self {
        match args.phenomenon {
            // `fleet` has no plan: `fleet_cost` is what happens.
            Phenomenon::ColdKey | Phenomenon::Fleet => Self::cold_key(args),
            Phenomenon::Scale => Self::scale(args),
            Phenomenon::Expiry => Self::expiry(args),
            Phenomenon::Invalidate => Self::invalidate(args),
            Phenomenon::Outage => Self::outage(args),
            Phenomenon::FailingOrigin => Self::failing_origin(args),
            Phenomenon::Replay => Self::replay(args, keys),
        }
    }

    fn cold_key(args: &Args) -> Self {
        let (everyone, processes, load) = (everyone(args), args.processes(), args.load_ms);
        let story = format!(
            "{everyone} callers in {processes} processes ask for one missing key at one moment; a query takes {load} ms."
        );
        Self { work: Work::Once { key: 0 }, keys: 1, ttl_ms: 60_000, story }
    }

    fn scale(args: &Args) -> Self {
        let load = args.load_ms;
        let story = format!(
            "One missing key, more and more processes and callers; a query takes {load} ms."
        );
        Self { work: Work::Once { key: 0 }, keys: 1, ttl_ms: 60_000, story }
    }

    fn expiry(args: &Args) -> Self {
        let (everyone, load) = (everyone(args), args.load_ms);
        let story = format!(
            "{everyone} callers ask for one hot key every {PAUSE_MS} ms; it expires again and again; a query takes {load} ms. The guard answers stale while one process refreshes."
        );
        Self { work: steady(1, None), keys: 1, ttl_ms: 400, story }
    }

    fn invalidate(args: &Args) -> Self {
        let (everyone, tagged) = (everyone(args), args.tagged());
        let keys = if tagged.is_some() { TAGGED_KEYS } else { UPDATED_KEYS };
        let how = tagged.map_or_else(
            || "invalidates one of them".to_owned(),
            |more| format!("invalidates the tag of one of them and {more} more entries"),
        );
        let story = format!(
            "{everyone} callers ask for {keys} keys; each process updates and {how} every {UPDATE_MS} ms. Stale: older than an invalidation that was acknowledged, by whichever process, before the request began."
        );
        Self { work: steady(keys, Some(UPDATE_MS)), keys, ttl_ms: 60_000, story }
    }

    fn outage(args: &Args) -> Self {
        let (everyone, processes, load) = (everyone(args), args.processes(), args.load_ms);
        let story = format!(
            "{everyone} callers in {processes} processes ask for {BROKEN_KEYS} keys every {BROKEN_PAUSE_MS} ms; each process updates and invalidates one of them every {BROKEN_UPDATE_MS} ms; a query takes {load} ms."
        );
        let update_ms = Some(BROKEN_UPDATE_MS);
        let work = Work::Steady(Steady { update_ms, ..broken(args, AFTER_OUTAGE_MS) });
        Self { work, keys: BROKEN_KEYS, ttl_ms: 1_500, story }
    }

    fn failing_origin(args: &Args) -> Self {
        let (everyone, processes, load) = (everyone(args), args.processes(), args.load_ms);
        let until = BEFORE_MS + args.fault_ms();
        let story = format!(
            "{everyone} callers in {processes} processes ask for {BROKEN_KEYS} keys every {BROKEN_PAUSE_MS} ms; a query takes {load} ms; from {:.0} s to {:.0} s the database refuses.",
            BEFORE_MS as f64 / 1000.0,
            until as f64 / 1000.0
        );
        let refused_ms = Some((BEFORE_MS, until));
        let work = Work::Steady(Steady { refused_ms, ..broken(args, AFTER_FAILURE_MS) });
        Self { work, keys: BROKEN_KEYS, ttl_ms: 1_500, story }
    }

    fn replay(args: &Args, keys: u32) -> Self {
        let (everyone, processes, load) = (everyone(args), args.processes(), args.load_ms);
        let story = format!(
            "The requests of a real service in their order, by {everyone} callers in {processes} processes; a query takes {load} ms."
        );
        let trace = args.trace.clone().unwrap_or_default();
        Self { work: Work::Replay { trace }, keys, ttl_ms: 2_000, story }
    }
}

/// How many callers there are in all processes.
fn everyone(args: &Args) -> u32 {
    args.processes() * args.callers()
}

fn steady(keys: u32, update_ms: Option<u64>) -> Work {
    Work::Steady(Steady {
        keys,
        for_ms: STEADY_MS,
        pause_ms: PAUSE_MS,
        update_ms,
        patience_ms: 300_000,
        refused_ms: None,
    })
}

fn broken(args: &Args, after_ms: u64) -> Steady {
    Steady {
        keys: BROKEN_KEYS,
        for_ms: BEFORE_MS + args.fault_ms() + after_ms,
        pause_ms: BROKEN_PAUSE_MS,
        update_ms: None,
        patience_ms: 1_000,
        refused_ms: None,
    }
}
