use std::panic::{AssertUnwindSafe, catch_unwind};

use super::event::{GuardEvent, GuardEventKind};
use crate::key::own_name;

/// Who is told of events, and whether with keys.
#[derive(Default)]
pub(crate) struct EventHook {
    on_event: Option<Box<OnEvent>>,
    has_keys: bool,
}

type OnEvent = dyn Fn(&GuardEvent<'_>) + Send + Sync;

impl EventHook {
    pub(crate) fn set(&mut self, on_event: impl Fn(&GuardEvent<'_>) + Send + Sync + 'static) {
        self.on_event = Some(Box::new(on_event));
    }

    pub(crate) fn with_keys(&mut self) {
        self.has_keys = true;
    }

    /// Runs the user's code: never called under a lock.
    pub(super) fn tell(&self, guard: &str, name: Option<&str>, kind: GuardEventKind) {
        let Some(on_event) = &self.on_event else { return };
        let key = name.filter(|_| self.has_keys).and_then(own_name);
        let event = GuardEvent { guard, key, kind };
        // A panic here must not cost the flight its callers, or the far tier its recovery.
        if catch_unwind(AssertUnwindSafe(|| on_event(&event))).is_err() {
            tracing::warn!(guard, event = kind.as_str(), "the event hook panicked");
        }
    }
}
