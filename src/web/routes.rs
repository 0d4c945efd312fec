//! What can be asked of the page, and who may ask it.
//!
//! A GET only shows. A POST has to come from the page itself: by its origin, by a token in its form and by its cookie,
//! which browsers send for no other site. A request for a foreign name is none of ours.

use super::door::Entrance;
use super::form::Form;
use super::page::{self, Page};
use super::{Site, parcel};
use crate::model::desk::{Question, Refused, Reply, Sheet};
use crate::model::secret::Secret;
use crate::t;
use crate::words::{self, Language};
use axum::body::Body;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Extension, Router};
use maud::Markup;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

const COOKIE: &str = "__Host-lifeboat";

/// On every answer. `same-origin` and not `no-referrer`: without a referrer, browsers hide a form's origin too.
const HEADERS: [(HeaderName, &str); 8] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "same-origin"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    (HeaderName::from_static("permissions-policy"), "camera=(), geolocation=(), microphone=(), payment=(), usb=()"),
];

pub(super) fn router(site: Arc<Site>) -> Router {
    Router::new()
        .route("/", get(show))
        .route("/now", get(now))
        .route("/code", post(enter))
        .route("/answer", post(answer))
        .route("/leave", post(leave))
        .route("/upload", post(parcel::upload).layer(DefaultBodyLimit::disable()))
        .route("/download", post(parcel::download))
        .route("/report.txt", get(report))
        .route("/page.css", get(async || file("text/css; charset=utf-8", include_str!("page.css"))))
        .route("/page.js", get(async || file("text/javascript; charset=utf-8", include_str!("page.js"))))
        .route("/icon.svg", get(async || file("image/svg+xml", include_str!("icon.svg"))))
        .fallback(async || plain(StatusCode::NOT_FOUND, "There is nothing here. The page is at /"))
        .method_not_allowed_fallback(async || plain(StatusCode::METHOD_NOT_ALLOWED, "This cannot be done here."))
        .layer(middleware::from_fn_with_state(Arc::clone(&site), guard))
        .with_state(site)
}

/// Looks at every request before anything else does, and puts the headers on every answer.
async fn guard(State(site): State<Arc<Site>>, request: Request, next: Next) -> Response {
    let mut response = match refusal(&site, &request) {
        Some(refusal) => refusal,
        None => next.run(request).await,
    };
    for (name, value) in HEADERS {
        response.headers_mut().insert(name, HeaderValue::from_static(value));
    }
    response
}

fn refusal(site: &Site, request: &Request) -> Option<Response> {
    let headers = request.headers();
    let Some(host) = one(headers, header::HOST) else {
        return Some(plain(StatusCode::BAD_REQUEST, "The request names no host."));
    };
    if !is_ours(host, &site.host) {
        return Some(plain(StatusCode::MISDIRECTED_REQUEST, "This is not the host that was asked for."));
    }
    if request.method() == Method::GET || request.method() == Method::HEAD {
        return None;
    }
    let own = format!("https://{host}");
    let is_from_here = match (headers.contains_key(header::ORIGIN), one(headers, header::ORIGIN)) {
        (true, origin) => origin.is_some_and(|origin| origin.eq_ignore_ascii_case(&own)),
        // Browsers without origins say where the form was.
        (false, _) => one(headers, header::REFERER).is_some_and(|from| from.starts_with(&format!("{own}/"))),
    };
    let is_same = one(headers, HeaderName::from_static("sec-fetch-site")).is_none_or(|site| site == "same-origin");
    (!is_from_here || !is_same).then(|| plain(StatusCode::FORBIDDEN, "This does not come from the page itself."))
}

/// Whether a name in a request can only mean this machine: its name on the local network, or an address. No name that
/// somebody else could point at this machine.
pub(super) fn is_ours(host: &str, own: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let is_address = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(ip) => ip.parse::<std::net::Ipv6Addr>().is_ok(),
        None => name.parse::<std::net::Ipv4Addr>().is_ok(),
    };
    is_address || name.eq_ignore_ascii_case(own) || name.eq_ignore_ascii_case("localhost")
}

/// A header that is there once.
fn one(headers: &HeaderMap, name: HeaderName) -> Option<&str> {
    let mut all = headers.get_all(name).iter();
    let value = all.next()?.to_str().ok()?;
    all.next().is_none().then_some(value)
}

