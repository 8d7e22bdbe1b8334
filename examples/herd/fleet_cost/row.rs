//! A line of the results.

use std::time::Duration;

use serde::Serialize;

use super::{cost::Cost, crowd::Timed, operation::Operation};
use crate::statistics::percentile;

/// What all rows of a size have in common.
pub struct About {
    pub far: &'static str,
    pub shards: Option<usize>,
    pub processes: usize,
}

/// For one operation, one waiting process, or one idle process in a minute. These are exactly the fields of `--json`.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    pub phenomenon: &'static str,
    pub far: &'static str,
    pub shards: Option<usize>,
    pub processes: usize,
    pub operation: String,
    #[serde(skip)]
    pub kind: Operation,
    pub operations: Option<usize>,
    pub per_second: Option<f64>,
    pub p50_ms: Option<f64>,
    pub p99_ms: Option<f64>,
    pub commands: Option<f64>,
    pub messages: Option<f64>,
    pub cpu_us: Option<f64>,
    pub bytes_in: Option<f64>,
    pub bytes_out: Option<f64>,
    /// A share of the invalidations.
    pub unconfirmed: Option<f64>,
    /// The least and the greatest share of a shard in the CPU time.
    pub shard_cpu: Option<(f64, f64)>,
}

impl Row {
    /// `cost` is of all operations together.
    pub fn of(about: &About, kind: Operation, timed: &Timed, cost: Option<&Cost>) -> Self {
        let count = timed.latencies.len();
        let mut sorted: Vec<_> = timed.latencies.iter().map(Duration::as_secs_f64).collect();
        sorted.sort_by(f64::total_cmp);
        let ms = |share| Some(rounded(percentile(&sorted, share) * 1e3, 1e3));
        let each = cost.map(|cost| cost.times(1.0 / count.max(1) as f64));
        let per_second = count as f64 / timed.took.as_secs_f64();
        Self {
            operations: Some(count),
            // Waiting processes wait for the load, too.
            per_second: Some(rounded(per_second, 1.0)).filter(|_| !is_waiting(kind)),
            p50_ms: ms(0.5),
            p99_ms: ms(0.99),
            unconfirmed: matches!(kind, Operation::Invalidation(_))
                .then(|| rounded(timed.unconfirmed as f64 / count.max(1) as f64, 1e3)),
            ..Self::costing(about, kind, each.as_ref())
        }
    }

    pub fn idle(about: &About, cost: &Cost) -> Self {
        Self::costing(about, Operation::Idle, Some(cost))
    }

    fn costing(about: &About, kind: Operation, each: Option<&Cost>) -> Self {
        let of = |figure: fn(&Cost) -> f64, to: f64| each.map(|cost| rounded(figure(cost), to));
        let shares = each.and_then(Cost::shares);
        Self {
            phenomenon: "fleet",
            far: about.far,
            shards: about.shards,
            processes: about.processes,
            operation: kind.to_string(),
            kind,
            operations: None,
            per_second: None,
            p50_ms: None,
            p99_ms: None,
            commands: of(|cost| cost.commands, 1e2),
            messages: of(|cost| cost.messages, 1e2),
            cpu_us: of(|cost| cost.cpu() * 1e6, 1e1),
            bytes_in: of(|cost| cost.bytes_in, 1.0),
            bytes_out: of(|cost| cost.bytes_out, 1.0),
            unconfirmed: None,
            shard_cpu: shares.map(|(least, most)| (rounded(least, 1e3), rounded(most, 1e3))),
        }
    }
}

fn is_waiting(kind: Operation) -> bool {
    matches!(kind, Operation::Waiting(_))
}

fn rounded(value: f64, to: f64) -> f64 {
    (value * to).round() / to
}
