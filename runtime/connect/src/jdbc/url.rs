//! `jdbc:postgresql://host:port,host:port/database?parameter=value&…`, with the parameters of PostgreSQL's JDBC driver (pgJDBC).

use std::time::Duration;

use percent_encoding::percent_decode_str;
use sluice_batch::{Error, Result};
use tokio_postgres::config::{ChannelBinding, Config, LoadBalanceHosts, SslMode, TargetSessionAttrs};

use crate::options::closest;

/// Parameters that are understood; `false`: they say how pgJDBC works inside and mean nothing here.
const PARAMETERS: &[(&str, bool)] = &[
    ("user", true),
    ("password", true),
    ("ssl", true),
    ("sslmode", true),
    ("sslrootcert", true),
    ("sslcert", true),
    ("sslkey", true),
    ("sslpassword", true),
    ("connectTimeout", true),
    ("loginTimeout", true),
    ("socketTimeout", true),
    ("tcpKeepAlive", true),
    ("ApplicationName", true),
    ("currentSchema", true),
    ("options", true),
    ("targetServerType", true),
    ("loadBalanceHosts", true),
    ("channelBinding", true),
    ("reWriteBatchedInserts", false),
    ("stringtype", false),
    ("prepareThreshold", false),
    ("preparedStatementCacheQueries", false),
    ("preparedStatementCacheSizeMiB", false),
    ("binaryTransfer", false),
    ("defaultRowFetchSize", false),
    ("assumeMinServerVersion", false),
    ("tcpNoDelay", false),
    ("logUnclosedConnections", false),
    ("gssEncMode", false),
];

/// How much of the server's certificate is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verify {
    Nothing,
    /// The chain up to a known root.
    Chain,
    /// And the host's name.
    Full,
}

/// TLS as the URL wants it.
#[derive(Clone)]
pub(crate) struct Tls {
    pub verify: Verify,
    pub root: Option<String>,
    pub certificate: Option<String>,
    pub key: Option<String>,
    /// Of the key's file.
    pub password: Option<String>,
}

/// A database and how to get there.
#[derive(Clone)]
pub(crate) struct Target {
    pub config: Config,
    pub tls: Tls,
    /// `host:port/database`, for messages; never has a password in it.
    pub place: String,
    /// How long an answer may take (`socketTimeout`).
    pub answer: Option<Duration>,
    /// `currentSchema`: the search path.
    pub schema: Option<String>,
}

impl Target {
    /// Reads a URL; `user` and `password` are the table's options, which win. No error repeats the URL: it may hold a password.
    ///
    /// # Errors
    /// If it is no URL of PostgreSQL's driver, or a parameter is unknown or wrong.
    pub fn new(url: &str, user: Option<&str>, password: Option<&str>) -> Result<Self> {
        let Some(rest) = url.trim().strip_prefix("jdbc:postgresql:") else {
            let database =
                url.trim().strip_prefix("jdbc:").and_then(|r| r.split(':').next()).filter(|d| d.chars().all(char::is_alphanumeric));
            return Err(match database {
                Some(database) if !database.is_empty() => Error::unsupported(format!("the database '{database}'"))
                    .hint("connector 'jdbc' reads and writes PostgreSQL: 'url' = 'jdbc:postgresql://host:port/database'"),
                _ => Error::plan("option 'url' is no JDBC URL").hint("it is written jdbc:postgresql://host:port/database"),
            });
        };
        let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
        let (authority, database) = match path.strip_prefix("//") {
            Some(path) => path.split_once('/').unwrap_or((path, "")),
            None => ("", path.trim_start_matches('/')),
        };
        let parameters = parameters(query)?;
        let get = |name: &str| parameters.iter().rev().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        let user = user.or(get("user"));
        let database = decode(database)?;
        let database = if database.is_empty() { user.unwrap_or("postgres").to_owned() } else { database };
        let mut config = Config::new();
        let hosts = hosts(authority)?;
        for (host, port) in &hosts {
            config.host(host).port(*port);
        }
        let user = user.map_or_else(|| std::env::var("USER").unwrap_or_else(|_| "postgres".into()), str::to_owned);
        config.user(user).dbname(&database).keepalives(true);
        if let Some(password) = password.or(get("password")) {
            config.password(password);
        }
        configure(&mut config, &get)?;
        let hosts: Vec<String> = hosts.iter().map(|(h, p)| format!("{h}:{p}")).collect();
        Ok(Self {
            tls: tls(&mut config, &get)?,
            config,
            place: format!("{}/{database}", hosts.join(",")),
            answer: seconds("socketTimeout", get("socketTimeout"))?,
            schema: get("currentSchema").map(str::to_owned),
        })
    }

    /// Whether two tables are in one database, as one user.
    pub fn is_same(&self, other: &Self) -> bool {
        self.place == other.place && self.config.get_user() == other.config.get_user() && self.schema == other.schema
    }
}

/// As the driver does (`java.net.URLDecoder`): a plus is a space, too.
fn decode(text: &str) -> Result<String> {
    percent_decoded(&text.replace('+', " "))
}

