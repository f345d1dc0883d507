//! The trace that a client's request is part of.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use lapidary_schemas::TraceContext;
use lapidary_schemas::trace::TRACEPARENT;
use serde_json::json;

use super::Shared;
use super::describe::{Input, Operation};

/// Where in which trace the client is, if it says so.
#[derive(Debug, Clone, Copy)]
pub(super) struct Traced(pub(super) Option<TraceContext>);

impl FromRequestParts<Shared> for Traced {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &Shared) -> Result<Self, Infallible> {
        // More than one, or one that cannot be read, is as none.
        let mut written = parts.headers.get_all(TRACEPARENT).iter();
        let first = written.next().filter(|_| written.next().is_none());
        let context = first.and_then(|header| TraceContext::parse(header.to_str().ok()?));
        Ok(Self(context))
    }
}

impl Input for Traced {
    fn describe(operation: &mut Operation<'_>) {
        let description = "The trace that it is part of, as W3C's Trace Context writes it; anything else is passed over.";
        operation.takes_header(TRACEPARENT, description, &json!({"type": "string"}));
    }
}
