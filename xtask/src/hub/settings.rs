//! Where the hub and its cache are: the environment variables of Hugging Face's own tools, with their meaning there.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use hf_hub::Cache;
use ureq::http::Uri;

/// The hub's own address.
const ENDPOINT: &str = "https://huggingface.co";

/// What the environment decides.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// `HF_ENDPOINT`, without a slash at its end.
    pub(crate) endpoint: String,
    /// `HF_HUB_CACHE`, else `HF_HOME/hub`, else `~/.cache/huggingface/hub`.
    pub(crate) cache: Cache,
    /// `HF_TOKEN`, else the file that `huggingface-cli login` writes. Sent to the endpoint only.
    pub(crate) token: Option<String>,
    /// `HF_HUB_OFFLINE`: no request is made.
    pub(crate) offline: bool,
}

impl Settings {
    /// From the environment.
    ///
    /// # Errors
    /// A variable cannot be used; it is named.
    pub(crate) fn from_env() -> Result<Self> {
        // An empty variable counts as none, as in Hugging Face's tools.
        Self::read(|name| std::env::var(name).ok().filter(|value| !value.trim().is_empty()))
    }

    fn read(var: impl Fn(&str) -> Option<String>) -> Result<Self> {
        let endpoint = var("HF_ENDPOINT").unwrap_or_else(|| ENDPOINT.to_owned());
        let endpoint = endpoint.trim().trim_end_matches('/').to_owned();
        origin(&endpoint).with_context(|| format!("HF_ENDPOINT = {endpoint:?}"))?;
        let home = home(&var)?;
        let cache = match var("HF_HUB_CACHE").or_else(|| var("HUGGINGFACE_HUB_CACHE")) {
            Some(dir) => PathBuf::from(dir),
            None => home.join("hub"),
        };
        let cache = std::path::absolute(&cache).unwrap_or(cache);
        let token = match var("HF_TOKEN").or_else(|| var("HUGGING_FACE_HUB_TOKEN")) {
            Some(token) => Some(token),
            None => token_file(&var("HF_TOKEN_PATH").map_or(home.join("token"), PathBuf::from)),
        };
        let token = token.map(|token| token.trim().to_owned()).filter(|token| !token.is_empty());
        if token.iter().any(|t| !t.chars().all(|c| c.is_ascii_graphic())) {
            bail!(
                "the Hugging Face token (HF_TOKEN or the token file) has characters no token has"
            );
        }
        let offline = var("HF_HUB_OFFLINE").is_some_and(|value| {
            ["1", "ON", "YES", "TRUE"].contains(&value.trim().to_ascii_uppercase().as_str())
        });
        Ok(Self { endpoint, cache: Cache::new(cache), token, offline })
    }

    /// Whether a request to `url` may carry the token: the same scheme, host and port as the endpoint.
    pub(crate) fn is_endpoint(&self, url: &str) -> bool {
        matches!((origin(url), origin(&self.endpoint)), (Ok(a), Ok(b)) if a == b)
    }
}

fn home(var: &impl Fn(&str) -> Option<String>) -> Result<PathBuf> {
    if let Some(home) = var("HF_HOME") {
        return Ok(PathBuf::from(home));
    }
    let cache = match var("XDG_CACHE_HOME") {
        Some(dir) => PathBuf::from(dir),
        None => var("HOME")
            .or_else(|| var("USERPROFILE"))
            .map(|home| Path::new(&home).join(".cache"))
            .context("no home directory to keep downloads in: set HF_HOME to a folder")?,
    };
    Ok(cache.join("huggingface"))
}

fn token_file(path: &Path) -> Option<String> {
    std::fs::read_to_string(path).ok()
}

/// `(scheme, host, port)` of an http or https address.
///
/// # Errors
/// It is neither.
pub(crate) fn origin(url: &str) -> Result<(String, String, u16)> {
    let uri: Uri = url.parse().with_context(|| format!("{url:?} is no address"))?;
    let port = match uri.scheme_str() {
        Some("https") => 443,
        Some("http") => 80,
        _ => bail!("{url:?} does not begin with http:// or https://"),
    };
    let host = uri.host().with_context(|| format!("{url:?} names no host"))?;
    let scheme = uri.scheme_str().unwrap_or_default().to_owned();
    Ok((scheme, host.to_ascii_lowercase(), uri.port_u16().unwrap_or(port)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn settings(vars: &[(&str, &str)]) -> Result<Settings> {
        Settings::read(|name| {
            vars.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).to_owned())
        })
    }

    #[test]
    fn variables_mean_what_they_mean_in_hugging_faces_tools() {
        let all = settings(&[
            ("HOME", "/home/u"),
            ("HF_ENDPOINT", "https://mirror.example/"),
            ("HF_HOME", "/big"),
            ("HF_TOKEN", " hf_x "),
            ("HF_HUB_OFFLINE", "True"),
        ])
        .unwrap();
        assert_eq!(all.endpoint, "https://mirror.example");
        assert_eq!(all.cache.path(), Path::new("/big/hub"));
        assert_eq!((all.token.as_deref(), all.offline), (Some("hf_x"), true));
        let none = settings(&[("HOME", "/home/u"), ("HF_HUB_OFFLINE", "0")]).unwrap();
        assert_eq!(none.endpoint, ENDPOINT);
        assert_eq!(none.cache.path(), Path::new("/home/u/.cache/huggingface/hub"));
        assert!(none.token.is_none() && !none.offline);
        let cache = settings(&[("HF_HOME", "/big"), ("HF_HUB_CACHE", "/other")]).unwrap();
        assert_eq!(cache.cache.path(), Path::new("/other"));
        let xdg = settings(&[("XDG_CACHE_HOME", "/x")]).unwrap();
        assert_eq!(xdg.cache.path(), Path::new("/x/huggingface/hub"));
    }

    #[test]
    fn unusable_values_are_named() {
        let error = |vars: &[(&str, &str)]| format!("{:#}", settings(vars).unwrap_err());
        assert!(error(&[("HF_HOME", "/b"), ("HF_ENDPOINT", "ftp://x")]).contains("HF_ENDPOINT"));
        assert!(error(&[("HF_HOME", "/b"), ("HF_TOKEN", "a b")]).contains("HF_TOKEN"));
        assert!(error(&[]).contains("HF_HOME"));
    }

    #[test]
    fn the_token_belongs_to_one_origin() {
        let set = settings(&[("HF_HOME", "/b"), ("HF_ENDPOINT", "https://Hub.example")]).unwrap();
        assert!(set.is_endpoint("https://hub.example:443/a/b"));
        assert!(!set.is_endpoint("http://hub.example/a"));
        assert!(!set.is_endpoint("https://hub.example:8443/a"));
        assert!(!set.is_endpoint("https://hub.example.evil.com/a"));
        assert!(!set.is_endpoint("https://hub.example@evil.com/a"));
    }
}
