//! The lines of one job in the log of a session's pod, where those of others are, too.

use std::time::Duration;

use futures::{AsyncBufReadExt, TryStreamExt};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::LogParams;
use serde_json::Value;
use sluice_operator::names;

use super::{Args, has_begun, no_pod, print, readable, status};
use crate::cluster::Cluster;
use crate::error::{Error, Result, innermost};

/// How often it is looked whether the job has gone to another pod.
const LOOK: Duration = Duration::from_secs(2);

/// # Errors
/// If the job has never been given to a pod.
pub async fn run(cluster: &Cluster, args: &Args, job: &str) -> Result<()> {
    let mut from = None;
    loop {
        let deployment = cluster.deployment(job).await?;
        let pod = cluster.place(&deployment).await?.pods.into_iter().find(has_begun);
        let Some(pod) = pod else {
            if !args.follow {
                return Err(no_pod(&deployment));
            }
            tokio::time::sleep(LOOK).await;
            continue;
        };
        let log = Log { cluster, pod: &pod, job };
        let lines = log.lines(false).await?;
        let at = lines.at;
        let shown = match from {
            // Nothing of it has been shown: neither what it said here before.
            None => args.cut(lines.of_job, &log).await?,
            Some(from) => lines.of_job.into_iter().filter(|(time, _)| *time > from).map(|(_, line)| line).collect(),
        };
        let mut stdout = std::io::stdout().lock();
        shown.iter().for_each(|line| print(&mut stdout, &args.drawn(job, line)));
        if !args.follow {
            return Ok(());
        }
        drop(stdout);
        from = Some(log.follow(args, at.or(from).unwrap_or_else(Timestamp::now)).await?);
    }
}

impl Args {
    /// What was asked for of all that the job has said in a container.
    async fn cut(&self, lines: Vec<(Timestamp, String)>, log: &Log<'_>) -> Result<Vec<String>> {
        let mut lines: Vec<String> = lines.into_iter().map(|(_, line)| line).collect();
        if self.previous {
            lines = match before_last(&lines, log.job) {
                Some(lines) => lines,
                None if status(log.pod).is_some_and(|c| c.restart_count > 0) => {
                    let all: Vec<String> = log.lines(true).await?.of_job.into_iter().map(|(_, line)| line).collect();
                    since(&all, log.job, "process ").to_vec()
                }
                None => {
                    return Err(Error::failed(format!(
                        "the process of {} has not been restarted in the pod {}",
                        log.job,
                        log.pod.name_any()
                    )));
                }
            };
        } else {
            lines = since(&lines, log.job, "submitted").to_vec();
        }
        let skip = self.tail.and_then(|n| usize::try_from(n).ok()).map_or(0, |n| lines.len().saturating_sub(n));
        Ok(lines.split_off(skip))
    }

    fn drawn(&self, job: &str, line: &str) -> String {
        if self.raw { line.to_owned() } else { readable(line.strip_prefix(&format!("[{job}] ")).unwrap_or(line)) }
    }
}

/// The log of the container that runs a job.
struct Log<'a> {
    cluster: &'a Cluster,
    pod: &'a Pod,
    job: &'a str,
}

struct Lines {
    of_job: Vec<(Timestamp, String)>,
    /// When the last line was written, whosever it is.
    at: Option<Timestamp>,
}

impl Log<'_> {
    fn params(&self) -> LogParams {
        LogParams { container: Some(names::CONTAINER.into()), timestamps: true, ..LogParams::default() }
    }

    fn failed(&self, error: &kube::Error) -> Error {
        Error::kube(&format!("read the log of {}", self.pod.name_any()), error)
    }

    /// All that there is.
    async fn lines(&self, previous: bool) -> Result<Lines> {
        let params = LogParams { previous, ..self.params() };
        let text = self.cluster.api::<Pod>().logs(&self.pod.name_any(), &params).await.map_err(|e| self.failed(&e))?;
        let all = || text.lines().filter_map(timed);
        let of_job = all().filter(|(_, line)| is_of(self.job, line)).map(|(at, line)| (at, line.to_owned())).collect();
        Ok(Lines { of_job, at: all().next_back().map(|(at, _)| at) })
    }

    /// Shows what comes, until the pod's log ends or the job has gone elsewhere; when that was.
    async fn follow(&self, args: &Args, from: Timestamp) -> Result<Timestamp> {
        // It is in whole seconds.
        let params = LogParams { follow: true, since_time: Some(from), ..self.params() };
        let stream = self.cluster.api::<Pod>().log_stream(&self.pod.name_any(), &params).await.map_err(|e| self.failed(&e))?;
        let (mut lines, mut at) = (stream.lines(), from);
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                line = lines.try_next() => match line {
                    Ok(Some(line)) => {
                        let Some((time, line)) = timed(&line).filter(|(time, _)| *time > at) else { continue };
                        at = time;
                        if is_of(self.job, line) {
                            print(&mut std::io::stdout().lock(), &args.drawn(self.job, line));
                        }
                    }
                    Ok(None) => break,
                    Err(error) => {
                        eprintln!("# the log of {} broke off: {}", self.pod.name_any(), innermost(&error));
                        break;
                    }
                },
                _ = look.tick() => {
                    let deployment = self.cluster.deployment(self.job).await?;
                    if deployment.status.and_then(|s| s.worker).is_some_and(|worker| worker != self.pod.name_any()) {
                        eprintln!("--- the job has left {}", self.pod.name_any());
                        break;
                    }
                }
            }
        }
        // The pod may be gone and not told of yet.
        tokio::time::sleep(Duration::from_millis(500)).await;
        Ok(at)
    }
}

