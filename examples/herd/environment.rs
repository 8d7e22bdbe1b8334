//! The servers that a run needs.

use std::time::Duration;

use cattleguard::{lock::Lock as _, memory::MemoryFar};

use crate::{
    args::{Args, LockArg},
    cache::Far,
    command_count::CommandCount,
    console,
    database::Database,
    error::{Error, Failure},
    kind::{Kind, Running},
    plain_store::PlainStore,
    redis_address::SharedRedis,
    redis_servers::RedisServers,
};

/// The shared store, the lock and the database of a run. Private ones stop when this is dropped.
pub struct Environment {
    pub far: Far,
    pub commands: Option<CommandCount>,
    pub database: Database,
    _lock: Option<Running>,
    _redis: Option<RedisServers>,
}

impl Environment {
    pub async fn prepare(args: &Args, rows: u32) -> Result<Self, Error> {
        let redis = RedisServers::start(args)?;
        let address = redis.as_ref().map(|redis| redis.address.clone());
        let lock = match &args.lock {
            LockArg::OfRedis => None,
            _ if address.is_none() => {
                return Err(Error::BadInput("--lock goes with --far redis".to_owned()));
            }
            LockArg::Private(name) => Some(Kind::start(name).map_err(Error::BadInput)?),
            LockArg::At(name, address) => Some((Kind::new(name, address), Box::new(()) as Running)),
        };
        if let Some((kind, _)) = &lock {
            try_out(kind).await?;
        }
        let (far, commands) = match address {
            None => {
                let tier = MemoryFar::new();
                (Far::Memory { store: PlainStore::memory(), tier }, None)
            }
            Some(address) => {
                let commands = reached(CommandCount::open(address.nodes())).await?;
                let lock = lock.as_ref().map(|(kind, _)| kind.clone());
                (Far::Redis(SharedRedis::at(address, lock)), Some(commands))
            }
        };
        let database = Database::prepare(args, rows).await?;
        let _lock = lock.map(|(_, running)| running);
        Ok(Self { far, commands, database, _lock, _redis: redis })
    }

    pub fn far_name(&self) -> &'static str {
        match &self.far {
            Far::Memory { .. } => "memory",
            Far::Redis(shared) => shared.address.name(),
        }
    }
}

/// A wrong address is told before anything is measured.
async fn try_out(kind: &Kind) -> Result<(), Error> {
    let opening = async {
        let lock = kind.open().await?;
        let attempt = lock.try_acquire("herd", Duration::from_secs(1)).await?;
        drop(attempt);
        Ok::<(), cattleguard::Fault>(())
    };
    let why = match tokio::time::timeout(Duration::from_secs(10), opening).await {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => console::chain(&error),
        Err(_) => "no answer within 10 s".to_owned(),
    };
    let name = kind.name();
    Err(Error::BadInput(format!(
        "cannot use the lock of --lock: {why}; `--lock {name}` starts one"
    )))
}

/// What asks the Redis of `--far` first, for a while.
pub async fn reached<T>(asking: impl Future<Output = Result<T, Failure>>) -> Result<T, Error> {
    match tokio::time::timeout(Duration::from_secs(5), asking).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(unreachable_far(&console::chain(&*error))),
        Err(_) => Err(unreachable_far("no answer within 5 s")),
    }
}

fn unreachable_far(why: &str) -> Error {
    Error::BadInput(format!("cannot reach the Redis of --far: {why}; `--far redis` starts one"))
}
