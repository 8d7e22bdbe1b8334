//! What the near tier holds of responses.

use std::sync::{
    Arc, Weak,
    atomic::{AtomicUsize, Ordering},
};

use bytes::Bytes;
use cattleguard::http::HttpGuardLayer;
use http::{HeaderValue, Method, Response};
use http_body::Frame;
use http_body_util::{BodyExt, Full, StreamBody};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tower::{Layer, ServiceExt};

use crate::{
    Cache, builder, cache, get,
    origin::{self, Origin},
    request,
};

const MIB: usize = 1 << 20;

/// An origin whose bodies are as many MiB long as the path says.
fn sized() -> Origin {
    let body = Bytes::from(vec![b'x'; 32 * MIB]);
    Origin::new(move |request| {
        let path = request.uri().path();
        let mib: usize = path.rsplit('/').next().and_then(|mib| mib.parse().ok()).expect("MiB");
        let body = Full::new(body.slice(..mib * MIB)).map_err(|never| match never {});
        let response = Response::builder().header("cache-control", "max-age=60");
        response.body(body.boxed_unsync()).expect("a response")
    })
}

fn bytes(page: &PrometheusHandle) -> usize {
    let page = page.render();
    let mut lines = page.lines();
    let near =
        lines.find_map(|line| line.strip_prefix(r#"cattleguard_near_bytes{guard="default"} "#));
    near.expect("the series").parse::<f64>().expect("a number") as usize
}

fn watched(layer: impl FnOnce() -> HttpGuardLayer, origin: &Origin) -> (Cache, PrometheusHandle) {
    let recorder = PrometheusBuilder::new().build_recorder();
    let layer = metrics::with_local_recorder(&recorder, layer);
    (layer.max_body_size(32 * MIB).layer(origin.service()), recorder.handle())
}

#[tokio::test(start_paused = true)]
async fn the_near_tier_is_bounded_by_body_and_fields_without_being_told() {
    let origin = sized();
    let (cache, page) = watched(|| HttpGuardLayer::new(builder()), &origin);
    for hits in [false, true] {
        // A sixteenth of 256 MiB, and a little less.
        for path in ["/16", "/15"] {
            assert_eq!(get(&cache, path, &[]).await.is_hit(), hits);
        }
        assert!((15 * MIB + 100..15 * MIB + 2_000).contains(&bytes(&page)), "{}", bytes(&page));
    }
    assert_eq!(origin.calls(), 2);
}

#[tokio::test(start_paused = true)]
async fn many_responses_stay_within_a_bound_that_was_set() {
    let origin = sized();
    let layer = || HttpGuardLayer::new(builder().near_bytes(32 * MIB));
    let (cache, page) = watched(layer, &origin);
    for n in 0..200 {
        get(&cache, &format!("/{n}/1"), &[]).await;
        assert!(bytes(&page) <= 32 * MIB, "{} after {n}", bytes(&page));
    }
    assert!(bytes(&page) > 24 * MIB, "{}", bytes(&page));
}

/// What a connection reads into.
struct ReadBuffer(#[expect(dead_code, reason = "kept while bytes of it are")] Arc<()>, Vec<u8>);

impl AsRef<[u8]> for ReadBuffer {
    fn as_ref(&self) -> &[u8] {
        &self.1
    }
}

/// A byte, and the buffer that it was read into; counts how many there are, and were at most.
struct Piece(Arc<[AtomicUsize; 2]>);

impl Piece {
    fn bytes(counts: &Arc<[AtomicUsize; 2]>) -> Bytes {
        let alive = counts[0].fetch_add(1, Ordering::SeqCst) + 1;
        counts[1].fetch_max(alive, Ordering::SeqCst);
        Bytes::from_owner(Self(counts.clone()))
    }
}

impl AsRef<[u8]> for Piece {
    fn as_ref(&self) -> &[u8] {
        b"x"
    }
}

impl Drop for Piece {
    fn drop(&mut self) {
        self.0[0].fetch_sub(1, Ordering::SeqCst);
    }
}

#[tokio::test(start_paused = true)]
async fn chunks_of_one_byte_cost_their_bytes() {
    const LENGTH: usize = 200_000;
    for (longest, is_stored) in [(LENGTH, true), (LENGTH - 1, false)] {
        let counts = Arc::new([AtomicUsize::new(0), AtomicUsize::new(0)]);
        let origin = Origin::new({
            let counts = counts.clone();
            move |_| {
                let counts = counts.clone();
                let pieces = (0..LENGTH).map(move |_| Ok(Frame::data(Piece::bytes(&counts))));
                let body = StreamBody::new(futures::stream::iter(pieces)).boxed_unsync();
                let response = Response::builder().header("cache-control", "max-age=60");
                response.body(body).expect("a response")
            }
        });
        let recorder = PrometheusBuilder::new().build_recorder();
        let layer = || HttpGuardLayer::new(builder()).max_body_size(longest);
        let cache = metrics::with_local_recorder(&recorder, layer).layer(origin.service());
        let Ok(response) = cache.clone().oneshot(request(Method::GET, "/", &[])).await;
        // What waits to be sent: the bytes in one piece, and the piece for which there was no room.
        assert!(counts[1].load(Ordering::SeqCst) <= 2);
        let mut body = response.into_body();
        let first = body.frame().await.expect("a frame").expect("whole");
        assert_eq!(first.into_data().expect("data").len(), longest);
        let rest = body.collect().await.expect("whole").to_bytes();
        assert_eq!(rest.len(), LENGTH - longest);
        drop(rest);
        assert_eq!(counts[0].load(Ordering::SeqCst), 0);
        // What is stored beside the bytes: the fields.
        let kept = bytes(&recorder.handle());
        assert_eq!((LENGTH..LENGTH + 2_000).contains(&kept), is_stored, "{kept}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_stored_response_keeps_nothing_of_the_buffers_that_it_was_read_into() {
    let kept = Arc::new(parking_lot::Mutex::new(Vec::<Weak<()>>::new()));
    let origin = Origin::new({
        let kept = kept.clone();
        move |_| {
            let buffer = |text: &str| {
                let alive = Arc::new(());
                kept.lock().push(Arc::downgrade(&alive));
                let bytes = Bytes::from_owner(ReadBuffer(alive, text.repeat(1_000).into_bytes()));
                bytes.slice(..text.len())
            };
            let (sender, body) = origin::piecewise();
            for piece in ["one ", "and another"] {
                sender.send(Ok(Frame::data(buffer(piece)))).expect("open");
            }
            let mut value = HeaderValue::from_maybe_shared(buffer("secret")).expect("a value");
            value.set_sensitive(true);
            let response = Response::builder().header("cache-control", "max-age=60");
            response.header("x-a", value).body(body).expect("a response")
        }
    });
    let cache = cache(&origin);
    get(&cache, "/", &[]).await;
    assert!(kept.lock().iter().all(|alive| alive.strong_count() == 0));
    let hit = get(&cache, "/", &[]).await;
    assert_eq!(
        (hit.is_hit(), hit.text(), hit.field("x-a")),
        (true, "one and another", Some("secret"))
    );
    assert!(hit.response.headers()["x-a"].is_sensitive());
    assert_eq!(kept.lock().len(), 3);
}
