//! A caching reverse proxy, by the rules of RFC 9111.
//!
//! ```text
//! cargo run --release --example reverse_proxy -- --upstream http://127.0.0.1:3000
//! cargo run --release --example reverse_proxy -- --upstream http://127.0.0.1:3000 --far redis://127.0.0.1
//!
//! curl -i localhost:8080/products/7
//! ```
//!
//! What may not be stored streams through. Redis may be down, even when the proxy starts: then each
//! instance asks for itself.
//!
//! In front of other people's servers nothing is served stale that does not permit it, unless `--stale` says so.
//! The upstream gets no `Forwarded`, `X-Forwarded-*` or the like from clients, as the cache would give the
//! answer to others. Interim responses (103) end here: hyper sends none of its own yet
//! (<https://github.com/hyperium/hyper/pull/3815>).

use std::{process::ExitCode, time::Duration};

use cattleguard::{
    Guard, Shutdown,
    http::{HttpGuardLayer, Responses},
    redis::{Connection, RedisFar},
};
use tokio::net::TcpListener;
use tower::BoxError;
use tracing_subscriber::EnvFilter;

use crate::{
    args::{Args, Far},
    proxy::Limits,
    upstream::Upstream,
};

mod args;
mod client;
#[path = "../console/mod.rs"]
#[expect(dead_code, reason = "the other examples use the rest")]
mod console;
mod hop;
mod inbound;
mod link;
mod observed;
mod policy;
mod proxy;
mod upstream;

const NAME: &str = "reverse_proxy";
/// How long loads may take to end, after the connections.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let args: Args = match console::parse() {
        Ok(args) => args,
        Err(line) => return console::bad_input(NAME, &line),
    };
    let cache = match cache(&args) {
        Ok(cache) => cache,
        Err(error) => {
            let line = format!("--far: {}", console::chain(&*error));
            return console::bad_input(NAME, &line);
        }
    };
    let listener = match TcpListener::bind(args.listen).await {
        Ok(listener) => listener,
        Err(error) => {
            return console::bad_input(NAME, &format!("--listen {}: {error}", args.listen));
        }
    };
    if let Ok(address) = listener.local_addr() {
        println!("http://{address} in front of http://{}", args.upstream);
    }
    let upstream = Upstream::new(args.upstream, args.timeout);
    let limits = Limits { idle_timeout: args.idle_timeout, connections: args.connections };
    proxy::serve(listener, &cache, upstream, limits, console::interrupted()).await;
    if let Shutdown::Aborted { flights } = cache.shutdown(SHUTDOWN_TIMEOUT).await {
        eprintln!("{NAME}: {flights} loads took too long");
    }
    ExitCode::SUCCESS
}

fn cache(args: &Args) -> Result<HttpGuardLayer, BoxError> {
    let builder = match &args.far {
        Far::Memory => Guard::builder(),
        Far::Redis(url) => {
            let redis = RedisFar::new(Connection::open_lazy(url)?, Responses::default());
            // Proxies of another upstream share nothing with this one.
            Guard::builder().far(redis.namespace(&policy::namespace(&args.upstream)))
        }
    };
    let cache =
        HttpGuardLayer::new(builder.name(NAME).policy(policy::policy(args.timeout, args.stale)));
    Ok(match args.default_ttl {
        Some(ttl) => cache.default_ttl(ttl),
        None => cache,
    })
}
