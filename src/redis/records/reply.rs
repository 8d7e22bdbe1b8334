//! The parts of a script's answer.

use std::time::Duration;

use ::redis::Value;
use bytes::Bytes;

use crate::{Fault, FaultKind};

pub(crate) fn malformed() -> Fault {
    Fault::saying(FaultKind::Refused, "an answer of a script has an unknown form")
}

/// How much remains, in milliseconds.
pub(super) fn remaining(value: Value) -> Result<Duration, Fault> {
    let millis = integer(value).ok_or_else(malformed)?;
    Ok(Duration::from_millis(u64::try_from(millis).unwrap_or(0)))
}

pub(super) fn integer(value: Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(number),
        Value::BulkString(digits) => str::from_utf8(&digits).ok()?.parse().ok(),
        Value::SimpleString(digits) => digits.parse().ok(),
        _ => None,
    }
}

pub(super) fn bulk(value: Value) -> Option<Bytes> {
    match value {
        Value::BulkString(bytes) => Some(bytes.into()),
        _ => None,
    }
}
