use std::{borrow::Borrow, error, fmt, future::Future, ops::Deref, sync::Arc};

use futures::{FutureExt, StreamExt, future::BoxFuture, stream};
use tokio::time::Instant;
use tracing::Instrument;

use super::{
    core::Guard,
    loader::{FlightLoader, LoadBudget},
    options::FetchOptions,
};
use crate::{Entry, Error, Fetched, Key, Loaded, Loader, terms::Tags};

/// A [`Guard`] that knows how to load: made with [`GuardBuilder::loader`](crate::GuardBuilder::loader).
///
/// It is a `Guard`, too: for [`invalidate_at`](Guard::invalidate_at), and for
/// [`fetch`](Guard::fetch) where a load needs more than the key.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), cattleguard::Error> {
/// use cattleguard::{Guard, LoadingGuard};
///
/// // SELECT name, version FROM users WHERE id = $1
/// async fn read_user(id: i64) -> std::io::Result<Option<(String, i64)>> {
///     Ok((id == 42).then(|| ("Ada".to_owned(), 1)))
/// }
///
/// let users: LoadingGuard<i64, String> = Guard::builder().loader(read_user).build();
///
/// assert_eq!(users.get(&42).await?.into_value().as_deref(), Some("Ada"));
/// assert_eq!(users.get(&7).await?.value(), None);
/// # Ok(()) }
/// ```
pub struct LoadingGuard<K: ToOwned + ?Sized, V> {
    guard: Guard<K, V>,
    loaders: Arc<Loaders<K, V>>,
}

/// The loaders of a guard: the state of a [`GuardBuilder`](crate::GuardBuilder) that has one.
pub struct Loaders<K: ToOwned + ?Sized, V> {
    one: Box<dyn LoadOne<K, V>>,
    many: Option<LoadMany<K, V>>,
}

type LoadMany<K, V> = Box<dyn Fn(Vec<<K as ToOwned>::Owned>) -> LoadingMany<K, V> + Send + Sync>;
type LoadingMany<K, V> =
    BoxFuture<'static, Result<Vec<(<K as ToOwned>::Owned, Loaded<V>)>, BoxError>>;
type BoxError = Box<dyn error::Error + Send + Sync>;

/// A [`Loader`] of any type.
trait LoadOne<K: ?Sized, V>: Send + Sync {
    fn load<'a>(
        &'a self,
        key: &'a K,
        previous: Option<&'a Entry<V>>,
    ) -> BoxFuture<'a, Result<Loaded<V>, Error>>;
}

impl<K: ?Sized, V, L: Loader<K, V>> LoadOne<K, V> for L {
    fn load<'a>(
        &'a self,
        key: &'a K,
        previous: Option<&'a Entry<V>>,
    ) -> BoxFuture<'a, Result<Loaded<V>, Error>> {
        let loading = Loader::load(self, key, previous);
        async move { loading.await.map_err(|error| Error::Origin(Arc::from(error.into()))) }.boxed()
    }
}

impl<K: ToOwned + ?Sized, V> fmt::Debug for Loaders<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Loaders").field("many", &self.many.is_some()).finish_non_exhaustive()
    }
}

impl<K: ToOwned + ?Sized, V> Loaders<K, V> {
    pub(super) fn of(loader: impl Loader<K, V>) -> Self {
        Self { one: Box::new(loader), many: None }
    }

