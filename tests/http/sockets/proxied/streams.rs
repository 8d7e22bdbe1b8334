//! Bodies that come bit by bit.

use std::time::Instant;

use futures::future::join_all;
use tokio::sync::Notify;

use super::*;

over_each_store!(
    an_event_stream_passes_as_it_comes,
    a_body_that_is_still_coming_after_a_second_passes_as_it_comes,
);

type Layers = fn(HttpGuardLayer) -> HttpGuardLayer;

/// With and without freshness for what does not say how long it is fresh.
const LAYERS: [Layers; 2] =
    [std::convert::identity, |layer| layer.default_ttl(Duration::from_secs(60))];

/// Answers each request with these pieces, each but the first after a notification.
async fn piecemeal(pieces: Vec<String>) -> (SocketAddr, Heads, Arc<Notify>) {
    let (heads, next) = (Heads::default(), Arc::new(Notify::new()));
    let (read, gate) = (heads.clone(), next.clone());
    let at = origin(move |mut stream| {
        let (heads, gate, pieces) = (read.clone(), gate.clone(), pieces.clone());
        async move {
            while heads.read(&mut stream).await.is_some() {
                for (at, piece) in pieces.iter().enumerate() {
                    if at > 0 {
                        gate.notified().await;
                    }
                    let _ = stream.write_all(piece.as_bytes()).await;
                }
            }
        }
    })
    .await;
    (at, heads, next)
}

/// Two events of six bytes: in chunks, or of a length that is declared.
fn events(fields: &str, is_declared: bool) -> Vec<String> {
    let head = format!("HTTP/1.1 200 OK\r\n{fields}");
    match is_declared {
        true => vec![format!("{head}content-length: 12\r\n\r\nevent1"), "event2".to_owned()],
        false => vec![
            format!("{head}transfer-encoding: chunked\r\n\r\n6\r\nevent1\r\n"),
            "6\r\nevent2\r\n".to_owned(),
            "0\r\n\r\n".to_owned(),
        ],
    }
}

/// Each client gets each event before the next is sent, and by a request of its own.
async fn pass_as_they_come(options: Options, pieces: Vec<String>) {
    let permits = pieces.len() - 1;
    let (origin, heads, next) = piecemeal(pieces).await;
    let proxy = proxy_of(origin, options).await;
    for (asked, http2) in [false, true, false].into_iter().enumerate() {
        let request = Request::get(format!("http://{proxy}/a")).body(Full::default());
        let begun = Instant::now();
        let answer = client(http2).request(request.expect("a request")).await;
        let mut body = answer.expect("a response").into_body();
        // A load has thirty-five seconds.
        assert!(begun.elapsed() < Duration::from_secs(12), "{:?}", begun.elapsed());
        for (at, event) in ["event1", "event2"].into_iter().enumerate() {
            let frame = body.frame().await.expect("a frame").expect("whole").into_data();
            assert_eq!(frame.expect("data"), event);
            if at < permits {
                next.notify_one();
            }
        }
        assert!(body.collect().await.expect("whole").to_bytes().is_empty());
        assert_eq!(heads.count(), asked + 1);
    }
}

async fn an_event_stream_passes_as_it_comes(store: Store) {
    for control in ["cache-control: max-age=60\r\n", ""] {
        for layer in LAYERS {
            let fields = format!("{control}content-type: text/event-stream\r\n");
            pass_as_they_come(Options { layer, ..over(store) }, events(&fields, false)).await;
        }
    }
}

async fn a_body_that_is_still_coming_after_a_second_passes_as_it_comes(store: Store) {
    let [plain, default_ttl] = LAYERS.map(|layer| Options { layer, ..over(store) });
    let fresh = "cache-control: max-age=60\r\ncontent-type: text/plain\r\n";
    join_all([
        pass_as_they_come(plain, events(fresh, false)),
        pass_as_they_come(default_ttl, events("content-type: text/plain\r\n", false)),
        // What says how long it is has five seconds.
        pass_as_they_come(plain, events(fresh, true)),
    ])
    .await;
}
