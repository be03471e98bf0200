//! The status page: the cluster at a glance, in a browser.
//!
//! Contract: the page changes nothing, and loads nothing but these three files and the events of this node: it works where the
//! internet does not. While no page is open, other nodes are asked nothing. Open pages share one question to each node every
//! [`ASK_EVERY`].
//!
//! Caveat: whoever reaches the port sees addresses, figures and events, no values, and keys only with `status_page_keys: true`.

mod history;
mod view;

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use futures_util::{Stream, StreamExt as _, stream};
use serde_json::{Value as Json, json};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::auth::Needs;
use crate::service::Service;

use history::{History, SAMPLE_EVERY};

/// How often the nodes are asked while a page is open.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// How often the node itself is looked at for events.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Each open page holds a connection of the monitoring port, and probes need some.
const PAGES_MAX: usize = 16;

const HTML: &str = include_str!("index.html");
const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
/// The page runs its own script alone, and nobody shows it inside another page.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// What open pages share.
pub(super) struct Page {
    service: Arc<Service>,
    history: History,
    /// The latest state, for all open pages.
    state: watch::Sender<Arc<str>>,
    /// Told when a page is opened.
    opened: Notify,
    places: Arc<Semaphore>,
    shutdown: CancellationToken,
}

impl Page {
    /// The page of the node of `service`, whose last hour is recorded from now on until `shutdown`.
    pub(super) fn start(service: &Arc<Service>, shutdown: CancellationToken) -> Arc<Self> {
        let page = Arc::new(Self {
            service: service.for_this_node(),
            history: History::default(),
            state: watch::Sender::new("".into()),
            opened: Notify::new(),
            places: Arc::new(Semaphore::new(PAGES_MAX)),
            shutdown,
        });
        tokio::spawn(Arc::clone(&page).record());
        tokio::spawn(Arc::clone(&page).ask());
        page
    }

    /// Records figures and events of this node.
    async fn record(self: Arc<Self>) {
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let looks_for_each_sample = SAMPLE_EVERY.as_secs() / LOOK_EVERY.as_secs();
        for number in 0_u64.. {
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                _ = look.tick() => {}
            }
            let node = self.service.node();
            let status = tokio::time::timeout(LOOK_EVERY, node.status()).await;
            match status {
                Ok(Ok(status)) => self.history.look(Some((&status, &node.layout()))),
                Ok(Err(_ended)) => return,
                Err(_) => self.history.look(None),
            }
            if number.is_multiple_of(looks_for_each_sample) {
                self.history.sample(node.metrics());
                // Old ones make room, or a slow hour would hide what is slow after it.
                self.service.key_figures().forget_old(Instant::now());
            }
        }
    }

    /// Asks all nodes, for as long as a page is open.
    async fn ask(self: Arc<Self>) {
        let mut ask = tokio::time::interval(ASK_EVERY);
        ask.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut looks = view::Looks::default();
        loop {
            let viewed = self.state.receiver_count() > 0;
            tokio::select! {
                () = self.shutdown.cancelled() => return,
                _ = ask.tick(), if viewed => {}
                () = self.opened.notified(), if !viewed => continue,
            }
            let asked = tokio::select! {
                () = self.shutdown.cancelled() => return,
                asked = view::state(&self.service, &mut looks) => asked,
            };
            let mut state = asked.unwrap_or_else(|problem| json!({ "problem": problem }));
            state["events"] = self.history.events();
            state["point"] = self.history.latest();
            self.state.send_replace(state.to_string().into());
        }
    }

    /// The events of one open page: what was before, and then each state.
    fn events(
        self: &Arc<Self>,
        place: OwnedSemaphorePermit,
        viewer: Arc<Service>,
    ) -> impl Stream<Item = Result<Event, Infallible>> + use<> {
        let mut states = self.state.subscribe();
        self.opened.notify_one();
        // One that is hours old is not shown.
        states.mark_unchanged();
        let beginning = json!({ "points": self.history.points(), "step_seconds": SAMPLE_EVERY.as_secs() });
        let beginning = Event::default().event("history").retry(Duration::from_secs(2)).data(beginning.to_string());
        let shutdown = self.shutdown.clone();
        let later = stream::unfold((states, place, shutdown, viewer), async |(mut states, place, shutdown, viewer)| {
            tokio::select! {
                () = shutdown.cancelled() => return None,
                changed = states.changed() => changed.ok()?,
            }
            // Whoever was revoked meanwhile sees no more.
            viewer.enter_at("/events", Needs::Observer).ok()?;
            let state = states.borrow_and_update().to_string();
            Some((Event::default().event("state").data(state), (states, place, shutdown, viewer)))
        });
        stream::once(async { beginning }).chain(later).map(Ok)
    }
}

/// The paths of the page but `/`, which is text for those who do not ask for a page.
pub(super) fn router(page: Arc<Page>) -> Router {
    Router::new()
        .route("/page.css", get(async || file("text/css; charset=utf-8", STYLE)))
        .route("/page.js", get(async || file("text/javascript; charset=utf-8", SCRIPT)))
        .route("/events", get(events))
        .with_state(page)
}

/// Whether the reader asks for a page, as browsers do.
pub(super) fn is_asked_for(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.flat_map(|value| value.split(',')).any(|range| range.trim().starts_with("text/html"))
}

pub(super) fn html() -> Response {
    file("text/html; charset=utf-8", HTML)
}

fn file(content_type: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // A newer program has a newer page.
        (header::CACHE_CONTROL, "no-cache"),
        (header::VARY, "accept"),
    ];
    (headers, text).into_response()
}

async fn events(State(page): State<Arc<Page>>, Extension(viewer): Extension<Arc<Service>>) -> Response {
    let Ok(place) = Arc::clone(&page.places).try_acquire_owned() else {
        let problem = format!("{PAGES_MAX} status pages of this node are open already: close one\n");
        return (StatusCode::SERVICE_UNAVAILABLE, problem).into_response();
    };
    let mut response = Sse::new(page.events(place, viewer)).keep_alive(KeepAlive::default()).into_response();
    // A proxy in front passes each event on at once.
    response.headers_mut().insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

/// Milliseconds since 1970 began, for people.
fn unix_millis() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

/// A number without digits that nobody reads.
fn rounded(number: f64) -> Json {
    json!((number * 1e3).round() / 1e3)
}
