use std::{pin::Pin, sync::Arc};

use ::redis::{
    Client, ErrorKind, RedisResult,
    auth::{BasicAuth, StreamingCredentialsProvider},
};
use futures::{Stream, StreamExt, stream};

/// Who we are to the servers, and who we are next. Clones ask the same provider.
#[derive(Clone)]
pub(super) struct Credentials(Arc<dyn StreamingCredentialsProvider>);

impl Credentials {
    pub(super) fn of(provider: impl StreamingCredentialsProvider + 'static) -> Self {
        Self(Arc::new(provider))
    }

    pub(super) async fn now(&self) -> RedisResult<BasicAuth> {
        let none = || (ErrorKind::AuthenticationFailed, "the provider has no credentials").into();
        self.subscribe().next().await.unwrap_or_else(|| Err(none()))
    }

    /// The client with the credentials of the moment.
    pub(super) async fn put_into(&self, client: &Client) -> RedisResult<Client> {
        let (info, now) = (client.get_connection_info().clone(), self.now().await?);
        let settings = info.redis_settings().clone();
        let settings = settings.set_username(now.username()).set_password(now.password());
        Client::open(info.set_redis_settings(settings))
    }
}

impl StreamingCredentialsProvider for Credentials {
    fn subscribe(&self) -> Pin<Box<dyn Stream<Item = RedisResult<BasicAuth>> + Send>> {
        self.0.subscribe()
    }
}

/// Credentials that stay.
pub(super) struct Password {
    pub(super) user: String,
    pub(super) password: String,
}

impl StreamingCredentialsProvider for Password {
    fn subscribe(&self) -> Pin<Box<dyn Stream<Item = RedisResult<BasicAuth>> + Send>> {
        let auth = BasicAuth::new(self.user.clone(), self.password.clone());
        // The end of a stream would count as a failure.
        Box::pin(stream::iter([Ok(auth)]).chain(stream::pending()))
    }
}
