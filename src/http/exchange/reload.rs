use super::{
    super::{cache_mode::CacheMode, key::CacheKey, response::StoredResponse},
    exchange::Exchange,
    loader::OriginLoader,
    origin::Origin,
};
use crate::{
    Error, Loaded,
    freshness::Found,
    guard::{LoadBudget, Loader},
};

/// Loads a stored response anew. Requests that reload one URL at one time share a flight.
pub(crate) struct Reload<S: Origin<B>, B> {
    exchange: Exchange<S, B>,
    primary: CacheKey,
    cause: Cause,
}

/// Why the stored response will not do.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Cause {
    /// The request asks for a fresher one.
    Request,
    /// One of its tags was purged. Another process may have reloaded it already.
    Purge,
}

impl<S: Origin<B>, B: Default + Send + 'static> Reload<S, B> {
    pub(crate) fn new(exchange: Exchange<S, B>, primary: CacheKey, cause: Cause) -> Self {
        Self { exchange, primary, cause }
    }

    async fn run(
        exchange: Exchange<S, B>,
        primary: CacheKey,
        cause: Cause,
    ) -> Result<Loaded<StoredResponse>, Error> {
        match cause {
            Cause::Request => Self::replace(exchange, primary).await?,
            Cause::Purge => Self::load_again(exchange, primary).await?,
        }
        Ok(Loaded::absent().uncacheable())
    }

    /// The stored response stays until there is another one: a request must not be able to take it away.
    async fn replace(exchange: Exchange<S, B>, primary: CacheKey) -> Result<(), Error> {
        let cache = exchange.cache.clone();
        let stored = cache.guard.find(&*primary).await.map(|stored| stored.entry().clone());
        let load = OriginLoader::new(exchange, primary, None);
        cache.guard.reload((&*primary).into(), stored, load).await.map(drop)
    }

    async fn load_again(exchange: Exchange<S, B>, primary: CacheKey) -> Result<(), Error> {
        let cache = exchange.cache.clone();
        if cache.find(&exchange.request, &primary, CacheMode::Default).await.is_some() {
            return Ok(());
        }
        // First, so that no load that began before can answer.
        let _ = cache.guard.invalidate(&*primary).await?;
        let load = OriginLoader::new(exchange, primary, None);
        cache.guard.resolve_miss(Found::Nothing, (&*primary).into(), None, load).await?;
        Ok(())
    }
}

impl<S: Origin<B>, B: Default + Send + 'static> Loader<StoredResponse> for Reload<S, B> {
    fn is_passed_if_uncacheable(&self) -> bool {
        false
    }

    fn load(
        &mut self,
        _: &LoadBudget,
    ) -> impl Future<Output = Result<Loaded<StoredResponse>, Error>> + Send + use<S, B> {
        Self::run(self.exchange.clone(), self.primary, self.cause)
    }
}
