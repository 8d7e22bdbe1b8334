//! Values that the codec of this release cannot read or write.

use std::{sync::Arc, time::Duration};

use cattleguard::{
    Entry, FaultKind, Guard, Loaded, Outcome, Version,
    codec::{Json, Raw},
    far::{Attempt, Commit, Far, Put, Record, Token},
    redis::RedisFar,
};
use libtest_mimic::Trial;

use crate::{
    contract,
    setup::{self, Servers, Tier, trials},
};

pub fn trials(servers: &Arc<Servers>) -> Vec<Trial> {
    trials!(
        servers, "redis";
        a_value_that_does_not_decode_is_replaced_under_a_lease,
        a_value_that_does_not_encode_ends_its_lease,
        a_value_that_is_too_long_ends_its_lease,
    )
}

async fn a_value_that_does_not_decode_is_replaced_under_a_lease(on: Arc<Servers>) {
    let url = on.redis();
    let name = contract::fresh_name();
    let other_release: RedisFar<Vec<u8>, Raw> = RedisFar::new(setup::open(&url).await, Raw);
    let until = Far::clock(&other_release).now().after(contract::LONG);
    let entry = Arc::new(Entry::new(Some(vec![0xff]), Version::new(1), until));
    let record = Record::new(entry, contract::LONG, contract::LONG);
    let put = other_release.put(&name, record).await;
    assert!(matches!(put, Ok(Put::Stored(_))), "{put:?}");

    let far = Tier::new(setup::open(&url).await, Json);
    let fetch = async |load: &'static str| {
        let guard: Guard<str, String> = Guard::builder().far(far.clone()).build();
        let load =
            move || async move { Ok::<_, std::io::Error>(Loaded::found(load.to_owned(), 1)) };
        guard.fetch(&name, load).await.expect("a value")
    };
    let first = fetch("mine").await;
    assert_eq!(
        (first.value().map(String::as_str), first.outcome()),
        (Some("mine"), Outcome::Loaded)
    );
    let second = fetch("never loaded").await;
    assert_eq!(second.value().map(String::as_str), Some("mine"));
    assert_eq!(second.outcome(), Outcome::Hit(cattleguard::Tier::Far));
}

async fn a_value_that_does_not_encode_ends_its_lease(on: Arc<Servers>) {
    let url = on.redis();
    /// JSON has no maps with such keys.
    type Map = std::collections::BTreeMap<Vec<u8>, u8>;
    let far: RedisFar<Map, Json> = RedisFar::new(setup::open(&url).await, Json);
    let name = contract::fresh_name();
    let token = Token::random();
    let granted = far.look_up_or_lease(&name, token, contract::LONG, Duration::ZERO).await;
    assert!(matches!(granted, Ok(Attempt::Granted(_))), "{granted:?}");
    let until = Far::clock(&far).now().after(contract::LONG);
    let map = Map::from([(vec![1], 1)]);
    let entry = Arc::new(Entry::new(Some(map), Version::new(1), until));
    let record = Record::new(entry, contract::LONG, contract::LONG);
    let refused = far.commit(&name, token, record).await.expect_err("not JSON");
    assert_eq!(refused.kind(), FaultKind::Codec);
    let granted =
        far.look_up_or_lease(&name, Token::random(), contract::LONG, Duration::ZERO).await;
    assert!(matches!(granted, Ok(Attempt::Granted(_))), "{granted:?}");
}

async fn a_value_that_is_too_long_ends_its_lease(on: Arc<Servers>) {
    let redis = setup::open(&on.redis()).await.max_value_bytes(10);
    let far: RedisFar<Vec<u8>, Raw> = RedisFar::new(redis, Raw);
    let record = |length| {
        let until = Far::clock(&far).now().after(contract::LONG);
        let entry = Arc::new(Entry::new(Some(vec![7; length]), Version::new(1), until));
        Record::new(entry, contract::LONG, contract::LONG)
    };
    let name = contract::fresh_name();
    for length in [11, 10] {
        let token = Token::random();
        let asked = far.look_up_or_lease(&name, token, contract::LONG, Duration::ZERO).await;
        assert!(matches!(asked, Ok(Attempt::Granted(_))), "{asked:?}");
        match far.commit(&name, token, record(length)).await {
            Ok(committed) => assert!(length == 10 && matches!(committed, Commit::Stored(_))),
            Err(fault) => assert!(length == 11 && fault.kind() == FaultKind::Refused, "{fault}"),
        }
    }
    let refused = far.put(&name, record(11)).await.expect_err("too long");
    assert!(refused.to_string().contains("max_value_bytes"), "{refused}");
}
