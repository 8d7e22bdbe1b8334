//! What a rule says.

use std::collections::BTreeMap;

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Promise {
    OneLoad,
    NeverBackwards,
    NoResurrection,
    FreshHere,
    FreshElsewhere,
    EveryCallerAnswered,
    OriginSafe,
    CrashCostsOneLease,
}

impl Promise {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::OneLoad => "P1 one load",
            Self::NeverBackwards => "P2 never backwards",
            Self::NoResurrection => "P3 no resurrection",
            Self::FreshHere => "P4 fresh here",
            Self::FreshElsewhere => "P4 fresh elsewhere",
            Self::EveryCallerAnswered => "P5 every caller gets an answer",
            Self::OriginSafe => "P6 the origin is safe",
            Self::CrashCostsOneLease => "P7 a crash costs one lease",
        }
    }
}

/// What `docs/promises.md` admits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Admitted {
    WrittenWhileLoading,
    HolderStopped,
    Unreachable,
    LostRecord,
    LostWrites,
    LaggingRead,
    LatePut,
    NotSubscribed,
    SubscribedAgain,
    ClosedWhileWaiting,
}

impl Admitted {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::WrittenWhileLoading => "the key was invalidated or put while it loaded",
            Self::HolderStopped => "the holder was killed or frozen",
            Self::Unreachable => "the far tier could not be reached in time",
            Self::LostRecord => "the far tier lost the record or the lease",
            Self::LostWrites => "the far tier lost writes that it had acknowledged",
            Self::LaggingRead => {
                "a lagging read, while the far tier was away, full or had lost the record"
            }
            Self::LatePut => {
                "a put arrived after the record had gone, or beside an invalidation without a version"
            }
            Self::ClosedWhileWaiting => {
                "a write came while flights waited, and then there was no lease to wait for"
            }
            Self::SubscribedAgain => "messages arrived again, and what loaded took no more callers",
            Self::NotSubscribed => "the subscription was down, or the process not told",
        }
    }
}

/// A promise that was not kept, and the shortest history that shows it, in words.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Breach {
    pub promise: Promise,
    pub story: String,
}

/// What became of a record.
#[derive(Default, Debug)]
pub struct Verdict {
    /// The first of each promise; `broken` counts all.
    pub breaches: Vec<Breach>,
    pub broken: BTreeMap<Promise, usize>,
    pub admitted: BTreeMap<(Promise, Admitted), usize>,
    /// How often each promise was put to the test: one that never was is not kept, but not asked.
    pub asked: BTreeMap<Promise, usize>,
}

/// Stories told for one promise.
const TOLD: usize = 3;

impl Verdict {
    pub fn is_kept(&self) -> bool {
        self.broken.is_empty()
    }

    pub(super) fn ask(&mut self, promise: Promise) {
        *self.asked.entry(promise).or_default() += 1;
    }

    /// Not kept, for this reason if the docs admit it.
    pub(super) fn not_kept(
        &mut self,
        promise: Promise,
        admitted: Option<Admitted>,
        story: impl FnOnce() -> String,
    ) {
        if let Some(admitted) = admitted {
            *self.admitted.entry((promise, admitted)).or_default() += 1;
            return;
        }
        let broken = self.broken.entry(promise).or_default();
        *broken += 1;
        if *broken <= TOLD {
            self.breaches.push(Breach { promise, story: story() });
        }
    }
}
