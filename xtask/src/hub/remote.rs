//! The hub over HTTP: what it states about a file, and the bytes of the file from wherever it sends us.
//!
//! A large file is a redirect from the hub to another host. What the hub states stands on the redirect (`X-Repo-Commit`,
//! `X-Linked-Etag`, `X-Linked-Size`); the other host gets neither the token nor the last word on the checksum.

use std::time::Duration;

use anyhow::{Error, Result, anyhow};
use ureq::http::{HeaderMap, Response, StatusCode};
use ureq::{Agent, Body};

use super::Address;
use super::checksum::{Checksum, is_hex};
use super::settings::{Settings, origin};
use crate::exit::Failed;

/// Redirects followed before giving up.
const REDIRECTS: usize = 5;
/// The longest wait a server can ask for.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// How long to bear with a hub.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Patience {
    /// Tries after the first one that bring nothing new, before giving up.
    pub(crate) retries: u32,
    /// A connection is given up when silent for this long.
    pub(crate) silence: Duration,
}

/// Why a request brought nothing.
pub(super) enum Failure {
    /// The same request would fail again.
    Final(Error),
    /// Worth another try, after this long if the server said so.
    Passing(Error, Option<Duration>),
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Final(error)
    }
}

/// What the hub states about a file.
#[derive(Clone, Debug)]
pub(super) struct Stated {
    pub(super) commit: String,
    pub(super) checksum: Checksum,
    /// Bytes.
    pub(super) size: u64,
    /// Where the bytes are now; such addresses expire.
    pub(super) location: String,
}

/// The bytes of a file from some offset on.
pub(super) struct Tail {
    /// 0 when the server ignores ranges.
    pub(super) offset: u64,
    /// Length that the server announces, if it does.
    pub(super) length: Option<u64>,
    pub(super) body: Body,
}

/// The way to the hub.
pub(super) struct Remote<'a> {
    settings: &'a Settings,
    agent: Agent,
}

impl<'a> Remote<'a> {
    pub(super) fn new(settings: &'a Settings, patience: Patience) -> Self {
        let config = Agent::config_builder()
            .user_agent(concat!("dmmi-xtask/", env!("CARGO_PKG_VERSION")))
            .accept_encoding("identity") // lengths and checksums are those of the file
            .max_redirects(0)
            .http_status_as_error(false)
            .timeout_resolve(Some(patience.silence))
            .timeout_connect(Some(patience.silence))
            .timeout_recv_response(Some(patience.silence))
            .timeout_per_read(Some(patience.silence))
            .build();
        Self { settings, agent: config.new_agent() }
    }

    /// Asks the hub about a file.
    pub(super) fn state(&self, address: &Address) -> Result<Stated, Failure> {
        let repo = address.repository();
        let (endpoint, revision) = (&self.settings.endpoint, repo.url_revision());
        let mut url = format!("{endpoint}/{}/resolve/{revision}/{}", repo.url(), address.file);
        let (mut commit, mut size, mut checksum) = (None, None, None);
        for _ in 0..=REDIRECTS {
            let response = self.send(&url, true, 0)?;
            self.check(&response, &url, Some(address))?;
            let headers = response.headers();
            commit = commit.or_else(|| text(headers, "x-repo-commit"));
            size = size.or_else(|| number(headers, "x-linked-size"));
            checksum = checksum.or_else(|| text(headers, "x-linked-etag"));
            let next = redirect(&response, &url)?;
            let foreign = next.as_ref().is_some_and(|next| !self.settings.is_endpoint(next));
            if next.is_none() {
                checksum = checksum.or_else(|| text(headers, "etag"));
                size = size.or_else(|| number(headers, "content-length"));
            }
            let complete = checksum.is_some() && size.is_some() && commit.is_some();
            match next {
                Some(next) if !complete && !foreign => url = next,
                next => {
                    let location = next.unwrap_or(url);
                    return Ok(stated(address, commit, size, checksum, location)?);
                }
            }
        }
        Err(anyhow!("{url}: more than {REDIRECTS} redirects").into())
    }

