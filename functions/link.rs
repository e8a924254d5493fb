//! How the functions are linked for Lambda: so that a cold start touches little memory.

/// Leaves out two things:
///
/// - the tables for unwinding: a panic ends the process (`panic = "abort"`), and they are a tenth of a binary;
/// - relocations: in a binary that can lie at any address each of up to twenty thousand pointers is written anew, page by page,
///   which is half of the memory that a start touches. So the functions lie at a fixed address, as Go's binaries do; their
///   heap, stack and libraries stay random. Not so temp-access, which may write policies: there an address of code that somebody
///   knew beforehand would be worth most, and it keeps within its limits without.
#[expect(clippy::disallowed_methods, reason = "how cargo tells a build script what it builds")]
fn main() {
    // Not with every change in the package, as it is where nothing is said.
    println!("cargo::rerun-if-env-changed=PROFILE");
    // Tests unwind.
    if std::env::var("PROFILE").as_deref() == Ok("release") {
        // Cargo links in the workspace's folder.
        println!("cargo::rustc-link-arg-bins=-Wl,-T,functions/link.ld");
        if std::env::var("CARGO_PKG_NAME").as_deref() != Ok("temp-access") {
            println!("cargo::rustc-link-arg-bins=-no-pie");
        }
    }
}
