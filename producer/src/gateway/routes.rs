//! Every address: what serves it, and what it is called in the description, which cannot differ.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::DefaultBodyLimit;
use axum::handler::Handler;
use axum::http::header::CONTENT_TYPE;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, delete, get, post};

use super::describe::{Described, Description, JSON, Operation, Output};
use super::error::{ApiError, Code};
use super::{
    Shared, admission, batches, chat, counted, drain, files, jobs, media, models, moderations,
    page, report, results, retry, upload, webhooks,
};

/// Addresses that are served, and their description.
pub(super) struct Routes {
    gateway: Shared,
    router: Router<Shared>,
    description: Description,
}

impl Routes {
    fn new(gateway: Shared) -> Self {
        Self {
            gateway,
            router: Router::new(),
            description: Description::new(),
        }
    }

    fn add(
        mut self,
        (method, path): (&str, &str),
        summary: &str,
        describe: impl FnOnce(&mut Operation<'_>),
        handler: MethodRouter<Shared>,
    ) -> Self {
        self.description.add((method, path), summary, describe);
        self.router = self.router.route(path, handler);
        self
    }

    /// Looks at something.
    pub(super) fn get<H, A, D>(self, path: &str, summary: &str, handler: H) -> Self
    where
        H: Handler<A, Shared> + Described<D>,
        A: 'static,
    {
        self.add(("get", path), summary, H::describe, get(handler))
    }

    /// Changes something.
    pub(super) fn post<H, A, D>(self, path: &str, summary: &str, handler: H) -> Self
    where
        H: Handler<A, Shared> + Described<D>,
        A: 'static,
    {
        self.add(("post", path), summary, H::describe, post(handler))
    }

    /// Deletes or cancels something.
    pub(super) fn delete<H, A, D>(self, path: &str, summary: &str, handler: H) -> Self
    where
        H: Handler<A, Shared> + Described<D>,
        A: 'static,
    {
        self.add(("delete", path), summary, H::describe, delete(handler))
    }

    /// Asks for work, of which a tenant may ask for so much.
    fn submission<H, A, D>(self, path: &str, summary: &str, handler: H) -> Self
    where
        H: Handler<A, Shared> + Described<D>,
        A: 'static,
    {
        let admit = from_fn_with_state(Arc::clone(&self.gateway), admission::admit);
        let describe = |operation: &mut Operation<'_>| {
            H::describe(operation);
            admission::describe(operation);
        };
        let handler = post(handler).route_layer(admit);
        self.add(("post", path), summary, describe, handler)
    }

    fn all(self) -> Self {
        self.submission("/v1/files", "Uploads a file of requests", upload::create)
            .get("/v1/files", "Lists uploaded files", files::list)
            .get("/v1/files/{id}", "Shows a file", files::show)
            .delete("/v1/files/{id}", "Deletes an uploaded file", files::delete)
            .get("/v1/files/{id}/content", "Reads a file", files::content)
            .submission("/v1/batches", "Makes a batch of a file", batches::create)
            .get("/v1/batches", "Lists batches", batches::list)
            .get("/v1/batches/{id}", "Shows a batch", batches::show)
            .post(
                "/v1/batches/{id}/cancel",
                "Cancels a batch",
                batches::cancel,
            )
            .post("/v1/batches/{id}/pause", "Pauses a batch", batches::pause)
            .post(
                "/v1/batches/{id}/resume",
                "Lets a paused batch go on",
                batches::resume,
            )
            .get(
                "/v1/batches/{id}/results",
                "Reads a batch's results as they come",
                results::show,
            )
            .get(
                "/v1/batches/{id}/report",
                "Reports on a batch",
                report::show,
            )
            .submission(
                "/v1/batches/{id}/retry",
                "Asks requests again that failed",
                retry::create,
            )
            .submission(
                "/v1/media",
                "Stores a picture or a text that requests name",
                media::create,
            )
            .submission("/v1/chat/completions", "Answers a request", chat::create)
            .submission(
                "/v1/moderations",
                "Says what the policy thinks of texts and pictures",
                moderations::create,
            )
            .submission("/v1/jobs", "Takes a request, for later", jobs::create)
            .get("/v1/jobs/{id}", "Shows a job and its answer", jobs::show)
            .delete("/v1/jobs/{id}", "Cancels a job", jobs::cancel)
            .get("/v1/models", "Lists models that are served", models::list)
            .get("/v1/models/{*id}", "Shows a model", models::show)
            .get(
                "/v1/usage",
                "Shows what the tenant has left",
                admission::usage,
            )
            .post("/v1/webhooks", "Registers a webhook", webhooks::create)
            .get("/v1/webhooks", "Lists webhooks", webhooks::list)
            .delete("/v1/webhooks/{id}", "Deletes a webhook", webhooks::delete)
            .get(
                "/v1/webhooks/deliveries",
                "Lists what was sent to webhooks",
                webhooks::deliveries,
            )
            .post(
                "/v1/webhooks/deliveries/{id}/replay",
                "Sends something to a webhook again",
                webhooks::replay,
            )
    }

    /// Adds the address of the description, which describes that one as well.
    fn described(mut self) -> Router<Shared> {
        let (path, summary) = ("/openapi.json", "Describes all addresses");
        self.description
            .add(("get", path), summary, Written::describe);
        let written = Written(Bytes::from(self.description.written().to_string()));
        let handler = get(move || async move { written.answer() });
        self.router.route(path, handler)
    }
}

/// The description as it is served.
#[derive(Debug, Clone)]
struct Written(Bytes);

impl Written {
    fn answer(self) -> Response {
        ([(CONTENT_TYPE, JSON)], self.0).into_response()
    }
}

impl Output for Written {
    fn describe(operation: &mut Operation<'_>) {
        let schema = serde_json::json!({"type": "object", "description": "This description."});
        operation.answers("200", vec![(JSON, schema)]);
    }
}

/// Everything that is served.
pub(super) fn router(gateway: Shared) -> Router {
    let routes = page::routes(Routes::new(Arc::clone(&gateway)).all());
    routes
        .described()
        .fallback(nowhere)
        .method_not_allowed_fallback(not_so)
        // Each reader of a body has limits of its own.
        .layer(DefaultBodyLimit::disable())
        .layer(from_fn(drain::refusals_are_heard))
        .layer(from_fn_with_state(
            Arc::clone(&gateway.metrics),
            counted::requests,
        ))
        .with_state(gateway)
}

async fn nowhere(uri: Uri) -> ApiError {
    ApiError::unknown("address", uri.path())
}

async fn not_so(method: Method, uri: Uri) -> ApiError {
    let message = format!("`{}` does not take {method}", uri.path());
    ApiError::new(
        StatusCode::METHOD_NOT_ALLOWED,
        Code::MethodNotAllowed,
        message,
    )
}
