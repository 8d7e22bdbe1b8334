//! What the client's errors mean.

use zookeeper_client as zk;

use crate::{Fault, FaultKind};

/// The fault that an error of the client means.
pub(super) fn to_fault(error: zk::Error) -> Fault {
    use zk::Error as Zk;
    let kind = match &error {
        Zk::BadArguments(_) => FaultKind::Config,
        // Missing nodes are created: only the root in the addresses can be missing.
        Zk::NoNode => FaultKind::Config,
        Zk::NoHosts | Zk::ConnectionLoss | Zk::SessionExpired | Zk::SessionMoved => {
            FaultKind::Unreachable
        }
        Zk::ClientClosed | Zk::Custom(_) => FaultKind::Unreachable,
        Zk::Timeout => FaultKind::Timeout,
        // Its text can hold a path, and with it a name.
        Zk::UnexpectedError(_) => return FaultKind::Refused.into(),
        _ => FaultKind::Refused,
    };
    Fault::new(kind, error)
}
