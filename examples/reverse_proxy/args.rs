//! The command line.

use std::{net::SocketAddr, time::Duration};

use clap::Parser;
use http::{
    Uri,
    uri::{Authority, Scheme},
};

/// A caching reverse proxy: all instances together ask the upstream once for what a shared cache may store.
#[derive(Parser, Clone, Debug)]
#[command(name = "reverse_proxy", version)]
pub struct Args {
    /// Where to listen; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080")]
    pub listen: SocketAddr,
    /// The server behind: http://host[:port]
    #[arg(long, value_name = "URL", value_parser = upstream)]
    pub upstream: Authority,
    /// `memory`, or the Redis that instances share: redis://host:port
    #[arg(long, default_value = "memory", value_parser = far)]
    pub far: Far,
    /// How many seconds a response is fresh that does not say so
    #[arg(long, value_name = "SECONDS", value_parser = seconds)]
    pub default_ttl: Option<Duration>,
    /// How many seconds the upstream may take to begin its answer; then the client gets a 504
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub timeout: Duration,
    /// For how many seconds a response that does not say so may be served after its time if the upstream fails
    #[arg(long, value_name = "SECONDS", default_value = "0", value_parser = seconds)]
    pub stale: Duration,
    /// How many seconds a client may neither complete a request nor take an answer; then its connection ends
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = some_seconds)]
    pub idle_timeout: Duration,
    /// How many clients may be connected at one time; the next ones wait
    #[arg(long, value_name = "NUMBER", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..))]
    pub connections: u32,
}

#[derive(Clone, Debug)]
pub enum Far {
    Memory,
    Redis(String),
}

fn upstream(text: &str) -> Result<Authority, &'static str> {
    const WANTED: &str = "not of the form http://host[:port]";
    let url: Uri = text.parse().map_err(|_| WANTED)?;
    let bare = url.path_and_query().is_none_or(|path| path == "/");
    match url.authority() {
        Some(host) if url.scheme() == Some(&Scheme::HTTP) && bare => Ok(host.clone()),
        _ => Err(WANTED),
    }
}

fn far(text: &str) -> Result<Far, &'static str> {
    match text {
        "memory" => Ok(Far::Memory),
        url if url.starts_with("redis://") || url.starts_with("rediss://") => {
            Ok(Far::Redis(url.to_owned()))
        }
        _ => Err("neither memory nor redis://host:port"),
    }
}

fn seconds(text: &str) -> Result<Duration, &'static str> {
    const WANTED: &str = "not a number of seconds";
    let seconds = text.parse().map_err(|_| WANTED)?;
    let duration = Duration::try_from_secs_f64(seconds).map_err(|_| WANTED)?;
    if duration > MAX_SECONDS { Err("more than a year") } else { Ok(duration) }
}

fn some_seconds(text: &str) -> Result<Duration, &'static str> {
    let duration = seconds(text)?;
    if duration.is_zero() { Err("no time at all") } else { Ok(duration) }
}

const MAX_SECONDS: Duration = Duration::from_secs(365 * 24 * 3_600);
