//! `sasl.jaas.config` of the Java client: the login module's name and options.

use sluice_batch::{Error, Result};

use super::oauth;

/// What a JAAS line says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Jaas {
    /// Properties of librdkafka.
    Properties(Vec<(String, String)>),
    /// Options of a login with tokens.
    Tokens(oauth::Options),
}

/// Translates a JAAS line such as `org.apache.kafka.common.security.plain.PlainLoginModule required username="u" password="p";`
/// The whole line may be a secret (Strimzi's Secrets of users have one): before it is filled in it says nothing.
///
/// # Errors
/// If it cannot be read, or is for a module that librdkafka does not have.
pub(crate) fn translate(line: &str) -> Result<Jaas> {
    if line.trim_start().starts_with("{{secret:") {
        return Ok(Jaas::Properties(vec![]));
    }
    let wrong = |what: &str| {
        Error::plan(format!("'properties.sasl.jaas.config' {what}")).hint("expected: <LoginModule> required <name>=\"<value>\" …;")
    };
    let (module, options) = parse(line).ok_or_else(|| wrong("cannot be read"))?;
    let option = |name: &str| options.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
    let needed = |name: &str| option(name).ok_or_else(|| wrong(&format!("has no {name}")));
    match module.rsplit('.').next().unwrap_or_default() {
        "PlainLoginModule" | "ScramLoginModule" => {
            Ok(Jaas::Properties(vec![("sasl.username".into(), needed("username")?), ("sasl.password".into(), needed("password")?)]))
        }
        "OAuthBearerLoginModule" => {
            let Some(principal) = option("unsecuredLoginStringClaim_sub") else { return Ok(Jaas::Tokens(options)) };
            Ok(Jaas::Properties(vec![
                ("enable.sasl.oauthbearer.unsecure.jwt".into(), "true".into()),
                ("sasl.oauthbearer.config".into(), format!("principal={principal}")),
            ]))
        }
        other => Err(Error::unsupported(format!("the login module {other}")).hint("PLAIN, SCRAM and OAUTHBEARER can be used")),
    }
}

fn parse(line: &str) -> Option<(String, Vec<(String, String)>)> {
    let mut rest = line.trim();
    let (module, after) = rest.split_once(char::is_whitespace)?;
    let (flag, after) = after.trim_start().split_once(|c: char| c.is_whitespace() || c == ';').unwrap_or((after.trim_start(), ""));
    if !matches!(flag.to_ascii_lowercase().as_str(), "required" | "requisite" | "sufficient" | "optional") {
        return None;
    }
    rest = after.trim();
    let mut options = vec![];
    loop {
        rest = rest.trim_start();
        if rest.is_empty() || rest == ";" {
            return Some((module.to_owned(), options));
        }
        let (name, after) = rest.split_once('=')?;
        let (value, after) = value(after.trim_start())?;
        options.push((name.trim().to_owned(), value));
        rest = after;
    }
}

/// A quoted value with `\"` and `\\`, or a bare word.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quote) = text.chars().next().filter(|c| matches!(c, '"' | '\'')) else {
        let end = text.find(|c: char| c.is_whitespace() || c == ';').unwrap_or(text.len());
        return (end > 0).then(|| (text[..end].to_owned(), &text[end..]));
    };
    let mut out = String::new();
    let mut chars = text.char_indices().skip(1);
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => out.push(chars.next()?.1),
            c if c == quote => return Some((out, &text[at + 1..])),
            c => out.push(c),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    #[test]
    fn modules_become_properties() {
        let pair = |a: &str, b: &str| (a.to_owned(), b.to_owned());
        let plain = r#"org.apache.kafka.common.security.plain.PlainLoginModule required username="al ice" password="p\"w;";"#;
        let properties = |pairs: [(String, String); 2]| Jaas::Properties(pairs.into());
        assert_eq!(translate(plain).unwrap(), properties([pair("sasl.username", "al ice"), pair("sasl.password", "p\"w;")]));
        let scram = "org.apache.kafka.common.security.scram.ScramLoginModule required\n  username=bob\n password='x';";
        assert_eq!(translate(scram).unwrap(), properties([pair("sasl.username", "bob"), pair("sasl.password", "x")]));
        assert_eq!(translate("{{secret:me/sasl.jaas.config}}").unwrap(), Jaas::Properties(vec![]));
        let tokens = "org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required clientId=me clientSecret='x';";
        assert_eq!(translate(tokens).unwrap(), Jaas::Tokens(vec![pair("clientId", "me"), pair("clientSecret", "x")]));
        assert!(translate("com.sun.security.auth.module.Krb5LoginModule required useKeyTab=true;").unwrap_err().message().contains("Krb5"));
        for broken in
            ["", "x", "PlainLoginModule username=a", "PlainLoginModule required username=\"a", "PlainLoginModule required username=\"a\";"]
        {
            assert!(translate(broken).is_err(), "{broken}");
        }
    }
}
