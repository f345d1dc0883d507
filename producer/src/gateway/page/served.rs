//! The files of the page, out of the program itself.

use axum::extract::State;
use axum::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, HeaderName, REFERRER_POLICY,
    X_CONTENT_TYPE_OPTIONS,
};
use axum::response::{IntoResponse, Response};

use super::super::Shared;
use super::super::body::Id;
use super::super::describe::{Operation, Output, bytes};
use super::super::error::ApiError;
use crate::keys;

/// Scripts and styles are the page's own files, pictures are its own or were fetched by it, and it
/// speaks with nobody but this gateway. No other page may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; \
     img-src 'self' blob: data:; connect-src 'self'; base-uri 'none'; form-action 'none'; \
     frame-ancestors 'none'";

/// A file by its name, and what it is.
macro_rules! file {
    ($name:literal, $kind:literal) => {
        (
            $name,
            concat!($kind, "; charset=utf-8"),
            include_str!(concat!("../../../page/", $name)),
        )
    };
}

const INDEX: (&str, &str, &str) = file!("index.html", "text/html");
const FILES: [(&str, &str, &str); 12] = [
    file!("api.js", "text/javascript"),
    file!("batch.js", "text/javascript"),
    file!("chart.js", "text/javascript"),
    file!("dead.js", "text/javascript"),
    file!("dom.js", "text/javascript"),
    file!("icon.svg", "image/svg+xml"),
    file!("main.js", "text/javascript"),
    file!("overview.js", "text/javascript"),
    file!("result.js", "text/javascript"),
    file!("sign-in.js", "text/javascript"),
    file!("style.css", "text/css"),
    file!("words.js", "text/javascript"),
];

/// How the page is told whether to ask for a key.
const KEYS: &str = "data-keys=\"asked\"";
const NO_KEYS: &str = "data-keys=\"none\"";

/// A file of the page.
#[derive(Debug)]
pub(super) struct Served(Response);

impl IntoResponse for Served {
    fn into_response(self) -> Response {
        self.0
    }
}

impl Output for Served {
    fn describe(operation: &mut Operation<'_>) {
        let kinds = FILES.into_iter().chain([INDEX]).map(|(_, kind, _)| kind);
        let contents = kinds.map(|kind| (kind, bytes()));
        operation.answers("200", contents.collect());
    }
}

/// The page.
pub(super) async fn index(State(gateway): State<Shared>) -> Result<Served, ApiError> {
    let (name, kind, text) = INDEX;
    if gateway.is_local && !keys::any(&gateway.stores.results).await? {
        return Ok(written((name, kind, text.replace(KEYS, NO_KEYS))));
    }
    Ok(written((name, kind, text)))
}

/// One of its files.
pub(super) async fn file(Id(name): Id) -> Result<Served, ApiError> {
    let found = FILES.into_iter().find(|(known, ..)| *known == name);
    found
        .map(written)
        .ok_or_else(|| ApiError::unknown("file of the page", &name))
}

fn written<T: IntoResponse>((_, kind, text): (&str, &'static str, T)) -> Served {
    let headers: [(HeaderName, &str); 5] = [
        (CONTENT_TYPE, kind),
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        // The next version of the program has another one under the same name.
        (CACHE_CONTROL, "no-cache"),
    ];
    Served((headers, text).into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_can_be_told_that_there_are_no_keys() {
        assert_eq!(INDEX.2.matches(KEYS).count(), 1);
    }

    #[test]
    fn the_page_asks_for_files_that_are_there_and_for_nothing_else() {
        let mut asked = 0;
        for (_, _, text) in FILES.into_iter().chain([INDEX]) {
            // Namespaces are names, nobody asks for them.
            let text = text.replace("http://www.w3.org/2000/svg", "");
            assert!(!text.contains("://"), "another host: {text}");
            let imports = text.split("from \"./").skip(1);
            let links = text.split("\"page/").skip(1);
            for name in imports
                .chain(links)
                .filter_map(|rest| rest.split('"').next())
            {
                asked += 1;
                let known = FILES.iter().any(|(known, ..)| *known == name);
                assert!(known, "{name} is not served");
            }
        }
        assert!(asked > 10, "only {asked} files are asked for");
    }
}
