//! The HTTP gateway: the scan API, the page that a phone shows for a code, and what an operator asks of a node.
//!
//! In scope: routes, pages, problem documents, limits. Out of scope: verdicts and storage (`scans`), TLS (a proxy in front ends it).
//! Only the scan routes and pages are public; status and metrics can be put behind a token.

mod accept;
mod api;
mod backoff;
mod config;
mod events;
mod guard;
mod lang;
mod link;
mod metrics;
mod moments;
mod ops;
mod outside;
mod pages;
mod phrases;
mod problem;
mod product_links;
mod render;
mod resolver;
mod router;
mod serve;
mod source;
#[cfg(test)]
mod tests;
mod token;
mod typed;
mod view;
mod whereabouts;

pub use backoff::BackoffConfig;
pub use config::{GatewayConfig, OperatorToken, is_contact};
pub use link::{LinkError, parse_link_path, parse_link_url, read_code};
pub use metrics::Metrics;
pub use ops::NodeStatus;
pub use problem::Problem;
pub use product_links::{ProductLinks, ProductLinksError};
pub use router::Gateway;
pub use serve::{ServeLimits, serve};