    pub(super) fn load_many_with<F, Fut, L, E>(&mut self, load_many: F)
    where
        F: Fn(Vec<K::Owned>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<Vec<(K::Owned, L)>, E>> + Send + 'static,
        L: Into<Loaded<V>>,
        E: Into<BoxError>,
    {
        self.many = Some(Box::new(move |keys| {
            let loading = load_many(keys);
            let loading = async move {
                let rows = loading.await.map_err(Into::into)?;
                Ok(rows.into_iter().map(|(key, loaded)| (key, loaded.into())).collect())
            };
            loading.boxed()
        }));
    }
}

impl<K, V> LoadingGuard<K, V>
where
    K: Key + ToOwned<Owned: Send + Sync> + ?Sized + 'static,
    V: Send + Sync + 'static,
{
    pub(super) fn new(guard: Guard<K, V>, loaders: Loaders<K, V>) -> Self {
        Self { guard, loaders: Arc::new(loaders) }
    }

    /// The value of `key`: from this process, from the far tier, or from the loader, which is asked once for all
    /// callers that ask at the same time, in this process and in the others. A fresh near hit allocates nothing
    /// and awaits nothing.
    ///
    /// # Cancel safety
    ///
    /// As for [`Guard::fetch`]: the load goes on and fills the cache.
    ///
    /// # Errors
    ///
    /// As for [`Guard::fetch`].
    ///
    /// # Panics
    ///
    /// As for [`Guard::fetch`].
    pub async fn get(&self, key: &K) -> Result<Fetched<V>, Error> {
        self.guard.answer(key, &FetchOptions::NONE, || self.load_of(key)).await
    }

    /// Like [`get`](Self::get), but answers by `deadline`, as [`Guard::fetch_by`] does.
    ///
    /// # Cancel safety
    ///
    /// As for [`get`](Self::get).
    ///
    /// # Errors
    ///
    /// As for [`Guard::fetch_by`].
    pub async fn get_by(&self, key: &K, deadline: Instant) -> Result<Fetched<V>, Error> {
        self.get_with(key, FetchOptions::new().deadline(deadline)).await
    }

    /// Like [`get`](Self::get), with what is different for this call.
    ///
    /// # Cancel safety
    ///
    /// As for [`get`](Self::get).
    ///
    /// # Errors
    ///
    /// As for [`Guard::fetch_by`].
    pub async fn get_with(&self, key: &K, options: FetchOptions) -> Result<Fetched<V>, Error> {
        self.guard.answer(key, &options, || self.load_of(key)).await
    }

    /// The values of many keys, in their order: with one read of the far tier and one call of the
    /// [`batch_loader`](crate::GuardBuilder::batch_loader) for those that are to be loaded, as
    /// [`Guard::fetch_many`] says; without one, each as [`get`](Self::get) finds it, 64 at a time.
    ///
    /// # Cancel safety
    ///
    /// As for [`get`](Self::get).
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get), for each key.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn get_many<Q>(&self, keys: &[Q]) -> Vec<Result<Fetched<V>, Error>>
    where
        Q: Borrow<K> + Sync,
        K::Owned: Clone,
    {
        if self.loaders.many.is_none() {
            let getting = keys.iter().map(|key| self.get(key.borrow()));
            return stream::iter(getting).buffered(GETS_AT_ONCE).collect().await;
        }
        let keys: Vec<K::Owned> = keys.iter().map(|key| key.borrow().to_owned()).collect();
        let loaders = self.loaders.clone();
        let load_many = move |keys| match &loaders.many {
            Some(load_many) => load_many(keys),
            None => async { Ok(Vec::new()) }.boxed(),
        };
        self.guard.fetch_many(&keys, load_many).await
    }

    /// Loads `key` anew, although it may be fresh, and returns what there is then. What is stored stays until the
    /// new value is there, also if the load fails: then it is the answer, within stale-if-error. All who ask at the
    /// same time, in all processes, share one load.
    ///
    /// It is no [`invalidate`](Guard::invalidate): others get the stored value meanwhile, and a load that has begun
    /// already is shared.
    ///
    /// # Cancel safety
    ///
    /// As for [`get`](Self::get).
    ///
    /// # Errors
    ///
    /// As for [`get`](Self::get).
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub async fn refresh(&self, key: &K) -> Result<Fetched<V>, Error> {
        self.guard.refresh_by(key, self.load_of(key)).await
    }

    /// [`refresh`](Self::refresh) without waiting for it: on a task of its own, its answer is dropped.
    ///
    /// # Panics
    ///
    /// Outside of a tokio runtime.
    pub fn refresh_in_background(&self, key: &K) {
        let (this, key) = (self.clone(), key.to_owned());
        tokio::spawn(async move { drop(this.refresh(key.borrow()).await) }.in_current_span());
    }

    fn load_of(&self, key: &K) -> StoredLoad<K, V> {
        StoredLoad { loaders: self.loaders.clone(), key: key.to_owned(), previous: None }
    }
}

/// The loader of one flight.
struct StoredLoad<K: ToOwned + ?Sized, V> {
    loaders: Arc<Loaders<K, V>>,
    key: K::Owned,
    previous: Option<Arc<Entry<V>>>,
}

impl<K, V> FlightLoader<V> for StoredLoad<K, V>
where
    K: Key + ToOwned<Owned: Send + Sync> + ?Sized + 'static,
    V: Send + Sync + 'static,
{
    fn load(
        &mut self,
        _: &LoadBudget,
    ) -> impl Future<Output = Result<Loaded<V>, Error>> + Send + use<K, V> {
        let (loaders, previous) = (self.loaders.clone(), self.previous.clone());
        let key = self.key.borrow().to_owned();
        async move { loaders.one.load(key.borrow(), previous.as_deref()).await }
    }

    fn previous(&mut self, entry: &Arc<Entry<V>>) {
        // One whose tags are not known must not come back as if it had none.
        if !matches!(entry.tags(), Tags::Local(_) | Tags::Purged) {
            self.previous = Some(entry.clone());
        }
    }
}

impl<K: ToOwned + ?Sized, V> Deref for LoadingGuard<K, V> {
    type Target = Guard<K, V>;

    fn deref(&self) -> &Guard<K, V> {
        &self.guard
    }
}

impl<K: ToOwned + ?Sized, V> Clone for LoadingGuard<K, V> {
    fn clone(&self) -> Self {
        Self { guard: self.guard.clone(), loaders: self.loaders.clone() }
    }
}

impl<K: ToOwned + ?Sized, V> fmt::Debug for LoadingGuard<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoadingGuard").field("guard", &self.guard).finish_non_exhaustive()
    }
}

/// Without a batch loader: enough to keep the far tier's connection busy.
const GETS_AT_ONCE: usize = 64;
