//! Embeds the page. Where it wasn't built, a placeholder says so; a release without it is refused.

use std::{env, fs, path::Path};

fn main() {
    let page = Path::new("ui/dist/index.html");
    if !page.exists() && env::var_os("CARGO_FEATURE_CUSTOM_PROTOCOL").is_some() {
        fs::create_dir_all("ui/dist").expect("ui/dist can be made");
        fs::write(page, "<!doctype html><title>PLUTO</title><p>The page was not built: run <code>make pluto</code>.")
            .expect("ui/dist is writable");
    }
    println!("cargo:rerun-if-changed=ui/dist");
    tauri_build::build();
}
