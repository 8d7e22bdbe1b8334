use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    sync::{Notify, futures::Notified},
    time::Instant,
};

use super::{depth::Depth, solo_state::SoloState};
use crate::{
    Moment, Version,
    sync::atomic::{AtomicU32, Ordering},
};

/// What a flight's task and its callers share.
pub(super) struct Flight<T> {
    pub(super) name: Arc<str>,
    opened: Instant,
    /// The solo reader that was looking when this flight began; it may find something stale for it.
    beside: Option<Arc<SoloState>>,
    /// How many epochs have begun. A caller notes it when boarding.
    epochs: AtomicU32,
    completion: OnceLock<Completion<T>>,
    /// The answer to give until the flight completes. Its lock is taken under the name's lock by writers, and
    /// alone by callers.
    provisional: Mutex<Option<Given<T>>>,
    /// Set under the name's lock, by what closes this flight for its callers.
    overtaken: OnceLock<(Overtaken, Epoch)>,
    /// Notified when `completion` or `provisional` is set.
    changed: Notify,
    pub(super) depth: Arc<Depth>,
}

/// The answer to give until the flight completes: to all who are aboard when it is given, and until a
/// moment to callers that come later.
///
/// Right for both: an invalidation that makes it wrong closes the flight, and no caller boards it any more.
pub(crate) struct Provisional<T> {
    answer: T,
    until: Moment,
    give: Give,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Give {
    /// To everyone who waits.
    Now,
    /// To callers whose deadline passes: better than no answer.
    AtDeadline,
}

/// A provisional answer, and the epoch that began when it was given.
struct Given<T> {
    provisional: Provisional<T>,
    epoch: Epoch,
}

/// The answer of a flight.
#[derive(Clone)]
pub(crate) struct Completion<T> {
    answer: T,
    /// `None`: everyone aboard may have it.
    visible_before: Option<Epoch>,
}

/// A write or an invalidation of a flight's name, heard of while it was open.
#[derive(Clone, Copy)]
pub(crate) struct Overtaken {
    pub(crate) since: Instant,
    below: Option<Version>,
}

/// A point between boardings: callers boarded before it or after.
#[derive(Clone, Copy)]
pub(crate) struct Epoch(u32);

impl Epoch {
    /// Before a flight's first.
    pub(super) const BEGINNING: Self = Self(0);
}

impl Overtaken {
    pub(crate) fn outdates(&self, version: Version) -> bool {
        self.below.is_none_or(|below| version < below)
    }
}

impl<T> Provisional<T> {
    /// Answers everyone aboard at once, and those to come until then.
    pub(crate) fn now(answer: T, until: Moment) -> Self {
        Self { answer, until, give: Give::Now }
    }

    /// Answers callers whose deadline passes before the flight completes.
    pub(crate) fn at_deadline(answer: T, until: Moment) -> Self {
        Self { answer, until, give: Give::AtDeadline }
    }
}

impl<T> Completion<T> {
    /// An answer for everyone aboard.
    pub(crate) fn for_all(answer: T) -> Self {
        Self { answer, visible_before: None }
    }

    /// An answer for callers that boarded before `epoch`.
    pub(crate) fn visible_before(epoch: Epoch, answer: T) -> Self {
        Self { answer, visible_before: Some(epoch) }
    }

    pub(crate) fn answer(&self) -> &T {
        &self.answer
    }
}

impl<T> Flight<T> {
    pub(super) fn new(name: &Arc<str>, beside: Option<Arc<SoloState>>) -> Arc<Self> {
        Arc::new(Self {
            name: name.clone(),
            opened: Instant::now(),
            beside,
            epochs: AtomicU32::new(0),
            completion: OnceLock::new(),
            provisional: Mutex::default(),
            overtaken: OnceLock::new(),
            changed: Notify::new(),
            depth: Depth::new(),
        })
    }

    pub(super) fn is_beside(&self, solo: &Arc<SoloState>) -> bool {
        self.beside.as_ref().is_some_and(|beside| Arc::ptr_eq(beside, solo))
    }

    pub(super) fn age(&self) -> Duration {
        self.opened.elapsed()
    }

