//! A TCP proxy with a switch: a network that can be cut and healed.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::thread::{sleep, spawn};
use std::time::Duration;

/// How the network is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Link {
    Open,
    /// Connections break at once, new ones as well: a server that is down.
    Refused,
    /// Nothing gets through in either direction, but connections stay; what was sent arrives when the link is open again.
    Silent,
    /// What is sent arrives, but no answer comes back; such connections break when the link is open again.
    Deaf,
    /// The proxy has ended.
    Gone,
}

const LINKS: [Link; 5] = [Link::Open, Link::Refused, Link::Silent, Link::Deaf, Link::Gone];
/// How soon a change of the link is seen.
const LOOK: Duration = Duration::from_millis(5);

/// Listens on a port of its own and hands on to another; ends when dropped.
pub struct Proxy {
    pub port: u16,
    link: Arc<AtomicU8>,
}

fn is(link: &AtomicU8) -> Link {
    LINKS[usize::from(link.load(Ordering::Relaxed))]
}

impl Proxy {
    /// `to`: host and port; it need not be there yet.
    pub fn start(to: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        listener.set_nonblocking(true).unwrap();
        let link = Arc::new(AtomicU8::new(Link::Open as u8));
        let (seen, to) = (link.clone(), to.to_owned());
        spawn(move || {
            while is(&seen) != Link::Gone {
                // A silent network takes no connection: it waits in the backlog.
                match if is(&seen) == Link::Silent { Err(ErrorKind::WouldBlock.into()) } else { listener.accept() } {
                    Ok((client, _)) if is(&seen) != Link::Refused => connect(client, &to, &seen),
                    Ok(_) => {}
                    Err(_) => sleep(LOOK),
                }
            }
        });
        Self { port, link }
    }

    pub fn set(&self, link: Link) {
        self.link.store(link as u8, Ordering::Relaxed);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.set(Link::Gone);
    }
}

fn connect(client: TcpStream, to: &str, link: &Arc<AtomicU8>) {
    // Without a server the client's connection breaks.
    let Ok(server) = TcpStream::connect(to) else { return };
    client.set_nonblocking(false).unwrap();
    for stream in [&client, &server] {
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(LOOK)).unwrap();
    }
    let (from_client, to_client) = (client.try_clone().unwrap(), client);
    let (from_server, to_server) = (server.try_clone().unwrap(), server);
    let (there, back) = (link.clone(), link.clone());
    spawn(move || pump(from_client, to_server, &there, false));
    spawn(move || pump(from_server, to_client, &back, true));
}

/// Hands on until one side ends or the link says so. `answers`: this is the way back.
fn pump(mut from: TcpStream, mut to: TcpStream, link: &AtomicU8, answers: bool) {
    let mut buffer = vec![0; 1 << 16];
    let mut deaf = false;
    loop {
        match is(link) {
            Link::Refused | Link::Gone => break,
            Link::Silent => {
                sleep(LOOK);
                continue;
            }
            Link::Deaf => deaf = true,
            Link::Open if deaf => break,
            Link::Open => {}
        }
        match from.read(&mut buffer) {
            Ok(0) => break,
            Ok(n) => {
                while is(link) == Link::Silent {
                    sleep(LOOK);
                }
                deaf |= is(link) == Link::Deaf;
                if !(answers && deaf) && to.write_all(&buffer[..n]).is_err() {
                    break;
                }
            }
            Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
            Err(_) => break,
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