fn percent_decoded(text: &str) -> Result<String> {
    let text = percent_decode_str(text).decode_utf8();
    text.map(|t| t.into_owned()).map_err(|_| Error::plan("option 'url' is not UTF-8 where it is percent-encoded"))
}

fn parameters(query: &str) -> Result<Vec<(String, String)>> {
    let mut found: Vec<(String, String)> = vec![];
    for pair in query.split('&').filter(|p| !p.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        match PARAMETERS.iter().find(|(known, _)| *known == name) {
            // They come from a secret as they are, often as Base64, in which a plus is a plus.
            Some((_, true)) if is_password(name) => found.push((name.to_owned(), percent_decoded(value)?)),
            Some((_, true)) => found.push((name.to_owned(), decode(value)?)),
            Some((_, false)) => tracing::debug!("the parameter '{name}' of a JDBC URL is of pgJDBC's inside and has no effect"),
            None => {
                let error = Error::plan(format!("option 'url' has the parameter '{name}', which is not known"));
                return Err(match closest(name, PARAMETERS.iter().map(|(n, _)| *n)) {
                    Some(near) => error.hint(format!("did you mean '{near}'?")),
                    // It may be the rest of one.
                    None if found.iter().any(|(n, _)| is_password(n)) => {
                        Error::plan("option 'url' has a parameter behind a password that is not known")
                            .hint("an & in a password is written %26")
                    }
                    None => error.hint(PARAMETERS.iter().filter(|p| p.1).map(|p| p.0).collect::<Vec<_>>().join(", ")),
                });
            }
        }
    }
    Ok(found)
}

fn is_password(parameter: &str) -> bool {
    matches!(parameter, "password" | "sslpassword")
}

fn hosts(authority: &str) -> Result<Vec<(String, u16)>> {
    let one = |text: &str| -> Result<(String, u16)> {
        let (host, port) = match text.strip_prefix('[').and_then(|t| t.split_once(']')) {
            Some((host, rest)) => (host, rest.strip_prefix(':')),
            None => text.rsplit_once(':').map_or((text, None), |(h, p)| (h, Some(p))),
        };
        let wrong = || {
            let hint = "it is written jdbc:postgresql://host:port/database; user and password are options of their own";
            Error::plan("option 'url' does not name host and port").hint(hint)
        };
        let port = match port.filter(|p| !p.is_empty()) {
            None => 5432,
            Some(port) => port.parse().map_err(|_| wrong())?,
        };
        if host.contains(['@', '/', ' ']) {
            return Err(wrong());
        }
        Ok((if host.is_empty() { "localhost".into() } else { host.to_owned() }, port))
    };
    authority.split(',').map(one).collect()
}

fn wrong(name: &str, value: &str, expected: &str) -> Error {
    Error::plan(format!("parameter '{name}' of option 'url' is '{value}'; expected: {expected}"))
}

fn seconds(name: &str, value: Option<&str>) -> Result<Option<Duration>> {
    let Some(value) = value else { return Ok(None) };
    let seconds: u64 = value.parse().map_err(|_| wrong(name, value, "seconds"))?;
    Ok((seconds > 0).then(|| Duration::from_secs(seconds)))
}

fn flag(name: &str, value: &str) -> Result<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "" => Ok(true),
        "false" => Ok(false),
        _ => Err(wrong(name, value, "true, false")),
    }
}

/// How long a connection is silent before the other end is asked whether it is still there. What stands between, a firewall or a balancer,
/// forgets connections that are silent for some minutes, and says nothing of it.
const SILENT: Duration = Duration::from_secs(60);
/// How far apart such questions are, and how long what was sent may stay unconfirmed.
const QUESTIONS: Duration = Duration::from_secs(10);
const UNCONFIRMED: Duration = Duration::from_secs(120);

/// What the driver's parameters say, in the client's terms.
fn configure<'v>(config: &mut Config, get: &dyn Fn(&str) -> Option<&'v str>) -> Result<()> {
    let connect = seconds("connectTimeout", get("connectTimeout"))?.or(seconds("loginTimeout", get("loginTimeout"))?);
    config.connect_timeout(connect.unwrap_or(Duration::from_secs(10)));
    config.application_name(get("ApplicationName").unwrap_or("sluice"));
    config.keepalives_idle(SILENT).keepalives_interval(QUESTIONS).keepalives_retries(6).tcp_user_timeout(UNCONFIRMED);
    if let Some(value) = get("tcpKeepAlive") {
        config.keepalives(flag("tcpKeepAlive", value)?);
    }
    if let Some(value) = get("options") {
        config.options(value);
    }
    if let Some(value) = get("targetServerType") {
        config.target_session_attrs(match value {
            "any" => TargetSessionAttrs::Any,
            "primary" | "master" => TargetSessionAttrs::ReadWrite,
            "secondary" | "slave" => TargetSessionAttrs::ReadOnly,
            _ => return Err(wrong("targetServerType", value, "any, primary, secondary")),
        });
    }
    if let Some(value) = get("loadBalanceHosts") {
        let random = flag("loadBalanceHosts", value)?;
        config.load_balance_hosts(if random { LoadBalanceHosts::Random } else { LoadBalanceHosts::Disable });
    }
    if let Some(value) = get("channelBinding") {
        config.channel_binding(match value {
            "disable" => ChannelBinding::Disable,
            "prefer" => ChannelBinding::Prefer,
            "require" => ChannelBinding::Require,
            _ => return Err(wrong("channelBinding", value, "disable, prefer, require")),
        });
    }
    Ok(())
}

