//! Files elsewhere: a web server and an S3-compatible store (s3s-fs), both real, on loopback.

use std::{
    fs,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
};

use axum::{
    Router,
    body::Body,
    error_handling::HandleError,
    extract::Request,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Redirect},
    routing::get,
};
use deepmarket_dataset::{Input, Options, Progress, S3Access, fetch, import};
use futures::stream;
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use s3s_fs::FileSystem;

async fn serve(router: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, router).await });
    address.to_string()
}

fn quiet(_: Progress<'_>) {}

const TABLE: &str = "a,b,y\n1,2,cat\n3,4,dog\n5,6,cat\n7,9,dog\n";

#[tokio::test]
async fn a_file_is_fetched_over_http_through_redirects_and_with_credentials() {
    let secret = |headers: HeaderMap| async move {
        // alice:sesame
        match headers.get(header::AUTHORIZATION).map(|value| value.as_bytes()) {
            Some(b"Basic YWxpY2U6c2VzYW1l") => TABLE.into_response(),
            _ => StatusCode::FORBIDDEN.into_response(),
        }
    };
    let router = Router::new()
        .route("/data/pets.csv", get(|| async { TABLE }))
        .route("/moved/pets.csv", get(|| async { Redirect::temporary("/data/pets.csv") }))
        .route("/round/pets.csv", get(|| async { Redirect::temporary("/round/pets.csv") }))
        .route("/with%20space/pets.csv", get(|| async { TABLE }))
        .route("/secret/pets.csv", get(secret));
    let host = serve(router).await;
    let access = S3Access::default();
    for path in ["data/pets.csv", "moved/pets.csv", "with%20space/pets.csv"] {
        let folder = tempfile::tempdir().unwrap();
        let file = fetch(&format!("http://{host}/{path}"), &access, folder.path(), &quiet).await.unwrap();
        assert_eq!(file.file_name().unwrap(), "pets.csv");
        assert_eq!(fs::read_to_string(&file).unwrap(), TABLE);
        let options = Options { target: Some("y".into()), ..Options::new("pets") };
        assert_eq!(import(&Input::One(file), &options, &mut |_, _| Ok(())).unwrap().classes, ["cat", "dog"]);
    }
    let folder = tempfile::tempdir().unwrap();
    fetch(&format!("http://alice:sesame@{host}/secret/pets.csv"), &access, folder.path(), &quiet).await.unwrap();
    for (address, says) in [
        (format!("http://{host}/none.csv"), "isn't there"),
        (format!("http://{host}/round/pets.csv"), "redirects"),
        (format!("http://bob:guess@{host}/secret/pets.csv"), "isn't allowed"),
        (format!("http://{host}/pets.csv?token=1"), "?"),
        ("http://127.0.0.1:9/pets.csv".to_owned(), "refused"),
        ("gopher://host/pets.csv".to_owned(), "'gopher'"),
        ("http:///pets.csv".to_owned(), "no host"),
    ] {
        let error = fetch(&address, &access, folder.path(), &quiet).await.unwrap_err();
        assert_eq!(error.code(), 3036);
        assert!(error.to_string().contains(says), "{error}");
        assert!(!error.to_string().contains("guess"), "credentials aren't shown: {error}");
    }
}

#[tokio::test]
async fn a_transfer_that_breaks_off_goes_on_where_it_was() {
    let content: Arc<Vec<u8>> = Arc::new((0..3_000_000_u32).map(|n| (n % 251) as u8).collect());
    let (sent, requests) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU32::new(0)));
    let (given, counted, asked) = (content.clone(), sent.clone(), requests.clone());
    // Promises all that is left, gives 1 MB, and hangs up.
    let breaking = move |headers: HeaderMap, request: Request| async move {
        let from = headers
            .get(header::RANGE)
            .and_then(|range| range.to_str().ok()?.strip_prefix("bytes=")?.split('-').next()?.parse::<usize>().ok())
            .unwrap_or(0);
        let left = given.len() - from;
        let status = if from > 0 { StatusCode::PARTIAL_CONTENT } else { StatusCode::OK };
        let answer = axum::http::Response::builder()
            .status(status)
            .header(header::CONTENT_LENGTH, left)
            .header(header::CONTENT_RANGE, format!("bytes {from}-{}/{}", given.len() - 1, given.len()));
        if request.method() == "HEAD" {
            return answer.body(Body::empty()).unwrap();
        }
        asked.fetch_add(1, Ordering::Relaxed);
        let part = given[from..given.len().min(from + 1_000_000)].to_vec();
        counted.fetch_add(part.len() as u64, Ordering::Relaxed);
        let whole = from + part.len() == given.len();
        let end = (!whole).then(|| Err(std::io::Error::other("the cable was pulled")));
        answer.body(Body::from_stream(stream::iter([Ok(part)].into_iter().chain(end)))).unwrap()
    };
    let host = serve(Router::new().route("/large.bin", get(breaking))).await;
    let folder = tempfile::tempdir().unwrap();
    let last = AtomicU64::new(0);
    let progress = |now: Progress<'_>| {
        assert_eq!(now.total_bytes, Some(3_000_000));
        last.store(now.done_bytes, Ordering::Relaxed);
    };
    let file = fetch(&format!("http://{host}/large.bin"), &S3Access::default(), folder.path(), &progress).await.unwrap();
    assert!(fs::read(file).unwrap() == *content);
    assert_eq!(last.load(Ordering::Relaxed), 3_000_000);
    assert!(requests.load(Ordering::Relaxed) >= 3);
    assert!(sent.load(Ordering::Relaxed) <= 4_000_000, "what was here isn't fetched again");
}

