//! Embeds the page that `scripts/page.sh` builds into ui/dist.

use std::{env, fs, path::Path};

fn main() {
    let page = Path::new("ui/dist/index.html");
    if !page.exists() {
        let release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
        assert!(!release, "PLUTO's page isn't built yet: run scripts/page.sh first (make pluto and make test do)");
        fs::create_dir_all("ui/dist").expect("ui/dist can be made");
        fs::write(page, "<!doctype html><title>PLUTO</title><p>The page was not built: run scripts/page.sh.")
            .expect("ui/dist is writable");
    }
    println!("cargo:rerun-if-changed=ui/dist");
    tauri_build::build();
}
