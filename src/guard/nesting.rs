//! Loads within loads: a loader that fetches the key it is loading would wait for itself.

use std::{collections::HashSet, future::Future, sync::Arc};

tokio::task_local! {
    static LOADING: Option<Arc<Loading>>;
}

/// A load in progress, and the one whose loader has asked for it.
pub(super) struct Loading {
    guard: usize,
    names: Names,
    /// Of how many loads by `guard`, one within the other, this is the innermost.
    depth: usize,
    within: Option<Arc<Loading>>,
}

enum Names {
    One(Arc<str>),
    /// Of a batch. Not a load within a load for each: what is nested as deep as a batch is wide overflows the
    /// stack when it is dropped.
    Many(HashSet<Arc<str>>),
}

impl Names {
    fn contain(&self, name: &str) -> bool {
        match self {
            Self::One(one) => &**one == name,
            Self::Many(many) => many.contains(name),
        }
    }
}

impl Loading {
    /// The innermost load that this task is part of.
    pub(super) fn current() -> Option<Arc<Self>> {
        LOADING.try_with(Clone::clone).ok().flatten()
    }

    /// Whether this task is part of the load of `name` by `guard`.
    pub(super) fn is_current(guard: usize, name: &str) -> bool {
        Self::find(|load| load.guard == guard && load.names.contain(name), |_| ()).is_some()
    }

    /// How many loads by `guard`, one within the other, this task is part of.
    pub(super) fn depth(guard: usize) -> usize {
        Self::find(|load| load.guard == guard, |load| load.depth).unwrap_or(0)
    }

    fn find<R>(is: impl Fn(&Self) -> bool, tell: impl FnOnce(&Self) -> R) -> Option<R> {
        let current = Self::current();
        let mut loading = current.as_deref();
        while let Some(load) = loading {
            if is(load) {
                return Some(tell(load));
            }
            loading = load.within.as_deref();
        }
        None
    }

    /// The load of `name` by `guard`, within the current one.
    pub(super) fn of(guard: usize, name: &Arc<str>) -> Option<Arc<Self>> {
        Self::begin(guard, Names::One(name.clone()))
    }

    /// One load of several names.
    pub(super) fn of_all(guard: usize, names: &[Arc<str>]) -> Option<Arc<Self>> {
        Self::begin(guard, Names::Many(names.iter().cloned().collect()))
    }

    fn begin(guard: usize, names: Names) -> Option<Arc<Self>> {
        let depth = Self::depth(guard) + 1;
        Some(Arc::new(Self { guard, names, depth, within: Self::current() }))
    }

    /// Makes `work` a part of the load.
    pub(super) fn scope<F: Future>(
        loading: Option<Arc<Self>>,
        work: F,
    ) -> impl Future<Output = F::Output> {
        LOADING.scope(loading, work)
    }
}
