//! Each scenario, in random schedules and in those of PCT.

use std::{env, path::Path, thread};

use cattleguard_schedules::{run::Schedules, scenarios};
use libtest_mimic::{Arguments, Trial};

fn main() {
    let times = env::var("SCHEDULES").map_or(4_000, |times| times.parse().expect("a number"));
    let mut trials = vec![];
    for (about, scenarios) in scenarios::ALL {
        for scenario in *scenarios {
            for schedules in Schedules::ALL {
                let name = format!("{about}::{}::{}", scenario.name, schedules.name());
                trials.push(Trial::test(name, move || {
                    let failing = Path::new(env!("CARGO_TARGET_TMPDIR"));
                    let run = move || scenario.run(schedules, times, failing);
                    // On a thread of its own: one that fails may leave shuttle unwell there.
                    thread::spawn(run).join().map_err(|_| "a schedule failed".into())
                }));
            }
        }
    }
    libtest_mimic::run(&Arguments::from_args(), trials).exit();
}
