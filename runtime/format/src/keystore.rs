//! Trust stores, key stores and keys of TLS clients, as Java's clients take them: PEM or PKCS#12, keys in PKCS#8, too. All that connect by TLS
//! read them here.

use std::path::Path;

use base64::Engine as _;
use p12_keystore::{KeyStore, KeyStoreEntry, Pkcs12ImportPolicy};
use sluice_batch::{Error, Result};
pub use ureq::tls::{Certificate, PrivateKey};
use ureq::tls::{ClientCert, PemItem, parse_pem};

/// A private key and its certificates, the key's own first.
pub struct Identity {
    pub chain: Vec<Certificate<'static>>,
    pub key: PrivateKey<'static>,
}

impl Identity {
    pub fn into_client_cert(self) -> ClientCert {
        ClientCert::new_with_certs(&self.chain, self.key)
    }
}

/// The certificates of a trust store. `password` is that of a PKCS#12 file.
///
/// # Errors
/// If the file cannot be read or holds none; a message never has the password.
pub fn trusted(path: &str, password: Option<&str>) -> Result<Vec<Certificate<'static>>> {
    let found = match read(path, password)? {
        Content::Pem(items) => items.into_iter().filter_map(|i| if let PemItem::Certificate(c) = i { Some(c) } else { None }).collect(),
        Content::Pkcs12(store) => {
            let mut found = vec![];
            for (_, entry) in store.entries() {
                match entry {
                    KeyStoreEntry::Certificate(c) => found.push(Certificate::from_der(c.as_der()).to_owned()),
                    KeyStoreEntry::PrivateKeyChain(k) => {
                        found.extend(k.certs().iter().map(|c| Certificate::from_der(c.as_der()).to_owned()))
                    }
                    KeyStoreEntry::Secret(_) => {}
                }
            }
            found
        }
        Content::Key(_) => vec![],
    };
    if found.is_empty() { Err(bad(path, "it has no certificate")) } else { Ok(found) }
}

/// The same as PEM.
///
/// # Errors
/// As [`trusted`].
pub fn trusted_pem(path: &str, password: Option<&str>) -> Result<String> {
    Ok(trusted(path, password)?.iter().map(|c| pem("CERTIFICATE", c.der())).collect())
}

fn pem(label: &str, der: &[u8]) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    let mut rest = text.as_str();
    while !rest.is_empty() {
        let (line, behind) = rest.split_at(rest.len().min(64));
        out.push_str(line);
        out.push('\n');
        rest = behind;
    }
    out + "-----END " + label + "-----\n"
}

/// The private key of a key store and its certificates.
///
/// # Errors
/// As [`trusted`]; or if there is no private key.
pub fn identity(path: &str, password: Option<&str>) -> Result<Identity> {
    let found = with_key(path, password)?;
    if found.chain.is_empty() { Err(bad(path, "it has no certificate")) } else { Ok(found) }
}

/// The private key of a key store, and its certificates, both as PEM.
///
/// # Errors
/// As [`identity`].
pub fn identity_pem(path: &str, password: Option<&str>) -> Result<(String, String)> {
    let found = identity(path, password)?;
    Ok((pem("PRIVATE KEY", found.key.der()), found.chain.iter().map(|c| pem("CERTIFICATE", c.der())).collect()))
}

/// A private key: in PEM, in PKCS#8 DER, or that of a key store.
///
/// # Errors
/// If the file cannot be read or holds none.
pub fn private_key(path: &str, password: Option<&str>) -> Result<PrivateKey<'static>> {
    with_key(path, password).map(|found| found.key)
}

fn with_key(path: &str, password: Option<&str>) -> Result<Identity> {
    let (mut chain, mut key) = (vec![], None);
    match read(path, password)? {
        Content::Pem(items) => {
            for item in items {
                match item {
                    PemItem::Certificate(c) => chain.push(c),
                    PemItem::PrivateKey(k) => key = Some(k),
                    _ => {}
                }
            }
        }
        Content::Pkcs12(store) => {
            if let Some((_, found)) = store.private_key_chain() {
                chain.extend(found.certs().iter().map(|c| Certificate::from_der(c.as_der()).to_owned()));
                let text = pem("PRIVATE KEY", found.key().as_der());
                key = Some(PrivateKey::from_pem(text.as_bytes()).map_err(|e| bad(path, &e.to_string()))?);
            }
        }
        Content::Key(found) => key = Some(found),
    }
    let key = key.ok_or_else(|| bad(path, "it has no private key"))?;
    Ok(Identity { chain, key })
}

