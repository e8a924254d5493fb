//! The build script of all four functions. It sets linker options that make a cold start touch less memory.

/// Passes two options to the linker for release builds:
///
/// - `link.ld` discards the unwinding tables. They are a tenth of a binary, and a panic ends the process without
///   unwinding (`panic = "abort"`).
/// - `-no-pie` gives the binary a fixed address. If a binary has no fixed address, the loader writes up to twenty
///   thousand pointers into the binary at every start. These writes touch half of the memory that a start touches. Go
///   binaries have fixed addresses too. Heap, stack and shared libraries keep their random addresses.
///
/// temp-access may write IAM policies, so a known code address would help an attacker there most. temp-access therefore
/// keeps its random address, and it meets its performance limits even without `-no-pie`.
#[expect(
    clippy::disallowed_methods,
    reason = "cargo passes the profile and the package to a build script in the environment"
)]
fn main() {
    // Without this line, cargo would run the script after every change in the package.
    println!("cargo::rerun-if-env-changed=PROFILE");
    // Tests need the unwinding tables.
    if std::env::var("PROFILE").as_deref() == Ok("release") {
        // The path of the file is relative to the workspace's folder, because the linker runs there.
        println!("cargo::rustc-link-arg-bins=-Wl,-T,functions/link.ld");
        if std::env::var("CARGO_PKG_NAME").as_deref() != Ok("temp-access") {
            println!("cargo::rustc-link-arg-bins=-no-pie");
        }
    }
}
