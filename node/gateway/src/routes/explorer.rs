//! The explorer: a static page that reads the other routes. What it shows comes from the chain and is nobody's word, so the
//! page may run its own scripts only and never parses data as HTML.

use axum::{
    http::{HeaderName, header},
    response::{IntoResponse, Response},
};
use deepmarket_api::ErrorBody;

use crate::{error::Refusal, extract::Id};

/// Scripts, styles and data come from this gateway, and nothing else does; no text becomes a script.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; \
                      require-trusted-types-for 'script'; trusted-types 'none'";

const HTML: &str = "text/html; charset=utf-8";
const SCRIPT: &str = "text/javascript; charset=utf-8";

/// Name, type and content of each file.
static FILES: [(&str, &str, &str); 9] = [
    ("main.js", SCRIPT, include_str!("../../explorer/main.js")),
    ("api.js", SCRIPT, include_str!("../../explorer/api.js")),
    ("dom.js", SCRIPT, include_str!("../../explorer/dom.js")),
    ("format.js", SCRIPT, include_str!("../../explorer/format.js")),
    ("chain.js", SCRIPT, include_str!("../../explorer/chain.js")),
    ("market.js", SCRIPT, include_str!("../../explorer/market.js")),
    ("accounts.js", SCRIPT, include_str!("../../explorer/accounts.js")),
    ("style.css", "text/css; charset=utf-8", include_str!("../../explorer/style.css")),
    ("icon.svg", "image/svg+xml", include_str!("../../explorer/icon.svg")),
];

fn answer(content_type: &'static str, content: &'static str) -> Response {
    let headers: [(HeaderName, &str); 5] = [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        // A gateway of another release has other files under these names.
        (header::CACHE_CONTROL, "no-cache"),
    ];
    (headers, content).into_response()
}

/// The explorer, for people.
#[utoipa::path(get, path = "/explorer", tag = "explorer", responses(
    (status = 200, body = String, content_type = "text/html"),
))]
pub(crate) async fn page() -> Response {
    answer(HTML, include_str!("../../explorer/index.html"))
}

/// The same page.
#[utoipa::path(get, path = "/", tag = "explorer", responses(
    (status = 200, body = String, content_type = "text/html"),
))]
pub(crate) async fn root() -> Response {
    page().await
}

/// The explorer's scripts, style and picture.
#[utoipa::path(get, path = "/explorer/{file}", tag = "explorer", params(("file" = String, Path)), responses(
    (status = 200, body = String), (status = "default", body = ErrorBody),
))]
pub(crate) async fn file(Id(name): Id<String>) -> Result<Response, Refusal> {
    let found = FILES.iter().find(|(known, ..)| *known == name);
    let unknown = || Refusal::UnknownFile(name.chars().take(80).collect());
    found.map(|&(_, content_type, content)| answer(content_type, content)).ok_or_else(unknown)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What parses text as HTML or runs it. The policy forbids most of it as well; this says where.
    const FORBIDDEN: [&str; 8] =
        ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "DOMParser", "javascript:"];

    #[test]
    fn no_script_parses_data_as_html_and_the_page_has_no_script_of_its_own() {
        for (name, _, content) in FILES {
            let found = FORBIDDEN.iter().find(|word| content.contains(*word));
            assert_eq!(found, None, "{name}");
        }
        let page = include_str!("../../explorer/index.html");
        let is_handler = |word: &str| word.starts_with("on") && word.contains('=');
        assert!(!page.split_whitespace().any(is_handler), "handlers belong into scripts");
        assert!(!page.contains("<style") && !page.contains("style="), "styles belong into style.css");
        assert_eq!(page.matches("<script").count(), page.matches("<script type=\"module\" src=").count());
    }

    #[test]
    fn every_file_that_another_one_names_is_served() {
        let page = include_str!("../../explorer/index.html");
        let named_by_page = page.split("explorer/").skip(1).filter_map(|rest| rest.split('"').next());
        let imported = FILES.iter().flat_map(|(.., content)| content.split("from \"./").skip(1));
        let imported = imported.filter_map(|rest| rest.split('"').next());
        for name in named_by_page.chain(imported) {
            assert!(FILES.iter().any(|(known, ..)| *known == name), "{name}");
        }
    }
}
