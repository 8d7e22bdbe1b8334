use std::time::SystemTime;

use http::{Method, Response, request::Parts};
use tokio::time::Instant;

use super::{
    super::{
        body::Body,
        cache_mode::CacheMode,
        fields::cache_status,
        key::CacheKey,
        response::{CachedResponse, Kind, StoredResponse},
    },
    error_response,
    exchange::Exchange,
    loader::{KnownVariants, OriginLoader},
    origin::Origin,
    passthrough::Answer,
    reload::Reload,
    validation::Validation,
};
use crate::{Error, Fetched, Outcome, Tier, freshness::Found};

/// A GET or HEAD, answered through the guard.
///
/// A GET looks up the URL, and then the variant that the request selects if there are any. It begins again
/// if a load finds more selecting fields.
pub(crate) struct Fetch<S: Origin<B>, B> {
    exchange: Exchange<S, B>,
    /// The URL's own key.
    primary: CacheKey,
    next: Lookup,
    /// How the origin was asked, if it was: a load that finds variants stores one of them, and its lookup
    /// is a hit.
    asked: Option<Outcome>,
    /// Whether the metrics have this request. One that loads, or follows, is counted by the guard.
    is_counted: bool,
    /// What `Cache-Status` tells in place of the outcome.
    cache_status: Option<&'static str>,
}

enum Lookup {
    Url,
    Variant(KnownVariants),
}

/// A request whose entry changes more often than this goes to the origin.
const MAX_LOOKUPS: usize = 4;

