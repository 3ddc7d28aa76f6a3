//! Sources elsewhere: files are copied here first, so that every format is read in the same way, with bounded memory.
//! A transfer that breaks off goes on where it was.

use std::{
    io::{Seek as _, SeekFrom, Write as _},
    path::{Component, Path, PathBuf},
    time::Duration,
};

use futures::{StreamExt as _, TryStreamExt as _};
use opendal::{ErrorKind, HttpTransporter, OperationContext, Operator, services};
use tokio::time::{sleep, timeout};

use crate::{ImportError, idx, transport::Transport};

/// The most files of one source.
const MAX_FILES: usize = 1_000_000;
/// How long a transfer may stand still.
const STALL: Duration = Duration::from_secs(60);
/// How often a file is tried without a byte more, and the pause between.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_secs(1);

/// What an S3-compatible store needs to know.
#[derive(Clone, Debug, Default)]
pub struct S3Access {
    /// `https://host:port`; `None`: Amazon's.
    pub endpoint: Option<String>,
    /// The region; `None`: us-east-1.
    pub region: Option<String>,
    /// Key and secret; `None`: what OpenDAL finds in the environment or the user's profile, else anonymous.
    pub key: Option<(String, String)>,
}

impl S3Access {
    /// What the usual environment variables say: `AWS_ENDPOINT_URL`, `AWS_REGION` or `AWS_DEFAULT_REGION`. Keys
    /// (`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY`, `AWS_SESSION_TOKEN`, `AWS_PROFILE`) are found by OpenDAL itself.
    pub fn from_environment() -> S3Access {
        let variable = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
        S3Access {
            endpoint: variable("AWS_ENDPOINT_URL_S3").or_else(|| variable("AWS_ENDPOINT_URL")),
            region: variable("AWS_REGION").or_else(|| variable("AWS_DEFAULT_REGION")),
            key: None,
        }
    }
}

/// What a transfer tells.
pub struct Progress<'a> {
    /// The file that is being fetched.
    pub file: &'a str,
    /// Bytes of all files that are here.
    pub done_bytes: u64,
    /// Bytes of all files, as far as the source says.
    pub total_bytes: Option<u64>,
}

/// Is this the address of something elsewhere, and not a path?
pub fn is_url(source: &str) -> bool {
    source.contains("://") && !source.starts_with("file://")
}

/// The path that a local source names; `file://` is taken off.
pub fn local_path(source: &str) -> PathBuf {
    PathBuf::from(source.strip_prefix("file://").unwrap_or(source))
}