/// `sslmode` as the driver has it: up to `require` the server's certificate is not checked. `allow` is taken as `prefer`.
fn tls<'v>(config: &mut Config, get: &dyn Fn(&str) -> Option<&'v str>) -> Result<Tls> {
    let ssl = get("ssl").map(|v| flag("ssl", v)).transpose()?.unwrap_or(false);
    let mode = get("sslmode").unwrap_or(if ssl { "verify-full" } else { "prefer" });
    let (mode, verify) = match mode {
        "disable" => (SslMode::Disable, Verify::Nothing),
        "allow" | "prefer" => (SslMode::Prefer, Verify::Nothing),
        "require" => (SslMode::Require, Verify::Nothing),
        "verify-ca" => (SslMode::Require, Verify::Chain),
        "verify-full" => (SslMode::Require, Verify::Full),
        _ => return Err(wrong("sslmode", mode, "disable, allow, prefer, require, verify-ca, verify-full")),
    };
    config.ssl_mode(mode);
    let file = |name: &str| get(name).map(str::to_owned);
    Ok(Tls { verify, root: file("sslrootcert"), certificate: file("sslcert"), key: file("sslkey"), password: file("sslpassword") })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn urls_name_places() {
        for (url, place) in [
            ("jdbc:postgresql://db:5433/shop", "db:5433/shop"),
            ("jdbc:postgresql://db/shop?sslmode=disable", "db:5432/shop"),
            ("jdbc:postgresql://a:1,b:2/my%20db", "a:1,b:2/my db"),
            ("jdbc:postgresql://[::1]:5433/x", "::1:5433/x"),
            ("jdbc:postgresql:x", "localhost:5432/x"),
            ("jdbc:postgresql://", "localhost:5432/ann"),
            ("jdbc:postgresql://db/?reWriteBatchedInserts=true", "db:5432/ann"),
            ("jdbc:postgresql://db/my+db", "db:5432/my db"),
        ] {
            assert_eq!(Target::new(url, Some("ann"), None).unwrap().place, place, "{url}");
        }
    }

    #[test]
    fn parameters_are_translated() {
        let url = "jdbc:postgresql://db/x?user=u&password=p%26q&sslmode=verify-ca&sslrootcert=/ca.pem&connectTimeout=3&socketTimeout=7\
                   &ApplicationName=me&currentSchema=s&targetServerType=primary";
        let target = Target::new(url, None, None).unwrap();
        assert_eq!((target.config.get_user(), target.config.get_password()), (Some("u"), Some(&b"p&q"[..])));
        assert_eq!((target.config.get_ssl_mode(), target.tls.verify), (SslMode::Require, Verify::Chain));
        assert_eq!(target.config.get_connect_timeout(), Some(&Duration::from_secs(3)));
        assert_eq!((target.answer, target.schema.as_deref()), (Some(Duration::from_secs(7)), Some("s")));
        let given = Target::new(url, Some("v"), Some("r")).unwrap();
        assert_eq!((given.config.get_user(), given.config.get_password()), (Some("v"), Some(&b"r"[..])));
        assert_eq!(Target::new("jdbc:postgresql://db/x?ssl=true", None, None).unwrap().tls.verify, Verify::Full);
        let words = Target::new("jdbc:postgresql://db/x?password=a+b%2Bc=&options=-c+statement_timeout=9", None, None).unwrap();
        assert_eq!((words.config.get_password(), words.config.get_options()), (Some(&b"a+b+c="[..]), Some("-c statement_timeout=9")));
        assert_eq!((words.config.get_keepalives(), words.config.get_keepalives_idle()), (true, SILENT));
    }

    #[test]
    fn wrong_urls_say_why_without_the_password() {
        for (url, message) in [
            ("jdbc:mysql://db/x?password=hidden", "'mysql' is not supported"),
            ("postgres://u:hidden@db/x", "no JDBC URL"),
            ("jdbc:postgresql://u:hidden@db/x", "host and port"),
            ("jdbc:postgresql://db/x?password=hidden&sslmod=require", "'sslmod', which is not known (did you mean 'sslmode'?)"),
            ("jdbc:postgresql://db/x?password=hidden&sslmode=on", "parameter 'sslmode'"),
            ("jdbc:postgresql://db/x?user=u&password=p&hidden&sslmode=require", "%26"),
            ("jdbc:postgresql://db/x?sslpassword=p&hid%den=a", "%26"),
            ("jdbc:postgresql://db:port/x?password=hidden", "host and port"),
        ] {
            let error = Target::new(url, None, None).err().unwrap().to_string();
            assert!(error.contains(message) && !error.contains("hidden"), "{error}");
        }
    }
}
