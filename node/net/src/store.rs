use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use deepmarket_types::Hash;

use crate::NetError;

/// A folder of blobs, each in a file named by the hash of its bytes.
///
/// A blob is written under a temporary name, synced and renamed: a file with a hash for its name is whole, whatever
/// happened before. One process owns a folder. Reading still checks the hash, because disks rot. The methods block: call them from a blocking
/// thread where the bytes are many.
#[derive(Clone, Debug)]
pub struct BlobStore {
    folder: Arc<PathBuf>,
}

impl BlobStore {
    /// Opens a folder, or makes it. What an interrupted write left there is removed.
    pub fn open(folder: impl Into<PathBuf>) -> Result<BlobStore, NetError> {
        let folder = folder.into();
        let store = BlobStore { folder: Arc::new(folder) };
        store.prepare().map_err(|source| store.error(&store.folder, source))?;
        Ok(store)
    }

    fn prepare(&self) -> io::Result<()> {
        fs::create_dir_all(&*self.folder)?;
        for entry in fs::read_dir(&*self.folder)? {
            let entry = entry?;
            if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    fn error(&self, path: &Path, source: io::Error) -> NetError {
        NetError::Store { path: path.display().to_string(), source }
    }

    /// The file that holds, or would hold, a blob.
    pub fn path(&self, hash: &Hash) -> PathBuf {
        self.folder.join(hash.to_hex())
    }

    /// Is the blob here?
    pub fn has(&self, hash: &Hash) -> bool {
        self.path(hash).is_file()
    }

    /// The blob's length in bytes, if it is here.
    pub fn bytes(&self, hash: &Hash) -> Option<u64> {
        fs::metadata(self.path(hash)).ok().filter(fs::Metadata::is_file).map(|m| m.len())
    }

    /// The blob's bytes, if it is here. A file that rotted is removed and counts as not here.
    pub fn get(&self, hash: &Hash) -> Result<Option<Vec<u8>>, NetError> {
        let path = self.path(hash);
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(self.error(&path, e)),
        };
        if Hash::of(&bytes) != *hash {
            tracing::warn!(%hash, "a stored blob doesn't match its hash any more; removing it");
            fs::remove_file(&path).map_err(|e| self.error(&path, e))?;
            return Ok(None);
        }
        Ok(Some(bytes))
    }

    /// Stores bytes and returns their hash.
    pub fn put(&self, bytes: &[u8]) -> Result<Hash, NetError> {
        let hash = Hash::of(bytes);
        self.put_verified(&hash, bytes)?;
        Ok(hash)
    }

    /// Stores bytes whose hash was checked while they came.
    pub fn put_verified(&self, hash: &Hash, bytes: &[u8]) -> Result<(), NetError> {
        if self.bytes(hash) == Some(bytes.len() as u64) {
            return Ok(());
        }
        let number = NEXT_TEMPORARY.fetch_add(1, Ordering::Relaxed);
        let temporary = self.folder.join(format!("{TEMPORARY}{}-{number}", std::process::id()));
        let write = || -> io::Result<()> {
            let mut file = fs::File::create_new(&temporary)?;
            file.write_all(bytes)?;
            file.sync_all()?;
            fs::rename(&temporary, self.path(hash))?;
            fs::File::open(&*self.folder)?.sync_all()
        };
        write().map_err(|e| {
            fs::remove_file(&temporary).ok();
            self.error(&temporary, e)
        })
    }

    /// Forgets a blob.
    pub fn remove(&self, hash: &Hash) -> Result<(), NetError> {
        let path = self.path(hash);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(self.error(&path, e)),
            _ => Ok(()),
        }
    }

    /// All blobs that are here, with their lengths in bytes, in order of their hashes.
    pub fn list(&self) -> Result<Vec<(Hash, u64)>, NetError> {
        let read = || -> io::Result<Vec<(Hash, u64)>> {
            let mut blobs = Vec::new();
            for entry in fs::read_dir(&*self.folder)? {
                let entry = entry?;
                if let Ok(hash) = entry.file_name().to_string_lossy().parse() {
                    blobs.push((hash, entry.metadata()?.len()));
                }
            }
            blobs.sort();
            Ok(blobs)
        };
        read().map_err(|e| self.error(&self.folder, e))
    }
}

/// How names of unfinished files begin.
const TEMPORARY: &str = "unfinished-";
/// Tells apart what is being written at the same time in this process.
static NEXT_TEMPORARY: AtomicU64 = AtomicU64::new(0);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_is_there_under_its_hash_also_after_opening_again() {
        let folder = tempfile::tempdir().unwrap();
        let store = BlobStore::open(folder.path()).unwrap();
        let hash = store.put(b"some bytes").unwrap();
        assert_eq!(store.put(b"some bytes").unwrap(), hash);
        let empty = store.put(b"").unwrap();
        assert_eq!(hash, Hash::of(b"some bytes"));
        let store = BlobStore::open(folder.path()).unwrap();
        assert!(store.has(&hash));
        assert_eq!(store.get(&hash).unwrap().unwrap(), b"some bytes");
        assert_eq!(store.get(&empty).unwrap().unwrap(), b"");
        let mut expected = vec![(hash, 10), (empty, 0)];
        expected.sort();
        assert_eq!(store.list().unwrap(), expected);
        assert_eq!(store.get(&Hash::of(b"other")).unwrap(), None);
        store.remove(&hash).unwrap();
        assert!(!store.has(&hash));
    }

    #[test]
    fn a_rotten_file_counts_as_missing_and_leftovers_are_removed() {
        let folder = tempfile::tempdir().unwrap();
        let store = BlobStore::open(folder.path()).unwrap();
        let hash = store.put(b"some bytes").unwrap();
        fs::write(store.path(&hash), b"same bytes").unwrap();
        assert_eq!(store.get(&hash).unwrap(), None);
        assert!(!store.has(&hash));
        let leftover = folder.path().join(format!("{TEMPORARY}1-0"));
        fs::write(&leftover, b"half").unwrap();
        BlobStore::open(folder.path()).unwrap();
        assert!(!leftover.exists());
    }
}
