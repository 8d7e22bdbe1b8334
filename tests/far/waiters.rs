//! What those hear or find who were told that another process holds the lease.

use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

use cattleguard::{
    Guard, Loaded,
    codec::Json,
    far::{Attempt, Commit, Far, Invalidated, Token},
};
use libtest_mimic::Trial;

use crate::{
    contract, implementers,
    setup::{self, Servers, Tier, trials},
};

pub fn trials(servers: &Arc<Servers>) -> Vec<Trial> {
    let mut trials = trials!(
        servers, "redis";
        a_failure_wakes_the_waiters_of_other_processes,
        fences_grow_over_a_back_off_also_when_the_clock_steps_back,
    );
    trials.extend(trials!(servers, "pool"; without_messages_waiters_look_again_soon));
    trials.push(setup::trial(
        "elected_by_redis::a_failure_wakes_the_waiters_of_other_processes",
        servers,
        async |on: Arc<Servers>| {
            let far = async || implementers::elected_by_redis(on.clone()).await;
            notified_of_a_failure(far().await, far().await).await;
        },
    ));
    trials
}

async fn a_failure_wakes_the_waiters_of_other_processes(on: Arc<Servers>) {
    let far = async || Tier::new(setup::open(&on.redis()).await, Json);
    notified_of_a_failure(far().await, far().await).await;
}

async fn without_messages_waiters_look_again_soon(on: Arc<Servers>) {
    let url = on.redis();
    let far = Tier::new(setup::without_messages(&url), Json);
    let guard: Guard<str, String> = Guard::builder().far(far.clone()).build();
    let name = contract::fresh_name();
    let (token, _) = contract::lease(&far, &name, contract::LONG).await;
    let waiting = tokio::spawn({
        let (guard, name) = (guard.clone(), name.clone());
        async move {
            guard
                .fetch(&name, || async {
                    Err::<Loaded<String>, _>(std::io::Error::other("loaded"))
                })
                .await
        }
    });
    // The waiter has no messages to wait for, and must not wait for the end of a long lease.
    contract::eventually(async || (guard.flights() == 1).then_some(())).await;
    let record = contract::record(&far, Some("a"), 1);
    assert!(matches!(far.commit(&name, token, record).await, Ok(Commit::Stored(_))));
    let begin = Instant::now();
    let fetched = waiting.await.expect("a task").expect("the value of the other");
    assert_eq!(fetched.value().map(String::as_str), Some("a"));
    assert!(begin.elapsed() < Duration::from_secs(2), "{:?}", begin.elapsed());
    // Nobody was asked, so nobody has confirmed.
    let invalidated = guard.invalidate(&name).await.expect("an invalidation");
    assert_eq!(invalidated, Invalidated::Unconfirmed);
}

/// Two processes: what one fails, the other hears of, and then sees the back-off.
async fn notified_of_a_failure(one: impl Far<String>, other: impl Far<String>) {
    let name = contract::fresh_name();
    let recorder = Arc::new(contract::Recorder::default());
    let weak: Weak<contract::Recorder> = Arc::downgrade(&recorder);
    other.watch(weak);
    other.read(&name).await.expect("a read");
    let (token, _) = contract::lease(&one, &name, contract::LONG).await;
    let ask = async || {
        let token = Token::random();
        other.look_up_or_lease(&name, token, contract::LONG, Duration::ZERO).await
    };
    contract::eventually(async || {
        recorder.heard.lock().iter().any(|event| event == "connected").then_some(())
    })
    .await;
    let held = ask().await;
    assert!(matches!(held, Ok(Attempt::Held { .. })), "{held:?}");
    one.fail(&name, token, contract::LONG).await.expect("an answer");
    contract::eventually(async || (!recorder.about(&name).is_empty()).then_some(())).await;
    for _ in 0..3 {
        let asked = ask().await;
        assert!(matches!(asked, Ok(Attempt::BackOff { .. })), "{asked:?}");
    }
    // Those who look during the back-off do not wake each other.
    one.invalidate(&name, None, contract::LONG).await.expect("an invalidation");
    contract::eventually(async || (recorder.about(&name).len() > 1).then_some(())).await;
    assert_eq!(
        recorder.about(&name),
        [format!("released {name}"), format!("invalidated {name} None")]
    );
}

async fn fences_grow_over_a_back_off_also_when_the_clock_steps_back(on: Arc<Servers>) {
    let url = on.redis();
    let far = Tier::new(setup::open(&url).await, Json);
    let client = redis::Client::open(url).expect("a URL");
    let mut link = client.get_multiplexed_async_connection().await.expect("a connection");
    let name = format!("stepped{}", fastrand::u64(..));
    let lease_key = format!("cg:{{:{name}}}:l");
    let (token, grant) = contract::lease(&far, &name, contract::LONG).await;
    // As if the server's clock had been an hour ahead when it was granted.
    let ahead = grant.fence + 3_600_000_000;
    let mut set = redis::cmd("SETRANGE");
    set.arg(&lease_key).arg(16).arg(&ahead.to_be_bytes());
    set.query_async::<()>(&mut link).await.expect("an answer");
    far.fail(&name, token, Duration::from_millis(1)).await.expect("an answer");
    let token = Token::random();
    let grant = contract::eventually(async || {
        match far.look_up_or_lease(&name, token, contract::LONG, Duration::ZERO).await {
            Ok(Attempt::Granted(grant)) => Some(grant),
            _ => None,
        }
    })
    .await;
    assert_eq!((grant.fence, grant.failures), (ahead + 1, 1));
}
