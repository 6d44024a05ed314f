//! `/docs`: Swagger UI, out of the program itself. Nothing is fetched from elsewhere, and its
//! policy has the browser refuse it as well.

use std::sync::Arc;

use axum::{
    extract::Path,
    response::{IntoResponse, Response},
};
use http::{
    HeaderName, HeaderValue, StatusCode,
    header::{
        CACHE_CONTROL, CONTENT_ENCODING, CONTENT_SECURITY_POLICY, CONTENT_TYPE, REFERRER_POLICY,
        X_CONTENT_TYPE_OPTIONS,
    },
};
use utoipa_swagger_ui::Config;

use super::NoSuch;
use crate::http::problem::{ApiError, Code};

/// Scripts and styles are files of ours, none stands in the page; icons in the style sheet are `data:`.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
                      connect-src 'self'; base-uri 'none'; form-action 'none'; \
                      frame-ancestors 'none'";

/// Its own page: Swagger UI's names its files relative to `/docs/`, which `/docs` is not.
const PAGE: &str = r##"<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Pygmy</title>
<link rel="stylesheet" href="/docs/swagger-ui.css">
<link rel="icon" type="image/png" href="/docs/favicon-32x32.png" sizes="32x32">
</head>
<body>
<div id="swagger-ui"></div>
<script src="/docs/swagger-ui-bundle.js"></script>
<script src="/docs/start.js"></script>
</body>
</html>
"##;

/// The validator that is switched off is a service elsewhere.
const START: &str = r##"window.onload = () => {
  SwaggerUIBundle({
    url: "/openapi.json",
    dom_id: "#swagger-ui",
    deepLinking: true,
    validatorUrl: null,
  });
};
"##;

/// What the page needs of Swagger UI.
const FILES: [&str; 3] = ["swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png"];

/// The documentation for people.
#[utoipa::path(
    get,
    path = "/docs",
    tag = "documentation",
    responses((status = 200, description = "The page", body = String, content_type = "text/html")),
)]
pub(in crate::http::node) async fn docs() -> Response {
    page_part(PAGE.into(), "text/html; charset=utf-8")
}

/// A file of the page.
#[utoipa::path(
    get,
    path = "/docs/{file}",
    tag = "documentation",
    params(("file" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "The file, where it is a script or a style sheet compressed \
            with gzip", content(
            (String = "text/css"), (String = "text/javascript"), (String = "image/png"))),
        NoSuch,
    ),
)]
pub(in crate::http::node) async fn docs_file(
    file: Result<Path<String>, axum::extract::rejection::PathRejection>,
) -> Result<Response, ApiError> {
    let name = file.map(|Path(name)| name).unwrap_or_default();
    if name == "start.js" {
        return Ok(page_part(START.into(), "text/javascript; charset=utf-8"));
    }
    let served = match FILES.contains(&name.as_str()) {
        true => utoipa_swagger_ui::serve(&name, Arc::new(Config::from("/openapi.json"))),
        false => Ok(None),
    };
    let Ok(Some(file)) = served else {
        let detail = format!("The documentation has no file {name:?}.");
        return Err(ApiError::new(Code::NotFound, detail));
    };
    let mut response = page_part(file.bytes.into_owned(), &file.content_type);
    if file.gzpipped {
        response.headers_mut().insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    Ok(response)
}

fn page_part(bytes: Vec<u8>, content_type: &str) -> Response {
    let mut response = (StatusCode::OK, bytes).into_response();
    let headers = response.headers_mut();
    let fixed: [(HeaderName, &'static str); 4] = [
        (CONTENT_SECURITY_POLICY, POLICY),
        (X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (REFERRER_POLICY, "no-referrer"),
        // Another version of the program has other files under the same names.
        (CACHE_CONTROL, "no-cache"),
    ];
    for (name, value) in fixed {
        headers.insert(name, HeaderValue::from_static(value));
    }
    if let Ok(content_type) = HeaderValue::from_str(content_type) {
        headers.insert(CONTENT_TYPE, content_type);
    }
    response
}
