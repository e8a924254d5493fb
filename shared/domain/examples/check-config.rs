//! `check-config FILE` checks all sections of a `sekisho.toml` with the code that the functions use. It prints the
//! first mistake of each section, with the key and what to do, and a warning about each setting that is probably not
//! meant. The exit code is 0 only if there is no mistake.

use std::process::ExitCode;

use sekisho_domain::access::Access;
use sekisho_domain::config::Document;

fn main() -> ExitCode {
    let Some(file) = std::env::args().nth(1) else {
        eprintln!("usage: check-config FILE");
        return ExitCode::FAILURE;
    };
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) => {
            eprintln!("{file}: {error}");
            return ExitCode::FAILURE;
        }
    };
    let mistakes = match Document::parse(&file, &text) {
        Ok(document) => {
            let access = document.access();
            for warning in access.iter().flat_map(Access::warnings) {
                eprintln!("warning: {file}: {}: {}", warning.key, warning.reason);
            }
            [document.routes_and_windows().err(), access.err(), document.artifacts().err()]
        }
        Err(mistake) => [Some(mistake), None, None],
    };
    let mut code = ExitCode::SUCCESS;
    for mistake in mistakes.into_iter().flatten() {
        eprintln!("{mistake}");
        code = ExitCode::FAILURE;
    }
    code
}
