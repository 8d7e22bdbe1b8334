//! Loads within loads: a loader that fetches the key it is loading would wait for itself.

use std::{collections::HashSet, future::Future, sync::Arc};

tokio::task_local! {
    static LOADING: Option<Arc<Loading>>;
}

/// A load in progress, and the one whose loader has asked for it.
pub(super) struct Loading {
    guard: usize,
    names: Names,
    /// Of how many loads, one within the other, this is the innermost. By any guard: two whose loaders fetch from
    /// each other are as nested as one whose loaders fetch from itself.
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
        let current = Self::current();
        let mut loads = std::iter::successors(current.as_deref(), |load| load.within.as_deref());
        loads.any(|load| load.guard == guard && load.names.contain(name))
    }

    /// How many loads, one within the other, this task is part of.
    pub(super) fn depth() -> usize {
        LOADING.try_with(|load| load.as_ref().map_or(0, |load| load.depth)).unwrap_or(0)
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
        let depth = Self::depth() + 1;
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
