//! A malicious program in the trainer's place, started as an agent starts trainers: whatever it tries, it achieves nothing.
//! And what was lent holds: memory and cores, with control groups and without.
//!
//! This is a test without the usual harness: the program starts itself again, under the name of an attack, as the trainer. It
//! says over the trainer's pipe how its attack went; what happened is looked at from outside.

#[cfg(target_os = "linux")]
mod attack;
#[cfg(target_os = "linux")]
mod lent;
#[cfg(target_os = "linux")]
mod scenarios;

#[cfg(target_os = "linux")]
fn main() {
    scenarios::main();
}

#[cfg(not(target_os = "linux"))]
fn main() {
    println!("nothing is tried: only Linux can confine a program that doesn't want it");
}
