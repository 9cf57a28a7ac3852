//! URL_ENCODE, URL_DECODE, URL_DECODE_RECURSIVE and PARSE_URL (Flink: `UrlEncodeFunction`, `UrlDecodeFunction`, `SqlFunctionUtils.parseUrl`).

use arrow::array::ArrayRef;
use sluice_batch::{Expr, Result, TypeKind};

use crate::kernel::{Args, P};
use crate::{Call, Declaration};

pub(crate) const FUNCTIONS: &[Declaration] = &[
    Declaration { names: &["URL_ENCODE"], bind: |c| c.nullable("URL_ENCODE", &[P::Str], TypeKind::STRING, encode) },
    Declaration { names: &["URL_DECODE"], bind: |c| c.nullable("URL_DECODE", &[P::Str], TypeKind::STRING, decode) },
    Declaration { names: &["URL_DECODE_RECURSIVE"], bind: bind_decode_recursive },
    Declaration { names: &["PARSE_URL"], bind: |c| c.optional("PARSE_URL", &[P::Str, P::Str, P::Str], 2, TypeKind::STRING, parse_url) },
];

/// `application/x-www-form-urlencoded`: letters, digits and `.-*_` stay, a space becomes `+`.
fn encode(args: &Args<'_>) -> Result<ArrayRef> {
    let text = args.str(0)?;
    args.strings(|row, out| {
        for byte in text.get(row)?.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'*' | b'_' => out.push(byte as char),
                b' ' => out.push('+'),
                _ => {
                    const HEX: &[u8; 16] = b"0123456789ABCDEF";
                    out.push('%');
                    out.push(HEX[usize::from(byte >> 4)] as char);
                    out.push(HEX[usize::from(byte & 15)] as char);
                }
            }
        }
        Some(())
    })
}

/// The text of an encoded one; `None` if an escape is broken. What is not UTF-8 becomes U+FFFD.
fn decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    let digit = |b: u8| char::from(b).to_digit(16);
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => (digit(rest.next()?)? << 4 | digit(rest.next()?)?) as u8,
            byte => byte,
        });
    }
    Some(String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()))
}

fn decode(args: &Args<'_>) -> Result<ArrayRef> {
    let text = args.str(0)?;
    args.map_str(|row| decoded(text.get(row)?))
}

/// `URL_DECODE_RECURSIVE(text [, max_depth])`: decodes until nothing changes, ten times at most unless said otherwise.
fn bind_decode_recursive(call: Call<'_>) -> Result<Expr> {
    call.optional("URL_DECODE_RECURSIVE", &[P::Str, P::Int], 1, TypeKind::STRING, decode_recursive)
}

fn decode_recursive(args: &Args<'_>) -> Result<ArrayRef> {
    let text = args.str(0)?;
    let depth = if args.has(1) { Some(args.i32(1)?) } else { None };
    args.map_str(|row| {
        let mut text = text.get(row)?.to_owned();
        let depth = depth.map_or(Some(10), |d| d.get(row))?;
        for round in 0..depth.max(0) {
            match decoded(&text) {
                Some(next) if next == text => break,
                Some(next) => text = next,
                None if round == 0 => return None,
                None => break,
            }
        }
        Some(text)
    })
}

/// The parts of a URL as `java.net.URL` names them.
struct Parts<'a> {
    protocol: &'a str,
    authority: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    fragment: Option<&'a str>,
}

impl<'a> Parts<'a> {
    fn new(url: &'a str) -> Option<Self> {
        let url = url.trim();
        let (protocol, rest) = url.split_once(':')?;
        if !["http", "https", "ftp", "file", "jar", "mailto"].iter().any(|p| p.eq_ignore_ascii_case(protocol)) {
            return None;
        }
        let (rest, fragment) = rest.split_once('#').map_or((rest, None), |(r, f)| (r, Some(f)));
        let (rest, query) = rest.split_once('?').map_or((rest, None), |(r, q)| (r, Some(q)));
        let (authority, path) = match rest.strip_prefix("//") {
            Some(rest) => rest.split_at(rest.find('/').unwrap_or(rest.len())),
            None => ("", rest),
        };
        Some(Self { protocol, authority, path, query, fragment })
    }

    fn host(&self) -> &'a str {
        let host = self.authority.rsplit_once('@').map_or(self.authority, |(_, h)| h);
        match host.rfind(':') {
            Some(at) if !host.ends_with(']') => &host[..at],
            _ => host,
        }
    }

    fn part(&self, name: &str, key: Option<&str>) -> Option<String> {
        let text = match name {
            "HOST" => self.host(),
            "PATH" => self.path,
            "QUERY" => match key {
                Some(key) => self.query?.split('&').find_map(|p| p.strip_prefix(key)?.strip_prefix('='))?,
                None => self.query?,
            },
            "REF" => self.fragment?,
            "PROTOCOL" => return Some(self.protocol.to_lowercase()),
            "AUTHORITY" => self.authority,
            "USERINFO" => self.authority.rsplit_once('@')?.0,
            "FILE" => return Some(self.query.map_or_else(|| self.path.to_owned(), |q| format!("{}?{q}", self.path))),
            _ => return None,
        };
        Some(text.to_owned())
    }
}

/// `PARSE_URL(url, part [, key])`; a key only goes with QUERY.
fn parse_url(args: &Args<'_>) -> Result<ArrayRef> {
    let (url, part) = (args.str(0)?, args.str(1)?);
    let key = if args.has(2) { Some(args.str(2)?) } else { None };
    args.map_str(|row| {
        let (url, part) = (url.get(row)?, part.get(row)?);
        let key = match key {
            Some(key) => Some(key.get(row)?),
            None => None,
        };
        if key.is_some() && part != "QUERY" {
            return None;
        }
        Parts::new(url)?.part(part, key)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn urls_are_decoded() {
        for (text, expected) in [
            ("https%3A%2F%2Fflink.apache.org%2F", Some("https://flink.apache.org/")),
            ("inva+lid%3A", Some("inva lid:")),
            ("test%", None),
            ("%zz", None),
            ("%C3%A9", Some("é")),
        ] {
            assert_eq!(decoded(text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn urls_are_taken_apart() {
        let url = "http://user:pass@facebook.com:80/path1/p.php?k1=v1&k2=v2#Ref1";
        for (part, key, expected) in [
            ("HOST", None, Some("facebook.com")),
            ("PATH", None, Some("/path1/p.php")),
            ("QUERY", None, Some("k1=v1&k2=v2")),
            ("QUERY", Some("k2"), Some("v2")),
            ("QUERY", Some("k3"), None),
            ("REF", None, Some("Ref1")),
            ("PROTOCOL", None, Some("http")),
            ("FILE", None, Some("/path1/p.php?k1=v1&k2=v2")),
            ("AUTHORITY", None, Some("user:pass@facebook.com:80")),
            ("USERINFO", None, Some("user:pass")),
            ("NOPE", None, None),
        ] {
            assert_eq!(Parts::new(url).unwrap().part(part, key).as_deref(), expected, "{part}");
        }
        assert!(Parts::new("no url").is_none());
    }
}
