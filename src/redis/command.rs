use ::redis::{
    Cmd, ErrorKind, FromRedisValue, Pipeline, RedisError, RedisFuture, ScriptInvocation, Value,
    aio::ConnectionLike, cluster_routing::Slot,
};

use super::gate::Lane;

/// What can be sent over a connection. A trait, so that the future of a plain command does not have the size of a
/// script's.
pub(super) trait Command: Sync {
    fn lane(&self) -> Lane;

    fn over<T: FromRedisValue + Send>(
        &self,
        connection: &mut (impl ConnectionLike + Send),
    ) -> impl Future<Output = Result<T, RedisError>> + Send;
}

impl Command for Cmd {
    fn lane(&self) -> Lane {
        match words(self).next() {
            Some(b"GET" | b"MGET") => Lane::Reads,
            _ => Lane::Writes,
        }
    }

    async fn over<T: FromRedisValue + Send>(
        &self,
        connection: &mut (impl ConnectionLike + Send),
    ) -> Result<T, RedisError> {
        self.query_async(connection).await
    }
}

impl Command for ScriptInvocation<'_> {
    fn lane(&self) -> Lane {
        Lane::Writes
    }

    async fn over<T: FromRedisValue + Send>(
        &self,
        connection: &mut (impl ConnectionLike + Send),
    ) -> Result<T, RedisError> {
        self.invoke_async(connection).await
    }
}

/// The slot of a Cluster that has the first key of a command, if it has keys.
pub(super) async fn slot(command: &impl Command) -> Option<Slot> {
    let mut asked = SlotAsked(None);
    let _ = command.over::<Value>(&mut asked).await;
    asked.0
}

/// A connection that goes nowhere: it looks at the first command that it is given. The client does not show what
/// a script is called with in another way.
struct SlotAsked(Option<Slot>);

impl ConnectionLike for SlotAsked {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        self.0 = first_key(command).map(Slot::for_key);
        Box::pin(async { Err(nowhere()) })
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        _: &'a Pipeline,
        _: usize,
        _: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        Box::pin(async { Err(nowhere()) })
    }

    fn get_db(&self) -> i64 {
        0
    }
}

fn nowhere() -> RedisError {
    (ErrorKind::Client, "not sent").into()
}

/// `EVALSHA hash 1 key …`; a message is in no slot; everything else here has its key first.
fn first_key(command: &Cmd) -> Option<&[u8]> {
    let mut words = words(command);
    match words.next()? {
        b"EVAL" | b"EVALSHA" => words.nth(2),
        b"PUBLISH" | b"TIME" | b"PING" => None,
        _ => words.next(),
    }
}

fn words(command: &Cmd) -> impl Iterator<Item = &[u8]> {
    command.args_iter().filter_map(|word| match word {
        ::redis::Arg::Simple(word) => Some(word),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use ::redis::{Script, cmd};

    use super::*;

    #[tokio::test]
    async fn commands_and_scripts_are_in_the_slot_of_their_first_key() {
        let of_key = Some(Slot::for_key("cg:{:a}"));
        assert_eq!(slot(cmd("GET").arg("cg:{:a}")).await, of_key);
        let script = Script::new("return 1");
        assert_eq!(slot(script.key("cg:{:a}").key("cg:{:a}:l").arg(1)).await, of_key);
        assert_eq!(slot(cmd("PUBLISH").arg("cg:{:a}").arg("x")).await, None);
    }
}
