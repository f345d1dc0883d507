//! Counting requests, by the address that they were for and by what became of them.

use std::sync::Arc;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::Response;
use lapidary_schemas::metrics::{self, Metrics};

/// Lets a request through and counts it once the head of its answer is there.
pub(super) async fn requests(
    State(metrics): State<Arc<Metrics>>,
    request: Request,
    next: Next,
) -> Response {
    let started = Instant::now();
    // As the router writes it: ids are not part of it, so addresses are few.
    let route = request.extensions().get::<MatchedPath>().cloned();
    let route = route.as_ref().map_or("none", MatchedPath::as_str);
    let method = method_name(request.method());
    let response = next.run(request).await;
    let (took, status) = (started.elapsed(), response.status());
    metrics.observe(&metrics::REQUEST_DURATION, &[route], took.as_secs_f64());
    metrics.add(&metrics::REQUESTS, &[route, method, status.as_str()], 1.0);
    if status.is_client_error() || status.is_server_error() {
        metrics.add(&metrics::REFUSALS, &[status.as_str()], 1.0);
    }
    response
}

/// Methods are what a client likes to write; only these are told apart.
fn method_name(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::PATCH => "PATCH",
        Method::DELETE => "DELETE",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::body::Body;
    use axum::http::StatusCode;
    use axum::middleware::from_fn_with_state;
    use axum::routing::get;
    use hyper_util::service::TowerToHyperService;
    use lapidary_schemas::metrics::Source;

    use super::*;

    #[tokio::test]
    async fn requests_are_counted_by_address_and_never_by_id() {
        let metrics = Metrics::new("gateway", "1", &[Source::Gateway], &[]).unwrap();
        let metrics = Arc::new(metrics);
        let router = Router::new()
            .route("/v1/jobs/{id}", get(|| async { "found" }))
            .route("/v1/full", get(|| async { StatusCode::TOO_MANY_REQUESTS }))
            .fallback(|| async { StatusCode::NOT_FOUND })
            .layer(from_fn_with_state(Arc::clone(&metrics), requests));
        let service = TowerToHyperService::new(router);
        for (method, path) in [
            ("GET", "/v1/jobs/one"),
            ("GET", "/v1/jobs/two"),
            ("GET", "/v1/full"),
            ("BREW", "/v1/coffee"),
        ] {
            let request = Request::builder().method(method).uri(path);
            let request = request.body(Body::empty()).unwrap();
            let answer = hyper::service::Service::call(&service, request);
            let Ok(_) = answer.await;
        }
        let text = metrics.exposition().unwrap();
        for line in [
            "lapidary_gateway_requests_total{method=\"GET\",route=\"/v1/jobs/{id}\",status=\"200\"} 2",
            "lapidary_gateway_requests_total{method=\"other\",route=\"none\",status=\"404\"} 1",
            "lapidary_gateway_refusals_total{status=\"429\"} 1",
            "lapidary_gateway_refusals_total{status=\"503\"} 0",
            "lapidary_gateway_request_duration_seconds_count{route=\"/v1/full\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }
}
