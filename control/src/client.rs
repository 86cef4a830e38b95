//! Talks to a running Weir over its Unix socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::api::Refusal;

/// How long an answer may take: a reload of many sockets is the longest.
const PATIENCE: Duration = Duration::from_secs(30);
/// Bytes of an answer: a dump of a large map is the longest.
const ANSWER_MAX: usize = 256 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody listens there.
    #[error("no Weir answers on {0}: {1}")]
    Unreachable(PathBuf, std::io::Error),
    /// Weir said no.
    #[error("{}", .0.error)]
    Refused(Refusal),
    /// The conversation broke.
    #[error("the conversation with Weir broke: {0}")]
    Broken(String),
}

impl ClientError {
    /// What to do about it.
    pub fn help(&self) -> &str {
        match self {
            ClientError::Unreachable(_, error) => match error.kind() {
                std::io::ErrorKind::PermissionDenied => {
                    "run as the user that Weir runs as: its socket is for that user alone"
                }
                _ => "start it with `weir run -c FILE`, or name its socket with --socket PATH",
            },
            ClientError::Refused(refusal) => &refusal.help,
            ClientError::Broken(_) => "see Weir's log",
        }
    }
}

/// A running Weir.
#[derive(Clone, Debug)]
pub struct Client {
    socket: PathBuf,
}

impl Client {
    /// The Weir that listens on this socket.
    pub fn new(socket: impl Into<PathBuf>) -> Client {
        Client { socket: socket.into() }
    }

    /// The socket.
    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Reads a resource.
    ///
    /// # Errors
    /// As [`ClientError`] says.
    pub fn read<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        decode(&self.exchange(Method::GET, path, Vec::new())?)
    }

    /// Reads a resource as text.
    ///
    /// # Errors
    /// As [`ClientError`] says.
    pub fn read_text(&self, path: &str) -> Result<String, ClientError> {
        let body = self.exchange(Method::GET, path, Vec::new())?;
        String::from_utf8(body).map_err(|error| ClientError::Broken(error.to_string()))
    }

    /// Sends a value.
    ///
    /// # Errors
    /// As [`ClientError`] says.
    pub fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|e| ClientError::Broken(e.to_string()))?;
        self.send_bytes(method, path, body)
    }

    /// Sends bytes, or nothing.
    ///
    /// # Errors
    /// As [`ClientError`] says.
    pub fn send_bytes<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<T, ClientError> {
        decode(&self.exchange(method, path, body)?)
    }

    fn exchange(&self, method: Method, path: &str, body: Vec<u8>) -> Result<Vec<u8>, ClientError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|error| ClientError::Broken(error.to_string()))?;
        runtime.block_on(async {
            match tokio::time::timeout(PATIENCE, self.converse(method, path, body)).await {
                Ok(answer) => answer,
                Err(_) => Err(ClientError::Broken(format!("no answer within {PATIENCE:?}"))),
            }
        })
    }

    async fn converse(
        &self,
        method: Method,
        path: &str,
        body: Vec<u8>,
    ) -> Result<Vec<u8>, ClientError> {
        let broken = |error: &dyn std::fmt::Display| ClientError::Broken(error.to_string());
        let stream = UnixStream::connect(&self.socket)
            .await
            .map_err(|error| ClientError::Unreachable(self.socket.clone(), error))?;
        let (mut sender, connection) =
            hyper::client::conn::http1::handshake::<_, Full<Bytes>>(TokioIo::new(stream))
                .await
                .map_err(|error| broken(&error))?;
        // It ends with the sender; what goes wrong on it the sender says too.
        tokio::spawn(connection);
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(hyper::header::HOST, "weir")
            .body(Full::from(body))
            .map_err(|error| broken(&error))?;
        let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
        let status = response.status();
        let body = Limited::new(response.into_body(), ANSWER_MAX);
        let body = body.collect().await.map_err(|error| broken(&error))?.to_bytes();
        if status == StatusCode::OK {
            return Ok(body.into());
        }
        let refusal = serde_json::from_slice(&body).unwrap_or_else(|_| Refusal {
            error: format!("Weir answers {status}: {}", String::from_utf8_lossy(&body)),
            help: "is this `weir` of the same version?".into(),
        });
        Err(ClientError::Refused(refusal))
    }
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, ClientError> {
    serde_json::from_slice(body).map_err(|error| {
        ClientError::Broken(format!("{error} (is this `weir` of the same version?)"))
    })
}
