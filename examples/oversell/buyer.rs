//! One process of the fleet: its buyers, and the workers of the two stories.

use std::{io::Write, time::Duration};

use cattleguard::lock::{BoxLock, Lease, Lock};
use serde::{Deserialize, Serialize};
use tokio::{task::JoinSet, time::Instant};

use crate::{
    Failure, child,
    console::chain,
    lock::{Addresses, Kind, Systems},
    shop::{Method, Purchase, Shop},
};

/// What a process is told when it starts.
#[derive(Clone, Serialize, Deserialize)]
pub struct Setup {
    lock: Option<Kind>,
    addresses: Addresses,
    /// In front of each name that is locked: the systems may be in use by others.
    prefix: String,
    buyers: u32,
    pool: u32,
}

impl Setup {
    pub fn new(
        systems: &Systems,
        prefix: &str,
        lock: Option<Kind>,
        buyers: u32,
        pool: u32,
    ) -> Self {
        let (addresses, prefix) = (systems.addresses.clone(), prefix.to_owned());
        Self { lock, addresses, prefix, buyers, pool }
    }
}

#[derive(Clone, Copy, Serialize, Deserialize)]
pub enum Order {
    /// Every buyer buys one piece at a time until it has as many as it wants, or all is sold.
    Buy { method: Method, wants: u32, decide_ms: u64 },
    /// So many workers send the one mail of the day, under the lock if there is one.
    SendMail { workers: u32, takes_ms: u64 },
    /// Takes the lock on the price, as if to write it, and does nothing more.
    Hold { ttl_ms: u64 },
    /// Takes the lock on the price, writes it and lets go.
    Write { ttl_ms: u64, price: i32, fenced: bool },
    /// Writes what the holder had in mind when it took the lock.
    WriteLate { price: i32, fenced: bool },
}

/// What came of an order.
#[derive(Clone, Default, Serialize, Deserialize)]
pub struct Answer {
    /// The fencing token of the lease that was used, for orders about the price.
    pub fence: u64,
    /// Whether the price was written.
    pub written: bool,
    pub errors: u64,
    /// The first error.
    pub error: Option<String>,
}

/// Far longer than a purchase: only a buyer that died would be waited for.
const TTL: Duration = Duration::from_secs(5);
/// How long a buyer waits for the lock.
const LONG: Duration = Duration::from_secs(300);

#[derive(Clone)]
struct Worker {
    shop: Shop,
    lock: Option<BoxLock>,
    prefix: String,
    buyers: u32,
}

impl Worker {
    async fn open(setup: Setup) -> Result<Self, Failure> {
        let lock = match setup.lock {
            Some(kind) => Some(kind.open(&setup.addresses).await?),
            None => None,
        };
        let shop = Shop::open(&setup.addresses.database, setup.pool).await?;
        Ok(Self { shop, lock, prefix: setup.prefix, buyers: setup.buyers })
    }

    /// Does what is ordered. `held` is what an earlier order took and did not give back.
    async fn work(&self, order: Order, held: &mut Option<Lease>) -> Result<Answer, Failure> {
        match order {
            Order::Buy { method, wants, decide_ms } => {
                let decide = Duration::from_millis(decide_ms);
                let buyer = |this: Self| async move { this.buy(method, wants, decide).await };
                self.together(self.buyers, buyer).await
            }
            Order::SendMail { workers, takes_ms } => {
                let takes = Duration::from_millis(takes_ms);
                let worker = |this: Self| async move {
                    match this.send_mail(takes).await {
                        Ok(()) => Vec::new(),
                        Err(error) => vec![error],
                    }
                };
                self.together(workers, worker).await
            }
            Order::Hold { ttl_ms } => {
                let lease = self.acquire("price", Duration::from_millis(ttl_ms)).await?;
                let fence = held.insert(lease).fence();
                Ok(Answer { fence, ..Answer::default() })
            }
            Order::Write { ttl_ms, price, fenced } => {
                let lease = self.acquire("price", Duration::from_millis(ttl_ms)).await?;
                let answer = self.write(price, lease.fence(), fenced).await?;
                lease.release().await?;
                Ok(answer)
            }
            Order::WriteLate { price, fenced } => {
                // The lease is not asked whether it is lost: its holder may as well be stopped just
                // after it asked, or the write be late in the network. Only the store can tell.
                let lease = held.take().ok_or("no lease is held")?;
                self.write(price, lease.fence(), fenced).await
            }
        }
    }