impl<S: Origin<B>, B: Default + Send + 'static> Fetch<S, B> {
    pub(crate) fn new(exchange: Exchange<S, B>, primary: CacheKey) -> Self {
        Self {
            exchange,
            primary,
            next: Lookup::Url,
            asked: None,
            is_counted: false,
            cache_status: None,
        }
    }

    pub(crate) async fn run(mut self, mode: CacheMode) -> Answer<S::Body, S::Error> {
        let is_head = self.exchange.request.method == Method::HEAD;
        if mode.takes_stale()
            && let Some(answer) = self.stale(mode).await
        {
            return Ok(answer);
        }
        match mode {
            CacheMode::Reload(_) => return self.reload_unless_fresh(mode).await,
            CacheMode::OnlyIfCached(_) | CacheMode::NoStore(_) => {}
            CacheMode::Default | CacheMode::Stale(_) | CacheMode::Bypass if is_head => {}
            CacheMode::Default | CacheMode::Stale(_) | CacheMode::Bypass => {
                return self.get().await;
            }
        }
        let found = self.exchange.cache.find(&self.exchange.request, &self.primary, mode).await;
        match response(found.as_ref()) {
            Some((cached, found)) => {
                self.count(found);
                Ok(self.respond(cached, found.outcome()))
            }
            // The response to a HEAD has no body to store.
            None if matches!(mode, CacheMode::Default | CacheMode::Stale(_)) => {
                self.exchange.forward(cache_status::METHOD).await
            }
            None if matches!(mode, CacheMode::NoStore(_)) => {
                self.exchange.forward(cache_status::REQUEST).await
            }
            None => Ok(error_response::not_cached()),
        }
    }

    /// What is stored, for a request that takes it even if it is stale.
    async fn stale(&mut self, mode: CacheMode) -> Option<Response<Body<S::Body>>> {
        let Exchange { cache, request, .. } = &self.exchange;
        let found = cache.find_stale(request, &self.primary, mode).await;
        let (cached, found) = response(found.as_ref())?;
        if !matches!(found.outcome(), Outcome::Hit(_)) {
            self.cache_status = Some(cache_status::MAX_STALE);
        }
        self.count(found);
        Some(self.respond(cached, found.outcome()))
    }

    async fn get(mut self) -> Answer<S::Body, S::Error> {
        let timeout = self.exchange.cache.settings.timeout;
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        for _ in 0..MAX_LOOKUPS {
            let fetched = match self.look_up(deadline).await {
                Ok(fetched) => fetched,
                Err(error) => return self.fail(&error, deadline).await,
            };
            match fetched.value().map(|stored| &stored.0) {
                Some(Kind::Response(cached) | Kind::Unvalidated(cached)) => {
                    self.count(&fetched);
                    return self.found(&fetched, cached).await;
                }
                Some(Kind::Variants(variants)) => {
                    if let Some(answer) = self.passed() {
                        return answer;
                    }
                    let (variants, version) = (variants.clone(), fetched.version());
                    self.next = Lookup::Variant(KnownVariants { variants, version });
                }
                Some(Kind::Unbuffered) | None => {
                    self.count(&fetched);
                    break;
                }
            }
        }
        match self.passed() {
            Some(answer) => answer,
            None => {
                let key = self.key();
                self.exchange.pass(key).await
            }
        }
    }

    /// The stored response, once it is validated if that is needed each time: not by the load of another request.
    async fn found(
        self,
        fetched: &Fetched<StoredResponse>,
        cached: &CachedResponse,
    ) -> Answer<S::Body, S::Error> {
        let outcome = fetched.outcome();
        if !is_unvalidated(fetched) || self.is_own_load(outcome) {
            return Ok(self.respond(cached, outcome));
        }
        let key = self.key();
        Validation::new(self.exchange, key, fetched.entry().clone()).run().await
    }

    /// What is looked up next.
    fn key(&self) -> CacheKey {
        match &self.next {
            Lookup::Url => self.primary,
            Lookup::Variant(known) => {
                known.variants.key(&self.primary, &self.exchange.request.headers)
            }
        }
    }

    /// Whether the load of a response began after this request.
    fn is_own_load(&self, outcome: Outcome) -> bool {
        matches!(outcome, Outcome::Loaded | Outcome::Bypassed(_))
            && self.exchange.passthrough.is_sent()
    }

    /// Counts this request, once.
    fn count(&mut self, fetched: &Fetched<StoredResponse>) {
        if !std::mem::replace(&mut self.is_counted, true) {
            self.exchange.cache.guard.count_hit(&self.key(), fetched);
        }
    }

    async fn look_up(
        &mut self,
        deadline: Option<Instant>,
    ) -> Result<Fetched<StoredResponse>, Error> {
        let key = self.key();
        let known = match &self.next {
            Lookup::Url => None,
            Lookup::Variant(known) => Some(known),
        };
        let guard = &self.exchange.cache.guard;
        let fetched = match guard.look(&key) {
            Found::Fresh(entry) => Fetched::new(entry, Outcome::Hit(Tier::Near)),
            look => {
                let load = OriginLoader::new(self.exchange.clone(), self.primary, known.cloned());
                match std::mem::replace(&mut self.is_counted, true) {
                    false => guard.resolve_miss(look, (&*key).into(), deadline, load).await?,
                    true => guard.resolve_part(look, (&*key).into(), deadline, load).await?,
                }
            }
        };
        Ok(match (fetched.outcome(), self.asked) {
            (Outcome::Hit(_), Some(asked)) => fetched.with(asked),
            (Outcome::Hit(_), None) => fetched,
            (outcome, _) => {
                self.asked = Some(outcome);
                fetched
            }
        })
    }

    /// For a request that asks for a fresher response than the cache would serve.
    async fn reload_unless_fresh(mut self, mode: CacheMode) -> Answer<S::Body, S::Error> {
        let is_get = self.exchange.request.method == Method::GET;
        let found = self.exchange.cache.guard.find_servable(&*self.primary).await;
        if is_get && found.as_ref().is_none_or(is_unvalidated) {
            return self.get().await;
        }
        let Some((cached, found)) = response(found.as_ref()) else {
            // A new load of several variants could not be shared.
            return self.exchange.forward(cache_status::REQUEST).await;
        };
        if mode.accepts(cached, SystemTime::now()) {
            self.count(found);
            return Ok(self.respond(cached, found.outcome()));
        }
        if !is_get {
            return self.exchange.forward(cache_status::REQUEST).await;
        }
        if let Err(error) = self.reload().await {
            return self.fail(&error, None).await;
        }
        if let Some(answer) = self.passed() {
            return answer;
        }
        let mut response = self.get().await?;
        cache_status::replace(response.headers_mut(), cache_status::REQUEST);
        Ok(response)
    }

    async fn reload(&mut self) -> Result<(), Error> {
        let load = Reload::new(self.exchange.clone(), self.primary);
        let (key, guard) = (CacheKey::of_reload(&self.primary), &self.exchange.cache.guard);
        let (found, name) = (Found::Nothing, (&*key).into());
        let reloaded = match std::mem::replace(&mut self.is_counted, true) {
            false => guard.resolve_miss(found, name, None, load).await,
            true => guard.resolve_part(found, name, None, load).await,
        };
        reloaded.map(drop)
    }

    fn respond(&self, cached: &CachedResponse, outcome: Outcome) -> Response<Body<S::Body>> {
        let Parts { method, headers, .. } = &*self.exchange.request;
        let passthrough = &self.exchange.passthrough;
        let cache_status = match self.cache_status {
            Some(cache_status) => cache_status,
            None if outcome == Outcome::Loaded && passthrough.was_stale() => cache_status::STALE,
            None => cache_status::of(outcome),
        };
        let mut response = cached.respond(method, headers, cache_status, SystemTime::now());
        // Not beside a response from before: these are of the one that takes its place.
        if !matches!(outcome, Outcome::Stale(_) | Outcome::StaleIfError(_)) {
            for (name, value) in &passthrough.take_own_fields() {
                response.headers_mut().append(name, value.clone());
            }
        }
        response
    }

    /// The origin's own answer, which is not stored.
    fn passed(&self) -> Option<Answer<S::Body, S::Error>> {
        let mut answer = self.exchange.passthrough.take_answer()?;
        if let Ok(response) = &mut answer
            && self.exchange.passthrough.was_stale()
        {
            cache_status::replace(response.headers_mut(), cache_status::STALE_NOT_STORED);
        }
        Some(answer)
    }

    /// The origin's own answer for each client: a failure is that of the request that met it, and the others
    /// make their own, as there is room beside the loads. So do all for whom a load has taken too long.
    async fn fail(self, error: &Error, deadline: Option<Instant>) -> Answer<S::Body, S::Error> {
        if let Some(answer) = self.passed() {
            return answer;
        }
        let is_forwarded = match error {
            Error::Origin(_) | Error::FailedElsewhere { .. } | Error::LoadPanicked => {
                !self.exchange.passthrough.is_sent()
            }
            Error::LoadTimeout { .. } | Error::WaitTimeout { .. } => true,
            _ => false,
        };
        match is_forwarded {
            true => self.exchange.forward_in_turn(cache_status::FAILED, deadline).await,
            false => Ok(error_response::failed(error)),
        }
    }
}

fn is_unvalidated(fetched: &Fetched<StoredResponse>) -> bool {
    matches!(fetched.value(), Some(StoredResponse(Kind::Unvalidated(_))))
}

fn response(
    found: Option<&Fetched<StoredResponse>>,
) -> Option<(&CachedResponse, &Fetched<StoredResponse>)> {
    let found = found?;
    Some((found.value()?.response()?, found))
}
