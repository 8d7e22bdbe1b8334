use std::time::Duration;

use tokio::time::Instant;

/// What is different for one call of [`LoadingGuard::get_with`](crate::LoadingGuard::get_with) or
/// [`Guard::fetch_with`](crate::Guard::fetch_with).
///
/// ```
/// # async fn show(users: cattleguard::LoadingGuard<i64, String>) -> Result<(), cattleguard::Error> {
/// use std::time::Duration;
/// use cattleguard::FetchOptions;
///
/// let options = FetchOptions::new().timeout(Duration::from_millis(200)).skip_near();
/// let user = users.get_with(&42, options).await?;
/// # Ok(()) }
/// ```
#[must_use = "options have no effect until they are given to a call"]
#[derive(Clone, Copy, Debug, Default)]
pub struct FetchOptions {
    pub(super) deadline: Option<Instant>,
    pub(super) skip_near: bool,
    pub(super) ttl: Option<Duration>,
}

impl FetchOptions {
    pub(super) const NONE: Self = Self { deadline: None, skip_near: false, ttl: None };

    /// Nothing is different.
    pub const fn new() -> Self {
        Self::NONE
    }

    /// Answers by this moment, with an expired entry, if there is one, or
    /// [`DeadlineExceeded`](crate::Error::DeadlineExceeded); the load continues. Default: none.
    pub const fn deadline(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// As [`deadline`](Self::deadline), so long after this call of `timeout`: make new options for each fetch. Default:
    /// none.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.deadline = Instant::now().checked_add(timeout);
        self
    }

    /// Asks the far tier although there may be a fresh near entry. Default: off. For a caller that must see what
    /// another process has written, where its invalidation came back
    /// [`Unconfirmed`](crate::far::Invalidated::Unconfirmed).
    pub const fn skip_near(mut self) -> Self {
        self.skip_near = true;
        self
    }

    /// How long a value that this call loads is fresh, unless the load says so itself with
    /// [`Loaded::ttl`](crate::Loaded::ttl). Default: the policy's ttl. It changes nothing if another call's load
    /// is the answer.
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }
}
