//! Two reasons for a lock: to save work, and to be right. The second needs more than a lock.

use crate::{
    Failure,
    buyer::{Order, Setup},
    fleet::Fleet,
    lock::{Kind, Systems},
    shop::Shop,
};

/// The holder's lease on the price. It stays away for longer.
pub const TTL_MS: u64 = 300;
/// What the holder that stayed away had in mind, and what was written meanwhile.
pub const OLD_PRICE: i32 = 100;
pub const NEW_PRICE: i32 = 120;

/// The fencing tokens of the two holders, and the price when both have written.
pub struct Late {
    pub old_fence: u64,
    pub new_fence: u64,
    pub price: i32,
}

/// Both ends of the second story.
pub struct LateWrite {
    pub unfenced: Late,
    pub fenced: Late,
}

/// *Efficiency.* Two workers wake up at the same time to send the mail of the day. How many are sent.
pub async fn mail(
    systems: &Systems,
    shop: &Shop,
    prefix: &str,
    lock: Option<Kind>,
) -> Result<i64, Failure> {
    let mut fleet = pair(systems, prefix, lock).await?;
    let workers = if fleet.len() == 1 { 2 } else { 1 };
    let mut takes_ms = 100;
    loop {
        shop.begin_story().await?;
        let answers = fleet.all(Order::SendMail { workers, takes_ms }).await?;
        if let Some(error) = answers.into_iter().find_map(|answer| answer.error) {
            return Err(error.into());
        }
        let sent = shop.mails().await?;
        // They did not meet on a machine this busy. Only without a lock is that worth another go.
        if lock.is_none() && sent < 2 && takes_ms < 3000 {
            takes_ms *= 3;
            continue;
        }
        return Ok(sent);
    }
}

/// *Correctness.* A holder is stopped for longer than its lease; another takes the lock and writes;
/// the first wakes up, takes itself for the holder still, and writes, too.
pub async fn late_write(
    systems: &Systems,
    shop: &Shop,
    prefix: &str,
    lock: Kind,
) -> Result<LateWrite, Failure> {
    let mut fleet = pair(systems, prefix, Some(lock)).await?;
    let unfenced = late(&mut fleet, shop, false).await?;
    let fenced = late(&mut fleet, shop, true).await?;
    Ok(LateWrite { unfenced, fenced })
}

async fn late(fleet: &mut Fleet, shop: &Shop, fenced: bool) -> Result<Late, Failure> {
    shop.begin_story().await?;
    let old = fleet.first().ask(Order::Hold { ttl_ms: TTL_MS }).await?;
    // Where both are in one process, the first just does not renew its lease.
    let frozen = fleet.len() > 1;
    if frozen {
        fleet.first().freeze();
    }
    // Waits until the system gives up the first one's lease: no sleep is needed here.
    let write = Order::Write { ttl_ms: TTL_MS, price: NEW_PRICE, fenced };
    let new = fleet.last().ask(write).await?;
    if frozen {
        fleet.first().thaw();
    }
    let late = fleet.first().ask(Order::WriteLate { price: OLD_PRICE, fenced }).await?;
    let price = shop.price().await?;
    if late.written != (price == OLD_PRICE) {
        return Err("the late writer does not know what became of its write".into());
    }
    Ok(Late { old_fence: old.fence, new_fence: new.fence, price })
}

/// Two workers: two processes, or one that has both if the lock knows only one.
async fn pair(systems: &Systems, prefix: &str, lock: Option<Kind>) -> Result<Fleet, Failure> {
    let processes = if lock == Some(Kind::Memory) { 1 } else { 2 };
    Fleet::start(&Setup::new(systems, prefix, lock, 0, 2), processes).await
}
