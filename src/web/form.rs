//! What a form sends: a short body of fields, within a short time.

use axum::body::{Body, to_bytes};
use axum::http::StatusCode;
use hyper::body::Body as _;
use std::time::Duration;

/// Longest body of a form.
const LONGEST: usize = 16 << 10;
/// Most fields in it.
const MOST: usize = 16;
/// How long it may take to arrive.
const PATIENCE: Duration = Duration::from_secs(15);

/// The fields of a form.
pub(super) struct Form(Vec<(String, String)>);

impl Form {
    /// Reads the body of a request.
    pub(super) async fn read(body: Body) -> Result<Form, StatusCode> {
        // What says that it is too long is not waited for.
        if body.size_hint().lower() > LONGEST as u64 {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        let bytes = tokio::time::timeout(PATIENCE, to_bytes(body, LONGEST)).await;
        let bytes = bytes.map_err(|_| StatusCode::REQUEST_TIMEOUT)?.map_err(|_| StatusCode::PAYLOAD_TOO_LARGE)?;
        let fields: Vec<(String, String)> = form_urlencoded::parse(&bytes).into_owned().take(MOST + 1).collect();
        if fields.len() > MOST { Err(StatusCode::BAD_REQUEST) } else { Ok(Form(fields)) }
    }

    /// A field that is there once; nothing where it is missing or ambiguous.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        let mut found = self.0.iter().filter(|(key, _)| key == name);
        let (_, value) = found.next()?;
        found.next().is_none().then_some(value)
    }
}
