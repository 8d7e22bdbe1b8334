use std::{error, future::Future};

use crate::{Entry, Key, Loaded};

/// How the origin is asked for one key: given to a guard once, with
/// [`GuardBuilder::loader`](crate::GuardBuilder::loader), instead of with each call.
///
/// Implemented for functions and closures that take the key by value and return a future of a `Result` with
/// anything that is a [`Loaded`]: a `Loaded<V>`, or the `Option<(V, version)>` that a query returns. Implement it
/// for a type of yours to see the entry there was:
///
/// ```
/// use cattleguard::{Entry, Loaded, Loader};
///
/// #[derive(Clone)]
/// struct Articles { /* an HTTP client, a pool, … */ }
/// # impl Articles {
/// #     async fn modified_since(&self, _: u64, _: u64) -> std::io::Result<Option<(String, u64)>> { Ok(None) }
/// # }
///
/// impl Loader<u64, String> for Articles {
///     type Error = std::io::Error;
///
///     async fn load(&self, id: &u64, previous: Option<&Entry<String>>) -> std::io::Result<Loaded<String>> {
///         let known = previous.map_or(0, |entry| entry.version().high());
///         match (self.modified_since(*id, known).await?, previous) {
///             // Not modified: the value stays, and its ttl begins again.
///             (None, Some(previous)) => Ok(previous.not_modified()),
///             (row, _) => Ok(row.into()),
///         }
///     }
/// }
/// ```
///
/// It is called on a task of its own, once for all callers that ask at the same time, in this process and in the
/// others; and again where what it returned is older than an acknowledged write.
///
/// # Cancel safety
///
/// Its future is dropped when the load timeout has passed, or the guard is shut down.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not load `{V}` by the key `{K}`",
    label = "not a `Loader<{K}, {V}>`",
    note = "a function or closure takes the key by value and is `async`: `async fn(u64) -> Result<Option<(User, i64)>, E>`",
    note = "it returns `Loaded<{V}>`, or `Option<({V}, version)>`; its error is one that `Box<dyn Error + Send + Sync>` is made of",
    note = "what it captures is `Send`, `Sync` and `'static`: clone a pool into it, and write `move |id: u64| …`"
)]
pub trait Loader<K: ?Sized, V>: Send + Sync + 'static {
    /// Why a load failed.
    type Error: Into<Box<dyn error::Error + Send + Sync>>;

    /// Asks the origin for `key`. `previous` is the entry that it had, if that is still known, fresh or not.
    ///
    /// # Errors
    ///
    /// If the origin has no answer: callers get [`Error::Origin`](crate::Error::Origin), or something stale.
    fn load(
        &self,
        key: &K,
        previous: Option<&Entry<V>>,
    ) -> impl Future<Output = Result<Loaded<V>, Self::Error>> + Send;
}

impl<K, V, F, Fut, L, E> Loader<K, V> for F
where
    K: Key + ToOwned + ?Sized,
    F: Fn(K::Owned) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<L, E>> + Send,
    L: Into<Loaded<V>>,
    E: Into<Box<dyn error::Error + Send + Sync>>,
{
    type Error = E;

    fn load(
        &self,
        key: &K,
        _: Option<&Entry<V>>,
    ) -> impl Future<Output = Result<Loaded<V>, E>> + Send {
        let loading = self(key.to_owned());
        async move { loading.await.map(Into::into) }
    }
}
