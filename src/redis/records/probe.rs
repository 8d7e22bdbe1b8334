//! What this user may do, asked once, at the first use: with the question for the server's time, which is needed
//! anyway. What is missing is said once, in one sentence; a Redis that refuses is not silent.

use std::time::Duration;

use ::redis::{Cmd, Value};

use super::{
    reply::{bulk, integer, malformed},
    scripts::{PROBE, PROBE_TEXT},
    server_clock::system_millis,
    store::Records,
};
use crate::{
    Fault, FaultKind,
    redis::{
        connection::Connection,
        permissions::{Permitted, Publisher},
    },
};

/// How often at most a refusal makes the next read ask again: rights may be taken while the service runs.
const ASK_AGAIN: Duration = Duration::from_secs(1);

/// A time that scripts are given is asked for again so often: clocks drift.
const TIME_AGAIN: Duration = Duration::from_secs(60);

const NO_SCRIPTS: &str = "it refuses scripts (EVALSHA, SCRIPT LOAD) or keys that begin with `cg`, so nothing is \
     stored and every miss loads";
const NO_RELEASE: &str =
    "it refuses EVAL, so a load that stores nothing holds its lease until the lease ttl";
const NO_TIME: &str = "it refuses TIME, so entries follow its clock as INFO tells it";
const NO_CLOCK: &str =
    "it refuses TIME, so entries follow the clocks of the processes: keep these in step";
const NO_TIME_INSIDE: &str =
    "it refuses TIME inside scripts, so entries follow an estimate of its clock";
const NO_PUBLISH: &str = "it refuses PUBLISH or channels that begin with `cg`, so waiters poll, and near entries \
     live for a short time only";
const NO_PUBLISH_INSIDE: &str =
    "it refuses PUBLISH inside scripts, so each message costs one more command";
const NO_COUNT: &str =
    "it refuses PUBSUB, so invalidations are unconfirmed while anybody listens by a pattern";
const TOO_OLD: &str = "it is older than 6.2, for which this was written";
const EVICTS: &str = "its maxmemory-policy may evict leases and versions, so that a second load, or an older value \
     after an invalidation, is possible: prefer noeviction";

impl<C> Records<C> {
    /// The server's time, and what it permits: both are asked for once, where `name` is kept.
    pub(super) async fn know_server(&self, name: &str) -> Result<(), Fault> {
        if self.clock.is_known() && !self.permissions.is_doubted() {
            return Ok(());
        }
        match self.permissions.turn.try_lock() {
            Ok(_turn) => match self.probe(name).await {
                // What was found before may still hold: the read itself says whether the server is there.
                Err(_) if self.clock.is_known() => Ok(()),
                probed => probed,
            },
            Err(_) if self.clock.is_known() => Ok(()),
            Err(_) => self.ask_time().await.map(drop),
        }
    }

    /// Whether a Cluster has sharded channels is asked before the first message. Elsewhere the first read asks.
    pub(crate) async fn know_channels(&self, name: &str) {
        if self.connection.is_cluster() {
            // What comes next says whether the server is there.
            let _ = self.know_server(name).await;
        }
    }

    /// After a refusal the next read asks what is permitted.
    pub(super) fn doubt_if_refused<T>(&self, answer: &Result<T, Fault>) {
        if let Err(fault) = answer
            && fault.kind() == FaultKind::Refused
            && self.permissions.are_older_than(ASK_AGAIN)
        {
            self.permissions.doubt();
        }
    }

    /// Scripts that are given the time need a recent estimate.
    pub(super) fn time_argument(&self) -> String {
        if self.permissions.get().time {
            return String::new();
        }
        if self.permissions.are_older_than(TIME_AGAIN) {
            self.permissions.doubt();
        }
        self.clock.server_micros()
    }

    async fn probe(&self, name: &str) -> Result<(), Fault> {
        let mut missing = Vec::new();
        let mut answer = may(self.probe_by_text(name).await)?;
        // A Cluster client loads a script into all nodes, also into one that hangs.
        if answer.is_none() || !self.connection.is_cluster() || self.permissions.is_doubted() {
            let by_hash = may(self.probe_by_hash(name).await)?;
            match (&answer, &by_hash) {
                (_, None) => missing.push(NO_SCRIPTS),
                (None, Some(_)) => missing.push(NO_RELEASE),
                (Some(_), Some(_)) => {}
            }
            answer = by_hash.or(answer);
        }
        let found = match answer {
            Some(answer) => self.other_ways(self.permitted(answer)?, &mut missing).await?,
            None => {
                self.ask_time().await?;
                Permitted::default()
            }
        };
        self.permissions.found(found);
        self.judge_server(&mut missing).await;
        self.tell(missing);
        Ok(())
    }

    async fn probe_by_text(&self, name: &str) -> Result<Vec<Value>, Fault> {
        let mut call = Cmd::new();
        call.arg("EVAL").arg(PROBE_TEXT).arg(1).arg(self.keys.key(name));
        call.arg(self.keys.probe()).arg(self.sharded_channel(name));
        self.connection.query(&call).await
    }

