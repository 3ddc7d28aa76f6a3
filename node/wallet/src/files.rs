//! Files that a reader finds as they were or as they are meant to be, never a part of them; and secrets, which have their modes from
//! the moment in which they are made: there is no time in which another user could open them.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    path::Path,
};

use tempfile::{Builder, NamedTempFile};
use zeroize::Zeroizing;

use crate::failure::{Failure, Outcome, io as about};

/// The mode of a file for everybody, less what the user's umask takes away; and of one for its owner only.
const OPEN: u32 = 0o666;
const PRIVATE: u32 = 0o600;
/// The mode of a folder that only its owner may look into.
const PRIVATE_FOLDER: u32 = 0o700;
/// What a mode gives to everybody but the owner: anything, and changing it.
const OF_OTHERS: u32 = 0o077;
const CHANGED_BY_OTHERS: u32 = 0o022;
/// In a folder with this bit nobody can replace the files of others, as in `/tmp`.
const STICKY: u32 = 0o1000;

/// Writes a file so that a reader sees the old one or the new one, never a part. It is on the disk when this returns.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Outcome {
    let folder = folder_of(path);
    fs::create_dir_all(folder).map_err(about(folder.display()))?;
    write(path, bytes, OPEN, |file| file.persist(path).map_err(|e| e.error))
}

/// The same for secrets: only their owner may read the file (mode 0600), and look into folders that are made for it (mode 0700).
pub fn write_private(path: &Path, bytes: &[u8]) -> Outcome {
    make_private_folder(folder_of(path))?;
    write(path, bytes, PRIVATE, |file| file.persist(path).map_err(|e| e.error))
}

/// The same, but never over a file that is there.
pub fn write_private_new(path: &Path, bytes: &[u8]) -> Outcome {
    make_private_folder(folder_of(path))?;
    write(path, bytes, PRIVATE, |file| file.persist_noclobber(path).map_err(|e| e.error))
}

/// Makes a folder, and those above it, that only their owner may look into (mode 0700). One that is there stays as it is: its owner
/// may share what else is in it.
pub fn make_private_folder(folder: &Path) -> Outcome {
    fs::DirBuilder::new().recursive(true).mode(PRIVATE_FOLDER).create(folder).map_err(about(folder.display()))
}

/// Reads a secret of at most so many bytes; refuses one that others may have read, or may have put there.
pub fn read_private(path: &Path, most: u64) -> Outcome<Zeroizing<String>> {
    let folder = folder_of(path);
    check_folder(folder)?;
    // Judged is what was opened: what lies under the name may be another file a moment later.
    let file = fs::File::open(path).map_err(about(path.display()))?;
    let about_file = file.metadata().map_err(about(path.display()))?;
    let mode = about_file.permissions().mode();
    if mode & OF_OTHERS != 0 {
        return Err(Failure::environment(format!("{} may be read by others (mode {:o})", path.display(), mode & 0o777))
            .with_hint(format!("make sure that nobody has read it, then: chmod 600 {}", path.display())));
    }
    if about_file.len() > most {
        return Err(Failure::environment(format!(
            "{} has {} bytes, more than such a file has",
            path.display(),
            about_file.len()
        )));
    }
    let mut text = Zeroizing::new(String::with_capacity(about_file.len() as usize));
    (&file).take(most).read_to_string(&mut text).map_err(about(path.display()))?;
    Ok(text)
}

/// Refuses a folder in which others could put their own file in the place of a secret.
fn check_folder(folder: &Path) -> Outcome {
    let mode = fs::metadata(folder).map_err(about(folder.display()))?.permissions().mode();
    if mode & CHANGED_BY_OTHERS == 0 || mode & STICKY != 0 {
        return Ok(());
    }
    let message =
        format!("others may replace the files in {} (mode {:o}), and there are keys in it", folder.display(), mode & 0o777);
    Err(Failure::environment(message).with_hint(format!("chmod go-w {}", folder.display())))
}

/// The temporary file has a name that nobody has: nothing beside the file is written over, and two writers don't mix.
fn write(path: &Path, bytes: &[u8], mode: u32, persist: impl FnOnce(NamedTempFile) -> io::Result<fs::File>) -> Outcome {
    let folder = folder_of(path);
    let write = || {
        let mut file = Builder::new().permissions(fs::Permissions::from_mode(mode)).tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        persist(file)?;
        fs::File::open(folder)?.sync_all()
    };
    write().map_err(about(path.display()))
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
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
    fn folders_that_are_made_for_a_secret_are_their_owners_and_others_stay_as_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        let shared = folder.path().join("shared");
        fs::create_dir(&shared).unwrap();
        fs::set_permissions(&shared, fs::Permissions::from_mode(0o755)).unwrap();
        write_private(&shared.join("new/keys/alice.json"), b"one").unwrap();
        assert_eq!([&shared, &shared.join("new"), &shared.join("new/keys")].map(|path| mode(path)), [0o755, 0o700, 0o700]);
        assert_eq!(read_private(&shared.join("new/keys/alice.json"), 3).unwrap().as_str(), "one");
    }

    #[test]
    fn a_secret_that_others_may_read_or_replace_is_refused_with_what_to_do() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys/alice.json");
        write_private(&path, b"secret").unwrap();
        let set = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        let refused = |what: &str| {
            let failure = read_private(&path, 100).unwrap_err();
            assert!(failure.message().contains(what), "{failure}");
            assert!(!format!("{failure:?}").contains("secret"));
            failure.hint().to_owned()
        };
        for mode in [0o640, 0o604, 0o620, 0o644] {
            set(&path, mode);
            assert!(refused("may be read by others").ends_with(&format!("chmod 600 {}", path.display())));
        }
        set(&path, 0o600);
        let parent = path.parent().unwrap();
        for mode in [0o770, 0o702] {
            set(parent, mode);
            assert_eq!(refused("others may replace"), format!("chmod go-w {}", parent.display()));
        }
        // Everybody may look into it, or write into it but not over the files of others.
        for mode in [0o755, 0o1777] {
            set(parent, mode);
            assert!(read_private(&path, 100).is_ok(), "{mode:o}");
        }
        let failure = read_private(&path, 5).unwrap_err();
        assert!(failure.message().contains("6 bytes"), "{failure}");
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