/// The token for the forms of the session that a request belongs to.
pub(super) fn session(site: &Site, headers: &HeaderMap) -> Option<String> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut values = cookies.flat_map(|all| all.split(';')).filter_map(|one| one.trim().split_once('='));
    let (_, value) = values.find(|(name, _)| *name == COOKIE)?;
    site.door().knows(value).map(str::to_owned)
}

async fn show(State(site): State<Arc<Site>>, headers: HeaderMap) -> Response {
    let language = language(&headers);
    match session(&site, &headers) {
        Some(token) => {
            let remark = site.remark().take();
            html(page::dialogue(&Page { desk: &site.desk, token: &token, language, remark: remark.as_deref() }))
        }
        None => html(page::code(language, None, site.door().is_taken())),
    }
}

/// What moves while the page stands still, for its script.
async fn now(State(site): State<Arc<Site>>, headers: HeaderMap) -> Response {
    if session(&site, &headers).is_none() {
        return plain(StatusCode::FORBIDDEN, "The session is over.");
    }
    let mark = HeaderValue::from(page::mark(&site.desk));
    let mut response = html(page::work(&site.desk, language(&headers)));
    response.headers_mut().insert(HeaderName::from_static("x-mark"), mark);
    response
}

async fn enter(
    State(site): State<Arc<Site>>,
    Extension(from): Extension<SocketAddr>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let form = match Form::read(body).await {
        Ok(form) => form,
        Err(status) => return plain(status, "The form could not be read."),
    };
    let language = language(&headers);
    let entrance = site.door().enter(form.field("code").unwrap_or_default(), sender(from.ip()), Instant::now());
    let is_taken = site.door().is_taken();
    match entrance {
        Ok(Entrance::Open(cookie)) => {
            speak(&site, language);
            let cookie = format!("{COOKIE}={cookie}; Path=/; Secure; HttpOnly; SameSite=Strict");
            let mut response = back();
            if let Ok(cookie) = HeaderValue::try_from(cookie) {
                response.headers_mut().insert(header::SET_COOKIE, cookie);
            }
            response
        }
        Ok(Entrance::Wrong) => {
            let remark = t!("This is not the code. A code works once; the one that counts now stands on the consoles.");
            (StatusCode::FORBIDDEN, html(page::code(language, Some(&remark), is_taken))).into_response()
        }
        Ok(Entrance::Wait(seconds)) => {
            let remark = t!("Too many wrong codes. Please wait {seconds} s and try again.", seconds = seconds);
            let page = html(page::code(language, Some(&remark), is_taken));
            (StatusCode::TOO_MANY_REQUESTS, [(header::RETRY_AFTER, seconds.to_string())], page).into_response()
        }
        Err(_) => plain(StatusCode::SERVICE_UNAVAILABLE, "The system gives no random numbers yet. Please try again."),
    }
}

async fn answer(State(site): State<Arc<Site>>, headers: HeaderMap, body: Body) -> Response {
    let form = match entitled(&site, &headers, body).await {
        Ok(form) => form,
        Err(refusal) => return refusal,
    };
    let number = form.field("number").and_then(|number| number.parse().ok());
    let sheet = site.desk.open().filter(|sheet| Some(sheet.number) == number);
    let taken = match &sheet {
        None => Err(Refused::Late),
        Some(sheet) => reply(sheet, &form)
            .ok_or(Refused::Unfit)
            .and_then(|reply| site.desk.answer(sheet.number, reply, page::NAME)),
    };
    answered(&site, taken)
}

/// Back to the page, which tells an answer that was not taken.
pub(super) fn answered(site: &Site, taken: Result<(), Refused>) -> Response {
    if let Err(refused) = taken {
        let remark = match refused {
            Refused::Late => t!("That question was answered already. This is where the dialogue stands now."),
            Refused::Unfit => t!("That was no answer. Please try again."),
        };
        *site.remark() = Some(remark);
    }
    back()
}

