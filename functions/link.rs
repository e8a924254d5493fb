//! How the functions are linked for Lambda.

/// Leaves the tables for unwinding out: a panic ends the process (`panic = "abort"`), and they are a tenth of a binary
/// that is loaded at each cold start.
#[expect(clippy::disallowed_methods, reason = "how cargo tells a build script what it builds")]
fn main() {
    // Not with every change in the package, as it is where nothing is said.
    println!("cargo::rerun-if-env-changed=PROFILE");
    // Tests unwind.
    if std::env::var("PROFILE").as_deref() == Ok("release") {
        // Cargo links in the workspace's folder.
        println!("cargo::rustc-link-arg-bins=-Wl,-T,functions/link.ld");
    }
}
