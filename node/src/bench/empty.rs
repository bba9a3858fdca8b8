//! An HTTP server that does nothing: what the scan gateway is compared with.

use axum::Router;
use axum::routing::post;
use tokio::net::TcpListener;

/// Answers `POST /v1/scans` with an empty body, without reading what was sent, until the process ends. `told` gets the address once it
/// listens.
///
/// # Errors
/// The system's.
pub async fn serve(told: impl FnOnce(std::net::SocketAddr)) -> std::io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    told(listener.local_addr()?);
    axum::serve(
        listener,
        Router::new().route("/v1/scans", post(async || ())),
    )
    .await
}
