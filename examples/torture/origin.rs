//! The database: a Redis that nothing befalls, with a number for each row, and a mood.

use std::{fmt, time::Duration};

use redis::{AsyncConnectionConfig, Client, aio::MultiplexedConnection};

use crate::{error::Failure, row::first_version};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mood {
    Well,
    Fails,
    Panics,
    Hangs,
    Slow,
    Lags,
}

const MOODS: [(Mood, &str); 6] = [
    (Mood::Well, "well"),
    (Mood::Fails, "fails"),
    (Mood::Panics, "panics"),
    (Mood::Hangs, "hangs"),
    (Mood::Slow, "slow"),
    (Mood::Lags, "lags"),
];

/// What a loader panics with: nobody need see it.
pub const PANIC: &str = "the origin's client panics";

#[derive(Clone)]
pub struct Origin(MultiplexedConnection);

impl Origin {
    pub async fn open(url: &str) -> Result<Self, Failure> {
        // A process may be frozen for seconds.
        let config = AsyncConnectionConfig::new().set_response_timeout(None);
        let client = Client::open(url)?;
        Ok(Self(client.get_multiplexed_async_connection_with_config(&config).await?))
    }

    /// The version that a load finds, and when: most take a moment, some long, a few longer than a lease.
    pub async fn load(&self, key: u32) -> Result<u64, OriginFailed> {
        let mut pipe = redis::pipe();
        pipe.atomic().get("mood").hget("rows", key).hget("replica", key);
        let read: Result<(Option<String>, Option<u64>, Option<u64>), _> =
            pipe.query_async(&mut self.0.clone()).await;
        let (mood, row, replica) = read.map_err(|_| OriginFailed)?;
        let named = MOODS.iter().find(|(_, name)| Some(*name) == mood.as_deref());
        // Not every load meets it.
        let mood = named.map(|(mood, _)| *mood).filter(|_| fastrand::f64() < 0.7);
        tokio::time::sleep(took(mood.unwrap_or(Mood::Well))).await;
        match mood {
            Some(Mood::Fails) => Err(OriginFailed),
            Some(Mood::Panics) => std::panic::panic_any(PANIC),
            Some(Mood::Lags) => Ok(first_version(key) + replica.unwrap_or(0)),
            _ => Ok(first_version(key) + row.unwrap_or(0)),
        }
    }

    /// The row's new version.
    pub async fn write(&self, key: u32) -> Result<u64, Failure> {
        let command = redis::Cmd::hincr("rows", key, 1);
        let row: u64 = command.query_async(&mut self.0.clone()).await?;
        Ok(first_version(key) + row)
    }

    pub async fn turn(&self, mood: Mood) -> Result<(), Failure> {
        let name = MOODS.iter().find(|(other, _)| *other == mood).map_or("well", |(_, name)| *name);
        let mut pipe = redis::pipe();
        pipe.atomic();
        if mood == Mood::Lags {
            pipe.cmd("COPY").arg("rows").arg("replica").arg("REPLACE").ignore();
        }
        pipe.set("mood", name).ignore();
        Ok(pipe.query_async(&mut self.0.clone()).await?)
    }
}

/// Longer than any load may take.
const NEVER: Duration = Duration::from_secs(30);

fn took(mood: Mood) -> Duration {
    let usual = Duration::from_micros(fastrand::u64(..20_000));
    match (mood, fastrand::u32(..1000)) {
        (Mood::Hangs, _) => NEVER,
        (Mood::Slow, _) => Duration::from_millis(fastrand::u64(200..3_500)),
        (_, ..20) => Duration::from_millis(300),
        (_, 20..22) => Duration::from_millis(2_500),
        _ => usual,
    }
}

#[derive(Debug)]
pub struct OriginFailed;

impl fmt::Display for OriginFailed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the origin failed")
    }
}

impl std::error::Error for OriginFailed {}
