//! What the client's errors mean, and the limits of a call.
//!
//! The server's own text is never passed on: it quotes commands, and so keys and values. What is passed on is
//! its code, from the table here.

use std::time::Duration;

use ::redis::{ErrorKind, RedisError};

use crate::{Fault, FaultKind};

/// The codes that a server's answer begins with, what they mean, and whether a new connection may help.
const CODES: [(&str, FaultKind, bool); 19] = {
    use FaultKind::{Busy, Refused, Unreachable};
    [
        // Every command, or every write, until the server's state changes.
        ("READONLY", Unreachable, true),
        ("MASTERDOWN", Unreachable, true),
        ("LOADING", Unreachable, true),
        ("CLUSTERDOWN", Unreachable, false),
        // A server that has restarted may get its users a little later.
        ("NOAUTH", Busy, true),
        ("WRONGPASS", Busy, true),
        // What passes by itself.
        ("NOREPLICAS", Busy, false),
        ("BUSY", Busy, false),
        ("MISCONF", Busy, false),
        ("NOSCRIPT", Busy, false),
        ("TRYAGAIN", Busy, false),
        ("ASK", Busy, false),
        ("MOVED", Busy, false),
        // What somebody has to change.
        ("OOM", Refused, false),
        ("NOPERM", Refused, false),
        ("WRONGTYPE", Refused, false),
        ("CROSSSLOT", Refused, false),
        ("NOPROTO", Refused, false),
        ("ERR", Refused, false),
    ]
};

/// The fault that an error of the client means.
pub(super) fn to_fault(error: RedisError) -> Fault {
    use FaultKind::{Config, Refused, Timeout, Unreachable};
    if let Some((code, kind, _)) = code(&error) {
        return Fault::saying(kind, if is_unknown(&error) { UNKNOWN } else { code });
    }
    match error.kind() {
        _ if error.is_timeout() => Timeout.into(),
        ErrorKind::InvalidClientConfig => Config.into(),
        ErrorKind::AuthenticationFailed => Fault::saying(FaultKind::Busy, CREDENTIALS),
        _ if error.is_connection_refusal() => Fault::saying(Unreachable, "connection refused"),
        ErrorKind::Io if error.is_connection_dropped() => {
            Fault::saying(Unreachable, "the connection broke")
        }
        ErrorKind::Io | ErrorKind::ClusterConnectionNotFound => Unreachable.into(),
        // A failover is under way.
        ErrorKind::MasterNameNotFoundBySentinel => {
            Fault::saying(Unreachable, "the Sentinels know no primary of this name that is up")
        }
        ErrorKind::UnexpectedReturnType | ErrorKind::Parse => {
            Fault::saying(Refused, "an answer of another type")
        }
        _ => Refused.into(),
    }
}

pub(super) const CREDENTIALS: &str = "the user name or the password was refused";

/// Whether a server does not know something, or does not permit it: it answers so every time.
pub(super) fn is_not_offered(fault: &Fault) -> bool {
    fault.text().is_some_and(|text| [UNKNOWN, "NOPERM", "NOPROTO"].contains(&text))
}

const UNKNOWN: &str = "the server does not know a command, or it is renamed";

/// The server's answer that an error stands for. Before Redis 7 an error that a script raised, or returned, has its
/// code in the middle of its text, after a hyphen.
fn code(error: &RedisError) -> Option<(&'static str, FaultKind, bool)> {
    let find = |word: &str| CODES.iter().copied().find(|(code, ..)| *code == word);
    let mut words = error.detail().unwrap_or_default().split(' ');
    let mut raised = || words.find_map(|word| find(word.strip_prefix('-')?));
    let first = error.code()?;
    match first == "ERR" || first.starts_with('@') {
        true => raised().or_else(|| find(first)),
        false => find(first),
    }
}

fn is_unknown(error: &RedisError) -> bool {
    let text = error.detail().unwrap_or_default();
    error.code() == Some("ERR")
        && (text.starts_with("unknown command") || text.contains("nknown Redis command"))
}

