//! The database that knows the truth: a row per key, whose versions grow, and the loads that read it.

use std::{error, fmt, sync::Arc, time::Duration};

use cattleguard::Loaded;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    history::Deed,
    life::{Life, pass},
    record::Begun,
    store::Value,
    world::World,
};

#[derive(Clone)]
pub(crate) struct Origin(Arc<Inner>);

struct Inner {
    world: Arc<World>,
    /// Of each key, when each version was written. The first is version 1.
    rows: Mutex<Vec<Vec<Instant>>>,
    mood: Mutex<Mood>,
}

/// How loads go.
#[derive(Clone, Copy, Default)]
pub(crate) struct Mood {
    /// How long they take at most, in milliseconds, before and after the row is read.
    pub(crate) takes: u64,
    /// The chances to take ten times as long, to fail, to panic, to hang.
    pub(crate) slow: f64,
    pub(crate) fails: f64,
    pub(crate) panics: f64,
    pub(crate) hangs: f64,
    /// How far replicas are behind at most.
    pub(crate) lag: Duration,
}

#[derive(Debug)]
pub(crate) struct Broken;

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the database is broken")
    }
}

impl error::Error for Broken {}

impl Origin {
    pub(crate) fn new(world: &Arc<World>, keys: u32, mood: Mood) -> Self {
        let rows = vec![vec![Instant::now()]; keys as usize];
        Self(Arc::new(Inner {
            world: world.clone(),
            rows: Mutex::new(rows),
            mood: Mutex::new(mood),
        }))
    }

    fn mood(&self) -> Mood {
        *self.0.mood.lock()
    }

    pub(crate) fn change_mood(&self, change: impl FnOnce(&mut Mood)) {
        change(&mut self.0.mood.lock());
    }

    /// Somebody writes the row: its new version.
    pub(crate) fn write(&self, key: u32) -> u64 {
        let mut rows = self.0.rows.lock();
        let row = &mut rows[key as usize];
        row.push(Instant::now());
        row.len() as u64
    }

    fn version_at(&self, key: u32, moment: Instant) -> u64 {
        let rows = self.0.rows.lock();
        let written = rows[key as usize].iter().filter(|written| **written <= moment).count();
        written.max(1) as u64
    }

    /// One query for the rows of these keys, by a process.
    pub(crate) async fn load(
        self,
        process: u32,
        life: Arc<Life>,
        keys: Vec<u64>,
    ) -> Result<Vec<(u64, Loaded<Value>)>, Broken> {
        let Inner { world, .. } = &*self.0;
        let mut running = Running { world: world.clone(), loads: Vec::new() };
        running.loads.extend(keys.iter().map(|&key| {
            let source = world.record.source();
            let deed = Deed::Loaded { source, brought: None };
            (source, world.record.begin(process, key as u32, deed), None)
        }));
        let mood = self.mood();
        let factor = if fastrand::f64() < mood.slow { 10 } else { 1 };
        pass(fastrand::u64(0..=mood.takes * factor)).await;
        let lag = mood.lag.mul_f64(fastrand::f64());
        let read_at = Instant::now().checked_sub(lag).unwrap_or_else(Instant::now);
        let versions: Vec<u64> =
            keys.iter().map(|&key| self.version_at(key as u32, read_at)).collect();
        pass(fastrand::u64(0..=mood.takes * factor)).await;
        life.awake().await;
        let mut dice = fastrand::f64();
        let mut falls = |chance: f64| {
            dice -= chance;
            dice < 0.0
        };
        if falls(mood.fails) {
            return Err(Broken);
        } else if falls(mood.panics) {
            // Without the panic hook, which would print it.
            std::panic::resume_unwind(Box::new("the load panics"));
        } else if falls(mood.hangs) {
            std::future::pending().await
        }
        let loaded = keys.iter().zip(versions).zip(&mut running.loads);
        Ok(loaded
            .map(|((&key, version), (source, _, brought))| {
                *brought = Some(version);
                (key, Loaded::found(Value { source: *source, version }, version))
            })
            .collect())
    }
}

/// Loads end with this, however they do.
struct Running {
    world: Arc<World>,
    loads: Vec<(u64, Begun, Option<u64>)>,
}

impl Drop for Running {
    fn drop(&mut self) {
        for (_, begun, version) in self.loads.drain(..) {
            self.world.record.end(begun, |deed| {
                if let Deed::Loaded { brought, .. } = deed {
                    *brought = version;
                }
            });
        }
    }
}
