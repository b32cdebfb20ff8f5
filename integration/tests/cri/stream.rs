//! The streaming side of CRI (exec, attach, port-forward) over WebSocket, as kubelet speaks it:
//! sub-protocol `v4.channel.k8s.io`, the first byte of each message is the channel.

use std::{
    fs::File,
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use cofferdam_integration::{
    enclave::Enclave,
    error::{Error, Result},
};
use nix::sched::{CloneFlags, setns};
use tungstenite::{Message, WebSocket, client::IntoClientRequest, http::HeaderValue};

/// What has arrived on each channel.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    channels: [Vec<u8>; 5],
    closed: bool,
}

impl Heard {
    pub(crate) fn text(&self, channel: usize) -> String {
        String::from_utf8_lossy(&self.channels[channel]).into_owned()
    }
}

/// Connects to `url` in the enclave's network, sends each message as (channel, bytes), and listens
/// until `enough` says so, the other side closes, or ten seconds have passed.
pub(crate) fn talk(
    enclave: &Enclave,
    url: &str,
    send: &[(u8, &[u8])],
    enough: impl Fn(&Heard) -> bool + Send,
) -> Result<Heard> {
    let network = format!("/proc/{}/ns/net", enclave.init());
    // The network namespace is the thread's: this one is thrown away afterwards.
    thread::scope(|scope| {
        let talker = scope.spawn(move || {
            let namespace = File::open(&network).map_err(|error| failed(url, error))?;
            setns(namespace, CloneFlags::CLONE_NEWNET).map_err(|error| failed(url, error))?;
            let mut socket = connect(url)?;
            for (channel, bytes) in send {
                let message = [&[*channel], *bytes].concat();
                socket
                    .send(Message::binary(message))
                    .map_err(|error| failed(url, error))?;
            }
            Ok(listen(&mut socket, enough))
        });
        talker
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn connect(url: &str) -> Result<WebSocket<TcpStream>> {
    let url = url.replacen("http://", "ws://", 1);
    let mut request = url
        .as_str()
        .into_client_request()
        .map_err(|error| failed(&url, error))?;
    let address = request.uri().authority().map(ToString::to_string);
    let headers = request.headers_mut();
    let protocol = HeaderValue::from_static("v4.channel.k8s.io");
    headers.insert("Sec-WebSocket-Protocol", protocol);
    headers.insert("Origin", HeaderValue::from_static("http://localhost"));
    let stream = TcpStream::connect(address.unwrap_or_default());
    let stream = stream.map_err(|error| failed(&url, error))?;
    let (socket, _) = tungstenite::client(request, stream).map_err(|error| failed(&url, error))?;
    let patience = Some(Duration::from_millis(100));
    socket
        .get_ref()
        .set_read_timeout(patience)
        .map_err(|error| failed(&url, error))?;
    Ok(socket)
}

fn listen(socket: &mut WebSocket<TcpStream>, enough: impl Fn(&Heard) -> bool) -> Heard {
    let mut heard = Heard::default();
    let until = Instant::now() + Duration::from_secs(10);
    while Instant::now() < until && !heard.closed && !enough(&heard) {
        match socket.read() {
            Ok(message) => match message.into_data().split_first() {
                Some((channel, bytes)) if usize::from(*channel) < heard.channels.len() => {
                    heard.channels[usize::from(*channel)].extend_from_slice(bytes);
                }
                _ => {}
            },
            Err(tungstenite::Error::Io(error))
                if error.kind() == std::io::ErrorKind::WouldBlock => {}
            Err(_) => heard.closed = true,
        }
    }
    heard
}

fn failed(url: &str, why: impl std::fmt::Display) -> Error {
    Error::Timeout {
        what: format!("streaming from {url}"),
        within: Duration::ZERO,
        detail: why.to_string(),
    }
}
