use super::{
    super::{cache_mode::CacheMode, epochs::Currency, key::CacheKey, response::StoredResponse},
    exchange::Exchange,
    loader::OriginLoader,
    origin::Origin,
};
use crate::{
    Error, Loaded, Outcome,
    freshness::Found,
    guard::{FlightLoader, LoadBudget},
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
    /// The far tier does not say whether one of its tags was purged.
    Outage,
}

impl Cause {
    /// Why a response whose tags say so will not do.
    pub(crate) fn of(currency: Currency) -> Option<Self> {
        match currency {
            Currency::Current => None,
            Currency::Purged => Some(Self::Purge),
            Currency::Unknown => Some(Self::Outage),
        }
    }
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
            cause => Self::load_again(exchange, primary, cause).await?,
        }
        Ok(Loaded::absent().uncacheable())
    }

    /// The stored response stays until there is another one: a request must not be able to take it away.
    async fn replace(exchange: Exchange<S, B>, primary: CacheKey) -> Result<(), Error> {
        let cache = exchange.cache.clone();
        let stored =
            cache.guard.find_servable(&*primary).await.map(|stored| stored.entry().clone());
        let load = OriginLoader::new(exchange, primary, None);
        cache.guard.reload((&*primary).into(), stored, load).await.map(drop)
    }

    async fn load_again(
        exchange: Exchange<S, B>,
        primary: CacheKey,
        cause: Cause,
    ) -> Result<(), Error> {
        let cache = exchange.cache.clone();
        if cache.find(&exchange.request, &primary, CacheMode::Default).await.is_some() {
            return Ok(());
        }
        let load = OriginLoader::new(exchange, primary, None);
        let resolve =
            |load| cache.guard.resolve_part(Found::Nothing, (&*primary).into(), None, load);
        // What is stored may be current: that is for when the far tier is back.
        if cause == Cause::Outage
            && matches!(resolve(load.clone()).await?.outcome(), Outcome::Bypassed(_))
        {
            return Ok(());
        }
        // First, so that no load that began before can answer. If it fails, this process has forgotten it, and
        // the guard repeats it.
        let _ = cache.guard.invalidate(&*primary).await;
        resolve(load).await?;
        Ok(())
    }
}

impl<S: Origin<B>, B: Default + Send + 'static> FlightLoader<StoredResponse> for Reload<S, B> {
    fn is_passed_if_uncacheable(&self) -> bool {
        false
    }

    /// The load within has one, and is counted.
    fn has_own_place(&self) -> bool {
        true
    }

    fn load(
        &mut self,
        _: &LoadBudget,
    ) -> impl Future<Output = Result<Loaded<StoredResponse>, Error>> + Send + use<S, B> {
        Self::run(self.exchange.clone(), self.primary, self.cause)
    }
}
