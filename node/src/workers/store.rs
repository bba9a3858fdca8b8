//! The place where the node and its workers share the sealed pages of a list's buckets: a folder that all of them see, or an
//! S3-compatible store. It is trusted with nothing: the pages are sealed, and a changed one does not open.

use std::io;
use std::sync::Arc;

use futures::TryStreamExt as _;
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path;
use object_store::prefix::PrefixStore;
use object_store::{ObjectStore, ObjectStoreExt as _};
use tokio::runtime::Handle;

use super::{WorkersError, s3};
use crate::bucket_files::Pages;

/// A shared store.
#[derive(Clone)]
pub struct SharedStore(Arc<dyn ObjectStore>);

#[allow(clippy::needless_pass_by_value)]
fn wrong(what: impl ToString) -> WorkersError {
    WorkersError::Store {
        reason: what.to_string(),
    }
}

impl SharedStore {
    /// The store at `file:///FOLDER`, which must exist, or at `s3://BUCKET[/PREFIX]`. For S3 the environment says where it is and who
    /// asks: `AWS_ENDPOINT` (`http://HOST[:PORT]`; there is no TLS), `AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and
    /// the others that the crate `object_store` knows.
    ///
    /// # Errors
    /// [`WorkersError::Store`].
    pub fn open(url: &str) -> Result<Self, WorkersError> {
        if let Some(folder) = url.strip_prefix("file://") {
            let store = LocalFileSystem::new_with_prefix(folder).map_err(wrong)?;
            return Ok(Self(Arc::new(store)));
        }
        if let Some(rest) = url.strip_prefix("s3://") {
            let store = s3::store(AmazonS3Builder::from_env(), rest).map_err(wrong)?;
            return Ok(Self(Arc::new(store)));
        }
        Err(wrong(
            "expected file:///FOLDER or s3://BUCKET[/PREFIX], found something else",
        ))
    }

    /// A folder of this store, for one list.
    pub(crate) fn folder(&self, name: &str) -> Self {
        Self(Arc::new(PrefixStore::new(self.0.clone(), name)))
    }

    /// Pages in it; calls block on `handle`'s runtime, so they must not come from one of its own threads.
    pub(crate) fn pages(&self, handle: Handle) -> Box<dyn Pages> {
        Box::new(Objects {
            store: self.0.clone(),
            handle,
        })
    }

    /// Removes everything in it.
    ///
    /// # Errors
    /// [`WorkersError::Store`].
    pub(crate) async fn clear(&self) -> Result<(), WorkersError> {
        let there = self.0.list(None).map_ok(|object| object.location);
        let there: Vec<Path> = there.try_collect().await.map_err(wrong)?;
        for path in there {
            self.0.delete(&path).await.map_err(wrong)?;
        }
        Ok(())
    }
}

struct Objects {
    store: Arc<dyn ObjectStore>,
    handle: Handle,
}

fn place(page: u32) -> Path {
    Path::from(format!("{page:08x}"))
}

impl Pages for Objects {
    fn write(&self, page: u32, bytes: &[u8]) -> io::Result<()> {
        let place = place(page);
        let put = self.store.put(&place, bytes.to_vec().into());
        self.handle.block_on(put).map_err(io::Error::other)?;
        Ok(())
    }

    fn read(&self, page: u32, bytes: &mut [u8]) -> io::Result<()> {
        let got = self.handle.block_on(async {
            let got = self.store.get(&place(page)).await?;
            got.bytes().await
        });
        let got = got.map_err(io::Error::other)?;
        if got.len() != bytes.len() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                format!(
                    "page {page} has {} bytes, expected {}",
                    got.len(),
                    bytes.len()
                ),
            ));
        }
        bytes.copy_from_slice(&got);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What every store has to do.
    async fn keeps_pages(store: SharedStore) {
        let folders = [store.folder("lists/a"), store.folder("lists/b")];
        for (n, folder) in (1_u8..).zip(&folders) {
            let pages = folder.pages(Handle::current());
            let kept = move || {
                for page in 0..3_u32 {
                    pages.write(page, &vec![n; 70_000 + page as usize]).unwrap();
                }
                let mut bytes = vec![0; 70_001];
                pages.read(1, &mut bytes).unwrap();
                assert!(bytes.iter().all(|b| *b == n));
                // Another length, and a page that there is not.
                assert!(pages.read(2, &mut bytes).is_err());
                assert!(pages.read(3, &mut bytes).is_err());
            };
            tokio::task::spawn_blocking(kept).await.unwrap();
        }
        folders[0].clear().await.unwrap();
        for (there, folder) in [false, true].into_iter().zip(&folders) {
            let pages = folder.pages(Handle::current());
            let read = move || pages.read(0, &mut vec![0; 70_000]).is_ok();
            assert_eq!(tokio::task::spawn_blocking(read).await.unwrap(), there);
        }
        store.folder("lists").clear().await.unwrap();
        store.folder("lists").clear().await.unwrap();
    }

    #[tokio::test]
    async fn a_folder_keeps_pages_and_loses_them_when_it_is_cleared() {
        let dir = tempfile::tempdir().unwrap();
        let url = format!("file://{}", dir.path().display());
        keeps_pages(SharedStore::open(&url).unwrap()).await;
        for wrong in ["file:///no/such/folder", "ftp://x", "/tmp"] {
            assert!(matches!(
                SharedStore::open(wrong),
                Err(WorkersError::Store { .. })
            ));
        }
    }

    /// moto's server speaks S3 and keeps everything in memory.
    #[tokio::test]
    async fn an_s3_compatible_store_keeps_pages_too() {
        use std::io::{Read as _, Write as _};
        use std::process::{Child, Command, Stdio};

        struct Server(Child);
        impl Drop for Server {
            fn drop(&mut self) {
                let _ = self.0.kill();
                let _ = self.0.wait();
            }
        }
        let python = std::env::var("TALLY_PYTHON").unwrap_or_else(|_| "python3".into());
        let there = Command::new(&python)
            .args(["-c", "import moto.server, flask"])
            .stderr(Stdio::null())
            .status();
        if !there.is_ok_and(|status| status.success()) {
            println!("SKIPPED: {python} has no moto[server]");
            return;
        }
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let port = address.port().to_string();
        let _server = Server(
            Command::new(&python)
                .args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap(),
        );
        let until = std::time::Instant::now() + std::time::Duration::from_secs(60);
        let made = loop {
            assert!(std::time::Instant::now() < until, "moto does not start");
            if let Ok(mut stream) = std::net::TcpStream::connect(address) {
                let put = "PUT /tally HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                stream.write_all(put.as_bytes()).unwrap();
                let mut answer = String::new();
                stream.read_to_string(&mut answer).unwrap();
                break answer;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        };
        assert!(made.starts_with("HTTP/1.1 200"), "{made}");
        let builder = |key: &str| {
            AmazonS3Builder::new()
                .with_endpoint(format!("http://{address}"))
                .with_region("us-east-1")
                .with_access_key_id(key)
                .with_secret_access_key("b")
        };
        let store = s3::store(builder("a"), "tally/some/prefix").unwrap();
        keeps_pages(SharedStore(Arc::new(store))).await;
        // Another bucket is none, and TLS is refused before anything is sent.
        let none = s3::store(builder("a"), "none").unwrap();
        assert!(SharedStore(Arc::new(none)).clear().await.is_err());
        let tls = builder("a").with_endpoint(format!("https://{address}"));
        assert!(s3::store(tls, "tally").is_err());
    }
}
