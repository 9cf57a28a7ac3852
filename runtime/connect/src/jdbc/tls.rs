//! TLS to PostgreSQL: what of the server's certificate is checked, and ours.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{WebPkiServerVerifier, verify_server_name};
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use sluice_batch::{Error, Result};
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
    let verifier = Arc::new(Verifier { chain, roots, name: tls.verify == Verify::Full, provider });
    let builder = builder.dangerous().with_custom_certificate_verifier(verifier);
    let config = match (&tls.certificate, &tls.key) {
        (Some(certificate), Some(key)) => {
            builder.with_client_auth_cert(certificates("sslcert", certificate)?, private_key(key)?).map_err(failed)?
        }
        (None, None) => builder.with_no_client_auth(),
        _ => return Err(Error::plan("'sslcert' and 'sslkey' of option 'url' are given together or not at all")),
    };
    Ok(MakeRustlsConnect::new(config))
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
    let failed = |e: String| Error::plan(format!("'{parameter}' {file} cannot be read: {e}"));
    let found = CertificateDer::pem_file_iter(file).map_err(|e| failed(e.to_string()))?;
    let found = found.collect::<Result<Vec<_>, _>>().map_err(|e| failed(e.to_string()))?;
    if found.is_empty() { Err(failed("it has no certificate in PEM".into())) } else { Ok(found) }
}

/// A key in PEM, or in PKCS-8 DER as the driver wants it.
fn private_key(file: &str) -> Result<PrivateKeyDer<'static>> {
    let failed = |e: String| Error::plan(format!("'sslkey' {file} cannot be read: {e}"));
    let bytes = std::fs::read(file).map_err(|e| failed(e.to_string()))?;
    match bytes.starts_with(b"-----") {
        true => PrivateKeyDer::from_pem_slice(&bytes).map_err(|e| failed(e.to_string())),
        false => PrivateKeyDer::try_from(bytes).map_err(|e| failed(e.to_owned())),
    }
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
