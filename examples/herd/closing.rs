//! The last lines of a run: what was seen, and what to try next.

use crate::{
    args::{Args, By, FarArg, Phenomenon, command_with},
    count::Count,
    sheet::wrapped,
    strategy::Strategy,
};

/// What a strategy came to.
pub struct Seen {
    pub strategy: Strategy,
    pub loads: Count,
    pub errors: Count,
    pub stale: Count,
    pub max_ms: f64,
    /// To Redis, where there is one.
    pub commands: Option<Count>,
    pub updates: Count,
}

/// What was seen, in one sentence, and two more commands.
pub fn closing(args: &Args, seen: &[Seen]) -> String {
    let sentence = match args.phenomenon {
        Phenomenon::Invalidate if args.by == By::Tag => tags(seen),
        Phenomenon::Invalidate => each(["stale answer", "stale answers"], seen, |seen| seen.stale),
        Phenomenon::Outage | Phenomenon::FailingOrigin => {
            each(["error", "errors"], seen, |seen| seen.errors)
        }
        _ => herd(seen).unwrap_or_else(|| each(["query", "queries"], seen, |seen| seen.loads)),
    };
    ending(args, &sentence)
}

/// A sentence on what was seen, and two more commands.
pub fn ending(args: &Args, sentence: &str) -> String {
    let next = next(args).map(|arguments| format!("\n  {}", command_with(arguments)));
    format!("{}\n\nNext:{}", wrapped(&format!("Seen: {sentence}")), next.concat())
}

/// The guard beside no cache at all, and beside the busiest client of Redis.
fn herd(all: &[Seen]) -> Option<String> {
    let of = |strategy| all.iter().find(|seen| seen.strategy == strategy);
    let (ours, none) = (of(Strategy::Cattleguard)?, of(Strategy::None)?);
    let queries = format!("{} instead of {}", ours.loads.of("query", "queries"), none.loads);
    let others = all.iter().filter(|seen| seen.strategy != Strategy::Cattleguard);
    let busiest = others
        .filter_map(|seen| Some((seen.commands?, seen.strategy.name())))
        .max_by(|a, b| a.0.value().total_cmp(&b.0.value()));
    Some(match (busiest, ours.commands) {
        (Some((most, name)), Some(commands)) => {
            format!("{queries}; `{name}` needed {most} commands, `cattleguard` {commands}.")
        }
        _ => {
            let (wait, instead) = (ours.max_ms, none.max_ms);
            format!("{queries}; the longest wait was {wait:.0} ms instead of {instead:.0}.")
        }
    })
}

/// What an update costs that invalidates a tag.
fn tags(all: &[Seen]) -> String {
    let stale = each(["stale answer", "stale answers"], all, |seen| seen.stale);
    let ours = all.first().and_then(|ours| Some((ours.commands?.value(), ours.updates)));
    match ours {
        Some((commands, updates)) if updates.value() > 0.0 => {
            let each = commands / updates.value();
            format!("{stale} {each:.1} commands for each update, reads and loads included.")
        }
        _ => stale,
    }
}

/// A figure of every strategy, the guard's first.
fn each([one, many]: [&str; 2], seen: &[Seen], figure: fn(&Seen) -> Count) -> String {
    let mut order: Vec<_> = seen.iter().collect();
    order.sort_by_key(|seen| seen.strategy != Strategy::Cattleguard);
    let each = order.iter().enumerate().map(|(number, seen)| {
        let figure = figure(seen);
        let figure = if number == 0 { figure.of(one, many) } else { figure.to_string() };
        format!("{figure} with `{}`", seen.strategy.name())
    });
    format!("{}.", each.collect::<Vec<_>>().join(", "))
}

/// Worth a look, in this order.
const TOUR: [(Phenomenon, &str); 4] = [
    (Phenomenon::ColdKey, "--far redis"),
    (Phenomenon::Invalidate, "--far redis --phenomenon invalidate"),
    (Phenomenon::Outage, "--far redis --phenomenon outage --report outage.html"),
    (Phenomenon::FailingOrigin, "--far redis --phenomenon failing-origin"),
];

/// The next two of the tour, which begins again at its end.
fn next(args: &Args) -> [&'static str; 2] {
    let over_redis = !matches!(args.far, FarArg::Memory);
    let here = TOUR.iter().position(|(stop, _)| over_redis && *stop == args.phenomenon);
    let first = here.map_or(0, |here| here + 1);
    [first, first + 1].map(|stop| TOUR[stop % TOUR.len()].1)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    fn seen(strategy: Strategy, loads: u64, commands: Option<u64>) -> Seen {
        Seen {
            strategy,
            loads: loads.into(),
            errors: (loads * 2).into(),
            stale: Count::default(),
            max_ms: loads as f64 * 1.5,
            commands: commands.map(Count::from),
            updates: Count::default(),
        }
    }

    fn closing_of(arguments: &str, all: &[Seen]) -> String {
        let args = Args::parse_from(format!("herd {arguments}").split_whitespace());
        closing(&args, all)
    }

    #[test]
    fn the_sentence_is_what_was_measured() {
        let cold = [
            seen(Strategy::None, 1000, Some(0)),
            seen(Strategy::LockPoll, 2, Some(3719)),
            seen(Strategy::CacheAside, 900, Some(2000)),
            seen(Strategy::Cattleguard, 1, Some(12)),
        ];
        let over_redis = closing_of("--far redis", &cold);
        let sentence = "Seen: 1 query instead of 1,000; `lock-poll` needed 3,719 commands, `cattleguard` 12.\n";
        assert!(over_redis.starts_with(sentence), "{over_redis}");

        let in_memory = [seen(Strategy::None, 1000, None), seen(Strategy::Cattleguard, 4, None)];
        let in_memory = closing_of("", &in_memory);
        let sentence =
            "Seen: 4 queries instead of 1,000; the longest wait was 6 ms instead of 1500.\n";
        assert!(in_memory.starts_with(sentence), "{in_memory}");

        let alone = closing_of("--strategy local", &[seen(Strategy::Local, 4, None)]);
        assert!(alone.starts_with("Seen: 4 queries with `local`.\n"), "{alone}");

        let outage = closing_of("--phenomenon outage --far redis", &cold[1..]);
        assert!(outage.starts_with("Seen: 2 errors with `cattleguard`, 4 with"), "{outage}");
    }

    #[test]
    fn the_next_commands_are_not_the_one_that_ran() {
        let first = "\n  cargo run --release --example herd -- --far redis\n  cargo";
        assert!(closing_of("", &[]).contains(first));
        for phenomenon in ["cold-key", "invalidate", "outage", "failing-origin", "expiry"] {
            let arguments = format!("--far redis --phenomenon {phenomenon}");
            let closing = closing_of(&arguments, &[]);
            assert_eq!(closing.matches("\n  cargo run").count(), 2, "{closing}");
            assert!(!closing.lines().any(|line| line.ends_with(&arguments)), "{closing}");
        }
    }

    #[test]
    fn the_next_commands_run() {
        for (phenomenon, arguments) in TOUR {
            let args = Args::parse_from(format!("herd {arguments}").split_whitespace());
            assert_eq!(args.phenomenon, phenomenon);
            assert_eq!(args.check(), Ok(()));
        }
    }
}
