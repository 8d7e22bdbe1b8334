//! A small service: products from a SQLite database behind a guard, and an update that invalidates with
//! the row's version. The list of all products is a cached response, which the update purges by its tag.
//!
//! ```text
//! cargo run --release --example axum        # with REDIS_URL=redis://127.0.0.1/ shared by all instances
//! curl -i localhost:3000/products/7         # and /products, and /metrics
//! curl -X PUT localhost:3000/products/7 -H 'content-type: application/json' -d '{"name":"Lamp"}'
//! ```

use std::{env, time::Duration};

use axum::extract::{Path, State};
use axum::http::{HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Result};
use axum::{Json, Router, routing::get};
use cattleguard::http::{HttpGuardLayer, Responses};
use cattleguard::redis::{Connection, RedisFar};
use cattleguard::{FetchOptions, Guard, LoadingGuard, Policy, codec, metrics::BUCKETS};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder};
use serde::{Deserialize, Serialize};
use sqlx::{SqlitePool, sqlite::SqlitePoolOptions};
use tower::BoxError;

#[derive(Clone, Serialize, Deserialize)]
struct Product {
    name: String,
}

/// `products` keeps rows, `pages` whole responses.
#[derive(Clone)]
struct App {
    database: SqlitePool,
    products: LoadingGuard<i64, Product>,
    pages: HttpGuardLayer,
}

const TAGS: HeaderName = HeaderName::from_static("surrogate-key");
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(5);
const NOT_FOUND: (StatusCode, &str) = (StatusCode::NOT_FOUND, "no such product\n");

/// The origin: a row with its version, or none.
async fn read(database: SqlitePool, id: i64) -> sqlx::Result<Option<(Product, i64)>> {
    let select = sqlx::query_as("SELECT name, version FROM product WHERE id = ?").bind(id);
    let row = select.fetch_optional(&database).await?;
    Ok(row.map(|(name, version)| (Product { name }, version)))
}

async fn show(State(app): State<App>, Path(id): Path<i64>) -> Result<impl IntoResponse> {
    let options = FetchOptions::new().timeout(Duration::from_secs(2));
    let fetched = app.products.get_with(&id, options).await?;
    let outcome = fetched.outcome().as_str();
    Ok(([("x-outcome", outcome)], Json(fetched.into_value().ok_or(NOT_FOUND)?)))
}

async fn list(State(app): State<App>) -> Result<impl IntoResponse> {
    let select = sqlx::query_as("SELECT id, name FROM product ORDER BY id");
    let rows: Vec<(i64, String)> = select.fetch_all(&app.database).await.map_err(unavailable)?;
    Ok(([(header::CACHE_CONTROL, "max-age=60"), (TAGS, "products")], Json(rows)))
}

async fn update(app: State<App>, id: Path<i64>, new: Json<Product>) -> Result<StatusCode> {
    // The version is a row counter: with `now()` the last writer may carry the smaller stamp.
    let set = "UPDATE product SET name = ?, version = version + 1 WHERE id = ? RETURNING version";
    let set = sqlx::query_as(set).bind(&new.name).bind(*id).fetch_optional(&app.database);
    let (version,): (i64,) = set.await.map_err(unavailable)?.ok_or(NOT_FOUND)?;
    // Committed by now: from here on nobody gets the old row. What Redis could not be told is told later; to call
    // the write a failure would have it repeated.
    if let Err(error) = app.products.invalidate_at(&*id, version).await {
        eprintln!("product {}: its invalidation is pending: {error}", *id);
    }
    if let Err(error) = app.pages.purge_tag("products").await {
        eprintln!("the purge of the products' pages is pending: {error}");
    }
    Ok(StatusCode::NO_CONTENT)
}

/// Its text is not for strangers.
fn unavailable(error: sqlx::Error) -> StatusCode {
    eprintln!("the database: {error}");
    StatusCode::SERVICE_UNAVAILABLE
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let database = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await?;
    let create = "CREATE TABLE product (id INTEGER PRIMARY KEY, name TEXT, version INTEGER);
        INSERT INTO product VALUES (7, 'Chair', 1), (8, 'Table', 1);";
    sqlx::raw_sql(create).execute(&database).await?;
    let buckets = Matcher::Prefix("cattleguard_".to_owned());
    let metrics =
        PrometheusBuilder::new().set_buckets_for_metric(buckets, BUCKETS)?.install_recorder()?;
    let policy = Policy::default().ttl(Duration::from_secs(60));
    let mut products = Guard::builder().name("products").policy(policy);
    let mut pages = Guard::builder().name("pages");
    if let Ok(url) = env::var("REDIS_URL") {
        let redis = Connection::open_lazy(&url)?;
        products = products.far(RedisFar::new(redis.clone(), codec::Json).namespace("products"));
        pages = pages.far(RedisFar::new(redis, Responses::default()).namespace("pages"));
    }
    let pool = database.clone();
    let products = products.loader(move |id: i64| read(pool.clone(), id)).build();
    let pages = HttpGuardLayer::new(pages).tag_field(TAGS);
    let router = Router::new()
        .route("/products", get(list).layer(pages.clone()))
        .route("/products/{id}", get(show).put(update))
        .route("/metrics", get(async move || metrics.render()))
        .with_state(App { database, products: products.clone(), pages: pages.clone() });
    let address = env::var("LISTEN").unwrap_or_else(|_| "127.0.0.1:3000".to_owned());
    let listener = tokio::net::TcpListener::bind(&address).await?;
    println!("http://{}/products/7", listener.local_addr()?);
    let stop = async { drop(tokio::signal::ctrl_c().await) };
    axum::serve(listener, router).with_graceful_shutdown(stop).await?;
    let (products, pages) =
        tokio::join!(products.shutdown(SHUTDOWN_TIMEOUT), pages.shutdown(SHUTDOWN_TIMEOUT));
    eprintln!("products: {products:?}, pages: {pages:?}");
    Ok(())
}
