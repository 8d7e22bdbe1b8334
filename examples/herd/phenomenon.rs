//! What happens in a run: which fleets, which work, how often.

use crate::{
    args::{Args, Phenomenon, Strategy},
    worker::Work,
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
const UPDATE_MS: u64 = 50;

impl Plan {
    /// `keys` is the number of keys in the trace, if there is one.
    pub fn of(args: &Args, keys: u32) -> Self {
        let (load, everyone) = (args.load_ms, args.processes * args.callers);
        let (work, keys, ttl_ms, story) = match args.phenomenon {
            Phenomenon::ColdKey => (
                Work::Once { key: 0 },
                1,
                60_000,
                format!(
                    "{everyone} callers in {} processes ask for one missing key at one moment; a query takes {load} ms.",
                    args.processes
                ),
            ),
            Phenomenon::Scale => (
                Work::Once { key: 0 },
                1,
                60_000,
                format!(
                    "One missing key, more and more processes and callers; a query takes {load} ms."
                ),
            ),
            Phenomenon::Expiry => (
                Work::Steady { keys: 1, for_ms: STEADY_MS, pause_ms: PAUSE_MS, update_ms: None },
                1,
                400,
                format!(
                    "{everyone} callers ask for one hot key every {PAUSE_MS} ms; it expires again and again; a query takes {load} ms. The guard answers stale while one process refreshes."
                ),
            ),
            Phenomenon::Invalidate => (
                Work::Steady {
                    keys: UPDATED_KEYS,
                    for_ms: STEADY_MS,
                    pause_ms: PAUSE_MS,
                    update_ms: Some(UPDATE_MS),
                },
                UPDATED_KEYS,
                60_000,
                format!(
                    "{everyone} callers ask for {UPDATED_KEYS} keys; each process updates and invalidates one of them every {UPDATE_MS} ms. Stale: older than an invalidation that was acknowledged, by whichever process, before the request began."
                ),
            ),
            Phenomenon::Replay => (
                Work::Replay { trace: args.trace.clone().unwrap_or_default() },
                keys,
                2_000,
                format!(
                    "The requests of a real service in their order, by {everyone} callers in {} processes; a query takes {load} ms.",
                    args.processes
                ),
            ),
        };
        let ttl_ms = args.ttl_ms.unwrap_or(ttl_ms);
        Self {
            phenomenon: args.phenomenon,
            work,
            keys,
            ttl_ms,
            story: format!("{story} Ttl {ttl_ms} ms."),
        }
    }

    /// The sizes to run, smallest first, each with all strategies.
    pub fn points(&self, args: &Args) -> Vec<Point> {
        let sizes: Vec<(u32, u32)> = match self.phenomenon {
            Phenomenon::Scale => {
                let processes = [1, 2, 4, 8, 16].map(|processes| (processes, args.callers));
                let callers = [10, 100, 1_000, 10_000u32]
                    .map(|callers| (args.processes, callers.div_ceil(args.processes)));
                let mut sizes = [&processes[..], &callers].concat();
                sizes.sort_unstable();
                sizes.dedup();
                sizes
            }
            _ => vec![(args.processes, args.callers)],
        };
        let all = sizes.into_iter().flat_map(|(processes, callers)| {
            let point =
                move |strategy: &Strategy| Point { strategy: *strategy, processes, callers };
            args.strategy.0.iter().map(point)
        });
        all.collect()
    }
}