    async fn probe_by_hash(&self, name: &str) -> Result<Vec<Value>, Fault> {
        let mut call = PROBE.key(self.keys.key(name));
        call.arg(self.keys.probe()).arg(self.sharded_channel(name));
        self.connection.run(&call).await
    }

    /// In the slot of the name, so that its node has it. Empty outside of a Cluster.
    fn sharded_channel(&self, name: &str) -> String {
        if self.connection.is_cluster() { self.keys.key_with(name, ":s") } else { String::new() }
    }

    /// Reads the answer of the probe, and notes the time if there is one.
    fn permitted(&self, answer: Vec<Value>) -> Result<Permitted, Fault> {
        let [seconds, micros, published, counted, sharded] =
            <[Value; 5]>::try_from(answer).map_err(|_| malformed())?;
        let time = integer(seconds).zip(integer(micros));
        if let Some((seconds, micros)) = time {
            self.clock.note(millis(seconds, micros));
        }
        let by_script = integer(published) == Some(1);
        let publisher = if by_script { Publisher::Script } else { Publisher::Nobody };
        Ok(Permitted {
            time: time.is_some(),
            publisher,
            count: integer(counted) == Some(1),
            sharded: integer(sharded) == Some(1),
        })
    }

    /// Finds another way for what scripts may not do, and notes what is missing.
    async fn other_ways(
        &self,
        mut found: Permitted,
        missing: &mut Vec<&'static str>,
    ) -> Result<Permitted, Fault> {
        if !found.time {
            missing.push(self.ask_time().await?);
        }
        if found.publisher == Publisher::Nobody {
            let mut publish = Cmd::new();
            publish.arg("PUBLISH").arg(self.keys.probe()).arg("");
            if may(self.connection.query::<i64>(&publish).await)?.is_some() {
                found.publisher = Publisher::Client;
                missing.push(NO_PUBLISH_INSIDE);
            } else {
                missing.push(NO_PUBLISH);
            }
        }
        if !found.count {
            missing.push(NO_COUNT);
        }
        Ok(found)
    }

    /// What else could be amiss, as far as the user may ask. No answer is none: this is for a warning alone.
    async fn judge_server(&self, missing: &mut Vec<&'static str>) {
        // A Cluster would ask all its nodes.
        if self.connection.is_cluster() {
            return;
        }
        let info = info(&self.connection).await.unwrap_or_default();
        let version = field(&info, "redis_version").and_then(|version| {
            let mut numbers = version.split('.').map_while(|number| number.parse::<u32>().ok());
            numbers.next().zip(numbers.next())
        });
        if version.is_some_and(|version| version < (6, 2)) {
            missing.push(TOO_OLD);
        }
        let evicts = field(&info, "maxmemory_policy").is_some_and(|policy| policy != "noeviction");
        if evicts && field(&info, "maxmemory").is_some_and(|bytes| bytes != "0") {
            missing.push(EVICTS);
        }
    }

    /// Asks for the time without a script. What it costs that scripts do not know it.
    async fn ask_time(&self) -> Result<&'static str, Fault> {
        let mut time = Cmd::new();
        time.arg("TIME");
        if let Some((seconds, micros)) = may(self.connection.query(&time).await)? {
            self.clock.note(millis(seconds, micros));
            return Ok(NO_TIME_INSIDE);
        }
        let info = may(info(&self.connection).await)?.unwrap_or_default();
        let micros = field(&info, "server_time_usec").and_then(|micros| micros.parse::<i64>().ok());
        self.clock.note(micros.map_or_else(system_millis, |micros| micros / 1000));
        Ok(if micros.is_some() { NO_TIME } else { NO_CLOCK })
    }

    /// Says what is missing, if that has not been said.
    fn tell(&self, missing: Vec<&'static str>) {
        let text = missing.join("; ");
        if self.permissions.is_news(missing) {
            tracing::warn!("Redis is not as needed: {text}");
        }
    }
}

/// `None` for what is refused.
fn may<T>(answer: Result<T, Fault>) -> Result<Option<T>, Fault> {
    match answer {
        Ok(answer) => Ok(Some(answer)),
        Err(fault) if fault.kind() == FaultKind::Refused => Ok(None),
        Err(fault) => Err(fault),
    }
}

fn millis(seconds: i64, micros: i64) -> i64 {
    seconds.saturating_mul(1000).saturating_add(micros / 1000)
}

/// What the server says about itself; empty in a Cluster, where each node has an answer of its own.
async fn info(connection: &Connection) -> Result<String, Fault> {
    let mut info = Cmd::new();
    info.arg("INFO");
    let answer = connection.query::<Value>(&info).await?;
    let text = match answer {
        Value::VerbatimString { text, .. } => text,
        other => bulk(other)
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default(),
    };
    Ok(text)
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}
