//! What is kept beyond its time: to be validated, or for who takes it stale.

use std::sync::atomic::AtomicBool;

use futures::future::join_all;

use super::*;

over_each_store!(
    rfc9111_4_3_1_the_proxy_keeps_what_has_expired_only_to_validate_it,
    rfc9111_5_2_1_2_the_proxy_serves_max_stale_what_the_origin_lets_be_served_stale,
);

/// An origin whose one page says this, and which it confirms; or which ends each connection without an answer.
struct Page {
    at: SocketAddr,
    heads: Heads,
    is_gone: Arc<AtomicBool>,
}

impl Page {
    async fn of(control: &str) -> Self {
        let (heads, is_gone) = (Heads::default(), Arc::new(AtomicBool::new(false)));
        let fields = format!("cache-control: {control}\r\netag: \"1\"\r\n");
        let (read, gone) = (heads.clone(), is_gone.clone());
        let at = origin(move |mut stream| {
            let (heads, is_gone, fields) = (read.clone(), gone.clone(), fields.clone());
            async move {
                while let Some(head) = heads.read(&mut stream).await {
                    let answer = match head.to_ascii_lowercase().contains("\r\nif-none-match:") {
                        _ if is_gone.load(Ordering::SeqCst) => return,
                        true => format!("HTTP/1.1 304 Not Modified\r\n{fields}\r\n"),
                        false => ok(&fields, "hello"),
                    };
                    let _ = stream.write_all(answer.as_bytes()).await;
                }
            }
        })
        .await;
        Self { at, heads, is_gone }
    }

    /// How many requests have asked if the page is as it was.
    fn validations(&self) -> usize {
        self.heads.having("if-none-match: \"1\"")
    }
}

/// A request with this `Cache-Control`: the status, how it was answered, and the body.
async fn asking(proxy: SocketAddr, control: &str) -> (u16, String, String) {
    let head = format!("GET /a HTTP/1.1\r\nhost: shop.test\r\ncache-control: {control}");
    let answer = one(proxy, &head).await;
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let mut lines = head.lines();
    let how = lines.find_map(|line| line.strip_prefix("cache-status: ")).unwrap_or_default();
    (status.expect("a status"), how.to_owned(), body.to_owned())
}

/// Waits until nothing is stored that answers this.
async fn is_over(proxy: SocketAddr, control: &str) {
    for _ in 0..200 {
        if asking(proxy, control).await.0 == 504 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("{control} is answered all the time");
}

async fn rfc9111_4_3_1_the_proxy_keeps_what_has_expired_only_to_validate_it(store: Store) {
    let controls = ["max-age=1", "max-age=1, must-revalidate", "s-maxage=1"];
    let kept = controls.map(async |control| {
        let page = Page::of(control).await;
        let proxy = proxy_of(page.at, over(store)).await;
        assert_eq!(asking(proxy, "max-age=9").await.2, "hello", "{control}");
        is_over(proxy, "only-if-cached").await;
        assert_eq!(page.heads.count(), 1, "{control}");
        page.is_gone.store(true, Ordering::SeqCst);
        for ask in ["only-if-cached, max-stale", "max-stale", "max-stale=9, max-age=99"] {
            let (status, how, body) = asking(proxy, ask).await;
            assert!(status >= 502 && body != "hello", "{control} {ask}: {status} {how}");
        }
        let validations = page.validations();
        assert!(validations > 0, "{control}");
        page.is_gone.store(false, Ordering::SeqCst);
        // Once the back-off is over.
        for _ in 0..200 {
            let (status, how, body) = asking(proxy, "max-age=9").await;
            if how.contains("fwd=stale; stored") {
                assert_eq!((status, &*body), (200, "hello"), "{control}");
                return assert!(page.validations() > validations, "{control}");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{control} is not validated");
    });
    join_all(kept).await;
}

async fn rfc9111_5_2_1_2_the_proxy_serves_max_stale_what_the_origin_lets_be_served_stale(
    store: Store,
) {
    const STALE: &str = "cattleguard; hit; detail=max-stale";
    let layers = [std::convert::identity, HttpGuardLayer::allow_reloads];
    let controls = [
        ("max-age=1, stale-if-error=600", true),
        ("max-age=1", false),
        ("max-age=1, must-revalidate, stale-if-error=600", false),
        ("max-age=1, proxy-revalidate, stale-if-error=600", false),
        ("s-maxage=1, stale-if-error=600", false),
    ];
    let asked = layers.into_iter().flat_map(|layer| controls.map(|control| (layer, control)));
    let served = asked.map(async |(layer, (control, is_served))| {
        let page = Page::of(control).await;
        let proxy = proxy_of(page.at, Options { layer, ..over(store) }).await;
        asking(proxy, "max-age=9").await;
        is_over(proxy, "only-if-cached").await;
        for ask in ["only-if-cached, max-stale", "only-if-cached, max-stale=600"] {
            let (status, how, _) = asking(proxy, ask).await;
            let expected = if is_served { (200, STALE) } else { (504, &*how) };
            assert_eq!((status, &*how), expected, "{control} {ask}");
            assert_eq!(page.heads.count(), 1, "{control} {ask}");
        }
        let (status, how, body) = asking(proxy, "max-stale").await;
        assert_eq!((status, &*body), (200, "hello"), "{control}");
        assert_eq!(how == STALE, is_served, "{control}: {how}");
        assert_eq!(page.heads.count(), if is_served { 1 } else { 2 }, "{control}");
    });
    join_all(served).await;
    // The end of what the origin lets.
    let page = Page::of("max-age=1, stale-if-error=1").await;
    let proxy = proxy_of(page.at, over(store)).await;
    asking(proxy, "max-age=9").await;
    is_over(proxy, "only-if-cached, max-stale").await;
    let (status, how, body) = asking(proxy, "max-stale").await;
    assert_eq!((status, &*body, page.heads.count()), (200, "hello", 2), "{how}");
}
