pub use shuttle_tokio::sync::{
    AcquireError, Mutex, MutexGuard, OwnedMutexGuard, OwnedSemaphorePermit, Semaphore,
    SemaphorePermit, TryAcquireError, oneshot,
};

pub use crate::notify::Notify;

pub mod futures {
    pub use crate::notify::{Notified, OwnedNotified};
}

pub mod watch {
    pub use crate::watch::{Receiver, Ref, Sender};
}