enum Content {
    Pem(Vec<PemItem<'static>>),
    Pkcs12(KeyStore),
    /// Not encrypted.
    Key(PrivateKey<'static>),
}

/// Whether it is a PKCS#8 key in DER: a sequence of a version and an algorithm (RFC 5208, 5). PKCS#12 is of version 3.
fn is_pkcs8(bytes: &[u8]) -> bool {
    let [0x30, length, rest @ ..] = bytes else { return false };
    let long = if *length < 0x80 { 0 } else { usize::from(*length & 0x7f) };
    matches!(rest.get(long..), Some([0x02, 0x01, 0x00 | 0x01, 0x30, ..]))
}

/// What Java's own store format begins with.
const JKS: [u8; 4] = [0xfe, 0xed, 0xfe, 0xed];

/// Whether there is a file that is no JKS store.
pub fn may_be_pkcs12(path: &str) -> bool {
    std::fs::read(path).is_ok_and(|bytes| !bytes.starts_with(&JKS))
}

/// The command that makes a PKCS#12 store of a JKS one.
pub fn convert(path: &str) -> String {
    let name = path.strip_suffix(".jks").unwrap_or(path);
    format!("keytool -importkeystore -srckeystore {path} -destkeystore {name}.p12 -deststoretype PKCS12")
}

fn read(path: &str, password: Option<&str>) -> Result<Content> {
    let bytes = std::fs::read(Path::new(path)).map_err(|e| bad(path, &e.to_string()))?;
    if bytes.starts_with(&JKS) {
        return Err(Error::unsupported(format!("a JKS store ({path})")).hint(format!("convert it: {}", convert(path))).into_runtime());
    }
    if bytes.windows(11).any(|w| w == b"-----BEGIN ") {
        let items = parse_pem(&bytes).collect::<std::result::Result<_, _>>().map_err(|e| bad(path, &e.to_string()))?;
        return Ok(Content::Pem(items));
    }
    if is_pkcs8(&bytes) {
        let key = PrivateKey::from_pem(pem("PRIVATE KEY", &bytes).as_bytes()).map_err(|e| bad(path, &e.to_string()))?;
        return Ok(Content::Key(key));
    }
    KeyStore::from_pkcs12(&bytes, password.unwrap_or_default(), Pkcs12ImportPolicy::Relaxed)
        .map(Content::Pkcs12)
        .map_err(|e| bad(path, &format!("{e}; it is neither PEM nor a PKCS#12 file that opens with the password given")))
}

fn bad(path: &str, what: &str) -> Error {
    Error::runtime(format!("the key or trust store {path} cannot be used: {what}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::process::Command;

    use super::*;

    /// With OpenSSL and keytool, as users make theirs.
    fn run(directory: &Path, line: &str) {
        let output = Command::new("sh").arg("-c").arg(line).current_dir(directory).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    }

    #[test]
    fn stores_of_all_kinds_are_read() {
        let directory = std::env::temp_dir().join(format!("sluice-keystore-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        run(&directory, "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -subj /CN=me -days 2");
        run(&directory, "cat key.pem cert.pem > both.pem && openssl pkcs8 -topk8 -nocrypt -in key.pem -outform DER -out key.pk8");
        run(&directory, "openssl pkcs12 -export -inkey key.pem -in cert.pem -out me.p12 -passout pass:secret-word");
        run(
            &directory,
            "rm -f trust.p12 && keytool -importcert -noprompt -alias ca -file cert.pem -keystore trust.p12 -storetype PKCS12 -storepass secret-word",
        );
        run(
            &directory,
            "rm -f trust.jks && keytool -importcert -noprompt -alias ca -file cert.pem -keystore trust.jks -storetype JKS -storepass secret-word",
        );
        // With RC2 and 3DES, as Java 8 and OpenSSL 1 made them.
        run(
            &directory,
            "rm -f old.p12 && keytool -J-Dkeystore.pkcs12.legacy -importkeystore -noprompt -srckeystore me.p12 -srcstorepass secret-word \
             -destkeystore old.p12 -deststoretype PKCS12 -deststorepass secret-word",
        );
        let path = |name: &str| directory.join(name).display().to_string();
        let (key, chain) = identity_pem(&path("old.p12"), Some("secret-word")).unwrap();
        assert_eq!((key, chain), identity_pem(&path("me.p12"), Some("secret-word")).unwrap());
        let pem = std::fs::read_to_string(path("cert.pem")).unwrap();
        for (name, password) in
            [("cert.pem", None), ("both.pem", None), ("me.p12", Some("secret-word")), ("trust.p12", Some("secret-word"))]
        {
            assert_eq!(trusted_pem(&path(name), password).unwrap(), pem, "{name}");
        }
        for (name, password) in [("both.pem", None), ("me.p12", Some("secret-word"))] {
            assert_eq!(identity(&path(name), password).unwrap().chain.len(), 1, "{name}");
        }
        for (name, password, wanted) in [
            ("none.pem", None, "No such file"),
            ("key.pem", None, "no certificate"),
            ("me.p12", Some("wrong-word"), "neither PEM nor"),
            ("trust.jks", Some("secret-word"), "trust.p12 -deststoretype PKCS12"),
        ] {
            let error = trusted_pem(&path(name), password).unwrap_err().to_string();
            assert!(error.contains(wanted) && !error.contains("-word"), "{name}: {error}");
        }
        assert!(may_be_pkcs12(&path("me.p12")) && !may_be_pkcs12(&path("trust.jks")) && !may_be_pkcs12(&path("none.p12")));
        for (name, password) in [("key.pem", None), ("key.pk8", None), ("me.p12", Some("secret-word"))] {
            assert_eq!(private_key(&path(name), password).unwrap().der(), private_key(&path("both.pem"), None).unwrap().der(), "{name}");
        }
        assert!(identity(&path("key.pk8"), None).err().unwrap().to_string().contains("no certificate"));
        assert!(identity(&path("cert.pem"), None).err().unwrap().to_string().contains("no private key"));
        std::fs::remove_dir_all(&directory).unwrap();
    }
}
