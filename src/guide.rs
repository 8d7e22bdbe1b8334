//! The guide: pages about one subject each, the same as in `docs/` of the repository.

/// A module for each page.
///
/// A link in a page ends in a definition at the foot of the page, which leads to a file of the repository.
/// `links.md` stands before it and defines the same names for this documentation: of two definitions the
/// first one counts. rustdoc names `links.md` for the examples of all pages, and counts its lines too.
macro_rules! pages {
    ($($(#[$meta:meta])* $name:ident = $file:literal;)*) => {$(
        $(#[$meta])*
        #[doc = include_str!("guide/links.md")]
        #[doc = include_str!($file)]
        pub mod $name {}
    )*};
}

pages! {
    promises = "../docs/promises.md";
    versions = "../docs/versions.md";
    times = "../docs/times.md";
    outages = "../docs/outages.md";
    redis = "../docs/redis.md";
    http = "../docs/http.md";
    locks = "../docs/locks.md";
    metrics = "../docs/metrics.md";
    benchmarks = "../docs/benchmarks.md";
}
