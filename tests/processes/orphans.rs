//! What this program starts ends with it, also when nothing of it can run any more.

use std::{path::Path, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::Command,
};

use crate::{
    fleet::Fleet,
    servers::{Signal, is_dead, poll, signal},
};

/// A program that has started processes, some of which are stopped. Says which, and their folders.
pub async fn live() {
    let fleet = Fleet::start(2).await;
    fleet.redis.freeze();
    fleet.workers[0].freeze();
    let pids = fleet.workers.iter().map(|worker| worker.pid()).chain([fleet.redis.pid()]);
    let pids = pids.map(|pid| pid.to_string()).collect::<Vec<_>>().join(" ");
    println!("{pids} {}", fleet.redis.folder().display());
    std::future::pending::<()>().await;
}

pub async fn what_a_killed_program_has_started_ends_with_it() {
    for end in [Signal::KILL, Signal::HUP, Signal::TERM] {
        let mut program = Command::new(std::env::current_exe().expect("this program"));
        program.arg("starts-others").stdout(Stdio::piped()).kill_on_drop(true);
        let mut program = program.spawn().expect("a process");
        let mut lines = BufReader::new(program.stdout.take().expect("standard output")).lines();
        let line = lines.next_line().await.expect("readable").expect("a line");
        let words: Vec<&str> = line.splitn(4, ' ').collect();
        let [pids @ .., folder] = &words[..] else { panic!("{line}") };
        let pids: Vec<u32> = pids.iter().map(|pid| pid.parse().expect("a number")).collect();
        assert!(pids.len() == 3 && pids.iter().all(|&pid| !is_dead(pid)), "{line}");

        signal(program.id().expect("it lives"), end);
        program.wait().await.expect("its end");
        let gone = || pids.iter().all(|&pid| is_dead(pid)) && !Path::new(folder).exists();
        let gone = poll(Duration::from_secs(10), || gone().then_some(()));
        assert!(gone.is_some(), "after {end:?} of {line}");
    }
}
