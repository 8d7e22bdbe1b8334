use std::{ops::Deref, sync::Arc};

use shuttle::sync::{Mutex, MutexGuard};

use crate::notify::Notify;

/// tokio's `watch`, as far as it is used: a value, and who waits for its next change.
#[derive(Clone)]
pub struct Sender<T>(Arc<Shared<T>>);

pub struct Receiver<T> {
    shared: Arc<Shared<T>>,
    seen: u64,
}

pub struct Ref<'a, T>(MutexGuard<'a, (T, u64)>);

struct Shared<T> {
    /// The value, and how often it has changed.
    value: Mutex<(T, u64)>,
    changed: Notify,
}

/// Not told: a sender lives as long as its receivers, here.
#[derive(Debug)]
pub enum RecvError {}

impl<T> Sender<T> {
    pub fn new(value: T) -> Self {
        Self(Arc::new(Shared { value: Mutex::new((value, 0)), changed: Notify::new() }))
    }

    pub fn subscribe(&self) -> Receiver<T> {
        let seen = self.0.lock().0.1;
        Receiver { shared: self.0.clone(), seen }
    }

    pub fn borrow(&self) -> Ref<'_, T> {
        self.0.lock()
    }

    pub fn send_if_modified(&self, modify: impl FnOnce(&mut T) -> bool) -> bool {
        let mut value = self.0.lock().0;
        let modified = modify(&mut value.0);
        value.1 += u64::from(modified);
        drop(value);
        if modified {
            self.0.changed.notify_waiters();
        }
        modified
    }

    pub fn send_modify(&self, modify: impl FnOnce(&mut T)) {
        self.send_if_modified(|value| {
            modify(value);
            true
        });
    }

    pub fn send_replace(&self, value: T) -> T {
        let mut value = value;
        self.send_modify(|current| std::mem::swap(current, &mut value));
        value
    }
}

impl<T> Receiver<T> {
    pub fn borrow_and_update(&mut self) -> Ref<'_, T> {
        let value = self.shared.lock();
        self.seen = value.0.1;
        value
    }

    pub async fn changed(&mut self) -> Result<(), RecvError> {
        let seen = self.seen;
        self.look(|(_, changes)| *changes != seen).await;
        Ok(())
    }

    pub async fn wait_for(&mut self, is_so: impl Fn(&T) -> bool) -> Result<(), RecvError> {
        self.look(|(value, _)| is_so(value)).await;
        Ok(())
    }

    async fn look(&mut self, is_so: impl Fn(&(T, u64)) -> bool) {
        let shared = self.shared.clone();
        loop {
            let changed = shared.changed.notified();
            if is_so(&self.borrow_and_update().0) {
                return;
            }
            changed.await;
        }
    }
}

impl<T> Shared<T> {
    fn lock(&self) -> Ref<'_, T> {
        Ref(self.value.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
    }
}

impl<T> Deref for Ref<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0.0
    }
}