/// Whether the server has answered, if only to refuse, or not what was expected.
pub(super) fn is_answer(error: &RedisError) -> bool {
    let is_odd = matches!(error.kind(), ErrorKind::UnexpectedReturnType | ErrorKind::Parse);
    error.code().is_some() || is_odd
}

/// Whether the server says that it is not, or not yet, the right one.
pub(super) fn is_doubtful(error: &RedisError) -> bool {
    code(error).is_some_and(|(.., doubtful)| doubtful)
}

/// Whether the server has become a replica.
pub(super) fn is_demotion(error: &RedisError) -> bool {
    code(error).is_some_and(|(code, ..)| ["READONLY", "MASTERDOWN"].contains(&code))
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
    use std::error::Error;

    use super::*;

    fn answered(answer: &str) -> RedisError {
        let parsed = ::redis::parse_redis_value(format!("-{answer}\r\n").as_bytes());
        let Ok(::redis::Value::ServerError(error)) = parsed else { panic!("{parsed:?}") };
        error.into()
    }

    #[test]
    fn a_failover_is_an_outage() {
        let unknown = (ErrorKind::MasterNameNotFoundBySentinel, "no such master");
        assert_eq!(to_fault(unknown.into()).kind(), FaultKind::Unreachable);
    }

    #[test]
    fn what_passes_is_busy_what_cannot_serve_unreachable_and_the_rest_refused() {
        for (answer, kind) in [
            ("READONLY You can't write against a read only replica.", FaultKind::Unreachable),
            (
                "@user_script: 31: -READONLY You can't write against a read only replica.",
                FaultKind::Unreachable,
            ),
            (
                "ERR Fault running script (call to f_1): @user_script:9: @user_script: 9: -READONLY \
                 You can't write against a read only replica.",
                FaultKind::Unreachable,
            ),
            ("LOADING Redis is loading the dataset in memory", FaultKind::Unreachable),
            ("MASTERDOWN Link with MASTER is down", FaultKind::Unreachable),
            ("CLUSTERDOWN The cluster is down", FaultKind::Unreachable),
            ("TRYAGAIN Multiple keys request during rehashing of slot", FaultKind::Busy),
            ("ASK 1 127.0.0.1:7000", FaultKind::Busy),
            ("NOREPLICAS Not enough good replicas to write.", FaultKind::Busy),
            (
                "ERR Error running script (call to f_1): @user_script:9: -NOREPLICAS Not enough",
                FaultKind::Busy,
            ),
            ("BUSY Redis is busy running a script.", FaultKind::Busy),
            ("MISCONF Redis is configured to save RDB snapshots", FaultKind::Busy),
            ("NOSCRIPT No matching script. Please use EVAL.", FaultKind::Busy),
            ("NOAUTH Authentication required.", FaultKind::Busy),
            ("WRONGPASS invalid username-password pair", FaultKind::Busy),
            ("OOM command not allowed when used memory > 'maxmemory'.", FaultKind::Refused),
            ("NOPERM this user has no permissions", FaultKind::Refused),
            ("WRONGTYPE Operation against a key", FaultKind::Refused),
            ("ERR READONLY is a word here", FaultKind::Refused),
            ("NEVERSEEN by this release", FaultKind::Refused),
        ] {
            assert_eq!(to_fault(answered(answer)).kind(), kind, "{answer}");
        }
    }

    #[test]
    fn the_servers_text_is_not_passed_on() {
        for answer in [
            "ERR unknown command 'EVALSHA', with args beginning with: 'cg:{:SECRET}'",
            "WRONGTYPE of SECRET",
            "SECRET",
            "SECRET of its own",
            "ASK 1 SECRET:7000",
        ] {
            let fault = to_fault(answered(answer));
            let text = format!("{fault} {fault:?} {:?}", fault.source());
            assert!(!text.contains("SECRET"), "{text}");
        }
        let unknown = to_fault(answered("ERR unknown command 'EVALSHA'"));
        assert!(unknown.to_string().ends_with(UNKNOWN), "{unknown}");
    }
}
