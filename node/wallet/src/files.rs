//! Files that a reader finds as they were or as they are meant to be, never a part of them.

use std::{fs, io, io::Write as _, os::unix::fs::PermissionsExt as _, path::Path};

use tempfile::{Builder, NamedTempFile};

use crate::failure::{Outcome, io as about};

/// The mode of a file for everybody, less what the user's umask takes away; and of one for its owner only.
const OPEN: u32 = 0o666;
const PRIVATE: u32 = 0o600;

/// Writes a file so that a reader sees the old one or the new one, never a part. It is on the disk when this returns.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Outcome {
    write(path, bytes, OPEN, |file| file.persist(path).map_err(|e| e.error))
}

/// The same for secrets: only their owner may read the file (mode 0600).
pub fn write_private(path: &Path, bytes: &[u8]) -> Outcome {
    write(path, bytes, PRIVATE, |file| file.persist(path).map_err(|e| e.error))
}

/// The same, but never over a file that is there.
pub fn write_private_new(path: &Path, bytes: &[u8]) -> Outcome {
    write(path, bytes, PRIVATE, |file| file.persist_noclobber(path).map_err(|e| e.error))
}

/// The temporary file has a name that nobody has: nothing beside the file is written over, and two writers don't mix.
fn write(path: &Path, bytes: &[u8], mode: u32, persist: impl FnOnce(NamedTempFile) -> io::Result<fs::File>) -> Outcome {
    let folder = make_folder(path)?;
    let write = || {
        let mut file = Builder::new().permissions(fs::Permissions::from_mode(mode)).tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        persist(file)?;
        fs::File::open(folder)?.sync_all()
    };
    write().map_err(about(path.display()))
}

/// Makes a file's folder; gives it.
fn make_folder(path: &Path) -> Outcome<&Path> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::create_dir_all(folder).map_err(about(folder.display()))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_file_is_its_owners_and_a_new_one_takes_nobodys_place() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/alice.json");
        write_private_new(&path, b"one").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let error = write_private_new(&path, b"two").unwrap_err().to_string();
        assert!(error.contains("alice.json") && error.contains("exists"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"one");
        write_private(&path, b"three").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read(&path).unwrap(), b"three");
        write_whole(&path, b"four").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"four");
        assert_eq!(fs::read_dir(folder.path().join("keys")).unwrap().count(), 1, "nothing temporary is left");
    }

    #[test]
    fn what_lies_beside_a_file_stays_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let (path, neighbour) = (folder.path().join("history.csv"), folder.path().join("history.tmp"));
        fs::write(&neighbour, b"mine").unwrap();
        write_whole(&path, b"rows").unwrap();
        assert_eq!((fs::read(&path).unwrap(), fs::read(&neighbour).unwrap()), (b"rows".to_vec(), b"mine".to_vec()));
        // Whatever the umask is, its owner may read and write it, and nobody may run it.
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o711, 0o600);
    }
}
