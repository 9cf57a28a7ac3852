//! Connections: frames in, frames out, one request of a connection after the other (as Kafka does).

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kafka_protocol::messages::{ApiKey, RequestHeader, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable, StrBytes};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::cluster::Cluster;
use crate::handlers::{self, Context};

/// `socket.request.max.bytes`
const MAX_REQUEST: usize = 100 << 20;
/// API key, version, correlation id.
const MIN_HEADER: usize = 8;

/// Why a connection is closed.
#[derive(Debug, thiserror::Error)]
enum Broken {
    #[error(transparent)]
    Io(#[from] std::io::Error),
    #[error("{0}")]
    Protocol(String),
}

/// Accepts connections until the runtime ends.
pub async fn serve(listener: TcpListener, cluster: Arc<Cluster>) {
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let cluster = cluster.clone();
                tokio::spawn(async move {
                    if let Err(e) = connection(stream, peer, cluster).await {
                        tracing::debug!("embedded broker: connection of {peer}: {e}");
                    }
                });
            }
            Err(e) => {
                tracing::warn!("embedded broker: {e}");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

async fn connection(mut stream: TcpStream, peer: SocketAddr, cluster: Arc<Cluster>) -> Result<(), Broken> {
    stream.set_nodelay(true)?;
    let local = stream.local_addr()?;
    let mut input = BytesMut::with_capacity(64 << 10);
    loop {
        while input.len() < 4 {
            if stream.read_buf(&mut input).await? == 0 {
                return Ok(());
            }
        }
        let size = input.get_i32();
        let size = usize::try_from(size).ok().filter(|s| (MIN_HEADER..=MAX_REQUEST).contains(s));
        let size = size.ok_or_else(|| Broken::Protocol("a request of impossible size".into()))?;
        input.reserve(size.saturating_sub(input.len()));
        while input.len() < size {
            if stream.read_buf(&mut input).await? == 0 {
                return Ok(());
            }
        }
        let frame = input.split_to(size).freeze();
        if let Some(answer) = request(frame, local, peer, &cluster).await? {
            stream.write_all(&answer).await?;
        }
    }
}

/// Answers one request; `None` where the client wants no answer.
async fn request(mut frame: Bytes, local: SocketAddr, peer: SocketAddr, cluster: &Arc<Cluster>) -> Result<Option<BytesMut>, Broken> {
    let mut head = frame.slice(..MIN_HEADER);
    let (key, version) = (head.get_i16(), head.get_i16());
    let key = ApiKey::try_from(key).map_err(|()| Broken::Protocol(format!("unknown API {key}")))?;
    let malformed = |e: &dyn std::fmt::Display| Broken::Protocol(format!("malformed {key:?} request of version {version}: {e}"));
    let version = match handlers::supports(key, version) {
        true => version,
        // The client learns the versions from the answer (KIP-511).
        false if key == ApiKey::ApiVersions => {
            let (answer, correlation) = (handlers::unsupported_version(), head.get_i32());
            return respond(key, 0, correlation, |out| answer.encode(out, 0).map_err(|e| e.to_string())).map(Some);
        }
        false => return Err(Broken::Protocol(format!("{key:?} of version {version} is not supported"))),
    };
    let header = RequestHeader::decode(&mut frame, key.request_header_version(version)).map_err(|e| malformed(&e))?;
    let context = Context {
        cluster,
        host: StrBytes::from_string(local.ip().to_string()),
        port: i32::from(local.port()),
        client: header.client_id.unwrap_or_default(),
        peer: StrBytes::from_string(format!("/{}", peer.ip())),
        version,
    };
    let mut body = BytesMut::new();
    if !handlers::dispatch(key, &context, frame, &mut body).await.map_err(|e| malformed(&e))? {
        return Ok(None);
    }
    respond(key, version, header.correlation_id, |out| {
        out.put_slice(&body);
        Ok(())
    })
    .map(Some)
}

fn respond(
    key: ApiKey,
    version: i16,
    correlation: i32,
    body: impl FnOnce(&mut BytesMut) -> Result<(), String>,
) -> Result<BytesMut, Broken> {
    let mut out = BytesMut::with_capacity(256);
    out.put_i32(0);
    let header = ResponseHeader::default().with_correlation_id(correlation);
    header.encode(&mut out, key.response_header_version(version)).map_err(|e| Broken::Protocol(e.to_string()))?;
    body(&mut out).map_err(Broken::Protocol)?;
    let size = i32::try_from(out.len() - 4).map_err(|_| Broken::Protocol("an answer that is too large".into()))?;
    out[..4].copy_from_slice(&size.to_be_bytes());
    Ok(out)
}
