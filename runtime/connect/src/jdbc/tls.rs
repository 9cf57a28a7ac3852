//! TLS to PostgreSQL: what of the server's certificate is checked, and ours.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sluice_batch::{Error, Result};
use sluice_format::keystore;
use tokio_postgres_rustls::MakeRustlsConnect;

use super::url::{Tls, Verify};

/// What makes TLS connections of a kind.
///
/// # Errors
/// If a certificate or key cannot be read.
pub(crate) fn connector(tls: &Tls) -> Result<MakeRustlsConnect> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let failed = |e: rustls::Error| Error::plan(format!("TLS: {e}"));
    let builder = ClientConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().map_err(failed)?;
    let (chain, roots) = match tls.verify {
        Verify::Nothing => (None, vec![]),
        Verify::Chain | Verify::Full => chain(tls, &provider).map(|(chain, roots)| (Some(chain), roots))?,
    };
    let signer = provider.key_provider;
    let verifier = Arc::new(Verifier { chain, roots, name: tls.verify == Verify::Full, provider });
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let config = match identity(tls)? {
        Some((chain, key)) => {
            let key = signer.load_private_key(key).map_err(|e| Error::plan(format!("'sslkey' of option 'url': {e}")))?;
            let own = CertifiedKey::new(chain, key);
            // Other errors are of certificates that rustls does not read, such as those of version 1: the server shall say what it thinks of them.
            if let Err(e @ rustls::Error::InconsistentKeys(_)) = own.keys_match() {
                return Err(Error::plan(format!("'sslcert' and 'sslkey' of option 'url': {e}")));
            }
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(own)))
        }
        None => builder.with_no_client_auth(),
    };
    Ok(MakeRustlsConnect::new(config))
}

/// What we show to the server: `sslcert` with `sslkey` (PEM or PKCS#8 DER), or as the driver has it an `sslkey` in PKCS#12 that has both.
fn identity(tls: &Tls) -> Result<Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>> {
    let password = tls.password.as_deref();
    let is_store = |file: &&String| file.ends_with(".p12") || file.ends_with(".pfx");
    let (chain, key) = match (&tls.certificate, &tls.key) {
        (_, Some(key)) if is_store(&key) => {
            let found = keystore::identity(key, password).map_err(|e| wrong("sslkey", &e))?;
            (owned(&found.chain), found.key)
        }
        (Some(certificate), Some(key)) => {
            (certificates("sslcert", certificate)?, keystore::private_key(key, password).map_err(|e| wrong("sslkey", &e))?)
        }
        (None, None) => return Ok(None),
        _ => return Err(Error::plan("'sslcert' and 'sslkey' of option 'url' are given together or not at all")),
    };
    let key = PrivateKeyDer::try_from(key.der().to_vec()).map_err(|e| Error::plan(format!("'sslkey': {e}")))?;
    Ok(Some((chain, key)))
}

fn wrong(parameter: &str, error: &Error) -> Error {
    Error::plan(format!("'{parameter}' of option 'url': {}", error.message()))
}

fn owned(certificates: &[keystore::Certificate<'_>]) -> Vec<CertificateDer<'static>> {
    certificates.iter().map(|c| CertificateDer::from(c.der().to_vec())).collect()
}

/// Checks the chain up to `sslrootcert`, or as the driver does `~/.postgresql/root.crt` if it is there, or else the system's roots.
fn chain(tls: &Tls, provider: &Arc<CryptoProvider>) -> Result<(Arc<WebPkiServerVerifier>, Vec<CertificateDer<'static>>)> {
    let usual = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".postgresql/root.crt")).filter(|f| f.exists());
    let file = tls.root.clone().or(usual.map(|f| f.to_string_lossy().into_owned()));
    let mut store = RootCertStore::empty();
    let roots = match &file {
        Some(file) => certificates("sslrootcert", file)?,
        None => rustls_native_certs::load_native_certs().certs,
    };
    let (added, _) = store.add_parsable_certificates(roots.iter().cloned());
    if let (0, Some(file)) = (added, &file) {
        return Err(Error::plan(format!("'sslrootcert' {file} has no certificate that can be used")));
    }
    let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider.clone()).build();
    let verifier = verifier.map_err(|e| {
        Error::plan(format!("TLS: no root certificate: {e}")).hint("name the file of the server's CA: sslrootcert=/path/ca.pem")
    })?;
    Ok((verifier, roots))
}

fn certificates(parameter: &str, file: &str) -> Result<Vec<CertificateDer<'static>>> {
    keystore::trusted(file, None).map(|found| owned(&found)).map_err(|e| wrong(parameter, &e))
}

/// Looks at the certificate's chain, if it is to; at the host's name, if it is to; and that the server has the certificate's key.
#[derive(Debug)]
struct Verifier {
    chain: Option<Arc<WebPkiServerVerifier>>,
    roots: Vec<CertificateDer<'static>>,
    name: bool,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        between: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        // A server that has signed its certificate itself, as many do: the certificate is known, and with it the chain.
        if self.roots.contains(certificate) {
            if self.name {
                verify_server_name(&ParsedCertificate::try_from(certificate)?, name)?;
            }
            return Ok(ServerCertVerified::assertion());
        }
        match chain.verify_server_cert(certificate, between, name, ocsp, now) {
            // The name is looked at last.
            Err(rustls::Error::InvalidCertificate(CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. }))
                if !self.name =>
            {
                Ok(ServerCertVerified::assertion())
            }
            other => other,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