/// An S3-compatible store over a folder, with one key.
async fn s3(folder: &Path) -> S3Access {
    let mut builder = S3ServiceBuilder::new(FileSystem::new(folder).unwrap());
    builder.set_auth(SimpleAuth::from_single("key", "secret"));
    let service = HandleError::new(builder.build(), |_| async { StatusCode::INTERNAL_SERVER_ERROR });
    let host = serve(Router::new().fallback_service(service)).await;
    let key = Some(("key".to_owned(), "secret".to_owned()));
    S3Access { endpoint: Some(format!("http://{host}")), region: Some("us-east-1".into()), key }
}

#[tokio::test]
async fn a_folder_of_a_bucket_is_imported_as_if_it_were_here() {
    let store = tempfile::tempdir().unwrap();
    for name in ["tables/train/part-0.csv", "tables/train/part-1.csv", "tables/test/part-0.csv", "other/x.csv"] {
        let path = store.path().join("bucket").join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, TABLE).unwrap();
    }
    let access = s3(store.path()).await;
    let options = Options { target: Some("y".into()), ..Options::new("pets") };
    let expected = import(&Input::One(store.path().join("bucket/tables")), &options, &mut |_, _| Ok(())).unwrap();
    assert_eq!((expected.manifest.splits[0].samples, expected.manifest.splits[1].samples), (8, 4));
    for address in ["s3://bucket/tables/", "s3://bucket/tables"] {
        let folder = tempfile::tempdir().unwrap();
        let path = fetch(address, &access, folder.path(), &quiet).await.unwrap();
        let found = import(&Input::One(path), &options, &mut |_, _| Ok(())).unwrap();
        assert_eq!(found.manifest, expected.manifest);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = fetch("s3://bucket/other/x.csv", &access, folder.path(), &quiet).await.unwrap();
    assert_eq!(fs::read_to_string(file).unwrap(), TABLE);
}

#[tokio::test]
async fn what_a_store_refuses_is_told() {
    let store = tempfile::tempdir().unwrap();
    fs::create_dir_all(store.path().join("bucket")).unwrap();
    fs::write(store.path().join("bucket/x.csv"), TABLE).unwrap();
    let access = s3(store.path()).await;
    let folder = tempfile::tempdir().unwrap();
    let missing = fetch("s3://bucket/none/", &access, folder.path(), &quiet).await.unwrap_err();
    assert!(missing.to_string().contains("isn't there"), "{missing}");
    let wrong = S3Access { key: Some(("key".into(), "guess".into())), ..access };
    let refused = fetch("s3://bucket/x.csv", &wrong, folder.path(), &quiet).await.unwrap_err();
    assert!(refused.to_string().contains("isn't allowed") && !refused.to_string().contains("guess"), "{refused}");
}
