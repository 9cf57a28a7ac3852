//! Tokens of an identity provider, as librdkafka is told them.

use std::ffi::{CStr, CString, c_char, c_void};

use base64::Engine as _;
use rdkafka::bindings as sys;
use sluice_batch::{Error, Result};
use sys::rd_kafka_resp_err_t as Code;

use super::oauth::Login;

/// A JSON Web Token (RFC 7519). Who it is for is checked by the broker; here it is read for how long it is good.
#[derive(Debug)]
pub(crate) struct Token {
    pub value: String,
    pub principal: String,
    /// Milliseconds since 1970.
    pub until: i64,
}

impl Token {
    /// # Errors
    /// If it is no JWT, or says neither whom it is for nor until when. The text has nothing of it.
    pub fn parse(value: &str, subject: &str) -> Result<Self, String> {
        let parts: Vec<&str> = value.split('.').collect();
        let [_, payload, _] = parts[..] else { return Err("a JWT has three parts".into()) };
        let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload.trim_end_matches('='));
        let claims: Option<serde_json::Value> = payload.ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let claims = claims.ok_or("its second part is not JSON in Base64")?;
        let until = claims["exp"].as_f64().ok_or("it has no claim 'exp'")?;
        let principal = claims[subject].as_str().ok_or_else(|| format!("it has no claim '{subject}'"))?;
        Ok(Self { value: value.to_owned(), principal: principal.to_owned(), until: (until * 1000.0) as i64 })
    }
}

/// Lets librdkafka ask for tokens. They are fetched by a thread of its own, so that no task waits for them.
pub(super) fn ask(raw: *mut sys::rd_kafka_conf_t) {
    // SAFETY: the configuration is valid.
    unsafe {
        sys::rd_kafka_conf_set_oauthbearer_token_refresh_cb(raw, Some(on_refresh));
        sys::rd_kafka_conf_enable_sasl_queue(raw, 1);
    }
}

/// Begins to serve what [`ask`] has asked for.
///
/// # Errors
/// If there can be no thread.
pub(super) fn serve(rk: *mut sys::rd_kafka_t) -> Result<()> {
    // SAFETY: the handle is valid; an error object is ours to release.
    unsafe {
        let error = sys::rd_kafka_sasl_background_callbacks_enable(rk);
        if error.is_null() {
            return Ok(());
        }
        let text = CStr::from_ptr(sys::rd_kafka_error_string(error)).to_string_lossy().into_owned();
        sys::rd_kafka_error_destroy(error);
        Err(Error::runtime(format!("cannot log in to Kafka: {text}")))
    }
}

unsafe extern "C" fn on_refresh(rk: *mut sys::rd_kafka_t, _config: *const c_char, opaque: *mut c_void) {
    // SAFETY: `opaque` is what the client has set, and outlives librdkafka's handle.
    let Some((login, note)) = (unsafe { super::client::login(opaque) }) else { return };
    let given = login.token().and_then(|token| give(rk, login, &token));
    if let Err(text) = given {
        tracing::warn!(target: "librdkafka", "{text}");
        note(text.clone());
        let text = CString::new(text.replace('\0', " ")).unwrap_or_default();
        // SAFETY: handle and text are valid for the call.
        unsafe { sys::rd_kafka_oauthbearer_set_token_failure(rk, text.as_ptr()) };
    }
}

fn give(rk: *mut sys::rd_kafka_t, login: &Login, token: &Token) -> Result<(), String> {
    let c = |text: &str| CString::new(text).map_err(|_| "a NUL character in a token".to_owned());
    let (value, principal) = (c(&token.value)?, c(&token.principal)?);
    let owned = login.extensions.iter().flat_map(|(name, value)| [c(name), c(value)]).collect::<Result<Vec<_>, _>>()?;
    let mut extensions: Vec<*const c_char> = owned.iter().map(|e| e.as_ptr()).collect();
    let mut text = [0 as c_char; 512];
    // SAFETY: all pointers are valid for the call; the lengths are given.
    let (code, text) = unsafe {
        let code = sys::rd_kafka_oauthbearer_set_token(
            rk,
            value.as_ptr(),
            token.until,
            principal.as_ptr(),
            extensions.as_mut_ptr(),
            extensions.len(),
            text.as_mut_ptr(),
            text.len(),
        );
        (code, CStr::from_ptr(text.as_ptr()).to_string_lossy().into_owned())
    };
    if code == Code::RD_KAFKA_RESP_ERR_NO_ERROR { Ok(()) } else { Err(format!("the token of {} cannot be used: {text}", login.place())) }
}

#[cfg(test)]
pub(crate) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used)]
    use super::*;

    /// A token with these claims, not signed.
    pub fn jwt(claims: &str) -> String {
        let part = |text: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.c2ln", part(r#"{"alg":"RS256"}"#), part(claims))
    }

    #[test]
    fn claims_are_read() {
        let token = Token::parse(&jwt(r#"{"sub":"a","azp":"b","exp":1700000000.5}"#), "azp").unwrap();
        assert_eq!((token.principal.as_str(), token.until), ("b", 1_700_000_000_500));
        for (text, wanted) in
            [("x.y".to_owned(), "three parts"), ("a.!.c".to_owned(), "not JSON"), (jwt("{}"), "'exp'"), (jwt(r#"{"exp":1}"#), "'sub'")]
        {
            assert!(Token::parse(&text, "sub").unwrap_err().contains(wanted), "{text}");
        }
    }
}
