//! The cache as seen by curl.

use axum::Router;
use tokio::process::Command;

use super::{Runs, serve};
use crate::layer;

async fn curl(args: &[&str]) -> String {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--include", "--max-time", "20", "--noproxy", "*"]);
    let output = curl.args(args).output().await.expect("curl");
    let text = String::from_utf8_lossy(&output.stdout).replace('\r', "");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    text
}

#[tokio::test]
async fn curl_gets_hits_parts_heads_and_304s() {
    let runs = Runs::default();
    let server =
        serve(Router::new().route("/a", runs.handler()).layer(layer().allow_reloads())).await;
    let url = &*format!("http://{server}/a");
    for (args, status, how, body) in [
        (&[][..], "HTTP/1.1 200 OK", "cattleguard; fwd=miss; stored", "run 1"),
        (&[], "HTTP/1.1 200 OK", "cattleguard; hit", "run 1"),
        (&["--http2-prior-knowledge"], "HTTP/2 200 ", "cattleguard; hit", "run 1"),
        (&["--http1.0"], "HTTP/1.0 200 OK", "cattleguard; hit", "run 1"),
        (&["--head"], "HTTP/1.1 200 OK", "cattleguard; hit", ""),
        (&["--range", "0-2"], "HTTP/1.1 206 Partial Content", "cattleguard; hit", "run"),
        (&["-H", "If-None-Match: \"1\""], "HTTP/1.1 304 Not Modified", "cattleguard; hit", ""),
        (&["-H", "Cache-Control: only-if-cached"], "HTTP/1.1 200 OK", "cattleguard; hit", "run 1"),
        (
            &["-H", "Cache-Control: no-cache"],
            "HTTP/1.1 200 OK",
            "cattleguard; fwd=request",
            "run 2",
        ),
        (&["-H", "Cache-Control: no-store"], "HTTP/1.1 200 OK", "cattleguard; hit", "run 2"),
        (&["--http2"], "HTTP/1.1 200 OK", "cattleguard; hit", "run 2"),
        (&[], "HTTP/1.1 200 OK", "cattleguard; hit", "run 2"),
    ] {
        let answer = curl(&[args, &[url]].concat()).await;
        let (head, got) = answer.split_once("\n\n").expect("a head");
        assert!(head.starts_with(status), "{args:?}: {answer}");
        let told = head.lines().find_map(|line| line.strip_prefix("cache-status: "));
        assert!(told.is_some_and(|told| told.ends_with(how)), "{args:?}: {answer}");
        assert_eq!(got, body, "{args:?}: {answer}");
    }
    assert_eq!(runs.count(), 2);
}