/// What a form means as an answer.
fn reply(sheet: &Sheet, form: &Form) -> Option<Reply> {
    if form.field("stop").is_some() {
        return Some(Reply::Stop);
    }
    if form.field("back").is_some() {
        return Some(Reply::Back);
    }
    let answer = form.field("answer")?;
    match &sheet.question {
        Question::Read(_) => Some(Reply::Read),
        Question::Choice(_) => answer.parse().ok().map(Reply::Choice),
        Question::Words(_) => Some(Reply::Words(answer.to_owned())),
        Question::Secret(_) => Some(Reply::Secret(Secret::new(answer.as_bytes().to_vec()))),
        Question::File(_) | Question::Taker(..) => None,
    }
}

async fn leave(State(site): State<Arc<Site>>, headers: HeaderMap, body: Body) -> Response {
    if let Err(refusal) = entitled(&site, &headers, body).await {
        return refusal;
    }
    site.door().leave();
    let mut response = back();
    let gone = HeaderValue::from_static("__Host-lifeboat=; Path=/; Secure; HttpOnly; SameSite=Strict; Max-Age=0");
    response.headers_mut().insert(header::SET_COOKIE, gone);
    response
}

/// The form of a request that belongs to the session, by its cookie and by the token in the form.
pub(super) async fn entitled(site: &Site, headers: &HeaderMap, body: Body) -> Result<Form, Response> {
    let forbidden = || plain(StatusCode::FORBIDDEN, "This form does not belong to the session. Please go back to /");
    if session(site, headers).is_none() {
        return Err(forbidden());
    }
    let form = Form::read(body).await.map_err(|status| plain(status, "The form could not be read."))?;
    if form.field("token").is_some_and(|token| site.door().made(token)) { Ok(form) } else { Err(forbidden()) }
}

async fn report(State(site): State<Arc<Site>>, headers: HeaderMap) -> Response {
    if session(&site, &headers).is_none() {
        return plain(StatusCode::FORBIDDEN, "The session is over.");
    }
    let kind = (header::CONTENT_TYPE, "text/plain; charset=utf-8");
    let name = (header::CONTENT_DISPOSITION, "attachment; filename=\"lifeboat-report.txt\"");
    ([kind, name], page::report(&site.desk)).into_response()
}

/// Whom wrong codes are counted for: an address, and of the long ones the part that a network gives out.
fn sender(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(ip) => IpAddr::V6((u128::from(ip) >> 64 << 64).into()),
        ip => ip,
    }
}

/// The language of the page: the one that was chosen, else the one that the browser prefers of those that there are.
fn language(headers: &HeaderMap) -> &'static str {
    let preferred = || {
        let wishes = one(headers, header::ACCEPT_LANGUAGE)?;
        wishes.split(',').find_map(|wish| Language::of(wish.split(';').next().unwrap_or_default().trim()))
    };
    // Nobody chose one yet: what is said is in English then.
    words::chosen().or_else(preferred).map_or("en", Language::code)
}

/// Answers the question for the language as the browser does that came in, where it is still open.
fn speak(site: &Site, language: &str) {
    let Some(sheet) = site.desk.open() else { return };
    let Question::Choice(choice) = &sheet.question else { return };
    let at = choice.options.iter().position(|option| option.names.iter().any(|name| name == language));
    if let (Some(at), "language") = (at, choice.screen.id) {
        let _ = site.desk.answer(sheet.number, Reply::Choice(at), page::NAME);
    }
}

fn file(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind)], text).into_response()
}

fn html(page: Markup) -> Response {
    Html(page.into_string()).into_response()
}

pub(super) fn plain(status: StatusCode, text: &'static str) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], format!("{text}\n")).into_response()
}

fn back() -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, "/")]).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_names_that_nobody_else_can_point_here_are_ours() {
        let own = "freedombox-recovery.local";
        for host in [
            "freedombox-recovery.local",
            "FreedomBox-Recovery.LOCAL:443",
            "192.168.1.7",
            "[fe80::1]:8443",
            "localhost:1",
        ] {
            assert!(is_ours(host, own), "{host}");
        }
        for host in [
            "",
            "example.org",
            "192.168.1.7.example.org",
            "freedombox-recovery.local.example.org",
            "[::1",
            "a b",
            ":443",
        ] {
            assert!(!is_ours(host, own), "{host}");
        }
    }

    #[test]
    fn a_network_of_long_addresses_is_one_sender() {
        let of = |ip: &str| sender(ip.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.168.1.7"), of("192.168.1.7"));
    }
}
