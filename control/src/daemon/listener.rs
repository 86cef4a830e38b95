//! The Unix socket of the API: 0600, never stolen from a daemon that lives.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileTypeExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use nix::sys::stat::{Mode, umask};
use tokio::net::UnixListener;

/// Why the socket cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Another daemon answers there.
    #[error("another Weir answers on {0}")]
    InUse(PathBuf),
    /// Something else has the name.
    #[error("{0} is there and is no socket")]
    Occupied(PathBuf),
    /// The system refused.
    #[error("cannot listen on {0}: {1}")]
    Refused(PathBuf, io::Error),
}

/// The path of a bound socket; the file goes when this does.
#[derive(Debug)]
pub struct Lease(PathBuf);

impl Drop for Lease {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = fs::remove_file(&self.0);
    }
}

/// Binds the socket. One that a dead daemon left behind is replaced.
///
/// # Errors
/// As [`ListenError`] says.
pub fn listen(path: &Path) -> Result<(UnixListener, Lease), ListenError> {
    let refused = |error| ListenError::Refused(path.into(), error);
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        Err(error) => return Err(refused(error)),
        Ok(metadata) if !metadata.file_type().is_socket() => {
            return Err(ListenError::Occupied(path.into()));
        }
        Ok(_) => match UnixStream::connect(path) {
            Ok(_) => return Err(ListenError::InUse(path.into())),
            Err(error) if error.kind() == ErrorKind::ConnectionRefused => {
                fs::remove_file(path).map_err(refused)?;
            }
            Err(error) => return Err(refused(error)),
        },
    }
    // The mode must be right from the first moment: chmod would come after bind.
    let before = umask(Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path);
    umask(before);
    Ok((listener.map_err(refused)?, Lease(path.into())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("weir-{}-{name}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[tokio::test]
    async fn a_live_socket_is_respected_and_a_dead_one_replaced() {
        let folder = folder("listener");
        let path = folder.join("weir.sock");
        let (listener, lease) = listen(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(matches!(listen(&path), Err(ListenError::InUse(_))));
        drop(listener);
        let (_again, second) = listen(&path).unwrap();
        drop(second);
        assert!(!path.exists());
        fs::write(&path, "text").unwrap();
        assert!(matches!(listen(&path), Err(ListenError::Occupied(_))));
        drop(lease);
        fs::remove_dir_all(&folder).unwrap();
    }
}
