//! What the client's errors mean, and the limits of a call.

use std::time::Duration;

use ::redis::RedisError;

use crate::{Fault, FaultKind};

/// The fault that an error of the client means.
pub(super) fn to_fault(error: RedisError) -> Fault {
    use ::redis::ErrorKind as Redis;
    let kind = match error.kind() {
        _ if error.is_timeout() => FaultKind::Timeout,
        Redis::InvalidClientConfig => FaultKind::Config,
        Redis::Io | Redis::ClusterConnectionNotFound => FaultKind::Unreachable,
        _ if says(&error, &CANNOT_SERVE_NOW) => FaultKind::Unreachable,
        _ => FaultKind::Refused,
    };
    Fault::new(kind, error)
}

/// What a server answers to every command, or every write, until its state changes.
const CANNOT_SERVE_NOW: [&str; 5] =
    ["READONLY", "LOADING", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN"];

/// Whether the server's answer has one of these codes. Before Redis 7 an error that a script raised has
/// it in the middle of its text, after a hyphen.
pub(super) fn says(error: &RedisError, codes: &[&str]) -> bool {
    let mut words = error.detail().unwrap_or_default().split(' ');
    error.code().is_some_and(|code| codes.contains(&code))
        || words.any(|word| word.strip_prefix('-').is_some_and(|word| codes.contains(&word)))
}

/// Waits for `work` for as long as `timeout` at most.
pub(super) async fn within<T>(
    timeout: Duration,
    work: impl Future<Output = Result<T, RedisError>>,
) -> Result<T, Fault> {
    match tokio::time::timeout(timeout, work).await {
        Ok(done) => done.map_err(to_fault),
        Err(_) => Err(FaultKind::Timeout.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_that_cannot_serve_now_is_unreachable_and_one_that_refuses_is_not() {
        for (answer, kind) in [
            ("READONLY You can't write against a read only replica.", FaultKind::Unreachable),
            (
                "ERR Fault running script (call to f_1): @user_script:9: @user_script: 9: -READONLY \
                 You can't write against a read only replica.",
                FaultKind::Unreachable,
            ),
            ("LOADING Redis is loading the dataset in memory", FaultKind::Unreachable),
            ("MASTERDOWN Link with MASTER is down", FaultKind::Unreachable),
            ("CLUSTERDOWN The cluster is down", FaultKind::Unreachable),
            ("TRYAGAIN Multiple keys request during rehashing of slot", FaultKind::Unreachable),
            ("OOM command not allowed when used memory > 'maxmemory'.", FaultKind::Refused),
            ("NOPERM this user has no permissions", FaultKind::Refused),
            ("NOREPLICAS Not enough good replicas to write.", FaultKind::Refused),
            ("WRONGTYPE Operation against a key", FaultKind::Refused),
            ("ERR READONLY is a word here", FaultKind::Refused),
        ] {
            let parsed = ::redis::parse_redis_value(format!("-{answer}\r\n").as_bytes());
            let Ok(::redis::Value::ServerError(error)) = parsed else { panic!("{parsed:?}") };
            assert_eq!(to_fault(error.into()).kind(), kind, "{answer}");
        }
    }
}
