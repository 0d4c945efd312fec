//! Files between the browser and the box. They are streamed: no more than a few pieces are held in memory, and the
//! slower side sets the pace.

use super::Site;
use super::page;
use super::routes::{answered, entitled, plain, session};
use crate::model::desk::{Question, Refused, Reply};
use crate::model::pipe::{Incoming, Inlet, Outlet, pipe};
use axum::body::{Body, Bytes};
use axum::extract::multipart::{Field, MultipartError};
use axum::extract::{Multipart, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use hyper::body::{Body as HttpBody, Frame};
use std::io::{self, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, channel};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

/// How long the next piece of a file may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Longest field that is no file.
const LONGEST: usize = 256;
/// What stands around the file in the body of a form, at most.
const AROUND: u64 = 4096;

/// Takes a file for the open question. Its fields come in the order of the form: token, number, file.
pub(super) async fn upload(State(site): State<Arc<Site>>, headers: HeaderMap, mut form: Multipart) -> Response {
    let forbidden = || plain(StatusCode::FORBIDDEN, "This form does not belong to the session. Please go back to /");
    let unreadable = || plain(StatusCode::BAD_REQUEST, "The form could not be read.");
    if session(&site, &headers).is_none() {
        return forbidden();
    }
    let Ok(Some(token)) = text(&mut form, "token").await else { return unreadable() };
    if !site.door().made(&token) {
        return forbidden();
    }
    let Ok(Some(number)) = text(&mut form, "number").await else { return unreadable() };
    let number = number.parse().unwrap_or_default();
    let Ok(Ok(Some(field))) = timeout(PATIENCE, form.next_field()).await else { return unreadable() };
    let name = field.file_name().unwrap_or_default().to_owned();
    if field.name() != Some("file") || name.is_empty() {
        return answered(&site, Err(Refused::Unfit));
    }
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    let length = length.map(|length| length.saturating_sub(AROUND));
    let (inlet, content) = pipe();
    let taken = site.desk.answer(number, Reply::File(Incoming { name, length, content }), page::NAME);
    if taken.is_ok() {
        // What is broken off is told by the guide, which sees that the end is missing.
        let _ = pass_on(field, inlet).await;
    }
    answered(&site, taken)
}

/// The next field of a form, where it has this name.
async fn text(form: &mut Multipart, name: &str) -> Result<Option<String>, MultipartError> {
    let Ok(field) = timeout(PATIENCE, form.next_field()).await else { return Ok(None) };
    let Some(mut field) = field?.filter(|field| field.name() == Some(name)) else { return Ok(None) };
    let mut text = Vec::new();
    while let Ok(chunk) = timeout(PATIENCE, field.chunk()).await {
        match chunk? {
            Some(bytes) if text.len() + bytes.len() <= LONGEST => text.extend_from_slice(&bytes),
            Some(_) => return Ok(None),
            None => return Ok(String::from_utf8(text).ok()),
        }
    }
    Ok(None)
}

async fn pass_on(mut field: Field<'_>, mut inlet: Inlet) -> io::Result<()> {
    loop {
        let chunk = timeout(PATIENCE, field.chunk()).await?.map_err(io::Error::other)?;
        let Some(bytes) = chunk else { break };
        // Waits for the disk, on a thread that may wait.
        inlet = spawn_blocking(move || inlet.write_all(&bytes).map(|()| inlet)).await.map_err(io::Error::other)??;
    }
    spawn_blocking(move || inlet.finish()).await.map_err(io::Error::other)?
}

/// Sends the file that the open question offers.
pub(super) async fn download(State(site): State<Arc<Site>>, headers: HeaderMap, body: Body) -> Response {
    let form = match entitled(&site, &headers, body).await {
        Ok(form) => form,
        Err(refusal) => return refusal,
    };
    let number = form.field("number").and_then(|number| number.parse().ok()).unwrap_or_default();
    let name = match site.desk.open().map(|sheet| sheet.question.clone()) {
        Some(Question::Taker(_, name)) => name,
        _ => return answered(&site, Err(Refused::Late)),
    };
    let (inlet, outlet) = pipe();
    if let Err(refused) = site.desk.answer(number, Reply::Taker(inlet), page::NAME) {
        return answered(&site, Err(refused));
    }
    let plain: String = name.chars().filter(|c| c.is_ascii_alphanumeric() || "._-+".contains(*c)).collect();
    let name = HeaderValue::try_from(format!("attachment; filename=\"{plain}\""));
    let mut response = Body::new(Stream::of(outlet)).into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/gzip"));
    if let Ok(name) = name {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, name);
    }
    response
}

/// A body of unknown length. Where it breaks off, the connection does too, so that a browser sees a failed download.
struct Stream(Receiver<io::Result<Bytes>>);

impl Stream {
    fn of(mut outlet: Outlet) -> Stream {
        let (sender, receiver) = channel(1);
        spawn_blocking(move || {
            while let Some(piece) = outlet.piece().transpose() {
                let is_last = piece.is_err();
                if sender.blocking_send(piece.map(Bytes::from)).is_err() || is_last {
                    break;
                }
            }
        });
        Stream(receiver)
    }
}

impl HttpBody for Stream {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        self.0.poll_recv(context).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
