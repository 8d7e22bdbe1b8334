//! A small service: products from a SQLite database behind a guard, and an update that invalidates with
//! the row's version. The list of all products is a cached response, which the update purges by its tag.
//!
//! ```text
//! cargo run --release --example axum                           # embedded far tier
//! REDIS_URL=redis://127.0.0.1/ cargo run --release --example axum   # shared by all instances
//!
//! curl -i localhost:3000/products/7
//! curl -X PUT localhost:3000/products/7 -H 'content-type: application/json' -d '{"name":"Lamp"}'
//! curl -i localhost:3000/products
//! curl localhost:3000/metrics
//! ```

use std::{env, time::Duration};

use axum::{
    Json, Router,
    extract::{Path, State},
    http::{
        HeaderName, StatusCode,
        header::{CACHE_CONTROL, RETRY_AFTER},
    },
    response,
    routing::get,
};
use cattleguard::{
    Guard, GuardLayer, Loaded, Policy, Shutdown, codec,
    http::{HttpGuardLayer, Responses},
    metrics::BUCKETS,
    redis::{Connection, RedisFar},
    tower::GuardService,
};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use serde::{Deserialize, Serialize};
use sqlx::{SqlitePool, sqlite::SqlitePoolOptions};
use tower::{BoxError, ServiceExt, service_fn, util::BoxCloneSyncService};

#[derive(Clone, Serialize, Deserialize)]
struct Product {
    name: String,
}

#[derive(Clone, Copy)]
struct GetProduct(i64);

type Products = BoxCloneSyncService<GetProduct, cattleguard::Fetched<Product>, cattleguard::Error>;

#[derive(Clone)]
struct App {
    database: SqlitePool,
    /// Reads go through the guard …
    products: Products,
    /// … and writes tell it.
    guard: Guard<i64, Product>,
    /// Whole responses.
    pages: HttpGuardLayer,
}

const TAGS: HeaderName = HeaderName::from_static("surrogate-key");

/// The origin: a service that reads a row with its version.
async fn read(
    database: SqlitePool,
    GetProduct(id): GetProduct,
) -> Result<Loaded<Product>, sqlx::Error> {
    let row: Option<(String, i64)> =
        sqlx::query_as("SELECT name, version FROM product WHERE id = ?")
            .bind(id)
            .fetch_optional(&database)
            .await?;
    Ok(match row {
        Some((name, version)) => Loaded::found(Product { name }, version.unsigned_abs()),
        None => Loaded::absent(),
    })
}

async fn show(
    State(app): State<App>,
    Path(id): Path<i64>,
) -> response::Result<([(HeaderName, &'static str); 1], Json<Product>)> {
    let fetched = app.products.oneshot(GetProduct(id)).await.map_err(unavailable)?;
    let outcome = [(HeaderName::from_static("x-outcome"), fetched.outcome().as_str())];
    let product = fetched.value().cloned();
    Ok((outcome, Json(product.ok_or((StatusCode::NOT_FOUND, format!("no product {id}\n")))?)))
}

/// The guard for responses keeps it, as its fields say.
async fn list(
    State(app): State<App>,
) -> response::Result<([(HeaderName, &'static str); 2], Json<Vec<(i64, String)>>)> {
    let rows: Vec<(i64, String)> = sqlx::query_as("SELECT id, name FROM product ORDER BY id")
        .fetch_all(&app.database)
        .await
        .map_err(unavailable)?;
    Ok(([(CACHE_CONTROL, "max-age=60"), (TAGS, "products")], Json(rows)))
}

async fn update(
    State(app): State<App>,
    Path(id): Path<i64>,
    Json(product): Json<Product>,
) -> response::Result<StatusCode> {
    // The version is a row counter: with `now()` the last writer may carry the smaller stamp.
    let version: Option<(i64,)> = sqlx::query_as(
        "UPDATE product SET name = ?, version = version + 1 WHERE id = ? RETURNING version",
    )
    .bind(product.name)
    .bind(id)
    .fetch_optional(&app.database)
    .await
    .map_err(unavailable)?;
    let Some((version,)) = version else {
        return Err((StatusCode::NOT_FOUND, format!("no product {id}\n")).into());
    };
    // Committed by now: from here on nobody gets the old row.
    app.guard.invalidate_at(&id, version.unsigned_abs()).await.map_err(unavailable)?;
    app.pages.purge_tag("products").await.map_err(unavailable)?;
    Ok(StatusCode::NO_CONTENT)
}

type Unavailable = (StatusCode, [(HeaderName, String); 1], String);

fn unavailable(error: impl Into<BoxError>) -> Unavailable {
    let error = error.into();
    // Where the guard knows when it is worth to come again, it says so.
    let known = error.downcast_ref().and_then(cattleguard::Error::retry_after);
    let seconds = known.map_or(1, |after| after.as_secs() + 1);
    (StatusCode::SERVICE_UNAVAILABLE, [(RETRY_AFTER, seconds.to_string())], format!("{error}\n"))
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let database = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    sqlx::raw_sql(
        "CREATE TABLE product (id INTEGER PRIMARY KEY, name TEXT NOT NULL, version INTEGER NOT NULL);
         INSERT INTO product VALUES (7, 'Chair', 1), (8, 'Table', 1);",
    )
    .execute(&database)
    .await?;

    // Before the guard is built, which asks for nothing later.
    let prometheus = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Prefix("cattleguard_".to_owned()), &BUCKETS)?
        .install_recorder()?;
    let builder =
        Guard::builder().name("products").policy(Policy::default().ttl(Duration::from_secs(60)));
    let (guard, pages): (Guard<i64, Product>, _) = match env::var("REDIS_URL") {
        Ok(url) => {
            let redis = Connection::open_lazy(&url)?;
            let products = RedisFar::new(redis.clone(), codec::Json).namespace("products");
            let pages = RedisFar::new(redis, Responses::default()).namespace("pages");
            (builder.far(products).build(), Guard::builder().far(pages))
        }
        Err(_) => (builder.build(), Guard::builder()),
    };
    let pages = HttpGuardLayer::new(pages.name("pages")).tag_field(TAGS);
    let pool = database.clone();
    let origin = service_fn(move |request| read(pool.clone(), request));
    let layer = GuardLayer::new(guard.clone(), |request: &GetProduct| Some(request.0))
        .timeout(Duration::from_secs(2));
    let products: GuardService<_, _, _, _> = tower::Layer::layer(&layer, origin);
    let products = BoxCloneSyncService::new(products);

    let app = App { database, products, guard: guard.clone(), pages: pages.clone() };
    let app = Router::new()
        .route("/products", get(list).layer(pages.clone()))
        .route("/products/{id}", get(show).put(update))
        .route("/metrics", get(async move || prometheus.render()))
        .with_state(app);
    let address = env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(&address).await?;
    println!("http://{}/products/7", listener.local_addr()?);
    axum::serve(listener, app)
        .with_graceful_shutdown(async { drop(tokio::signal::ctrl_c().await) })
        .await?;
    // Loads that nobody waits for any more, and their leases.
    let patience = Duration::from_secs(5);
    let (products, pages) = tokio::join!(guard.shutdown(patience), pages.shutdown(patience));
    for ended in [products, pages] {
        if let Shutdown::Aborted { flights } = ended {
            eprintln!("{flights} loads took too long");
        }
    }
    Ok(())
}
