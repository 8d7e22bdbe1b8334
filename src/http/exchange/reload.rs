use super::{
    super::{key::CacheKey, response::StoredResponse},
    exchange::Exchange,
    loader::OriginLoader,
    origin::Origin,
};
use crate::{
    Error, Loaded,
    guard::{FlightLoader, LoadBudget},
};

/// Loads a stored response anew. Requests that reload one URL at one time share a flight.
pub(crate) struct Reload<S: Origin<B>, B> {
    exchange: Exchange<S, B>,
    primary: CacheKey,
}

impl<S: Origin<B>, B: Default + Send + 'static> Reload<S, B> {
    pub(crate) fn new(exchange: Exchange<S, B>, primary: CacheKey) -> Self {
        Self { exchange, primary }
    }

    /// The stored response stays until there is another one: a request must not be able to take it away.
    async fn run(
        exchange: Exchange<S, B>,
        primary: CacheKey,
    ) -> Result<Loaded<StoredResponse>, Error> {
        let cache = exchange.cache.clone();
        let stored =
            cache.guard.find_servable(&*primary).await.map(|stored| stored.entry().clone());
        let load = OriginLoader::new(exchange, primary, None);
        cache.guard.reload((&*primary).into(), stored, load).await?;
        Ok(Loaded::absent().uncacheable())
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
        Self::run(self.exchange.clone(), self.primary)
    }
}