/// Copies a source into a folder, and returns the file or folder there. A path with `/` at its end is a folder: of `http`, it
/// must hold MNIST's four files, as nothing lists it.
pub async fn fetch(
    url: &str,
    access: &S3Access,
    into: &Path,
    progress: &(dyn Fn(Progress<'_>) + Send + Sync),
) -> Result<PathBuf, ImportError> {
    let source = Remote::parse(url, access)?;
    let files = source.files().await?;
    let total_bytes = files.iter().map(|(_, bytes)| *bytes).sum::<Option<u64>>();
    let mut before = 0;
    for (file, _) in &files {
        let path = into.join(source.local_name(file)?);
        if let Some(folder) = path.parent() {
            std::fs::create_dir_all(folder).map_err(ImportError::Disk)?;
        }
        let tell = |done: u64| progress(Progress { file, done_bytes: before + done, total_bytes });
        before += source.copy(file, &path, &tell).await?;
    }
    match files.as_slice() {
        [(file, _)] if source.is_file(file) => Ok(into.join(source.local_name(file)?)),
        _ => Ok(into.to_owned()),
    }
}

/// A source that OpenDAL reads.
struct Remote {
    /// For people, without credentials.
    url: String,
    operator: Operator,
    /// Below the operator's root; ends with `/` where it is a folder for sure.
    path: String,
    lists: bool,
}

impl Remote {
    fn parse(url: &str, access: &S3Access) -> Result<Remote, ImportError> {
        let (scheme, rest) = url.split_once("://").expect("the caller asked is_url");
        // Credentials in an address end up in logs: only the host is kept for people.
        let (user, rest) = match rest.split_once('/').map_or(rest, |(authority, _)| authority).rsplit_once('@') {
            Some((user, _)) => (Some(user), &rest[user.len() + 1..]),
            None => (None, rest),
        };
        let shown = format!("{scheme}://{rest}");
        let refuse = |why: String, hint: &str| ImportError::Source { url: shown.clone(), why, hint: hint.to_owned() };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.is_empty() {
            return Err(refuse("it names no host".into(), "write for example s3://bucket/folder/ or https://host/file.csv"));
        }
        let built = match scheme {
            "http" | "https" => {
                if path.contains(['?', '#']) {
                    return Err(refuse("addresses with ? or # aren't read".into(), "fetch the file with another program first"));
                }
                let mut builder = services::Http::default().endpoint(&format!("{scheme}://{authority}"));
                if let Some((name, password)) = user.map(|user| user.split_once(':').unwrap_or((user, ""))) {
                    builder = builder.username(name).password(password);
                }
                Operator::new(builder)
            }
            "s3" => {
                let mut builder = services::S3::default().bucket(authority).disable_ec2_metadata();
                builder = builder.region(access.region.as_deref().unwrap_or("us-east-1"));
                if let Some(endpoint) = &access.endpoint {
                    builder = builder.endpoint(endpoint);
                }
                match &access.key {
                    Some((key, secret)) => builder = builder.access_key_id(key).secret_access_key(secret).disable_config_load(),
                    // A public bucket needs no key.
                    None if !has_aws_key() => builder = builder.skip_signature(),
                    None => {}
                }
                Operator::new(builder)
            }
            #[cfg(feature = "hdfs")]
            "hdfs" => Operator::new(services::HdfsNative::default().name_node(&format!("hdfs://{authority}")).root("/")),
            #[cfg(not(feature = "hdfs"))]
            "hdfs" => {
                return Err(refuse(
                    "this build doesn't read hdfs".into(),
                    "build with `cargo build --release -p deepmarket-cli --features hdfs`, or copy the files first (hdfs dfs -get)",
                ));
            }
            other => {
                return Err(refuse(
                    format!("nothing here reads '{other}'"),
                    "name a path, or an address that begins with file://, http://, https://, s3:// or hdfs://",
                ));
            }
        };
        let operator = built.map_err(|e| refuse(e.to_string(), "check the address"))?;
        let transport =
            Transport::new().map_err(|e| refuse(format!("no TLS on this machine: {e}"), "install ca-certificates"))?;
        let context = OperationContext::new().with_http_transport(HttpTransporter::new(transport));
        let path = decoded(path);
        Ok(Remote { url: shown, operator: operator.with_context(context), path, lists: !matches!(scheme, "http" | "https") })
    }

    fn error(&self, file: &str, error: &opendal::Error) -> ImportError {
        let why = match error.kind() {
            ErrorKind::NotFound => format!("'{file}' isn't there"),
            ErrorKind::PermissionDenied => format!("reading '{file}' isn't allowed"),
            // The first line says what it is; what follows is for those who debug OpenDAL.
            _ => {
                let cause = std::error::Error::source(error).map(|cause| format!(": {cause}")).unwrap_or_default();
                format!("reading '{file}' failed: {}{cause}", error.to_string().lines().next().unwrap_or_default())
            }
        };
        let hint = match error.kind() {
            ErrorKind::PermissionDenied => {
                "check the credentials (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or user:password@)"
            }
            ErrorKind::NotFound => "check the address; a folder ends with /",
            _ => "check the address and the network (AWS_ENDPOINT_URL names another S3 store), then try again",
        };
        ImportError::Source { url: self.url.clone(), why, hint: hint.to_owned() }
    }

    fn is_file(&self, file: &str) -> bool {
        file == self.path
    }

    /// All files of the source with their lengths, in order of their names.
    async fn files(&self) -> Result<Vec<(String, Option<u64>)>, ImportError> {
        let is_folder = self.path.is_empty() || self.path.ends_with('/');
        let mut no_file = None;
        if !is_folder {
            match self.operator.stat(&self.path).await {
                Ok(metadata) if metadata.is_file() => {
                    let length = metadata.content_length();
                    return Ok(vec![(self.path.clone(), (length > 0).then_some(length))]);
                }
                Ok(_) => {}
                // A store may have no object of this name and yet some below it; not all say so in the same way.
                Err(e) if self.lists && e.kind() != ErrorKind::PermissionDenied => no_file = Some(e),
                // Some servers answer no HEAD: reading will tell.
                Err(e) if !self.lists && e.kind() != ErrorKind::NotFound && !e.is_temporary() => {
                    return Ok(vec![(self.path.clone(), None)]);
                }
                Err(e) => return Err(self.error(&self.path, &e)),
            }
        }
        if !self.lists {
            return Ok(idx::FILES.iter().map(|name| (format!("{}{name}", self.path), None)).collect());
        }
        let folder = if is_folder { self.path.clone() } else { format!("{}/", self.path) };
        let root = if folder.is_empty() { "/" } else { &folder };
        let fail = |e: opendal::Error| self.error(root, &e);
        let mut lister = self.operator.lister_with(root).recursive(true).await.map_err(fail)?;
        let mut files = Vec::new();
        while let Some(entry) = lister.try_next().await.map_err(fail)? {
            if entry.metadata().is_file() {
                files.push((entry.path().to_owned(), Some(entry.metadata().content_length())));
            }
            if files.len() > MAX_FILES {
                let (why, hint) = (format!("it holds more than {MAX_FILES} files"), "name a smaller folder".to_owned());
                return Err(ImportError::Source { url: self.url.clone(), why, hint });
            }
        }
        if files.is_empty() {
            let error = no_file.unwrap_or_else(|| opendal::Error::new(ErrorKind::NotFound, "no files"));
            return Err(self.error(root, &error));
        }
        files.sort();
        Ok(files)
    }

    /// A file's path below the local folder. A name that would lead out of it is refused.
    fn local_name(&self, file: &str) -> Result<PathBuf, ImportError> {
        let folder =
            if self.is_file(file) { file.rsplit_once('/').map_or(0, |(folder, _)| folder.len() + 1) } else { self.path.len() };
        let name = PathBuf::from(file.get(folder..).unwrap_or(file).trim_start_matches('/'));
        let plain = name.components().all(|part| matches!(part, Component::Normal(_)));
        if name.as_os_str().is_empty() || !plain {
            let (why, hint) = (format!("it holds a file named '{file}'"), "rename it".to_owned());
            return Err(ImportError::Source { url: self.url.clone(), why, hint });
        }
        Ok(name)
    }

    /// Copies one file, and returns its length.
    async fn copy(&self, file: &str, path: &Path, tell: &(dyn Fn(u64) + Send + Sync)) -> Result<u64, ImportError> {
        let mut local = std::fs::File::create(path).map_err(ImportError::Disk)?;
        let (mut done, mut tries) = (0, 0);
        loop {
            let before = done;
            let error = match self.copy_from(file, &mut local, &mut done, tell).await? {
                Ok(()) => {
                    local.sync_all().map_err(ImportError::Disk)?;
                    return Ok(done);
                }
                Err(error) => error,
            };
            tries = if done > before { 1 } else { tries + 1 };
            if !error.is_temporary() || tries > TRIES {
                return Err(self.error(file, &error));
            }
            sleep(PAUSE * tries).await;
        }
    }

    /// Reads on from where the local file ends. The inner error is the source's.
    async fn copy_from(
        &self,
        file: &str,
        local: &mut std::fs::File,
        done: &mut u64,
        tell: &(dyn Fn(u64) + Send + Sync),
    ) -> Result<opendal::Result<()>, ImportError> {
        let begin = async {
            let reader = self.operator.reader(file).await?;
            if *done == 0 { reader.into_stream(..).await } else { reader.into_stream(*done..).await }
        };
        let mut stream = match begin.await {
            Ok(stream) => stream,
            Err(error) => return Ok(Err(error)),
        };
        local.seek(SeekFrom::Start(*done)).map_err(ImportError::Disk)?;
        loop {
            match timeout(STALL, stream.next()).await {
                Ok(Some(Ok(buffer))) => {
                    for bytes in buffer {
                        local.write_all(&bytes).map_err(ImportError::Disk)?;
                        *done += bytes.len() as u64;
                    }
                    tell(*done);
                }
                Ok(Some(Err(error))) => return Ok(Err(error)),
                Ok(None) => return Ok(Ok(())),
                Err(_) => {
                    let why = format!("nothing came for {} s", STALL.as_secs());
                    return Ok(Err(opendal::Error::new(ErrorKind::Unexpected, why).with_temporary(true)));
                }
            }
        }
    }
}

/// Is a key to be found where AWS's own programs look?
fn has_aws_key() -> bool {
    let named = ["AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_WEB_IDENTITY_TOKEN_FILE"];
    let file = std::env::home_dir().is_some_and(|home| home.join(".aws/credentials").exists());
    file || named.iter().any(|name| std::env::var_os(name).is_some())
}

/// A path of an address without its `%20`s: OpenDAL writes them again.
fn decoded(path: &str) -> String {
    let bytes = path.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let hex =
            (bytes[at] == b'%').then(|| path.get(at + 1..at + 3).and_then(|two| u8::from_str_radix(two, 16).ok())).flatten();
        out.push(hex.unwrap_or(bytes[at]));
        at += if hex.is_some() { 3 } else { 1 };
    }
    String::from_utf8(out).unwrap_or_else(|_| path.to_owned())
}
