//! P9: no key and no value in a log, span, error or `Debug`.

use std::{
    fmt::Debug,
    io,
    sync::{Arc, Mutex},
};

use cattleguard::{Error, Guard, GuardLayer, Loaded, far::Far};
use tower::{Layer, ServiceExt, service_fn};
use tracing::{Dispatch, subscriber::NoSubscriber};
use tracing_subscriber::fmt::{MakeWriter, format::FmtSpan};

use crate::{
    Origin, builder, callers, guard_on, idle, memory, ms,
    origin::Reply,
    plain, secs,
    wire::{Break, Call},
    wired_with,
};

const KEY: &str = "secret-key-xyzzy";
const VALUE: &str = "secret-value-plugh";

/// Everything that is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().expect("no panic").clone()).expect("UTF-8")
    }
}

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("no panic").extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

fn is_quiet(text: &str) {
    assert!(!text.contains("xyzzy") && !text.contains("plugh"), "{text}");
}

fn secret(version: u64) -> Reply {
    Reply::Loaded(Loaded::found(VALUE.to_owned(), version))
}

#[tokio::test(start_paused = true)]
async fn no_key_and_no_value_is_logged() {
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_span_events(FmtSpan::FULL)
        .with_ansi(false)
        .with_writer(log.clone())
        .finish();
    let subscriber = Dispatch::new(subscriber);
    // While there is just one subscriber, tracing asks only the default of the thread that comes
    // by a callsite first, and the threads of other tests have none.
    let _second = Dispatch::new(NoSubscriber::default());
    let _default = tracing::dispatcher::set_default(&subscriber);

    let far = memory();
    let policy = plain().lease_ttl(ms(300)).load_timeout(secs(2)).grace(secs(5)).ttl(secs(3));
    let (guard, wire) = wired_with(&far, policy.clone());
    let other = builder().policy(policy).far(far.clone()).build();
    let origin = Origin::taking(secs(1));
    let fetch = async |guard: &Guard<str, String>, reply: Reply| {
        origin.next(reply);
        is_quiet(&format!("{:?}", guard.fetch(KEY, origin.load()).await));
    };

    // A miss and its waiter, a lost lease, hits, a stale entry.
    let herds = [callers(&guard, 3, KEY, &origin), callers(&other, 3, KEY, &origin)];
    origin.next(secret(1));
    for herd in herds {
        crate::answers(herd).await;
    }
    fetch(&guard, secret(1)).await;
    tokio::time::sleep(secs(4)).await;
    fetch(&guard, secret(2)).await;
    tokio::time::sleep(secs(2)).await;
    let revoked = callers(&other, 1, "secret-key-xyzzy-b", &origin);
    idle().await;
    other.invalidate("secret-key-xyzzy-b").await.expect("the far tier");
    crate::answers(revoked).await;

    // Writes, refusals, a lagging origin.
    let _ = guard.put(KEY, Loaded::found(VALUE.to_owned(), 9)).await;
    let _ = guard.put(KEY, Loaded::found(VALUE.to_owned(), 8)).await;
    guard.invalidate(KEY).await.expect("the far tier");
    guard.invalidate_at(KEY, 10).await.expect("the far tier");
    fetch(&guard, secret(7)).await;

    // Loads that fail, and a far tier that does.
    for reply in [Reply::Fail, Reply::Panic, Reply::PanicInClosure, Reply::Never] {
        guard.invalidate(KEY).await.expect("the far tier");
        fetch(&guard, reply).await;
    }
    for call in Call::ALL {
        wire.heal();
        tokio::time::sleep(secs(1)).await;
        guard.invalidate(KEY).await.expect("the far tier");
        wire.fault(call, Break::Error);
        fetch(&guard, secret(11)).await;
        is_quiet(&format!("{:?}", guard.put(KEY, Loaded::found(VALUE.to_owned(), 12)).await));
        fetch(&guard, Reply::Fail).await;
    }

    let log = log.text();
    for expected in ["flight", "load", "outcome", "refused", "lease", "far tier is away", "is back"]
    {
        assert!(log.contains(expected), "the log is not being written: {expected}");
    }
    is_quiet(&log);
}

#[tokio::test(start_paused = true)]
async fn no_key_and_no_value_is_in_a_debug() {
    let far = memory();
    let guard = guard_on(far.clone());
    let origin = Origin::new();
    origin.next(secret(1));
    let fetched = guard.fetch(KEY, origin.load()).await.expect("a value");
    assert_eq!(fetched.value().map(String::as_str), Some(VALUE));
    let layer = GuardLayer::new(guard.clone(), |key: &String| Some(key.clone()));
    let _: &GuardLayer<str, String, _> = &layer;

    let strings: Guard<String, String> = Guard::builder().far(far.clone()).build();
    let layer = GuardLayer::new(strings, |key: &String| Some(key.clone()));
    let inner = service_fn(|_: String| std::future::ready(Ok::<_, io::Error>(loaded())));
    let service = layer.layer(inner);
    let response = service.oneshot(KEY.to_owned());

    let shown: [&dyn Debug; 8] = [
        &guard,
        &Guard::<str, String>::builder(),
        &fetched,
        fetched.entry(),
        &loaded(),
        &layer,
        &far.read(KEY).await,
        &cattleguard::Key::name(KEY),
    ];
    for shown in shown {
        let text = format!("{shown:?}");
        assert!(!text.is_empty());
        is_quiet(&text);
    }
    is_quiet(&format!("{:?}", response.await));
}

fn loaded() -> Loaded<String> {
    Loaded::found(VALUE.to_owned(), 1)
}

#[tokio::test(start_paused = true)]
async fn no_key_and_no_value_is_in_an_error() {
    let far = memory();
    let (guard, wire) = wired_with(&far, plain().load_timeout(ms(100)).wait_timeout(ms(100)));
    let origin = Origin::new();
    let mut errors = Vec::new();
    guard.invalidate_at(KEY, 5).await.expect("the far tier");
    for reply in [Reply::Fail, Reply::Panic, Reply::Never] {
        origin.next(reply);
        errors.push(guard.fetch(KEY, origin.load()).await.expect_err("an error"));
    }
    for _ in 0..20 {
        origin.next(secret(4));
    }
    errors.push(guard.fetch(KEY, origin.load()).await.expect_err("an error"));
    for fault in [Break::Error, Break::Hang] {
        wire.fault(Call::Put, fault);
        errors.push(guard.put(KEY, loaded()).await.expect_err("an error"));
    }
    let kinds = |error: &Error| std::mem::discriminant(error);
    assert!(errors.windows(2).any(|pair| kinds(&pair[0]) != kinds(&pair[1])));
    for error in errors {
        let mut chain: Option<&dyn std::error::Error> = Some(&error);
        is_quiet(&format!("{error:?}"));
        while let Some(error) = chain {
            is_quiet(&error.to_string());
            chain = error.source();
        }
    }
}