    /// Whether it began too early for callers that come now.
    pub(super) fn is_older_than(&self, oldest: Option<Instant>) -> bool {
        oldest.is_some_and(|oldest| self.opened < oldest)
    }

    pub(super) fn was_open_at(&self, moment: Instant) -> bool {
        self.opened <= moment
    }

    pub(super) fn is_solo_reader_done(&self) -> bool {
        self.beside.as_ref().is_none_or(|solo| solo.is_done())
    }

    pub(super) async fn solo_reader_has_found(&self) {
        if let Some(solo) = &self.beside {
            solo.done().await;
            if self.has_provisional() {
                return;
            }
        }
        std::future::pending().await
    }

    /// The epoch in which a caller boards. An epoch may begin at the same time, and then either order is
    /// right: the caller came as the read began.
    pub(super) fn epoch(&self) -> Epoch {
        Epoch(self.epochs.load(Ordering::Acquire))
    }

    pub(super) fn begin_epoch(&self) -> Epoch {
        Epoch(self.epochs.fetch_add(1, Ordering::AcqRel) + 1)
    }

    /// Gives callers this answer, and returns the one that goes out of use. Called under the name's lock:
    /// what closes the flight because the answer may be wrong comes before or after.
    #[must_use = "dropped by the caller, without the name's lock"]
    pub(super) fn provide(&self, provisional: Provisional<T>) -> Option<Provisional<T>> {
        let given = Given { provisional, epoch: self.begin_epoch() };
        let mut current = self.provisional.lock();
        let serves_now = |given: &Given<T>| given.provisional.give == Give::Now;
        // What serves everyone is no worse for callers whose deadline passes.
        if current.as_ref().is_some_and(serves_now) && !serves_now(&given) {
            return Some(given.provisional);
        }
        let before = current.replace(given);
        drop(current);
        self.changed.notify_waiters();
        before.map(|given| given.provisional)
    }

    /// Answers below `version` are outdated, all without one.
    pub(super) fn overtake(&self, version: Option<Version>) {
        let overtaken = Overtaken { since: Instant::now(), below: version };
        // Closed once.
        let _ = self.overtaken.set((overtaken, self.epoch()));
    }

    /// What has overtaken the answer of now, if that was read before it, or may have been.
    pub(super) fn overtaken(&self) -> Option<Overtaken> {
        let (overtaken, epoch) = self.overtaken.get()?;
        let read = match self.completion.get() {
            Some(Completion { visible_before: Some(epoch), .. }) => *epoch,
            Some(_) => self.epoch(),
            None => self.provisional.lock().as_ref()?.epoch,
        };
        (read.0 <= epoch.0).then_some(*overtaken)
    }

    /// Whether a caller may get an answer from before the flight's own reading.
    pub(super) fn has_provisional(&self) -> bool {
        self.provisional.lock().is_some()
    }

    pub(super) fn complete(&self, completion: Completion<T>) {
        let _ = self.completion.set(completion);
        self.changed.notify_waiters();
    }

    pub(super) fn is_complete(&self) -> bool {
        self.completion.get().is_some()
    }

    /// Notified by what changes after this call.
    pub(super) fn changed(&self) -> Notified<'_> {
        self.changed.notified()
    }
}

impl<T: Clone> Flight<T> {
    /// The answer, once complete; within it `None` for a caller that boarded too late for it.
    pub(super) fn answer_for(&self, boarded: Epoch) -> Option<Option<T>> {
        let Completion { answer, visible_before } = self.completion.get()?;
        let visible = visible_before.is_none_or(|epoch| boarded.0 < epoch.0);
        Some(visible.then(|| answer.clone()))
    }

    /// The provisional answer for a caller, if it is to have one now.
    pub(super) fn provisional_for(
        &self,
        boarded: Epoch,
        deadline_passed: bool,
        now: impl Fn() -> Moment,
    ) -> Option<T> {
        let given = self.provisional.lock();
        let Given { provisional, epoch } = given.as_ref()?;
        let due = deadline_passed || provisional.give == Give::Now;
        let valid = due && (boarded.0 < epoch.0 || now() < provisional.until);
        valid.then(|| provisional.answer.clone())
    }
}
