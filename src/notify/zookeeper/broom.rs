use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures::future;
use tokio::sync::mpsc;

use crate::zookeeper::{Link, typed};

/// Deletes the messages of one session, while it hears that there are any. Does not keep the session;
/// when it is dropped it goes on until all are gone.
pub(super) struct Broom {
    link: Weak<Link>,
    littered: mpsc::Sender<()>,
}

/// How long messages lie there at least: all are to have read them, whose process and server may be slow.
const LIFETIME: Duration = Duration::from_secs(5);
/// How many are deleted with one write. Few enough for the longest path.
const AT_ONCE: usize = 10;

impl Broom {
    /// The one for the messages of this session, whose paths begin like this.
    pub(super) fn of<'a>(broom: &'a mut Option<Self>, link: &Arc<Link>, paths: &str) -> &'a Self {
        broom.take_if(|broom| broom.link.as_ptr() != Arc::as_ptr(link));
        broom.get_or_insert_with(|| {
            let (littered, hears) = mpsc::channel(1);
            let weak = Arc::downgrade(link);
            link.runtime().spawn(sweep(weak.clone(), paths.into(), hears));
            Self { link: weak, littered }
        })
    }

    /// To be called once a message is on its way.
    pub(super) fn littered(&self) {
        // When it is full, the broom has yet to look.
        let _ = self.littered.try_send(());
    }
}

async fn sweep(link: Weak<Link>, paths: String, mut littered: mpsc::Receiver<()>) {
    let mut old: Vec<String> = Vec::new();
    while !old.is_empty() || littered.recv().await.is_some() {
        tokio::time::sleep(LIFETIME).await;
        let Some(link) = link.upgrade() else { return };
        for some in old.chunks(AT_ONCE) {
            delete(&link, some).await;
        }
        old = match link.ephemerals(&paths).await {
            Ok(ours) => ours,
            // They went with it.
            Err(_) if link.is_over() => return,
            Err(error) => {
                tracing::debug!(error = %typed(error), "messages could not be deleted yet");
                Vec::new()
            }
        };
    }
}

async fn delete(link: &Link, some: &[String]) {
    let mut writer = link.client().new_multi_writer();
    let added = some.iter().try_for_each(|path| writer.add_delete(path, None));
    if added.is_err() || writer.commit().await.is_err() {
        // Perhaps somebody deleted one of them: then the others are still there.
        future::join_all(some.iter().map(|path| link.delete(path))).await;
    }
}
