//! PLUTO: the desktop wallet.
#![cfg_attr(not(debug_assertions), windows_subsystem = "windows")]

fn main() {
    deepmarket_pluto::run();
}
