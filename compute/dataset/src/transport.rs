//! HTTP and HTTPS for OpenDAL, over hyper and rustls with `ring`, which the consensus engine brings anyway. Certificates are
//! checked against the system's store, so that an institution's own authority counts. Follows redirects of reads.

use std::time::Duration;

use futures::TryStreamExt as _;
use http::{Method, Request, Response, Uri, header};
use http_body_util::{BodyDataStream, BodyExt as _, Full};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use opendal::{Buffer, Error, ErrorKind, HttpBody, HttpTransport};

type Body = Full<bytes::Bytes>;

/// How long a connection may take to open, and an answer to begin.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
const ANSWER_WITHIN: Duration = Duration::from_secs(60);
/// The most redirects of one request.
const MAX_REDIRECTS: usize = 10;

/// Sends OpenDAL's requests.
pub(crate) struct Transport {
    client: Client<HttpsConnector<HttpConnector>, Body>,
}

impl Transport {
    pub(crate) fn new() -> Result<Transport, std::io::Error> {
        let mut tcp = HttpConnector::new();
        tcp.set_connect_timeout(Some(CONNECT_WITHIN));
        tcp.enforce_http(false);
        let https = HttpsConnectorBuilder::new()
            .with_provider_and_native_roots(rustls_ring())?
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        Ok(Transport { client: Client::builder(TokioExecutor::new()).build(https) })
    }
}

fn rustls_ring() -> rustls::crypto::CryptoProvider {
    rustls::crypto::ring::default_provider()
}

impl HttpTransport for Transport {
    async fn fetch(&self, request: Request<Buffer>) -> opendal::Result<Response<HttpBody>> {
        let (parts, body) = request.into_parts();
        let body = body.to_bytes();
        let (mut uri, mut headers) = (parts.uri.clone(), parts.headers);
        for _ in 0..=MAX_REDIRECTS {
            let mut request = Request::new(Full::new(body.clone()));
            *request.method_mut() = parts.method.clone();
            *request.uri_mut() = uri.clone();
            *request.headers_mut() = headers.clone();
            let response = tokio::time::timeout(ANSWER_WITHIN, self.client.request(request))
                .await
                .map_err(|_| failure(format!("no answer within {} s", ANSWER_WITHIN.as_secs())))?
                .map_err(|e| failure(innermost(&e)))?;
            let reads = parts.method == Method::GET || parts.method == Method::HEAD;
            let Some(next) = redirect(&uri, &response).filter(|_| reads) else {
                return answer(&parts.method, parts.uri, response);
            };
            let next = next.map_err(|why| Error::new(ErrorKind::Unexpected, why))?;
            if next.authority() != uri.authority() {
                // Credentials are for the one that they were given for.
                headers.remove(header::AUTHORIZATION);
                headers.remove(header::HOST);
            }
            uri = next;
        }
        Err(Error::new(ErrorKind::Unexpected, format!("more than {MAX_REDIRECTS} redirects")))
    }
}

/// Where an answer sends its reader.
fn redirect<B>(from: &Uri, response: &Response<B>) -> Option<Result<Uri, String>> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let place = response.headers().get(header::LOCATION)?.to_str().ok()?;
    let absolute = if place.contains("://") {
        place.to_owned()
    } else if let Some(rest) = place.strip_prefix("//") {
        format!("{}://{rest}", from.scheme_str().unwrap_or("https"))
    } else {
        let folder = from.path().rsplit_once('/').map_or("", |(folder, _)| folder);
        let path = if place.starts_with('/') { place.to_owned() } else { format!("{folder}/{place}") };
        format!("{}://{}{path}", from.scheme_str().unwrap_or("https"), from.authority().map_or("", |a| a.as_str()))
    };
    let Ok(to) = absolute.parse::<Uri>() else { return Some(Err("it redirects to an address that can't be read".into())) };
    if from.scheme_str() == Some("https") && to.scheme_str() != Some("https") {
        return Some(Err(format!("it redirects from https to {}", to.scheme_str().unwrap_or("nothing"))));
    }
    Some(Ok(to))
}

fn answer<B>(method: &Method, uri: Uri, response: Response<B>) -> opendal::Result<Response<HttpBody>>
where
    B: http_body::Body<Data = bytes::Bytes> + Send + Sync + Unpin + 'static,
    B::Error: std::error::Error,
{
    let (mut parts, body) = response.into_parts();
    let length = parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let length = length.filter(|_| *method != Method::HEAD);
    // OpenDAL asks for the address that was asked.
    parts.extensions.insert(uri);
    let stream = BodyDataStream::new(body.map_err(|e| failure(innermost(&e)))).map_ok(Buffer::from);
    Ok(Response::from_parts(parts, HttpBody::new(stream, length)))
}

/// An error that another try may mend.
fn failure(why: String) -> Error {
    Error::new(ErrorKind::Unexpected, why).with_temporary(true)
}

/// The cause that a person can act on.
fn innermost(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    cause.to_string()
}
