//! Phenomena in which something breaks: each strategy lives through each fault, with a fleet of its own.

use std::{fs::File, io::Write, time::Duration};

use crate::{
    args::{Args, Phenomenon},
    breakable_redis::BreakableRedis,
    cache::{Far, Settings},
    closing::closing,
    database::Database,
    environment::Environment,
    error::Error,
    fault::Fault,
    fleet::Fleet,
    origin::Address,
    output::say,
    plan::{BEFORE_MS, Plan},
    progress,
    strategy::Strategy,
    trial::{Outcome, Round, Trial},
    trial_table::TrialTable,
    worker::Member,
};

pub async fn run(args: &Args, report: Option<File>) -> Result<(), Error> {
    let plan = Plan::of(args, 1);
    let mut table = TrialTable::new(args, &plan);
    match args.phenomenon {
        Phenomenon::Outage => {
            let database = Database::prepare(args, plan.keys.max(64)).await?;
            table.set_systems("redis", database.origin.name());
            let ran = outages(args, &plan, &database.origin, &mut table).await;
            database.clear().await;
            ran?;
        }
        _ => {
            let environment = Environment::prepare(args, plan.keys.max(64)).await?;
            table.set_systems(environment.far_name(), environment.database.origin.name());
            let ran = failures(args, &plan, &environment, &mut table).await;
            environment.database.clear().await;
            ran?;
        }
    }
    if let Some(mut report) = report {
        report.write_all(table.page().render().as_bytes())?;
    }
    if !args.json {
        say(&format!("{table}\n\n{}", closing(args, &table.seen())))?;
    }
    Ok(())
}

/// Every strategy under every fault of Redis.
async fn outages(
    args: &Args,
    plan: &Plan,
    origin: &Address,
    table: &mut TrialTable<'_>,
) -> Result<(), Error> {
    let (faults, strategies) = (args.faults(), args.strategies());
    let bar = progress::bar((faults.len() * strategies.len()) as u64 * u64::from(args.rounds()));
    for fault in faults {
        for strategy in strategies.iter().copied() {
            if fault == Fault::Failover && strategy.takes_one_address() {
                bar.inc(args.rounds().into());
                let outcome = Outcome::NotApplicable;
                bar.suspend(|| table.add(Trial { fault: Some(fault), strategy, outcome }))?;
                continue;
            }
            let mut rounds = Vec::new();
            for number in 1..=args.rounds() {
                let (fault_name, of) = (fault.name(), args.rounds());
                bar.set_message(format!(
                    "{fault_name}, {}, round {number} of {of}",
                    strategy.name()
                ));
                bar.tick();
                // A fault leaves traces: each round has its own Redis and its own processes.
                rounds.push(outage(args, plan, origin, fault, strategy).await?);
                bar.inc(1);
            }
            let outcome = Outcome::of(plan, fault.cuts_off(), &rounds);
            bar.suspend(|| table.add(Trial { fault: Some(fault), strategy, outcome }))?;
        }
    }
    bar.finish_and_clear();
    Ok(())
}

async fn outage(
    args: &Args,
    plan: &Plan,
    origin: &Address,
    fault: Fault,
    strategy: Strategy,
) -> Result<Round, Error> {
    let mut redis = BreakableRedis::start(fault).map_err(Error::BadInput)?;
    let settings = Settings::new(strategy, 0, plan.ttl_ms);
    let far = Far::Redis(redis.shared());
    let members = Member::all(args, args.processes(), args.callers());
    let mut fleet = Fleet::start(&settings, &far, origin, members).await?;
    let begin = fleet.soon();
    let lasts = Duration::from_millis(args.fault_ms());
    let (reports, fault) = tokio::try_join!(
        fleet.round(0, begin, plan.work.clone()),
        redis.break_at(begin + BEFORE_MS * 1000, lasts)
    )?;
    Ok(Round { begin, fault, reports })
}

/// Every strategy while the database refuses.
async fn failures(
    args: &Args,
    plan: &Plan,
    environment: &Environment,
    table: &mut TrialTable<'_>,
) -> Result<(), Error> {
    let strategies = args.strategies();
    let bar = progress::bar(strategies.len() as u64 * u64::from(args.rounds()));
    for (number, strategy) in strategies.into_iter().enumerate() {
        let settings = Settings::new(strategy, number, plan.ttl_ms);
        let members = Member::all(args, args.processes(), args.callers());
        let mut fleet =
            Fleet::start(&settings, &environment.far, &environment.database.origin, members)
                .await?;
        let mut rounds = Vec::new();
        for round in 0..args.rounds() {
            bar.set_message(format!(
                "{}, round {} of {}",
                strategy.name(),
                round + 1,
                args.rounds()
            ));
            bar.tick();
            let begin = fleet.soon();
            let reports = fleet.round(round, begin, plan.work.clone()).await?;
            let from = begin + BEFORE_MS * 1000;
            let fault = (from, from + args.fault_ms() * 1000);
            rounds.push(Round { begin, fault, reports });
            bar.inc(1);
        }
        let outcome = Outcome::of(plan, None, &rounds);
        bar.suspend(|| table.add(Trial { fault: None, strategy, outcome }))?;
    }
    bar.finish_and_clear();
    Ok(())
}