    /// The bytes of a file from `offset` on, or from 0.
    pub(super) fn open(&self, location: &str, offset: u64) -> Result<Tail, Failure> {
        let mut url = location.to_owned();
        for _ in 0..=REDIRECTS {
            let response = self.send(&url, false, offset)?;
            if response.status() == StatusCode::RANGE_NOT_SATISFIABLE {
                let why = anyhow!("{}: nothing after byte {offset}", short(&url));
                return Err(Failure::Passing(why, None));
            }
            self.check(&response, &url, None)?;
            if let Some(next) = redirect(&response, &url)? {
                url = next;
                continue;
            }
            let length = number(response.headers(), "content-length");
            let range = text(response.headers(), "content-range");
            let offset = match (response.status(), range) {
                (StatusCode::PARTIAL_CONTENT, Some(range)) => {
                    start_of(&range).filter(|start| *start == offset).ok_or_else(|| {
                        anyhow!("{}: asked from byte {offset}, got {range}", short(&url))
                    })?
                }
                _ => 0,
            };
            return Ok(Tail { offset, length, body: response.into_body() });
        }
        Err(anyhow!("{}: more than {REDIRECTS} redirects", short(location)).into())
    }

    fn send(&self, url: &str, head: bool, offset: u64) -> Result<Response<Body>, Failure> {
        let mut request = if head { self.agent.head(url) } else { self.agent.get(url) };
        if offset > 0 {
            request = request.header("Range", format!("bytes={offset}-"));
        }
        if let Some(token) = &self.settings.token
            && self.settings.is_endpoint(url)
        {
            request = request.header("Authorization", format!("Bearer {token}"));
        }
        request.call().map_err(|error| {
            let passing = matches!(
                error,
                ureq::Error::Io(_)
                    | ureq::Error::Timeout(_)
                    | ureq::Error::HostNotFound
                    | ureq::Error::ConnectionFailed
                    | ureq::Error::Protocol(_)
            );
            let why = Error::new(error);
            let why = why.context(Failed(format!("no answer from {}", short(url))));
            if passing { Failure::Passing(why, None) } else { Failure::Final(why) }
        })
    }

    /// Success and redirects pass. `address` is given when the hub itself answers.
    fn check(
        &self,
        response: &Response<Body>,
        url: &str,
        address: Option<&Address>,
    ) -> Result<(), Failure> {
        let status = response.status();
        if status.is_success() || status.is_redirection() {
            return Ok(());
        }
        let headers = response.headers();
        let said = text(headers, "x-error-message").map_or_else(String::new, |m| format!(" ({m})"));
        let error = |remedy: &str| {
            let what = address
                .map_or_else(|| short(url), |a| format!("{} at {}", a, self.settings.endpoint));
            anyhow!("{what}: the server answers {status}{said}{remedy}")
        };
        let token = if self.settings.token.is_some() { "the token given" } else { "no token" };
        Err(match status.as_u16() {
            408 | 425 | 429 | 500..=599 => {
                Failure::Passing(error(""), text(headers, "retry-after").and_then(|t| wait(&t)))
            }
            // A signed address that expired; the next try asks the hub for a new one.
            401 | 403 | 404 if address.is_none() => Failure::Passing(error(""), None),
            401 => Failure::Final(error(&format!(
                "; with {token} the repository cannot be seen: check its name, or set HF_TOKEN to a token that may read it"
            ))),
            403 => Failure::Final(error(&format!(
                "; {token} is not allowed to read it: accept the repository's terms on its page, then set HF_TOKEN"
            ))),
            404 => Failure::Final(error(match text(headers, "x-error-code").as_deref() {
                Some("EntryNotFound") => "; the revision has no such file",
                Some("RevisionNotFound") => "; there is no such revision",
                _ => "; check repository, revision and file in the list it comes from",
            })),
            _ => Failure::Final(error("")),
        })
    }
}