/// A line behind the time that the kubelet puts before it.
fn timed(line: &str) -> Option<(Timestamp, &str)> {
    let (time, line) = line.split_once(' ')?;
    Some((time.parse().ok()?, line))
}

/// Whether a line is the job's: the session labels what its process says, and names it in what it says itself.
fn is_of(job: &str, line: &str) -> bool {
    if line.starts_with(&format!("[{job}] ")) {
        return true;
    }
    match serde_json::from_str::<Value>(line).ok().and_then(|value| value["job"].as_str().map(str::to_owned)) {
        Some(name) => name == job,
        None => said(line, job).is_some(),
    }
}

/// What the session itself says of a job, in a line of JSON or of text.
fn said(line: &str, job: &str) -> Option<String> {
    let prefix = format!("job {job}: ");
    match serde_json::from_str::<Value>(line) {
        Ok(value) if value["job"].is_null() => value["fields"]["message"].as_str()?.strip_prefix(&prefix).map(str::to_owned),
        Err(_) if !line.starts_with('[') => line.split_once(&format!(" {prefix}")).map(|(_, text)| text.to_owned()),
        _ => None,
    }
}

fn marks(line: &str, job: &str, what: &str) -> bool {
    said(line, job).is_some_and(|text| text.starts_with(what))
}

/// From the last time on that the session said this of the job.
fn since<'a>(lines: &'a [String], job: &str, what: &str) -> &'a [String] {
    &lines[lines.iter().rposition(|line| marks(line, job, what)).unwrap_or(0)..]
}

/// What the process before the last one said, and what was said of its end.
fn before_last(lines: &[String], job: &str) -> Option<Vec<String>> {
    let starts: Vec<usize> = lines.iter().enumerate().filter(|(_, line)| marks(line, job, "process ")).map(|(n, _)| n).collect();
    let [.., from, to] = starts[..] else { return None };
    Some(lines[from..to].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(text: &str) -> String {
        format!("{{\"timestamp\":\"T\",\"level\":\"INFO\",\"fields\":{{\"message\":\"{text}\"}}}}")
    }

    fn of(job: &str, text: &str) -> String {
        own(text).replacen('{', &format!("{{\"job\":\"{job}\","), 1)
    }

    #[test]
    fn lines_of_one_job() {
        for (line, whose) in [
            (of("a", "running"), Some("a")),
            (of("ab", "job a: process 3"), Some("ab")),
            (own("job a: submitted, 1 tasks"), Some("a")),
            (own("job ab: submitted, 1 tasks"), Some("ab")),
            ("[a] text".into(), Some("a")),
            ("[ab] text".into(), Some("ab")),
            (own("http on 0.0.0.0:8081"), None),
            ("text".into(), None),
            ("T INFO sluice: job a: submitted".into(), Some("a")),
            ("[b] T INFO x: job a: submitted".into(), None),
        ] {
            for job in ["a", "ab"] {
                assert_eq!(is_of(job, &line), whose == Some(job), "{job}: {line}");
            }
        }
        assert_eq!(timed("2026-11-21T12:00:00.123456789Z {\"a\": 1}").map(|(_, line)| line), Some("{\"a\": 1}"));
        assert_eq!(timed("no time"), None);
    }

    #[test]
    fn submissions_and_processes() {
        let lines = [
            own("job a: submitted, 1 tasks"),
            own("job a: process 1 on port 2"),
            of("a", "old"),
            own("job a: submitted, 1 tasks"),
            own("job a: process 3 on port 2"),
            of("a", "job a: process 9 is what it prints itself"),
            own("job a: its process ended with exit code 1"),
            own("job a: process 4 on port 2"),
            of("a", "new"),
        ];
        assert_eq!(since(&lines, "a", "submitted"), &lines[3..]);
        assert_eq!(since(&lines[..3], "a", "process "), &lines[1..3]);
        assert_eq!(since(&lines[4..5], "a", "submitted"), &lines[4..5], "the beginning is not there any more");
        assert_eq!(before_last(&lines, "a"), Some(lines[4..7].to_vec()));
        assert_eq!(before_last(&lines[..3], "a"), None);
    }
}