    async fn together<W>(&self, workers: u32, work: impl Fn(Self) -> W) -> Result<Answer, Failure>
    where
        W: Future<Output = Vec<Failure>> + Send + 'static,
    {
        let mut all: JoinSet<_> = (0..workers).map(|_| work(self.clone())).collect();
        let mut answer = Answer::default();
        while let Some(errors) = all.join_next().await {
            for error in errors? {
                answer.errors += 1;
                answer.error.get_or_insert_with(|| chain(&*error));
            }
        }
        Ok(answer)
    }

    /// One buyer. A purchase that failed is one it wanted; the errors.
    async fn buy(self, method: Method, wants: u32, decide: Duration) -> Vec<Failure> {
        let mut errors = Vec::new();
        for _ in 0..wants {
            match self.purchase(method, decide).await {
                Ok(Purchase::Sold) => {}
                Ok(Purchase::SoldOut) => break,
                Err(error) => errors.push(error),
            }
        }
        errors
    }

    async fn purchase(&self, method: Method, decide: Duration) -> Result<Purchase, Failure> {
        Ok(match method {
            Method::Unlocked => self.shop.read_then_write(decide).await?,
            Method::Locked(_) => {
                let lease = self.acquire("stock", TTL).await?;
                let purchase = lease.run(self.shop.read_then_write(decide)).await??;
                lease.release().await?;
                purchase
            }
            Method::ForUpdate => self.shop.for_update(decide).await?,
            Method::Atomic => self.shop.atomic(decide).await?,
        })
    }

    async fn send_mail(self, takes: Duration) -> Result<(), Failure> {
        if self.lock.is_none() {
            return Ok(self.shop.send_mail(takes).await?);
        }
        let lease = self.acquire("mail", TTL).await?;
        lease.run(self.shop.send_mail(takes)).await??;
        Ok(lease.release().await?)
    }

    async fn write(&self, price: i32, fence: u64, fenced: bool) -> Result<Answer, Failure> {
        let written = if fenced {
            self.shop.write_price_fenced(price, fence).await?
        } else {
            self.shop.write_price(price).await?;
            true
        };
        Ok(Answer { fence, written, ..Answer::default() })
    }

    async fn acquire(&self, what: &str, ttl: Duration) -> Result<Lease, Failure> {
        let lock = self.lock.as_ref().ok_or("this process has no lock")?;
        let name = format!("{}:{what}", self.prefix);
        Ok(lock.acquire(&name, ttl, Instant::now() + LONG).await?)
    }
}

/// The life of a process: setup and orders come as lines on standard input, answers go to standard
/// output; the end of the input is the end of the work, so no worker outlives the program.
pub async fn live() -> Result<(), Failure> {
    let mut inbox = child::orders();
    let Some(setup) = inbox.recv().await else { return Ok(()) };
    let worker = match Worker::open(serde_json::from_str(&setup)?).await {
        Ok(worker) => worker,
        Err(error) => return say(Err(error)),
    };
    say(Ok(Answer::default()))?;
    let mut held = None;
    while let Some(order) = inbox.recv().await {
        say(worker.work(serde_json::from_str(&order)?, &mut held).await)?;
    }
    Ok(())
}

/// Failures too: the program decides what to do about them, and Ctrl-C may be the cause.
fn say(answer: Result<Answer, Failure>) -> Result<(), Failure> {
    let answer = answer.map_err(|error| chain(&*error));
    let mut out = std::io::stdout().lock();
    serde_json::to_writer(&mut out, &answer)?;
    out.write_all(b"\n")?;
    Ok(out.flush()?)
}
