//! Whose a request is, and whether it may do what it asks for.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode, header};
use url::Url;

use super::Shared;
use super::describe::{Input, Operation};
use super::error::{ApiError, Code};
use crate::keys::{self, Limits, Scope};

/// The tenant of a request that looks at things.
#[derive(Debug)]
pub(super) struct MayRead(pub(super) String);

/// The tenant of a request that makes, cancels or deletes things.
#[derive(Debug, Clone)]
pub(super) struct MaySubmit(pub(super) String);

impl FromRequestParts<Shared> for MayRead {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, gateway: &Shared) -> Result<Self, ApiError> {
        tenant(&parts.headers, gateway, Scope::Read).await.map(Self)
    }
}

impl FromRequestParts<Shared> for MaySubmit {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, gateway: &Shared) -> Result<Self, ApiError> {
        // Who was admitted was asked already.
        if let Some(admitted) = parts.extensions.get::<Self>() {
            return Ok(admitted.clone());
        }
        tenant(&parts.headers, gateway, Scope::Submit)
            .await
            .map(Self)
    }
}

/// Who looks after the place.
#[derive(Debug)]
pub(super) struct MayOperate;

impl FromRequestParts<Shared> for MayOperate {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, gateway: &Shared) -> Result<Self, ApiError> {
        tenant(&parts.headers, gateway, Scope::Operate).await?;
        Ok(Self)
    }
}

/// Who looks at how the place does: at their own, or at all of it.
#[derive(Debug)]
pub(super) struct MaySee(pub(super) Caller);

impl MaySee {
    const ANY_OF: [Scope; 2] = [Scope::Read, Scope::Operate];

    /// Whose headers these are.
    pub(super) async fn check(headers: &HeaderMap, gateway: &Shared) -> Result<Caller, ApiError> {
        caller(headers, gateway, &Self::ANY_OF).await
    }
}

impl FromRequestParts<Shared> for MaySee {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, gateway: &Shared) -> Result<Self, ApiError> {
        Self::check(&parts.headers, gateway).await.map(Self)
    }
}

impl Input for MayRead {
    fn describe(operation: &mut Operation<'_>) {
        operation.needs(&[Scope::Read]);
    }
}

impl Input for MaySubmit {
    fn describe(operation: &mut Operation<'_>) {
        operation.needs(&[Scope::Submit]);
    }
}

impl Input for MayOperate {
    fn describe(operation: &mut Operation<'_>) {
        operation.needs(&[Scope::Operate]);
    }
}

impl Input for MaySee {
    fn describe(operation: &mut Operation<'_>) {
        operation.needs(&Self::ANY_OF);
    }
}

/// Who asks.
#[derive(Debug)]
pub(super) struct Caller {
    pub(super) tenant: String,
    pub(super) scopes: Vec<Scope>,
    pub(super) limits: Limits,
}

/// Who looks at what its tenant has left.
#[derive(Debug)]
pub(super) struct Asking(pub(super) Caller);

impl FromRequestParts<Shared> for Asking {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, gateway: &Shared) -> Result<Self, ApiError> {
        let caller = caller(&parts.headers, gateway, &[Scope::Read]);
        caller.await.map(Self)
    }
}

impl Input for Asking {
    fn describe(operation: &mut Operation<'_>) {
        operation.needs(&[Scope::Read]);
    }
}

/// Who asks for work.
pub(super) async fn submitter(headers: &HeaderMap, gateway: &Shared) -> Result<Caller, ApiError> {
    caller(headers, gateway, &[Scope::Submit]).await
}

async fn tenant(headers: &HeaderMap, gateway: &Shared, scope: Scope) -> Result<String, ApiError> {
    Ok(caller(headers, gateway, &[scope]).await?.tenant)
}

/// Whose request this is, who may do one of these things. While there are no keys, everyone on this
/// machine is the one tenant, and may do everything.
async fn caller(
    headers: &HeaderMap,
    gateway: &Shared,
    any_of: &[Scope],
) -> Result<Caller, ApiError> {
    let results = &*gateway.stores.results;
    if let Some(written) = bearer(headers)
        && let Some(key) = keys::check(results, written).await?
    {
        if any_of.iter().any(|scope| key.scopes.contains(scope)) {
            return Ok(Caller {
                tenant: key.tenant,
                scopes: key.scopes,
                limits: key.limits.or(gateway.limits),
            });
        }
        let wanted: Vec<_> = any_of.iter().map(|scope| scope.as_str()).collect();
        let message = format!(
            "the key does not have the scope `{}`",
            wanted.join("` or `")
        );
        return Err(ApiError::new(
            StatusCode::FORBIDDEN,
            Code::MissingScope,
            message,
        ));
    }
    if gateway.is_local && !keys::any(results).await? {
        refuse_pages_of_others(headers)?;
        return Ok(Caller {
            tenant: gateway.tenant.clone(),
            scopes: Scope::ALL.to_vec(),
            limits: gateway.limits,
        });
    }
    Err(ApiError::new(
        StatusCode::UNAUTHORIZED,
        Code::InvalidApiKey,
        "there is no such key: send one as `Authorization: Bearer KEY`",
    ))
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let written = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, key) = written.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
}

/// Without keys a web page could have the user's browser ask: from another origin, or under a name
/// of its own that leads here.
fn refuse_pages_of_others(headers: &HeaderMap) -> Result<(), ApiError> {
    let text = |name| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text(header::HOST).unwrap_or_default();
    let url = Url::parse(&format!("http://{host}")).ok();
    let is_here = url.as_ref().is_some_and(|url| match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    });
    let foreign = headers
        .get(header::ORIGIN)
        .is_some_and(|origin| origin.as_bytes() != format!("http://{host}").as_bytes());
    if is_here && !foreign {
        return Ok(());
    }
    Err(ApiError::new(
        StatusCode::FORBIDDEN,
        Code::ForeignOrigin,
        "without keys, only programs on this machine are served, and no pages of other origins",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(header::HeaderName, &str)]) -> HeaderMap {
        let pair =
            |(name, value): &(header::HeaderName, &str)| (name.clone(), value.parse().unwrap());
        pairs.iter().map(pair).collect()
    }

    #[test]
    fn a_key_is_read_from_its_header() {
        for (written, key) in [
            ("Bearer abc", Some("abc")),
            ("bearer  abc ", Some("abc")),
            ("Basic abc", None),
            ("abc", None),
        ] {
            assert_eq!(bearer(&headers(&[(header::AUTHORIZATION, written)])), key);
        }
        assert_eq!(bearer(&HeaderMap::new()), None);
    }

    #[test]
    fn without_keys_only_this_machine_is_served() {
        let allowed = |host: &str, origin: Option<&str>| {
            let mut all = headers(&[(header::HOST, host)]);
            if let Some(origin) = origin {
                all.insert(header::ORIGIN, origin.parse().unwrap());
            }
            refuse_pages_of_others(&all).is_ok()
        };
        for host in [
            "localhost",
            "localhost:8080",
            "127.0.0.1:80",
            "127.9.9.9",
            "[::1]:8080",
        ] {
            assert!(allowed(host, None), "{host}");
        }
        for host in [
            "",
            "evil.example:8080",
            "localhost.evil.example",
            "10.0.0.1",
            "[::2]",
        ] {
            assert!(!allowed(host, None), "{host}");
        }
        assert!(allowed("localhost:8080", Some("http://localhost:8080")));
        for origin in [
            "http://evil.example",
            "http://localhost:9",
            "null",
            "https://localhost:8080",
        ] {
            assert!(!allowed("localhost:8080", Some(origin)), "{origin}");
        }
    }
}
