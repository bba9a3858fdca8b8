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
    /// asks: `AWS_ENDPOINT` (`https://HOST[:PORT]`, or `http` without TLS), `AWS_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and
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

    use std::path::Path as FilePath;
    use std::process::{Child, Command, Stdio};
    use std::time::{Duration, Instant};

    struct Server(Child);

    impl Drop for Server {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// moto's server, which speaks S3 and keeps everything in memory, with a bucket `tally`, and where it is; `None` if it is not
    /// installed. With TLS where there is a certificate, whose key is beside it.
    async fn moto(certificate: Option<&FilePath>) -> Option<(Server, String)> {
        let python = std::env::var("TALLY_PYTHON").unwrap_or_else(|_| "python3".into());
        let there = Command::new(&python)
            .args(["-c", "import moto.server, flask"])
            .stderr(Stdio::null())
            .status();
        if !there.is_ok_and(|status| status.success()) {
            println!("SKIPPED: {python} has no moto[server]");
            return None;
        }
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let port = address.port().to_string();
        let mut command = Command::new(&python);
        command.args(["-m", "moto.server", "-H", "127.0.0.1", "-p", &port]);
        let mut scheme = "http";
        if let Some(certificate) = certificate {
            scheme = "https";
            command.arg("-s").arg("-c").arg(certificate);
            command.arg("-k").arg(certificate.with_extension("key"));
        }
        let server = command
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let server = Server(server);
        let url = format!("{scheme}://{address}");
        let until = Instant::now() + Duration::from_secs(60);
        while !s3::make_bucket(&format!("{url}/tally"), certificate).await {
            assert!(Instant::now() < until, "moto does not start");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        Some((server, url))
    }

    fn builder(url: &str) -> AmazonS3Builder {
        AmazonS3Builder::new()
            .with_endpoint(url)
            .with_region("us-east-1")
            .with_access_key_id("a")
            .with_secret_access_key("b")
    }

    /// A certificate for 127.0.0.1, signed by itself, with its key beside it.
    fn certificate(dir: &FilePath, name: &str) -> std::path::PathBuf {
        let file = dir.join(name).with_extension("crt");
        let made = Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-nodes", "-days", "2"])
            .args(["-pkeyopt", "ec_paramgen_curve:P-256", "-subj", "/CN=store"])
            .args(["-addext", "subjectAltName=IP:127.0.0.1"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .arg("-keyout")
            .arg(file.with_extension("key"))
            .arg("-out")
            .arg(&file)
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        file
    }

    #[tokio::test]
    async fn an_s3_compatible_store_keeps_pages_too() {
        let Some((_server, url)) = moto(None).await else {
            return;
        };
        let store = s3::store(builder(&url), "tally/some/prefix").unwrap();
        keeps_pages(SharedStore(Arc::new(store))).await;
        // Another bucket is none.
        let none = s3::store(builder(&url), "none").unwrap();
        assert!(SharedStore(Arc::new(none)).clear().await.is_err());
        assert!(s3::store(builder("ftp://x"), "tally").is_err());
    }

    #[tokio::test]
    async fn over_tls_it_is_the_store_that_its_certificate_names_or_none() {
        let dir = tempfile::tempdir().unwrap();
        let (right, wrong) = (certificate(dir.path(), "a"), certificate(dir.path(), "b"));
        // What a file of authorities must be, whether or not there is a server.
        let of = |file: &FilePath| {
            let file = file.to_owned();
            s3::store_trusting(builder("https://127.0.0.1:1"), "tally", || Ok(file))
        };
        assert!(of(&right).is_ok());
        for bad in [right.with_extension("key"), dir.path().join("none")] {
            assert!(of(&bad).is_err());
        }
        let Some((_server, url)) = moto(Some(&right)).await else {
            return;
        };
        let trusting = |url: &str, file: &FilePath| {
            let file = file.to_owned();
            let store = s3::store_trusting(builder(url), "tally/some/prefix", || Ok(file));
            SharedStore(Arc::new(store.unwrap()))
        };
        keeps_pages(trusting(&url, &right)).await;
        // Another's certificate, another name, and no TLS.
        for (url, file) in [
            (url.clone(), &wrong),
            (url.replace("127.0.0.1", "localhost"), &right),
            (url.replace("https", "http"), &right),
        ] {
            assert!(trusting(&url, file).clear().await.is_err(), "{url}");
        }
    }
}
