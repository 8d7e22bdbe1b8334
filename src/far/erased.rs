//! `dyn` over [`Far`], so that a guard has two type parameters and not three. One box per far call,
//! which a network round trip dwarfs.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures::{FutureExt, future::BoxFuture};

use super::{Attempt, Commit, Far, Invalidated, Put, Record, Renewal, Token, Watcher};
use crate::{Clock, Entry, Fault, Version};

pub(crate) type Erased<V> = Arc<dyn DynFar<V>>;
type Answer<'a, T> = BoxFuture<'a, Result<T, Fault>>;
type Found<V> = Result<Option<Arc<Entry<V>>>, Fault>;

pub(crate) trait DynFar<V>: Send + Sync + 'static {
    fn clock(&self) -> &Clock;
    fn read<'a>(&'a self, name: &'a str) -> Answer<'a, Option<Arc<Entry<V>>>>;
    fn look_up_or_lease<'a>(
        &'a self,
        name: &'a str,
        token: Token,
        ttl: Duration,
        fresh_for: Duration,
    ) -> Answer<'a, Attempt<V>>;
    fn commit<'a>(
        &'a self,
        name: &'a str,
        token: Token,
        record: Record<V>,
    ) -> Answer<'a, Commit<V>>;
    fn renew<'a>(&'a self, name: &'a str, token: Token, ttl: Duration) -> Answer<'a, Renewal>;
    fn release<'a>(&'a self, name: &'a str, token: Token) -> Answer<'a, ()>;
    fn fail<'a>(&'a self, name: &'a str, token: Token, back_off: Duration) -> Answer<'a, ()>;
    fn put<'a>(&'a self, name: &'a str, record: Record<V>) -> Answer<'a, Put<V>>;
    fn invalidate<'a>(
        &'a self,
        name: &'a str,
        version: Option<Version>,
        retention: Duration,
    ) -> Answer<'a, Invalidated>;
    fn invalidate_unconfirmed<'a>(
        &'a self,
        name: &'a str,
        version: Option<Version>,
        retention: Duration,
    ) -> Answer<'a, ()>;
    fn read_many<'a>(&'a self, names: &'a [&'a str]) -> BoxFuture<'a, Vec<Found<V>>>;
    fn replicated<'a>(
        &'a self,
        name: &'a str,
        replicas: usize,
        timeout: Duration,
    ) -> Answer<'a, usize>;
    fn watch(&self, watcher: Weak<dyn Watcher>);
}

impl<V: Send + Sync + 'static, T: Far<V>> DynFar<V> for T {
    fn clock(&self) -> &Clock {
        Far::clock(self)
    }

    fn read<'a>(&'a self, name: &'a str) -> Answer<'a, Option<Arc<Entry<V>>>> {
        Far::read(self, name).boxed()
    }

    fn look_up_or_lease<'a>(
        &'a self,
        name: &'a str,
        token: Token,
        ttl: Duration,
        fresh_for: Duration,
    ) -> Answer<'a, Attempt<V>> {
        Far::look_up_or_lease(self, name, token, ttl, fresh_for).boxed()
    }

    fn commit<'a>(
        &'a self,
        name: &'a str,
        token: Token,
        record: Record<V>,
    ) -> Answer<'a, Commit<V>> {
        Far::commit(self, name, token, record).boxed()
    }

    fn renew<'a>(&'a self, name: &'a str, token: Token, ttl: Duration) -> Answer<'a, Renewal> {
        Far::renew(self, name, token, ttl).boxed()
    }

    fn release<'a>(&'a self, name: &'a str, token: Token) -> Answer<'a, ()> {
        Far::release(self, name, token).boxed()
    }

    fn fail<'a>(&'a self, name: &'a str, token: Token, back_off: Duration) -> Answer<'a, ()> {
        Far::fail(self, name, token, back_off).boxed()
    }

    fn put<'a>(&'a self, name: &'a str, record: Record<V>) -> Answer<'a, Put<V>> {
        Far::put(self, name, record).boxed()
    }

    fn invalidate<'a>(
        &'a self,
        name: &'a str,
        version: Option<Version>,
        retention: Duration,
    ) -> Answer<'a, Invalidated> {
        Far::invalidate(self, name, version, retention).boxed()
    }

    fn invalidate_unconfirmed<'a>(
        &'a self,
        name: &'a str,
        version: Option<Version>,
        retention: Duration,
    ) -> Answer<'a, ()> {
        Far::invalidate_unconfirmed(self, name, version, retention).boxed()
    }

    fn read_many<'a>(&'a self, names: &'a [&'a str]) -> BoxFuture<'a, Vec<Found<V>>> {
        Far::read_many(self, names).boxed()
    }

    fn replicated<'a>(
        &'a self,
        name: &'a str,
        replicas: usize,
        timeout: Duration,
    ) -> Answer<'a, usize> {
        Far::replicated(self, name, replicas, timeout).boxed()
    }

    fn watch(&self, watcher: Weak<dyn Watcher>) {
        Far::watch(self, watcher);
    }
}
