//! Small web servers, for what the engine talks to over HTTP: a closure answers. They listen until the process ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// A request, read whole.
#[derive(Clone, Debug)]
pub struct Request {
    /// `POST /path HTTP/1.1`
    pub line: String,
    /// Names in lower case.
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Request {
    pub fn header(&self, name: &str) -> &str {
        self.headers.iter().find(|(n, _)| n == name).map_or("", |(_, value)| value)
    }
}

pub struct Answer {
    pub status: u16,
    pub headers: Vec<(&'static str, String)>,
    pub body: String,
}

impl Answer {
    pub fn json(value: &serde_json::Value) -> Self {
        Self { status: 200, headers: vec![("Content-Type", "application/json".into())], body: value.to_string() }
    }
}

/// Starts one at an address of this machine; its URL.
pub fn start(host: &str, answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> String {
    serve(host, None, answer)
}

/// One that speaks TLS, with a certificate and its key (PEM files).
pub fn start_tls(host: &str, certificate: &Path, key: &Path, answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> String {
    let chain = CertificateDer::pem_file_iter(certificate).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_no_client_auth().with_single_cert(chain, PrivateKeyDer::from_pem_file(key).unwrap()).unwrap();
    serve(host, Some(Arc::new(config)), answer)
}

fn serve(host: &str, tls: Option<Arc<ServerConfig>>, answer: impl Fn(&Request) -> Answer + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind((host, 0)).unwrap();
    let scheme = if tls.is_some() { "https" } else { "http" };
    let url = format!("{scheme}://{}", listener.local_addr().unwrap());
    let answer = Arc::new(answer);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (answer, tls) = (answer.clone(), tls.clone());
            std::thread::spawn(move || {
                stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
                match tls {
                    None => converse(stream, answer.as_ref()),
                    Some(config) => converse(secured(stream, config), answer.as_ref()),
                }
            });
        }
    });
    url
}

fn secured(stream: TcpStream, config: Arc<ServerConfig>) -> StreamOwned<ServerConnection, TcpStream> {
    StreamOwned::new(ServerConnection::new(config).unwrap(), stream)
}

/// One request a connection; a client that goes away or does not trust us is no concern.
fn converse<S: Read + Write>(stream: S, answer: &impl Fn(&Request) -> Answer) {
    let mut reader = BufReader::new(stream);
    let Some(request) = request(&mut reader) else { return };
    let Answer { status, headers, body } = answer(&request);
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let text = format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len());
    let mut stream = reader.into_inner();
    let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.flush());
}

fn request(reader: &mut impl BufRead) -> Option<Request> {
    let mut line = || {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|n| *n > 0).map(|_| line.trim_end().to_owned())
    };
    let first = line()?;
    let mut headers = vec![];
    while let Some((name, value)) = line()?.split_once(':') {
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    let mut request = Request { line: first, headers, body: String::new() };
    let mut body = vec![0; request.header("content-length").parse().unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    request.body = String::from_utf8(body).ok()?;
    Some(request)
}
