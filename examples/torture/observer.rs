//! Reads what is in the far tier, past all guards.

use std::{sync::Arc, time::Duration};

use cattleguard::far::Far;

use crate::{
    history::{Deed, Event, Span},
    message::Message,
    moment::now,
    record::Record,
    row::{HOT, Row, name},
};

/// No process has this number.
const NUMBER: u32 = 0;
const EVERY: Duration = Duration::from_millis(5);

/// For ever.
pub async fn watch(far: impl Far<Row>, record: Arc<Record>) {
    loop {
        tokio::time::sleep(EVERY).await;
        let key = fastrand::u32(..HOT);
        let begun = now();
        let Ok(read) = far.read(&name(key)).await else { continue };
        let span = Span { begun, ended: Some(now()) };
        let found = read.and_then(|entry| Some((entry.value()?.source, entry.version().high())));
        let deed = Deed::Read { found };
        record.take(Message::Seen(vec![Event { process: NUMBER, key, span, deed }]));
    }
}