fn stated(
    address: &Address,
    commit: Option<String>,
    size: Option<u64>,
    checksum: Option<String>,
    location: String,
) -> Result<Stated> {
    let is_commit = |text: &String| text.len() == 40 && is_hex(text);
    let commit = commit
        .filter(is_commit)
        .or_else(|| Some(address.revision.clone()).filter(is_commit))
        .ok_or_else(|| {
            anyhow!("{address}: the hub names no commit (X-Repo-Commit); is HF_ENDPOINT a hub?")
        })?;
    let checksum = checksum.as_deref().and_then(Checksum::from_etag).ok_or_else(|| {
        anyhow!("{address}: the hub states no checksum (X-Linked-Etag or ETag), so the file could not be verified")
    })?;
    let size = size.ok_or_else(|| anyhow!("{address}: the hub states no size"))?;
    Ok(Stated { commit: commit.to_ascii_lowercase(), checksum, size, location })
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    Some(headers.get(name)?.to_str().ok()?.trim().to_owned())
}

fn number(headers: &HeaderMap, name: &str) -> Option<u64> {
    text(headers, name)?.parse().ok()
}

/// Where a redirect leads, as a full address; `None` for other answers.
fn redirect(response: &Response<Body>, url: &str) -> Result<Option<String>> {
    if !response.status().is_redirection() {
        return Ok(None);
    }
    let to = text(response.headers(), "location")
        .ok_or_else(|| anyhow!("{}: a redirect to nowhere", short(url)))?;
    if to.starts_with('/') && !to.starts_with("//") {
        let end = url.find("://").map_or(0, |at| at + 3);
        let root = url[end..].find('/').map_or(url, |at| &url[..end + at]);
        return Ok(Some(format!("{root}{to}")));
    }
    let (from, target) = (origin(url)?, origin(&to)?);
    if from.0 == "https" && target.0 == "http" {
        return Err(anyhow!("{}: a redirect from https to {}", short(url), short(&to)));
    }
    Ok(Some(to))
}

/// Without the query, which may be a signature.
fn short(url: &str) -> String {
    url.split(['?', '#']).next().unwrap_or(url).to_owned()
}

/// `bytes 100-199/200` to 100.
fn start_of(range: &str) -> Option<u64> {
    range.trim().strip_prefix("bytes ")?.split('-').next()?.trim().parse().ok()
}

/// `Retry-After` in seconds. The form with a date is not used by the hub; it falls back to our own waits.
fn wait(text: &str) -> Option<Duration> {
    text.parse().ok().map(|seconds| Duration::from_secs(seconds).min(LONGEST_WAIT))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn headers_are_read() {
        assert_eq!(start_of("bytes 100-199/200"), Some(100));
        assert_eq!(start_of("bytes */200"), None);
        assert_eq!(wait("7"), Some(Duration::from_secs(7)));
        assert_eq!(wait("9999999"), Some(LONGEST_WAIT));
        assert_eq!(wait("Wed, 21 Oct 2026 07:28:00 GMT"), None);
        assert_eq!(short("https://a/b?Signature=secret"), "https://a/b");
    }

    #[test]
    fn redirects_are_resolved_and_never_leave_tls() {
        let to = |url: &str, location: &str| {
            let response = Response::builder()
                .status(302)
                .header("Location", location)
                .body(Body::builder().data(""))
                .unwrap();
            redirect(&response, url)
        };
        assert_eq!(to("http://h:1/a/b", "/c/d").unwrap().unwrap(), "http://h:1/c/d");
        assert_eq!(to("http://h:1/a", "http://g/c").unwrap().unwrap(), "http://g/c");
        assert!(to("https://h/a", "http://h/a").is_err());
        assert!(to("https://h/a", "file:///etc/passwd").is_err());
    }
}
