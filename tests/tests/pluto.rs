//! PLUTO as two people use it: real windows on a virtual screen, a real market of four validators, a real compute node.

use deepmarket_tests::window::{Screen, Window};
use deepmarket_tests::Market;

#[test]
fn a_window_opens() {
    let market = Market::up(0);
    let screen = Screen::start();
    let folder = tempfile::tempdir().unwrap();
    let window = Window::open(&screen, "first", folder.path(), market.home());
    window.read("PLUTO");
    window.shoot_both("first");
}
