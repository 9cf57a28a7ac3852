//! Where requests go, and how often they are tried.

use std::time::Duration;

use sluice_batch::{Error, Result};

use super::Answer;
use crate::options::Options;

const METHODS: &[&str] = &["POST", "PUT", "PATCH"];

#[derive(Clone)]
pub(crate) struct Endpoint {
    pub url: String,
    pub method: &'static str,
    pub headers: Vec<(String, String)>,
    pub timeout: Duration,
    pub retry: Retry,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Retry {
    /// Tries of one request after the first, but for those that the service has asked for.
    pub times: u32,
    /// Between the first two tries; then twice as long each time.
    pub pause: Duration,
    pub longest: Duration,
}

impl Retry {
    /// `sink.max-retries`, `sink.retry.backoff`, `sink.retry.max-backoff`.
    ///
    /// # Errors
    /// If one is no number or no duration.
    pub fn read(options: &Options<'_>) -> Result<Self> {
        Ok(Self {
            times: options.parse("sink.max-retries", "a number")?.unwrap_or(10),
            pause: options.duration("sink.retry.backoff")?.unwrap_or(Duration::from_millis(500)),
            longest: options.duration("sink.retry.max-backoff")?.unwrap_or(Duration::from_secs(30)),
        })
    }

    /// How long to wait after `failures` failures in a row; `None`: it is given up.
    pub fn wait(&self, failures: u32) -> Option<Duration> {
        (failures <= self.times).then(|| self.pause.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(self.longest))
    }
}

impl Endpoint {
    /// `url`, `method`, `header.NAME`, `request.timeout` and the retries.
    ///
    /// # Errors
    /// If one is missing or wrong.
    pub fn read(options: &Options<'_>) -> Result<Self> {
        let url = options.required("url")?;
        let known = url.value.split_once("://").is_some_and(|(scheme, rest)| matches!(scheme, "http" | "https") && !rest.is_empty());
        // Before secrets are filled in it may be one.
        if !known && !url.value.contains("{{secret:") {
            // What follows may be secret, as the paths of webhooks are.
            return Err(Error::plan("option 'url' does not begin with http:// or https://").at(url.value_span));
        }
        let headers = options.with_prefix("header.").into_iter().map(|(name, o)| (name.to_owned(), o.value.clone())).collect();
        Ok(Self {
            url: url.value.clone(),
            method: options.choice("method", METHODS)?,
            headers,
            timeout: timeout(options)?,
            retry: Retry::read(options)?,
        })
    }

    /// The service without what may be secret in its URL.
    pub fn place(&self) -> &str {
        let (_, rest) = self.url.split_once("://").unwrap_or_default();
        let host = rest.split(['/', '?', '#']).next().unwrap_or_default();
        host.rsplit('@').next().unwrap_or(host)
    }

    /// # Errors
    /// If there is no answer; the text says why.
    pub fn send(&self, agent: &ureq::Agent, body: &[u8]) -> Result<Answer, String> {
        let request = self.request(body).map_err(|e| e.to_string())?;
        let mut answer = agent.run(request).map_err(|e| e.to_string())?;
        let retry_after = answer.headers().get("retry-after").and_then(|v| v.to_str().ok()).and_then(retry_after);
        let body = answer.body_mut().read_to_string().unwrap_or_default();
        Ok(Answer { status: answer.status().as_u16(), retry_after, body })
    }

    fn request<B>(&self, body: B) -> Result<ureq::http::Request<B>, ureq::http::Error> {
        let mut request = ureq::http::Request::builder().method(self.method).uri(&self.url);
        for (name, value) in &self.headers {
            request = request.header(name, value);
        }
        request.body(body)
    }

    pub(super) fn agent(&self) -> ureq::Agent {
        self.agent_with(ureq::tls::TlsConfig::default())
    }

    /// Sends requests over TLS of this kind.
    pub fn agent_with(&self, tls: ureq::tls::TlsConfig) -> ureq::Agent {
        let config = ureq::Agent::config_builder().timeout_global(Some(self.timeout)).http_status_as_error(false).max_redirects(0);
        config.max_redirects_will_error(false).tls_config(tls).build().new_agent()
    }

    /// # Errors
    /// If a header cannot be one. Secrets are filled in by now.
    pub fn check(&self) -> Result<()> {
        self.request(()).map(drop).map_err(|e| Error::runtime(format!("requests to {} cannot be made: {e}", self.place())))
    }
}

/// `request.timeout`: of one try.
pub(crate) fn timeout(options: &Options<'_>) -> Result<Duration> {
    Ok(options.duration("request.timeout")?.unwrap_or(Duration::from_secs(30)))
}

/// The longest that a service is waited for, whatever it says.
const LONGEST: Duration = Duration::from_secs(3600);

/// Seconds or a date (RFC 9110, 10.2.3). No time at all says nothing: our own pauses, which grow, count then.
fn retry_after(text: &str) -> Option<Duration> {
    let text = text.trim();
    let wait = if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        text.parse().map_or(LONGEST, Duration::from_secs)
    } else {
        let at = chrono::DateTime::parse_from_rfc2822(text).ok()?;
        (at.to_utc() - chrono::Utc::now()).to_std().ok()?
    };
    (!wait.is_zero()).then(|| wait.min(LONGEST))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_end() {
        let retry = Retry { times: 4, pause: Duration::from_secs(1), longest: Duration::from_secs(5) };
        let waits: Vec<_> = (1..=5).map(|n| retry.wait(n).map(|d| d.as_secs())).collect();
        assert_eq!(waits, [Some(1), Some(2), Some(4), Some(5), None]);
    }

    #[test]
    fn the_time_to_wait_is_read() {
        assert_eq!(retry_after(" 7 "), Some(Duration::from_secs(7)));
        let later = (chrono::Utc::now() + chrono::Duration::seconds(100)).to_rfc2822();
        assert!((98..=100).contains(&retry_after(&later).unwrap().as_secs()));
        for text in ["soon", "", "-1", "0", "Thu, 01 Jan 2015 00:00:00 GMT"] {
            assert_eq!(retry_after(text), None, "{text}");
        }
        for text in ["18446744073709551615", "99999999999999999999999", "Fri, 01 Jan 2100 00:00:00 GMT"] {
            assert_eq!(retry_after(text), Some(LONGEST), "{text}");
        }
    }

    #[test]
    fn a_place_has_no_secrets() {
        let retry = Retry { times: 0, pause: Duration::ZERO, longest: Duration::ZERO };
        for (url, place) in [("https://u:p@hooks.example.com:8443/T0/B0/key?x=1", "hooks.example.com:8443"), ("http://a", "a")] {
            let endpoint = Endpoint { url: url.into(), method: "POST", headers: vec![], timeout: Duration::ZERO, retry };
            assert_eq!(endpoint.place(), place);
        }
    }
}
